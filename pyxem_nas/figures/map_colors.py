"""Colours of a map's positions: phases, crystal directions, numbers.

Owns which colour stands for what in every figure of the package; colours of crystal directions are
orix's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from orix.crystal_map import CrystalMap

from pyxem_nas.diffraction import multiply_quaternions, to_orix
from pyxem_nas.maps import NOT_INDEXED, best_rotations

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Okabe and Ito, Color Universal Design (2008), without black (not indexed); steel first
PHASE_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
NOT_INDEXED_COLOR = (0.0, 0.0, 0.0)
LEFT_OUT_COLOR = (1.0, 1.0, 1.0)


def indexed_phases(xmap: CrystalMap) -> list[tuple[int, str]]:
    """Return number and name of the phases that occur."""
    present = set(np.unique(xmap.phase_id).tolist())
    return [
        (int(i), phase.name) for i, phase in xmap.phases if i != NOT_INDEXED and int(i) in present
    ]


def colors_by_phase(
    xmap: CrystalMap, wanted: Mapping[str, str] | None = None
) -> dict[int, tuple[float, float, float]]:
    """Return an RGB colour for every phase number; `wanted` are colours by phase name."""
    from matplotlib.colors import to_rgb

    wanted = wanted or {}
    phases = [(int(i), phase.name) for i, phase in xmap.phases if i != NOT_INDEXED]
    unknown = sorted(set(wanted) - {name for _, name in phases})
    if unknown:
        raise ValueError(
            f"phase_colors names {unknown!r}, the phases are {[name for _, name in phases]!r}"
        )
    return {
        i: to_rgb(wanted.get(name, PHASE_COLORS[position % len(PHASE_COLORS)]))
        for position, (i, name) in enumerate(phases)
    }


def phase_rgb(xmap: CrystalMap, colors: Mapping[int, tuple] | None = None) -> np.ndarray:
    """Return the phase's colour of each position in data, shape (n, 3)."""
    colors = colors_by_phase(xmap) if colors is None else colors
    rgb = np.empty((xmap.size, 3))
    rgb[:] = NOT_INDEXED_COLOR
    for i, _ in indexed_phases(xmap):
        rgb[xmap.phase_id == i] = colors[i]
    return rgb


def ipf_colors(xmap: CrystalMap, vector: tuple[int, int, int]) -> np.ndarray:
    """Return the colours of the crystal direction along a laboratory direction, shape (n, 3)."""
    from orix.plot import IPFColorKeyTSL
    from orix.quaternion import Orientation
    from orix.vector import Vector3d

    rotations = best_rotations(xmap)
    rgb = np.empty((xmap.size, 3))
    rgb[:] = NOT_INDEXED_COLOR
    for i, _ in indexed_phases(xmap):
        if xmap.phases[i].point_group is None:
            continue
        rows = xmap.phase_id == i
        laue, turn = to_orix(xmap.phases[i])
        key = IPFColorKeyTSL(laue, direction=Vector3d(vector))
        turned = multiply_quaternions(turn, rotations[rows].data)
        rgb[rows] = key.orientation2color(Orientation(turned, symmetry=laue))
    return np.clip(rgb, 0, 1)


def sequential_colors() -> Colormap:
    """Return viridis without its darkest colours, which look like the black of no value."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colors = ListedColormap(colormaps["viridis"](np.linspace(0.12, 1, 256)))
    return colors.with_extremes(bad=NOT_INDEXED_COLOR)
