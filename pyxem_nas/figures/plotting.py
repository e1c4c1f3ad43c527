"""Figures of crystal maps.

Owns :func:`plot_map`, phases, inverse-pole-figure colours with their keys, reliability and
probabilities in one figure, and the colours of maps for other figures. Numbers come from
:mod:`pyxem_nas.maps.evaluation`, colours of crystal directions from orix. Works without a display.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from orix.crystal_map import CrystalMap

from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    multiply_quaternions,
    to_orix,
    turned_about_beam,
)
from pyxem_nas.maps import NOT_INDEXED, all_positions, best_rotations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure

__all__ = ["plot_map"]

# Okabe and Ito, Color Universal Design (2008), without black (not indexed); steel first
PHASE_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
NOT_INDEXED_COLOR = (0.0, 0.0, 0.0)
_LEFT_OUT_COLOR = (1.0, 1.0, 1.0)
_NO_VALUE_COLOR = (0.72, 0.72, 0.72)
_PANEL = 2.9  # width of one panel, inches
_NARROWEST = 42  # mm: a panel must hold two corners of an inverse pole figure and a legend
_STRIP = 0.75  # height of the map of a line scan, inches
_LEGEND, _IPF_KEY, _BAR = 0.65, 1.35, 0.5  # heights of the keys below a panel, inches
DIRECTIONS = {
    "x": ((1, 0, 0), "IPF-X (to the right)"),
    "y": ((0, 1, 0), "IPF-Y (up)"),
    "z": ((0, 0, 1), "IPF-Z (out of the map)"),
}
_PROPERTIES = {
    "reliability": ("Reliability", None),
    "phase_probability": ("P(phase is right)", 1.0),
    "orientation_probability": ("P(orientation within 5°)", 1.0),
    "n_plausible": ("Plausible orientations", None),
}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "image.interpolation": "none",
}


def plot_map(
    xmap: CrystalMap,
    *,
    directions: Sequence[Literal["x", "y", "z"]] = ("z",),
    boundary_angle: float | None = None,
    phase_colors: Mapping[str, str] | None = None,
    width: float | None = None,
) -> Figure:
    """Return a figure of phases, orientations, reliability and probabilities.

    Parameters
    ----------
    xmap
        Map of up to two dimensions. ``reliability``, ``phase_probability``,
        ``orientation_probability`` and ``n_plausible`` are drawn where the map has finite values
        of them.
    directions
        Directions of the laboratory whose crystal direction is coloured: x to the right, y up
        and z out of the map, towards the reader.
    boundary_angle
        Disorientation in degrees above which a grain boundary is drawn over the phases; a change
        of phase is one, too. Boundaries that are none once the 180-degree twin about the beam is
        forgiven are white and thin: patterns often cannot tell the twin, IPF maps never. None: no
        boundaries. Only for maps of two dimensions.
    phase_colors
        Colours by phase name, anything matplotlib knows. None, or a phase without one: colours
        that colour-blind readers can tell apart.
    width
        Width of the figure in mm, for papers: 85 to 90 is one column of most journals, 170 to 180
        the page. Text keeps its 8 points. None: panels of 74 mm.

    Returns
    -------
    figure
        Figure of pyplot. Positions that are not indexed are black, left-out ones white, those
        without a value of a property (a reliability without a second solution) grey.
        ``figure.savefig("map.pdf")`` keeps text, boundaries and keys as vectors and every position
        as one pixel.

    Raises
    ------
    ValueError
        If a direction is unknown, ``phase_colors`` names an unknown phase, or ``width`` is below
        42 mm.

    References
    ----------
    Okabe and Ito (2008), Color Universal Design, https://jfly.uni-koeln.de/color/.
    Nolze and Hielscher, J. Appl. Cryst. 49 (2016) 1786, doi:10.1107/S1600576716012942 (IPF key).

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from orix.crystal_map import CrystalMap, Phase, PhaseList
    >>> xmap = CrystalMap.empty((3, 4))
    >>> xmap.phases = PhaseList(Phase("NbC", point_group="m-3m"))
    >>> figure = plot_map(xmap, directions=("x", "z"))
    >>> [ax.get_title(loc="left") for ax in figure.axes][:3]
    ['Phase', 'IPF-X (to the right)', 'IPF-Z (out of the map)']
    """
    unknown = [d for d in directions if d not in DIRECTIONS]
    if unknown:
        raise ValueError(f"directions must be of 'x', 'y', 'z', got {unknown!r}")
    colors = colors_by_phase(xmap, phase_colors)
    canvas = Canvas(xmap)
    properties = [name for name in _PROPERTIES if _is_finite_somewhere(xmap, name)]
    # one key, below the first of them, serves all directions
    legend = _LEGEND if width is None else max(_LEGEND, 0.18 * (len(indexed_phases(xmap)) + 2))
    keys = [legend, *[_IPF_KEY] * bool(directions)]
    keys += [0.1] * (len(directions) - 1) + [_BAR] * len(properties)
    with drawing():
        figure, cells = _panels(canvas, keys, width)
        _draw_phases(canvas, *cells[0], colors)
        if boundary_angle is not None and canvas.is_plane:
            _draw_boundaries(canvas, cells[0][0], boundary_angle)
        for i, direction in enumerate(directions):
            map_ax, key = cells[1 + i]
            vector, title = DIRECTIONS[direction]
            canvas.draw(map_ax, ipf_colors(xmap, vector), title)
            if i == 0:
                _draw_ipf_keys(xmap, key)
        for name, (map_ax, key) in zip(properties, cells[1 + len(directions) :], strict=True):
            _draw_property(canvas, name, map_ax, key)
    return figure


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
        ax.imshow(self.image(colors, _LEFT_OUT_COLOR[0]), extent=self.extent, aspect=self._aspect())
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


def _is_finite_somewhere(xmap: CrystalMap, name: str) -> bool:
    return name in xmap.prop and bool(np.isfinite(xmap.prop[name]).any())


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


def _panels(
    canvas: Canvas, keys: Sequence[float], figure_width: float | None
) -> tuple[Figure, list[tuple[Axes, SubFigure]]]:
    """Return the figure and, for each panel, the axes of its map and the place of its key.

    ``keys`` are the heights of the keys, one a panel, inches; ``figure_width`` is in mm.
    """
    import matplotlib.pyplot as plt

    left, right, bottom, top = canvas.extent
    if canvas.is_plane:
        n_columns = {1: 1, 2: 2, 4: 2}.get(len(keys), 3 if len(keys) < 7 else 4)
        if figure_width is not None:  # in a column fewer panels stand side by side
            n_columns = max(1, min(n_columns, int(figure_width / _NARROWEST)))
        width = _panel_width(figure_width, n_columns, _PANEL)
        height = float(np.clip(width * (bottom - top) / (right - left), 0.8, 2 * width)) + 0.3
    else:
        n_columns, height = 1, _STRIP
        width = _panel_width(figure_width, 1, 2 * _PANEL)
    rows = [keys[i : i + n_columns] for i in range(0, len(keys), n_columns)]
    below = [max(row) for row in rows]  # all keys of a row get the height of the largest
    figure = plt.figure(
        figsize=(n_columns * width, sum(height + b for b in below)), layout="constrained"
    )
    bands = np.atleast_1d(
        figure.subfigures(len(rows), 1, height_ratios=[height + b for b in below])
    )
    cells = []
    for band, row, key_height in zip(bands, rows, below, strict=True):
        for part in np.atleast_1d(band.subfigures(1, n_columns))[: len(row)]:
            upper, lower = part.subfigures(2, 1, height_ratios=[height, key_height])
            cells.append((upper.add_subplot(), lower))
    return figure, cells


def _panel_width(figure_width: float | None, n_columns: int, default: float) -> float:
    """Return the width of one of some panels side by side in inches."""
    if figure_width is None:
        return default
    if not figure_width >= _NARROWEST:
        raise ValueError(f"width must be {_NARROWEST} mm or more, got {figure_width!r}")
    return figure_width / 25.4 / n_columns


# ------------------------------------------------------------------------- panels


def _draw_phases(canvas: Canvas, ax: Axes, key: SubFigure, colors: Mapping[int, tuple]) -> None:
    """Draw the phase map with its legend and the scale bar."""
    from matplotlib.patches import Patch

    xmap = canvas.xmap
    rgb = phase_rgb(xmap, colors)
    entries = []
    for i, name in indexed_phases(xmap):
        rows = xmap.phase_id == i
        entries.append((colors[i], f"{name}  {100 * rows.mean():.1f} %"))
    if not xmap.all_indexed:
        share = 100 * np.mean(~xmap.is_indexed)
        entries.append((NOT_INDEXED_COLOR, f"not indexed  {share:.1f} %"))
    if not xmap.is_in_data.all():
        entries.append((_LEFT_OUT_COLOR, "left out"))
    canvas.draw(ax, rgb, "Phase")
    handles = [
        Patch(facecolor=color, edgecolor="0.4", linewidth=0.5, label=label)
        for color, label in entries
    ]
    key.legend(
        handles=handles,
        loc="upper center",
        ncols=2 if key.bbox.width / key.figure.dpi > 0.8 * _PANEL else 1,
        frameon=False,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.0,
    )
    if canvas.is_plane:
        _draw_scale_bar(canvas, ax)


def _draw_scale_bar(canvas: Canvas, ax: Axes) -> None:
    """Draw a bar of a round length, about a quarter of the map."""
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    width = canvas.extent[1] - canvas.extent[0]
    decade = 10.0 ** np.floor(np.log10(width / 4))
    length = max(f for f in (1, 2, 5) if f * decade <= width / 4 * (1 + 1e-9)) * decade
    bar = AnchoredSizeBar(
        ax.transData,
        length,
        f"{length:g} {format_unit(canvas.xmap)}",
        loc="lower left",
        pad=0.3,
        sep=2,
        borderpad=0.4,
        size_vertical=0.012 * abs(canvas.extent[3] - canvas.extent[2]),
        color="black",
    )
    bar.patch.set(alpha=0.85, linewidth=0)
    ax.add_artist(bar)


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


def _draw_ipf_keys(xmap: CrystalMap, key: SubFigure) -> None:
    """Draw one colour key for each Laue group that occurs."""
    import orix.plot  # noqa: F401 (registers the projection "ipf")

    groups = {}
    for i, name in indexed_phases(xmap):
        if xmap.phases[i].point_group is not None:
            laue, _ = to_orix(xmap.phases[i])
            groups.setdefault(laue.name, (laue, []))[1].append(name)
    # orix writes the corners outside the sector: leave room, and put the names below
    share = 1 / max(len(groups), 1)
    for position, (laue, names) in enumerate(groups.values()):
        place = ((position + 0.2) * share, 0.42, 0.6 * share, 0.46)
        ax = key.add_axes(place, projection="ipf", symmetry=laue)
        ax.plot_ipf_color_key(show_title=False)
        for text in ax.texts:
            text.set_fontsize(6.5)
        centre = (position + 0.5) * share
        label = f"{laue.name}\n{', '.join(names)}"
        key.text(centre, 0.24, label, fontsize=7, ha="center", va="top")


def _draw_property(canvas: Canvas, name: str, ax: Axes, key: SubFigure) -> None:
    """Draw a property with its colour bar."""
    xmap = canvas.xmap
    title, upper = _PROPERTIES[name]
    values = np.asarray(xmap.prop[name], dtype=float).reshape(xmap.size, -1)[:, 0]
    values = np.where(xmap.is_indexed, values, np.nan)
    finite = values[np.isfinite(values)]
    if upper is None:
        upper = float(np.percentile(finite, 99)) if finite.size else 1.0
    image = np.ma.masked_invalid(canvas.image(values, np.nan))
    drawn = ax.imshow(
        image,
        extent=canvas.extent,
        aspect="equal" if canvas.is_plane else "auto",
        cmap=sequential_colors(),
        vmin=0.0,
        vmax=max(upper, 1e-9),
    )
    # over the black of those not indexed: left-out positions white, answers without a value grey
    veil = np.zeros((xmap.size, 4))
    veil[xmap.is_indexed & ~np.isfinite(values)] = (*_NO_VALUE_COLOR, 1.0)
    veil = canvas.image(veil, 1.0)
    ax.imshow(veil, extent=canvas.extent, aspect="equal" if canvas.is_plane else "auto")
    canvas.dress(ax, title)
    height = key.bbox.height / key.figure.dpi  # inches; the bar stays at the top
    bar_ax = key.add_axes((0.12, 1 - 0.2 / height, 0.76, 0.12 / height))
    extend = "max" if finite.size and finite.max() > upper else "neither"
    bar = key.colorbar(drawn, cax=bar_ax, orientation="horizontal", extend=extend)
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(length=2, pad=1)


def sequential_colors() -> Colormap:
    """Return viridis without its darkest colours, which look like the black of no value."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colors = ListedColormap(colormaps["viridis"](np.linspace(0.12, 1, 256)))
    return colors.with_extremes(bad=NOT_INDEXED_COLOR)


