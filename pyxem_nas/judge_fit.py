"""Fits of a bundle's judges, temperature and thresholds to patterns of known orientation.

Owns the mathematics. Which patterns they are fitted to is the business of `bundle_training`
(simulations) and `recalibration` (a measured scan).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyxem_nas.candidates import compare_with_best, judge_candidates, rank_candidates
from pyxem_nas.descriptors import DescriptorSpec
from pyxem_nas.evaluation import disorientation_angles
from pyxem_nas.judges import Judge
from pyxem_nas.refinement import get_refinement_spec, refine_candidates
from pyxem_nas.simulation import Reflections

_RIGHT = 5.0  # degrees
_TEMPLATE_PRECISION = 0.98


@dataclass(frozen=True)
class KnownPatterns:
    """Patterns of one phase in known orientations, with the candidates of its network.

    Parameters
    ----------
    descriptors, polar
        As the network and as refinement see them, (n, n_radial, n_azimuthal), float32.
    quaternions
        The truth, shape (n, 4).
    candidates, log_posterior
        From `candidates.select_candidates`, shapes (n, k, 4) and (n, k).
    """

    descriptors: np.ndarray
    polar: np.ndarray
    quaternions: np.ndarray
    candidates: np.ndarray
    log_posterior: np.ndarray


@dataclass(frozen=True)
class FittedJudges:
    """Judges of one phase and what they reach on the patterns that they were fitted to.

    Parameters
    ----------
    judges
        "fast" (network alone), "refined" and "template" (no posterior).
    figures
        Of each kind: shares within 5 and 2 degrees, median in degrees, share of patterns whose
        truth is among the candidates.
    probability, right
        Of the refined answers, shape (n,): their probability and whether they are right.
    """

    judges: dict[str, Judge]
    figures: dict[str, dict[str, float]]
    probability: np.ndarray
    right: np.ndarray


def fit_judges(
    patterns: KnownPatterns,
    reflections: Reflections,
    phase_id: int,
    group,
    *,
    spec: DescriptorSpec,
    wavelength: float,
    precession_angle: float,
) -> FittedJudges:
    """Fit all judges of one phase.

    Parameters
    ----------
    patterns
        Patterns of the phase.
    reflections
        From `simulation.get_reflections`.
    phase_id
        The phase in that table.
    group
        Its proper Laue group.
    spec
        Of the network's descriptors.
    wavelength
        Angstrom.
    precession_angle
        Degrees.
    """
    symmetry = np.ascontiguousarray(group.data.reshape(-1, 4))
    judges, figures = {}, {}
    for kind in ("fast", "template", "refined"):
        # without refinement candidates are scored on the network's own descriptor
        fast = kind == "fast"
        quaternions, correlation = refine_candidates(
            patterns.descriptors if fast else patterns.polar,
            patterns.candidates,
            reflections,
            phase_id,
            spec=spec if fast else get_refinement_spec(spec),
            wavelength=wavelength,
            precession_angle=precession_angle,
            refine=not fast,
        )
        near = _candidates_right(quaternions, patterns.quaternions, group)
        posterior = patterns.log_posterior * (kind != "template")
        judge = fit_judge(quaternions, posterior, correlation, near)
        probability = judge_candidates(quaternions, posterior, correlation, judge)
        answers = rank_candidates(quaternions, probability, correlation, symmetry)
        angles = disorientation_angles(answers["quaternions"][:, 0], patterns.quaternions, group)
        judges[kind] = judge
        figures[kind] = {
            "within_5_deg": float((angles < 5).mean()),
            "within_2_deg": float((angles < 2).mean()),
            "median_deg": float(np.median(angles)),
            "truth_among_candidates": float(near.any(axis=1).mean()),
        }
    return FittedJudges(judges, figures, answers["probability"][:, 0], angles < _RIGHT)


def _candidates_right(quaternions, truth, group) -> np.ndarray:
    """Return which candidates (n, k) are within 5 degrees of the truth (n, 4)."""
    columns = [
        disorientation_angles(quaternions[:, j], truth, group) < _RIGHT
        for j in range(quaternions.shape[1])
    ]
    return np.stack(columns, axis=1) & quaternions.any(axis=-1)


def fit_judge(
    quaternions: np.ndarray, log_posterior: np.ndarray, correlation: np.ndarray, right: np.ndarray
) -> Judge:
    """Return the judge of greatest likelihood; arrays of shape (n, k), `right` boolean.

    A weak prior (variance 1000) keeps the weights finite where the data are separable.

    References
    ----------
    McFadden, D. (1974), conditional logit.
    """
    from scipy.optimize import minimize

    valid = np.any(quaternions != 0, axis=-1)
    none_right = ~right.any(axis=1)
    correlation = compare_with_best(correlation, valid)

    def loss(weights: np.ndarray) -> float:
        utility = weights[0] * log_posterior + weights[1] * correlation
        utility = np.where(valid, utility, -1e9)
        utility = np.column_stack([utility, np.full(len(utility), weights[2])])
        total = np.logaddexp.reduce(utility, axis=1)
        hit = np.logaddexp.reduce(
            np.where(np.column_stack([right, none_right]), utility, -1e9), axis=1
        )
        return float(np.mean(total - hit) + np.square(weights).sum() / (2e3 * len(utility)))

    best = minimize(loss, [0.5, 10.0, 8.0], method="Nelder-Mead", options={"maxiter": 600})
    return Judge(*(float(w) for w in best.x))


def threshold_for_precision(probability: np.ndarray, right: np.ndarray) -> float:
    """Return the lowest probability above which 98 % of the answers are right."""
    order = np.argsort(-probability)
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(precision >= _TEMPLATE_PRECISION)
    return float(probability[order][enough[-1]]) if len(enough) else 1.0


def fit_temperature(logits: np.ndarray, classes: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the temperature that fits logits (n, n_classes) best, and the probabilities by it.

    References
    ----------
    Guo, C. et al. (2017), arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar

    logits = logits.astype(np.float64)
    rows = np.arange(len(classes))

    def log_probability(temperature: float) -> np.ndarray:
        scaled = logits / temperature
        return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)

    fit = minimize_scalar(
        lambda log_t: -log_probability(np.exp(log_t))[rows, classes].mean(), bounds=(-2, 2)
    )
    temperature = float(np.exp(fit.x))
    return temperature, np.exp(log_probability(temperature))
