"""Figure of the posterior over the orientations of one pattern.

Owns :func:`plot_posterior`; the numbers come from `indexing.posterior`, the projection of the
inverse pole figure from orix.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import (
    Acquisition,
    disorientation_angles,
    laue_operations,
    to_orix,
    turned_about_beam,
)
from pyxem_nas.figures.map_canvas import drawing
from pyxem_nas.figures.map_colors import PHASE_COLORS
from pyxem_nas.figures.spots import SpotMarks, locate_spots
from pyxem_nas.indexing import (
    NEAR,
    Posterior,
    compute_posterior,
    fold_directions,
    get_predictor,
    inplane_bins,
    project_candidates,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from orix.crystal_map import Phase
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["plot_posterior"]

_TWIN = 5.0  # degrees: a candidate this near to another's twin is that twin
_FLOOR = 1e-3  # probabilities below have the colour of zero


def plot_posterior(
    s: ElectronDiffraction2D,
    bundle: ModelBundle | Path | str,
    phase: str | None = None,
    *,
    position: tuple[int, ...] | None = None,
    n_candidates: int = 3,
    method: str = "hybrid",
    acquisition: Acquisition | None = None,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: Literal["x", "y"] | None = None,
    distortion: np.ndarray | None = None,
) -> Figure:
    """Return a figure of where the orientation of one pattern may lie, by the network's posterior.

    From left to right: the pattern with the spots of the best answer; the probability of the beam's
    direction in the crystal, whatever the in-plane angle, over the inverse pole figure; the
    probability of the in-plane angle, counted from the best answer. Below: the candidates among
    which the answer was chosen, numbered as in the figures.

    Parameters
    ----------
    s
        A pattern, or a scan, of which the pattern at `position` is taken.
    bundle
        Bundle, path, or name of a shipped one.
    phase
        Name of the phase to look at; None: the most probable one.
    position
        Position (column, row) of the scan; None: where the signal's navigator is.
    n_candidates
        Number of candidates shown, at most. The answer is that of `index_phase_orientation` with
        this ``n_best``; up to 3 it does not depend on it.
    method
        Branch that the candidates come from, "hybrid" or "network".
    acquisition, center, mask, detector_flip, distortion
        As in `index_phase_orientation`.

    Returns
    -------
    figure
        Figure of pyplot.

    Raises
    ------
    ValueError
        If the phase is unknown or has no orientation network, the pattern is empty or not
        calibrated.

    See Also
    --------
    plot_overlay

    Notes
    -----
    A beam direction and its opposite share one point of the inverse pole figure although their
    patterns are mirror images of each other; the probabilities of both are added there, and open
    marks stand for candidates seen from the other side than the best.

    Examples
    --------
    >>> figure = plot_posterior(s.inav[12, 30], "steel")  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    bundle = bundle if isinstance(bundle, ModelBundle) else ModelBundle.load(bundle)
    posterior = compute_posterior(
        s,
        bundle,
        phase=phase,
        position=position,
        n_candidates=n_candidates,
        method=method,
        acquisition=acquisition,
        center=center,
        mask=mask,
        detector_flip=detector_flip,
        distortion=distortion,
    )
    shown = bundle.phases[posterior.phase_id]
    with drawing():
        figure = plt.figure(figsize=(10.2, 4.1 + 0.18 * len(posterior.candidates)))
        heights = [3.7, 0.55 + 0.18 * len(posterior.candidates)]
        upper, lower = figure.subfigures(2, 1, height_ratios=heights)
        left, middle, right = upper.subfigures(1, 3)
        figure.suptitle(_title(bundle, posterior), x=0.02, y=0.985, ha="left", fontsize=9)
        _draw_pattern(left, posterior, bundle)
        _draw_directions(middle, posterior, shown)
        _draw_inplane(right, posterior)
        _write_candidates(lower, posterior, shown)
    return figure


def _title(bundle: ModelBundle, posterior: Posterior) -> str:
    text = f"If this is {bundle.phase_names[posterior.phase_id]}"
    if posterior.phase_probability is not None:
        names = [*bundle.phase_names, "none of these"]
        shares = sorted(zip(posterior.phase_probability, names, strict=True), reverse=True)
        text += "     phase network: " + ", ".join(f"{name} {p:.2f}" for p, name in shares)
    return text