# ------------------------------------------------------------------------- boundaries


def _draw_boundaries(canvas: Canvas, ax: Axes, angle: float) -> None:
    """Draw lines between neighbours of different phase or orientation, twins' in white."""
    real = boundary_edges(canvas, angle, forgive_twins=True)
    every = boundary_edges(canvas, angle)
    twins = [e & ~r for e, r in zip(every, real, strict=True)]
    _draw_edges(canvas, ax, real, color="black", linewidth=0.7, zorder=2.1)
    _draw_edges(canvas, ax, twins, color="white", linewidth=0.4, zorder=2.0)


def _draw_edges(canvas: Canvas, ax: Axes, edges: Sequence[np.ndarray], **style: Any) -> None:
    """Draw the sides of positions that `boundary_edges` tells."""
    from matplotlib.collections import LineCollection

    left, right, bottom, top = canvas.extent
    ny, nx = canvas.shape
    x, y = np.linspace(left, right, nx + 1), np.linspace(top, bottom, ny + 1)
    beside, below = edges
    row, column = np.nonzero(beside)
    upright = np.stack(
        [np.stack([x[column + 1], y[row]], -1), np.stack([x[column + 1], y[row + 1]], -1)], 1
    )
    row, column = np.nonzero(below)
    level = np.stack(
        [np.stack([x[column], y[row + 1]], -1), np.stack([x[column + 1], y[row + 1]], -1)], 1
    )
    lines = LineCollection([*upright, *level], capstyle="projecting", **style)
    ax.add_collection(lines, autolim=False)


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
