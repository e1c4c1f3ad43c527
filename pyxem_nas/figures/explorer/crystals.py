"""What the explorer's page must know of each phase: symmetry, colours, poles, reflections.

Owns :func:`describe_phases`. Colours and sectors of inverse pole figures come from orix, as those
of `plot_map` do; operations and reflections from `diffraction`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.diffraction import (
    Reflections,
    get_lattice_parameters,
    laue_operations,
    to_orix,
)
from pyxem_nas.figures.map_colors import colors_by_phase
from pyxem_nas.figures.report_figures import poles_of_phase
from pyxem_nas.maps import NOT_INDEXED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orix.crystal_map import CrystalMap, Phase
    from orix.quaternion import Symmetry

__all__ = ["COLOR_GRID", "describe_phases", "octahedral_directions"]

COLOR_GRID = 192  # side of the table of colours over all directions: steps of about 0.7 degrees


def describe_phases(
    xmap: CrystalMap, reflections: Mapping[str, Reflections] | None = None
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return plain values, and arrays by name, of the phases of a map, in the order of their ids.

    Parameters
    ----------
    xmap
        The map.
    reflections
        Tables of one phase each, by phase name; None: spots are not simulated.

    Returns
    -------
    phases
        One mapping a phase.
    arrays
        ``colors_<Laue group>`` (octahedral table of RGB), and ``hkl_<k>``, ``intensity_<k>`` for
        phase k.
    """
    colors = colors_by_phase(xmap)
    phases: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for i, phase in xmap.phases:
        if i == NOT_INDEXED:
            continue
        entry: dict[str, Any] = {"name": phase.name, "color": [round(255 * c) for c in colors[i]]}
        entry |= _describe_symmetry(phase)
        if entry["laue"]:
            arrays.setdefault(f"colors_{entry['laue']}", _color_table(to_orix(phase)[0]))
        if reflections is not None:
            base, table = _reflection_table(reflections[phase.name], len(phases))
            entry["base"] = base
            arrays |= table
        phases.append(entry)
    return phases, arrays


def _describe_symmetry(phase: Phase) -> dict[str, Any]:
    """Return operations, sector and poles of a phase; the identity alone without a point group.

    Operations and poles are in the crystal's own axes; the sector and its colours in those of
    orix, which ``turn`` leads to.
    """
    if phase.point_group is None:
        identity = [1.0, 0.0, 0.0, 0.0]
        return {"laue": "", "operations": [identity], "turn": identity, "poles": [], "sector": None}
    group, turn = to_orix(phase)
    return {
        "laue": group.name,
        "space_group": phase.space_group.short_name if phase.space_group else "",
        "lattice": [round(v, 4) for v in get_lattice_parameters(phase)],
        "operations": laue_operations(phase).tolist(),
        "turn": turn.tolist(),
        "poles": [
            {"label": label, "vectors": np.round(vectors, 7).tolist()}
            for label, vectors in poles_of_phase(phase)
        ],
        "sector": _describe_sector(group),
    }


def _describe_sector(group: Symmetry) -> dict[str, Any]:
    """Return the normals of a group's sector, its outline and its corners with labels."""
    from orix.plot.inverse_pole_figure_plot import _get_ipf_axes_labels

    sector = group.fundamental_sector
    normals = np.asarray(sector.unit.data).reshape(-1, 3)
    corners = np.asarray(sector.vertices.data).reshape(-1, 3)
    labels = _get_ipf_axes_labels(sector.vertices, symmetry=group) if len(corners) else []
    return {
        "normals": normals.tolist(),
        "outline": [np.round(_project(arc), 5).tolist() for arc in _sector_arcs(normals)],
        "corners": [
            {"at": np.round(at, 5).tolist(), "label": _plain_indices(label)}
            for at, label in zip(_project(corners), labels, strict=True)
        ],
    }


def _sector_arcs(normals: np.ndarray) -> list[np.ndarray]:
    """Return the sides of a sector as arcs of great circles, shape (n, 3) each."""
    arcs = []
    for normal in normals:
        first = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
        first /= np.linalg.norm(first)
        angle = np.linspace(0, 2 * np.pi, 721)[:, np.newaxis]
        circle = np.cos(angle) * first + np.sin(angle) * np.cross(normal, first)
        inside = (circle @ normals.T > -1e-3).all(axis=1)
        if inside.all():
            arcs.append(circle)
        elif inside.any():  # start behind a gap, so that the arc is in one piece
            start = np.flatnonzero(inside & ~np.roll(inside, 1))[0]
            turned = np.roll(circle, -start, axis=0)
            arcs.append(turned[np.roll(inside, -start)])
    return arcs


def _project(directions: np.ndarray) -> np.ndarray:
    """Return the stereographic projection of unit vectors of the upper half, shape (n, 2)."""
    return directions[:, :2] / (1 + np.maximum(directions[:, 2:], 0))


def _plain_indices(label: str) -> str:
    r"""Return TeX indices as plain text, bars as combining overlines.

    Examples
    --------
    >>> _plain_indices(r"[$2 \\bar{1} \\bar{1} 0$]")
    '[21̅1̅0]'
    """
    text = re.sub(r"\\+bar\{(\d+)\}", lambda m: "".join(d + "\u0305" for d in m[1]), label)
    return text.replace("$", "").replace(" ", "")


def octahedral_directions(n: int) -> np.ndarray:
    """Return the directions at the nodes of an octahedral grid over the sphere, shape (n, n, 3)."""
    line = np.linspace(-1, 1, n)
    u, v = np.meshgrid(line, line)
    z = 1 - np.abs(u) - np.abs(v)
    fold = np.maximum(-z, 0)
    vectors = np.stack([u - np.sign(u) * fold, v - np.sign(v) * fold, z], axis=-1)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _color_table(group: Symmetry) -> np.ndarray:
    """Return the colour of every direction of the crystal, shape (n, n, 3), uint8."""
    from orix.plot import IPFColorKeyTSL
    from orix.vector import Vector3d

    directions = Vector3d(octahedral_directions(COLOR_GRID).reshape(-1, 3))
    rgb = IPFColorKeyTSL(group).direction_color_key.direction2color(directions)
    return np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8).reshape(COLOR_GRID, COLOR_GRID, 3)


def _reflection_table(
    reflections: Reflections, k: int
) -> tuple[list[list[float]], dict[str, np.ndarray]]:
    """Return the reciprocal base (rows a*, b*, c*) and the table of one phase.

    The vectors are indices times the base: the page multiplies, the file need not hold them.
    """
    base, *_ = np.linalg.lstsq(reflections.hkl.astype(float), reflections.vectors, rcond=None)
    table = {
        f"hkl_{k}": reflections.hkl.astype(np.int8),
        f"intensity_{k}": reflections.intensities.astype(np.float32),
    }
    return base.tolist(), table
