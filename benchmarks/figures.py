"""Pictures of the accuracy benchmark: where methods break, and what probabilities are worth."""

from __future__ import annotations

import numpy as np
from bloch import PHASES
from matplotlib.figure import Figure

from pyxem_nas.maps.statistics import calibration_curve, wilson_interval

#: Colours that the colour-blind tell apart (Okabe and Ito), and markers for print.
_STYLES = (
    ("#000000", "s"),
    ("#56B4E9", "o"),
    ("#0072B2", "^"),
    ("#D55E00", "D"),
    ("#009E73", "v"),
)
_N_BINS = 6


def draw_figures(truth: dict[str, np.ndarray], found: dict[str, dict]) -> dict[str, Figure]:
    """Return the pictures by name."""
    figures = {"dose": draw_against(truth, found, "camera_dose", "diffracted electrons a pattern")}
    if np.isfinite(truth["thickness"]).all():
        label = "thickness / angstrom"
        figures["thickness"] = draw_against(truth, found, "thickness", label)
    if len(np.unique(truth["precession"])) > 1:
        label = "precession angle / degrees"
        figures["precession"] = draw_against(truth, found, "precession", label)
    figures["reliability"] = draw_reliability(truth, found)
    return figures


def draw_against(
    truth: dict[str, np.ndarray], found: dict[str, dict], name: str, label: str
) -> Figure:
    """Return the share within 5 degrees against a quantity, one panel a phase, with intervals."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, len(PHASES), sharey=True)
    values = truth[name]
    exact = len(np.unique(values)) <= 8
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _N_BINS + 1)))
    for k, (ax, phase) in enumerate(zip(axes, PHASES, strict=True)):
        for (method, columns), (color, marker) in zip(found.items(), _STYLES, strict=False):
            points = []
            for b in range(len(np.unique(values)) if exact else len(edges) - 1):
                if exact:
                    rows = values == np.unique(values)[b]
                else:
                    rows = (values >= edges[b]) & (values <= edges[b + 1])
                rows &= truth["phase"] == k
                if not rows.any():
                    continue
                good = int((columns["angle"][rows] <= 5).sum())
                n = int(rows.sum())
                points.append((np.median(values[rows]), good / n, *wilson_interval(good, n)))
            x, share, low, high = np.array(points).T
            error = 100 * np.abs([share - low, high - share])
            ax.errorbar(
                x, 100 * share, error, color=color, marker=marker, label=method, capsize=2, lw=1.2,
                ms=4,
            )  # fmt: skip
        ax.set(title=phase, xlabel=label)
        if name == "camera_dose":
            ax.set_xscale("log")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("within 5 degrees / %")
    axes[-1].legend(fontsize=8)
    return figure


def draw_reliability(truth: dict[str, np.ndarray], found: dict[str, dict]) -> Figure:
    """Return what came true against what was promised, for both probabilities."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    promises = {
        "orientation_probability": lambda columns: columns["angle"] <= 5,
        "phase_probability": lambda columns: columns["right"],
    }
    for ax, (name, is_right) in zip(axes, promises.items(), strict=True):
        ax.plot([0, 1], [0, 1], color="0.7", lw=1)
        for (method, columns), (color, marker) in zip(found.items(), _STYLES, strict=False):
            known = np.isfinite(columns[name])
            if not known.any():
                continue
            curve = calibration_curve(columns[name][known], is_right(columns)[known])
            enough = curve.count >= 5
            ax.plot(
                curve.probability[enough], curve.accuracy[enough], color=color, marker=marker,
                label=method, lw=1.2, ms=4,
            )  # fmt: skip
        ax.set(xlabel=name.replace("_", " "), ylabel="share that is right")
        ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
        ax.set_aspect("equal")
        ax.legend(fontsize=8, loc="upper left")
        ax.grid(alpha=0.3)
    return figure