# ------------------------------------------------------------------------- panels


def _draw_pattern(part: SubFigure, posterior: Posterior, bundle: ModelBundle) -> None:
    """Draw the pattern with the spots of the best candidate."""
    ax = part.add_axes((0.06, 0.08, 0.88, 0.78))
    image = np.nan_to_num(np.asarray(posterior.pattern, float)).clip(0)
    low = np.percentile(image, 20)
    ax.imshow((image - low).clip(0) ** 0.4, cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    part.text(0.06, 0.88, "Pattern, spots of candidate 1", fontsize=9)
    predictor = get_predictor(bundle)
    spots = locate_spots(
        posterior.candidates[0],
        predictor.reflections,
        posterior.phase_id,
        acquisition=posterior.acquisition,
        detector=posterior.detector,
        center=posterior.center,
    )
    color = PHASE_COLORS[posterior.phase_id % len(PHASE_COLORS)]
    SpotMarks(ax, n_labels=10).show(spots, posterior.center, color)


def _draw_directions(part: SubFigure, posterior: Posterior, phase: Phase) -> None:
    """Draw the probability of the beam direction over the fundamental sector."""
    import orix.plot  # noqa: F401 (registers the projection "ipf")
    from matplotlib.colors import LogNorm

    laue, _ = to_orix(phase)
    ax = part.add_axes((0.12, 0.25, 0.76, 0.56), projection="ipf", symmetry=laue)
    for text in ax.texts:
        text.set_fontsize(8)
    x, y, values = fold_directions(posterior, phase)
    drawn = ax.imshow(
        values,
        extent=(x[0], x[-1], y[0], y[-1]),
        origin="lower",
        cmap="viridis",
        norm=LogNorm(_FLOOR, 1.0, clip=True),
        interpolation="nearest",
        zorder=0,
    )
    part.text(0.06, 0.88, "Beam direction in the crystal", fontsize=9)
    bar_ax = part.add_axes((0.15, 0.13, 0.7, 0.03))
    bar = part.colorbar(drawn, cax=bar_ax, orientation="horizontal", extend="min")
    bar.set_label("Probability of the cell (log scale)", fontsize=7, labelpad=1)
    bar.ax.tick_params(labelsize=7, length=2, pad=1)
    points, same_side = project_candidates(posterior, phase)
    for k, (point, same) in enumerate(zip(points, same_side, strict=True)):
        face = "white" if same else "none"
        ring = {"marker": "o", "s": 26, "facecolors": face, "edgecolors": "black", "zorder": 5}
        _plain(ax, "scatter", [point[0]], [point[1]], linewidths=1.8, **ring)
        _plain(ax, "scatter", [point[0]], [point[1]], linewidths=0.8,
               **ring | {"edgecolors": "red", "zorder": 6})  # fmt: skip
        # numbers stand away from the other candidates near by
        near = points[np.hypot(*(points - point).T) < 0.15]
        away = point - near.mean(axis=0)
        length = np.hypot(*away)
        if length < 1e-3:  # alone, or on one point with others: side by side
            same = sum(np.hypot(*(point - other)) < 1e-3 for other in points[:k])
            away, length = np.array([1.0 + 0.8 * same, 0.7]), 1.2
        _plain(ax, "annotate", str(k + 1), point, xytext=9 * away / length,
               textcoords="offset points", fontsize=8, fontweight="bold", color="white", zorder=7,
               ha="center", va="center", path_effects=_halo())  # fmt: skip


def _draw_inplane(part: SubFigure, posterior: Posterior) -> None:
    """Draw the probability of the in-plane angle, counted from the best candidate."""
    near, elsewhere = posterior.inplane_probability
    bins = inplane_bins(posterior)
    n = len(near)
    angles = 2 * np.pi * (np.arange(n) - bins[0]) / n
    ax = part.add_axes((0.14, 0.19, 0.72, 0.6), projection="polar")
    width = 2 * np.pi / n
    blue, grey = PHASE_COLORS[0], "0.72"
    # areas, not lengths, show probabilities in a polar diagram
    inner = np.sqrt(near)
    ax.bar(angles, inner, width, color=blue, label=f"within {NEAR:g}° of candidate 1's direction")
    ax.bar(angles, np.sqrt(near + elsewhere) - inner, width, bottom=inner, color=grey,
           label="other beam directions")  # fmt: skip
    top = max(float(np.sqrt(near + elsewhere).max()), 0.05)
    ax.set_ylim(0, top * 1.3)
    levels = [p for p in (0.01, 0.1, 0.3, 0.6, 1.0) if np.sqrt(p) <= top * 1.05]
    ax.set_yticks(np.sqrt(levels), [f"{100 * p:g} %" for p in levels], fontsize=6)
    free = np.arange(22.5, 360, 45)  # the levels are written where the least is drawn
    away = [np.cos(angles - np.deg2rad(a)).clip(0) ** 8 @ (near + elsewhere) for a in free]
    ax.set_rlabel_position(free[int(np.argmin(away))])
    ax.set_xticks(np.deg2rad(np.arange(0, 360, 45)), [f"{a}°" for a in range(0, 360, 45)],
                  fontsize=7)  # fmt: skip
    ax.tick_params(pad=1)
    ax.grid(linewidth=0.4, color="0.8")
    ax.set_axisbelow(True)
    part.text(0.06, 0.88, "Turned about the beam from candidate 1", fontsize=9)
    crowded: list[float] = []
    for k, value in enumerate(bins):
        angle = 2 * np.pi * (value - bins[0]) / n
        crowd = sum(abs((angle - other + np.pi) % (2 * np.pi) - np.pi) < 0.12 for other in crowded)
        crowded.append(angle)
        ax.annotate(str(k + 1), (angle, top * (1.2 - 0.16 * crowd)), fontsize=8,
                    fontweight="bold", color="red", ha="center", va="center")  # fmt: skip
    ax.axvline(np.pi, color="red", linewidth=0.8, linestyle=":")
    ax.annotate("180° twin", (np.pi, top * 0.62), xytext=(0, 5), textcoords="offset points",
                fontsize=7, color="red", ha="center")  # fmt: skip
    part.legend(loc="lower center", fontsize=7, frameon=False, ncols=1, borderaxespad=0.0,
                handlelength=1.0, handleheight=0.8, labelspacing=0.2)  # fmt: skip


def _write_candidates(part: SubFigure, posterior: Posterior, phase: Phase) -> None:
    """Write the table of candidates."""
    from orix.vector import Miller

    group = laue_operations(phase)
    first = np.broadcast_to(posterior.candidates[0], posterior.candidates.shape)
    from_first = disorientation_angles(posterior.candidates, first, group)
    uvw = Miller(xyz=posterior.beam_directions, phase=phase)
    uvw.coordinate_format = "uvw"
    rounded = uvw.round(max_index=12).uvw.round().astype(int)
    _, same_side = project_candidates(posterior, phase)
    heads = ["", "probability", "network, within 6°", "beam near", "side", "from 1", "remark"]
    columns = (0.03, 0.06, 0.17, 0.32, 0.45, 0.57, 0.66)
    rows = []
    for k, q in enumerate(posterior.candidates):
        remark = "the answer" if k == 0 else ""
        for j in range(k):
            twin = turned_about_beam(posterior.candidates[j])
            if disorientation_angles(twin, q, group)[0] < _TWIN:
                remark = f"180° twin of {j + 1}"
                break
        p = posterior.probability[k]
        rows.append(
            [
                str(k + 1),
                "not calibrated" if np.isnan(p) else f"{p:.3f}",
                f"{posterior.mass[k]:.3f}",
                "[" + " ".join(str(i) for i in rounded[k]) + "]",
                "same" if same_side[k] else "other (open)",
                f"{from_first[k]:.1f}°",
                remark,
            ]
        )
    height = 1 / (len(rows) + 2)
    for i, row in enumerate([heads, *rows]):
        for x, text in zip(columns, row, strict=True):
            style = {"color": "0.35"} if i == 0 else {"fontweight": "bold" if x < 0.05 else None}
            part.text(x, 1 - (i + 0.7) * height, text, fontsize=8, va="center", **style)


def _plain(ax: Axes, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of matplotlib's axes: orix' own take directions, not points."""
    from matplotlib.axes import Axes as PlainAxes

    return getattr(PlainAxes, method)(ax, *arguments, **options)


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground="black")]
