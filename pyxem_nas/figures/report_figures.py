"""Figures of the report beside the maps: grain sizes, texture, patterns with their answers.

Owns the choice of what is drawn; projections come from orix, spots from `spots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pyxem_nas.diffraction import (
    fibonacci_sphere,
    laue_operations,
    multiply_quaternions,
    quaternions_to_matrices,
    rotate_vectors,
    to_orix,
)
from pyxem_nas.figures.map_canvas import Canvas, boundary_edges, drawing, format_unit
from pyxem_nas.figures.map_colors import colors_by_phase, indexed_phases
from pyxem_nas.figures.solutions import SolutionViewer
from pyxem_nas.figures.spots import SpotMarks
from pyxem_nas.maps import NOT_INDEXED, all_positions, best_rotations

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure
    from orix.crystal_map import CrystalMap, Phase
    from orix.quaternion import Symmetry

__all__ = [
    "estimate_density", "get_confidence", "measure_grains", "plot_examples", "plot_grain_sizes",
    "plot_textures", "poles_of_phase",
]  # fmt: skip

_MAX_ROTATIONS = 20_000  # of a phase in texture plots, drawn evenly over the map
_BROADENING = 7.5  # degrees, standard deviation
_N_PIXELS = 121  # of a pole figure, along each side
_MIN_POSITIONS = 3  # smaller grains are noise more often than grains


def get_confidence(xmap: CrystalMap) -> np.ndarray:
    """Return P(phase) times P(orientation) of each position in data, shape (n,).

    A probability that is not there counts as 1; NaN where neither is.
    """
    product, known = np.ones(xmap.size), np.zeros(xmap.size, bool)
    for name in ("phase_probability", "orientation_probability"):
        if name in xmap.prop:
            values = np.asarray(xmap.prop[name], float).reshape(xmap.size, -1)[:, 0]
            product *= np.nan_to_num(values, nan=1.0)
            known |= np.isfinite(values)
    return np.where(known, product, np.nan)


def measure_grains(
    xmap: CrystalMap, *, angle: float = 5.0, forgive_twins: bool = True
) -> dict[str, np.ndarray]:
    """Return the sizes of the grains of each phase.

    Parameters
    ----------
    xmap
        Map of up to two dimensions.
    angle
        Disorientation in degrees that parts neighbouring positions into two grains.
    forgive_twins
        Whether an orientation and its 180-degree twin about the beam belong to one grain. Patterns
        often cannot tell them, and a grain would fall into crumbs.

    Returns
    -------
    sizes
        By phase name, for the grains of at least 3 positions: the diameter of the circle of the
        same area, in the map's unit; along a line scan the length.
    """
    canvas = Canvas(xmap)
    axes = [np.unique(c) for c in all_positions(xmap)]
    steps = [np.ptp(c) / (c.size - 1) for c in axes if c.size > 1]
    phase_id = canvas.image(xmap.phase_id.astype(float), NOT_INDEXED).astype(int).ravel()
    index = np.arange(phase_id.size).reshape(canvas.shape)
    beside, below = boundary_edges(canvas, angle, forgive_twins=forgive_twins)
    first = np.concatenate([index[:, :-1][~beside], index[:-1][~below]])
    second = np.concatenate([index[:, 1:][~beside], index[1:][~below]])
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(phase_id.size,) * 2)
    _, grains = connected_components(graph, directed=False)
    sizes = {}
    for i, name in indexed_phases(xmap):
        counts = np.bincount(grains[phase_id == i])
        counts = counts[counts >= _MIN_POSITIONS]
        if canvas.is_plane:
            sizes[name] = 2 * np.sqrt(counts * np.prod(steps) / np.pi)
        else:
            sizes[name] = counts * (steps[0] if steps else 1.0)
    return sizes


def plot_grain_sizes(xmap: CrystalMap, sizes: Mapping[str, np.ndarray]) -> Figure:
    """Return a figure of histograms of grain sizes, weighed by area; see `measure_grains`."""
    import matplotlib.pyplot as plt

    colors = {xmap.phases[i].name: color for i, color in colors_by_phase(xmap).items()}
    shown = {name: values for name, values in sizes.items() if len(values)}
    highest = max((values.max() for values in shown.values()), default=1.0)
    n_bins = int(np.clip(np.sqrt(sum(map(len, shown.values()))) * 1.5, 6, 30))
    bins = np.linspace(0, highest * 1.0001, n_bins + 1)
    with drawing():
        figure, axes = plt.subplots(1, max(len(shown), 1), figsize=(3.3 * max(len(shown), 1), 2.3),
                                    layout="constrained", squeeze=False, sharey=True)  # fmt: skip
        for ax, (name, values) in zip(axes.flat, shown.items(), strict=False):
            power = 2 if Canvas(xmap).is_plane else 1
            weights = values**power / (values**power).sum() * 100
            ax.hist(values, bins, weights=weights, color=colors[name], edgecolor="white",
                    linewidth=0.5)  # fmt: skip
            ax.set_title(f"{name}: {len(values)} grains")
            ax.set_xlabel(f"Diameter ({format_unit(xmap)})")
            ax.spines[["top", "right"]].set_visible(False)
        axes.flat[0].set_ylabel("Share of the phase's area (%)")
    return figure


# ------------------------------------------------------------------------- texture


def plot_textures(xmap: CrystalMap) -> Figure:
    """Return a figure of pole figures and inverse pole figures, one row a phase.

    Densities in multiples of a random distribution, every position of the map counted once. The
    sample's x points to the right, y up, z to the reader.
    """
    import matplotlib.pyplot as plt
    import orix.plot  # noqa: F401 (registers the projections)

    phases = indexed_phases(xmap)
    rotations = best_rotations(xmap)
    with drawing():
        figure = plt.figure(figsize=(10.6, 1.95 * max(len(phases), 1)))
        bands = np.atleast_1d(figure.subfigures(max(len(phases), 1), 1))
        for band, (i, name) in zip(bands, phases, strict=False):
            rows = np.flatnonzero(xmap.phase_id == i)
            band.text(0.005, 0.84, name, fontsize=9, fontweight="bold")
            band.text(0.005, 0.72, f"{len(rows)} positions", fontsize=7, color="0.35")
            rows = rows[:: -(-len(rows) // _MAX_ROTATIONS)]
            matrices = quaternions_to_matrices(rotations[rows].data)
            poles = [
                # to the laboratory: the inverse of lab2crystal
                (label, np.einsum("mi,nij->nmj", vectors, matrices).reshape(-1, 3), None)
                for label, vectors in poles_of_phase(xmap.phases[i])
            ]
            group, turn = to_orix(xmap.phases[i])
            turned = quaternions_to_matrices(multiply_quaternions(turn, rotations[rows].data))
            operations = np.concatenate(_laue_matrices(group))
            inverse_poles = [
                (f"IPF-{label}", np.einsum("oij,nj->noi", operations, turned[:, :, k])
                 .reshape(-1, 3), group)
                for k, label in enumerate("XYZ")
            ]  # fmt: skip
            _draw_densities(band, 0.09, poles)
            _draw_densities(band, 0.56, inverse_poles)
    return figure


def _draw_densities(
    band: SubFigure, left: float, panels: Sequence[tuple[str, np.ndarray, Symmetry | None]]
) -> None:
    """Draw the densities of vectors (n, 3) side by side, with one colour bar."""
    from orix.projections import InverseStereographicProjection, StereographicProjection

    drawn = []
    for k, (label, vectors, group) in enumerate(panels):
        kind = {"projection": "stereographic"} if group is None else {"projection": "ipf"}
        kind |= {} if group is None else {"symmetry": group}
        width = 0.112 if group is None else 0.096  # corners have labels
        ax = band.add_axes((left + 0.132 * k, 0.13, width, 0.62), **kind)
        for text in ax.texts:
            text.set_fontsize(6)
        band.text(left + 0.132 * k, 0.84, label, fontsize=8)
        low, high = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
        if group is not None:
            edges = group.fundamental_sector.edges
            edge = np.stack(StereographicProjection().vector2xy(edges), axis=1)
            low, high = edge.min(axis=0), edge.max(axis=0)
        x, y = (np.linspace(low[j], high[j], _N_PIXELS) for j in (0, 1))
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        points = InverseStereographicProjection().xy2vector(*grid.T)
        inside = np.hypot(*grid.T) <= 1
        if group is not None:
            inside &= np.asarray(points <= group.fundamental_sector)
        values = np.full(len(grid), np.nan)
        values[inside] = estimate_density(vectors, points.data[inside])
        image = ax.imshow(values.reshape(_N_PIXELS, _N_PIXELS), origin="lower", zorder=0,
                          extent=(x[0], x[-1], y[0], y[-1]), cmap="viridis",
                          interpolation="bilinear")  # fmt: skip
        drawn.append((image, np.nanmax(values)))
    for image, _ in drawn:
        image.set_clim(0, max(highest for _, highest in drawn))
    place = (left + 0.132 * len(panels) - 0.006, 0.17, 0.007, 0.54)
    bar = band.colorbar(drawn[0][0], cax=band.add_axes(place))
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    band.text(place[0] - 0.012, 0.84, "× random", fontsize=7)


def estimate_density(vectors: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the density of directions in multiples of a random distribution.

    Parameters
    ----------
    vectors
        Unit vectors, shape (n, 3).
    points
        Where to estimate, unit vectors of shape (m, 3).

    Returns
    -------
    density
        Shape (m,); 1 everywhere for directions without preference.

    Notes
    -----
    A von Mises-Fisher kernel whose standard deviation is 7.5 degrees. orix' own estimate blurs over
    the azimuth's grid lines and shows rays around the pole.
    """
    # vectors are gathered in 1.6 degree cells first: their number no longer matters
    cells = fibonacci_sphere(16_000)
    counts = np.bincount(cKDTree(cells).query(vectors)[1], minlength=len(cells))
    seen = np.flatnonzero(counts)
    concentration = 1 / np.deg2rad(_BROADENING) ** 2
    density = np.zeros(len(points))
    for part in np.array_split(seen, -(-len(seen) // 500)):
        cosine = points @ cells[part].T
        density += np.exp(concentration * (cosine - 1)) @ counts[part]
    return density * 2 * concentration / -np.expm1(-2 * concentration) / len(vectors)


def _laue_matrices(group: Symmetry) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotations of a Laue group and their products with the inversion."""
    proper = quaternions_to_matrices(group.proper_subgroup.data.reshape(-1, 4))
    return proper, -proper


def poles_of_phase(phase: Phase) -> list[tuple[str, np.ndarray]]:
    """Return the poles that are customary for a crystal system, with labels; shape (m, 3) each."""
    laue = to_orix(phase)[0]
    if laue.system == "cubic":
        chosen = [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    elif laue.system in ("hexagonal", "trigonal"):
        chosen = [(0, 0, 1), (1, 0, 0), (1, 1, 0)]
    else:
        chosen = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    # rows of the inverse base's transpose are a*, b*, c*
    normals = np.array(chosen) @ np.linalg.inv(phase.structure.lattice.base).T
    poles = []
    for hkl, normal in zip(chosen, normals, strict=True):
        family = rotate_vectors(laue_operations(phase), normal / np.linalg.norm(normal))
        family = np.concatenate([family, -family])  # a plane has no side
        kept = np.unique(family.round(6), axis=0, return_index=True)[1]
        poles.append(("{" + "".join(map(str, hkl)) + "}", family[kept]))
    return poles


# ------------------------------------------------------------------------- examples


def plot_examples(viewer: SolutionViewer) -> Figure:
    """Return a figure of patterns with their answers: three of each phase, high to low confidence.

    Parameters
    ----------
    viewer
        Scan, map and bundle.
    """
    import matplotlib.pyplot as plt

    xmap = viewer.xmap
    rows = _example_rows(xmap)
    colors = {xmap.phases[i].name: color for i, color in colors_by_phase(xmap).items()}
    column_of_row = np.flatnonzero(viewer.rows >= 0)
    shape = viewer.signal.axes_manager._navigation_shape_in_array
    with drawing():
        figure, axes = plt.subplots(len(rows), 3, figsize=(8.7, 3.05 * len(rows)),
                                    layout="constrained", squeeze=False)  # fmt: skip
        drawn = []
        for line, (name, chosen) in zip(axes, rows.items(), strict=True):
            for ax, (label, row) in zip(line, chosen, strict=True):
                where = tuple(int(k) for k in np.unravel_index(column_of_row[row], shape))[::-1]
                image = np.nan_to_num(viewer.pattern(where).astype(float)).clip(0)
                shown = (image - np.percentile(image, 20)).clip(0) ** 0.4
                ax.imshow(shown, cmap="gray_r", vmax=np.percentile(shown, 99.9))
                ax.set(xticks=[], yticks=[])
                ax.set_title(f"{name} at {where}: {label}", fontsize=8)
                drawn.append((ax, where, colors[name]))
        figure.canvas.draw()  # labels look for room: they need the layout
        for ax, where, color in drawn:
            spots, center = viewer.spots(where)
            SpotMarks(ax, n_labels=6).show(spots, center, color)
    return figure


def _example_rows(xmap: CrystalMap) -> dict[str, list[tuple[str, int]]]:
    """Return for each phase the rows of high, median and low confidence, with a label."""
    confidence = get_confidence(xmap)
    word = "confidence"
    if not np.isfinite(confidence).any():
        confidence, word = np.asarray(xmap.prop["correlation"], float), "correlation"
    chosen: dict[str, list[tuple[str, int]]] = {}
    for i, name in indexed_phases(xmap):
        rows = np.flatnonzero(xmap.phase_id == i)
        order = rows[np.argsort(confidence[rows], kind="stable")]
        picks: Sequence[int] = [order[round(q * (len(order) - 1))] for q in (0.9, 0.5, 0.1)]
        chosen[name] = [(f"{word} {confidence[row]:.2f}", int(row)) for row in picks]
    return chosen
