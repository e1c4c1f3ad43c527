"""A map as images: positions that are left out, lengths, boundaries, the package's style.

Owns what every figure of a map needs before it draws; what is drawn belongs to `plotting` and
`report_figures`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from orix.crystal_map import CrystalMap

from pyxem_nas.diffraction import disorientation_angles, laue_operations, turned_about_beam
from pyxem_nas.figures.map_colors import LEFT_OUT_COLOR, indexed_phases
from pyxem_nas.maps import NOT_INDEXED, all_positions, best_rotations

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "image.interpolation": "none",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the package's style."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        try:
            yield
        finally:
            interactive = matplotlib.is_interactive()
    # The first figure of a session loads the backend. In Jupyter that switches interactive mode on;
    # rc_context would switch it off again, and no later figure would be shown.
    matplotlib.interactive(interactive)


class Canvas:
    """The grid of a map: row values to images, with axes in the unit of the scan."""

    def __init__(self, xmap: CrystalMap) -> None:
        self.xmap = xmap
        x, y = (np.unique(coordinate) for coordinate in all_positions(xmap))
        if x.size == 1 and y.size > 1:  # a scan along y is drawn as a line, too
            x, y = y, x
        self.shape = (y.size, x.size)
        self.is_plane = y.size > 1
        steps = [np.ptp(c) / (c.size - 1) if c.size > 1 else 1.0 for c in (y, x)]
        (dy, dx), (y0, x0) = steps, (y[0], x[0])
        self.dx = dx
        self.extent = (x0 - dx / 2, x[-1] + dx / 2, y[-1] + dy / 2, y0 - dy / 2)

    def image(self, rows: np.ndarray, fill: float) -> np.ndarray:
        """Return values of the positions in data, shape (n, ...), as an image."""
        flat = np.full((self.xmap.is_in_data.size, *rows.shape[1:]), fill, dtype=float)
        flat[self.xmap.is_in_data] = rows
        return flat.reshape(*self.shape, *rows.shape[1:])

    def draw(self, ax: Axes, colors: np.ndarray, title: str) -> None:
        """Draw colours of the positions in data, shape (n, 3)."""
        ax.imshow(self.image(colors, LEFT_OUT_COLOR[0]), extent=self.extent, aspect=self._aspect())
        self.dress(ax, title)

    def _aspect(self) -> str:
        return "equal" if self.is_plane else "auto"

    def dress(self, ax: Axes, title: str) -> None:
        """Set title and ticks."""
        ax.set_title(title)
        ax.set_yticks([])
        if self.is_plane:
            ax.set_xticks([])
        else:
            ax.tick_params(length=2, pad=1)
            ax.set_xlabel(f"Position ({format_unit(self.xmap)})", labelpad=1)


def format_unit(xmap: CrystalMap) -> str:
    """Return the unit of length as one writes it."""
    unit = str(xmap.scan_unit)
    return {"um": "µm", "px": "pixels", "A": "Å", "angstrom": "Å"}.get(unit, unit)


def boundary_edges(
    canvas: Canvas, angle: float, *, forgive_twins: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return where a boundary lies, shapes (ny, nx - 1) to the right and (ny - 1, nx) below.

    With `forgive_twins` there is none where one side is the other turned by 180 degrees about the
    beam, to within the angle.
    """
    xmap = canvas.xmap
    rotations = best_rotations(xmap)
    phase_id = canvas.image(xmap.phase_id.astype(float), NOT_INDEXED)
    quaternions = canvas.image(rotations.data, 0.0)
    edges = []
    for first, second in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        edge = phase_id[first] != phase_id[second]
        for i, _ in indexed_phases(xmap):
            same = (phase_id[first] == i) & (phase_id[second] == i)
            if xmap.phases[i].point_group is not None:
                group = laue_operations(xmap.phases[i])
                one, other = quaternions[first][same], quaternions[second][same]
                found = disorientation_angles(one, other, group)
                if forgive_twins:
                    twin = disorientation_angles(turned_about_beam(one), other, group)
                    found = np.minimum(found, twin)
                edge[same] = found > angle
        edges.append(edge)
    return edges[0], edges[1]
