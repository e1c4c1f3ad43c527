"""Figures of crystal maps.

Owns :func:`plot_map`, phases, inverse-pole-figure colours with their keys, reliability and
probabilities in one figure. Colours are `map_colors`', the images of a map `map_canvas`'. Works
without a display.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from orix.crystal_map import CrystalMap

from pyxem_nas.diffraction import to_orix
from pyxem_nas.figures.map_canvas import Canvas, boundary_edges, drawing, format_unit
from pyxem_nas.figures.map_colors import (
    LEFT_OUT_COLOR,
    NOT_INDEXED_COLOR,
    colors_by_phase,
    indexed_phases,
    ipf_colors,
    phase_rgb,
    sequential_colors,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["plot_map"]

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


def _is_finite_somewhere(xmap: CrystalMap, name: str) -> bool:
    return name in xmap.prop and bool(np.isfinite(xmap.prop[name]).any())


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
        entries.append((LEFT_OUT_COLOR, "left out"))
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
