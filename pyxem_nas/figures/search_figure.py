"""Figure of an architecture search: what every trial reached, and how fast it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.figures.map_canvas import drawing
from pyxem_nas.figures.map_colors import PHASE_COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_search"]

_LABELS = {"accuracy": "Validation accuracy (%)", "loss": "Validation loss"}


def plot_search(
    bundle: ModelBundle | Path | str, *, metric: Literal["accuracy", "loss"] = "accuracy"
) -> Figure:
    """Return a figure of the searches that a bundle's networks come from.

    One panel a search, one point a trial: validation accuracy or loss against speed; the number is
    that of the trial, the area of the point shows the number of parameters, and the network that
    was taken is marked: the one of the lowest validation loss, unless another was stated when the
    bundle was trained. Where that one is none of the trials, the best is marked as such.

    Parameters
    ----------
    bundle
        Bundle, path, or name of a shipped one.
    metric
        "accuracy": share of validation descriptors whose cell or phase is the most probable;
        "loss": cross-entropy.

    Returns
    -------
    figure
        Figure of pyplot. Trials without the metric are left out.

    Raises
    ------
    ValueError
        If the bundle's networks were not searched, or the metric is unknown.

    Examples
    --------
    >>> figure = plot_search("mine.nas")  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    bundle = bundle if isinstance(bundle, ModelBundle) else ModelBundle.load(bundle)
    if metric not in _LABELS:
        raise ValueError(f'metric must be "accuracy" or "loss", got {metric!r}')
    reports = [report for report in bundle.search_report if report["trials"]]
    if not reports:
        raise ValueError(
            f"no architecture was searched for bundle {bundle.name!r}; search_models with "
            "max_trials > 0 does"
        )
    with drawing():
        n_columns = min(len(reports), 3)
        n_rows = -(-len(reports) // n_columns)
        figure, axes = plt.subplots(
            n_rows,
            n_columns,
            figsize=(3.4 * n_columns, 3.0 * n_rows),
            layout="constrained",
            squeeze=False,
        )
        for ax in axes.flat[len(reports) :]:
            ax.remove()
        for ax, report in zip(axes.flat, reports, strict=False):
            _draw_search(ax, report, metric, *_find_taken(bundle, report))
        figure.supylabel(_LABELS[metric], fontsize=8)
        figure.supxlabel("Patterns per second, network alone, on the machine of the search",
                         fontsize=8)  # fmt: skip
    return figure


def _find_taken(bundle: ModelBundle, report: Mapping[str, Any]) -> tuple[int, str]:
    """Return which trial is to be marked, counted from the best, and with what word."""
    settings = bundle.provenance.get("settings", {})
    name = "phase_architecture" if report["target"] == "phase" else "architecture"
    stated = settings.get(name)
    if settings.get("max_trials") != 0 or not stated:
        return 0, "taken"  # trials come best first
    for k, trial in enumerate(report["trials"]):
        # AutoKeras puts the block's name before that of a hyperparameter
        values = trial.get("hyperparameters", {})
        tried = {key.rpartition("/")[2]: value for key, value in values.items()}
        shared = stated.keys() & tried.keys()
        if shared and all(tried[key] == stated[key] for key in shared):
            return k, "taken"
    return 0, "best"


def _draw_search(ax: Axes, report: Mapping[str, Any], metric: str, marked: int, word: str) -> None:
    """Draw the trials of one search; one of them gets a ring and a word."""
    trials = report["trials"]
    values = np.array([_value(trial, metric) for trial in trials])
    rates = np.array([trial["patterns_per_second"] for trial in trials], float)
    sizes = np.array([trial["n_parameters"] for trial in trials], float)
    sizes *= 60 / sizes.max()
    shown = np.isfinite(values)
    ax.scatter(rates[shown], values[shown], np.maximum(sizes[shown], 6), color=PHASE_COLORS[0],
               alpha=0.75, linewidths=0)  # fmt: skip
    if shown[marked]:
        place = rates[marked], values[marked]
        ax.scatter(*place, 150, facecolors="none", edgecolors=PHASE_COLORS[5], linewidths=1.5)
        inwards = -1 if np.sum(rates[shown] > place[0]) < 0.25 * np.sum(shown) else 1
        ax.annotate(f"{word}, {trials[marked]['n_parameters'] / 1000:.0f}k parameters", place,
                    xytext=(10 * inwards, 7), textcoords="offset points", fontsize=7,
                    ha="left" if inwards > 0 else "right", color=PHASE_COLORS[5])  # fmt: skip
    for k in np.flatnonzero(shown):
        below = -14 if k == marked else -12  # that one has a ring
        ax.annotate(str(trials[k]["trial"]), (rates[k], values[k]), xytext=(0, below),
                    textcoords="offset points", ha="center", fontsize=6, color="0.3")  # fmt: skip
    low, high = rates[shown].min(), rates[shown].max()
    ax.set_xscale("log")
    ax.set_xlim(low / 1.4, high * 1.8)
    ax.margins(y=0.18)
    _plain_ticks(ax, low, high)
    ax.set_title(report["target"])
    ax.grid(linewidth=0.4, color="0.9")
    ax.set_axisbelow(True)


def _plain_ticks(ax: Axes, low: float, high: float) -> None:
    """Put ticks at 1, 2 and 5 times powers of ten, written out."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    decades = 10.0 ** np.arange(np.floor(np.log10(low)) - 1, np.ceil(np.log10(high)) + 1)
    ticks = np.sort(np.outer(decades, [1, 2, 5]).ravel())
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _value(trial: Mapping[str, Any], metric: str) -> float:
    value = trial.get(f"validation_{metric}")
    scale = 100.0 if metric == "accuracy" else 1.0
    return np.nan if value is None else scale * float(value)
