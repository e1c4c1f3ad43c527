"""Fits of a bundle's judges, temperature and thresholds to patterns of known orientation.

Owns the mathematics. Which patterns they are fitted to is the business of `bundle_calibration`
(simulations) and `recalibration` (a measured scan).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyxem_nas.bundles import MEAN_REACH, Judge, get_set_judge
from pyxem_nas.diffraction import Reflections, disorientation_angles
from pyxem_nas.indexing import (
    RatedCandidates,
    compare_with_best,
    get_refinement_spec,
    get_scores,
    judge_candidates,
    log_rest,
    rank_candidates,
    refine_candidates,
)
from pyxem_nas.patterns import DescriptorSpec

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
    symmetry: np.ndarray,
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
        From `diffraction.get_reflections`.
    phase_id
        The phase in that table.
    symmetry
        Its Laue operations, quaternions of shape (n_operations, 4).
    spec
        Of the network's descriptors.
    wavelength
        Angstrom.
    precession_angle
        Degrees.
    """
    judges, figures = {}, {}
    for kind in ("fast", "template", "refined"):
        # without refinement candidates are scored on the network's own descriptor
        fast = kind == "fast"
        rated = refine_candidates(
            patterns.descriptors if fast else patterns.polar,
            patterns.candidates,
            reflections,
            phase_id,
            spec=spec if fast else get_refinement_spec(spec),
            wavelength=wavelength,
            precession_angle=precession_angle,
            refine=not fast,
        )
        near = candidates_right(rated.quaternions, patterns.quaternions, symmetry)
        posterior = None if kind == "template" else patterns.log_posterior
        judge = fit_judge(rated, posterior, near)
        probability = judge_candidates(rated, patterns.log_posterior, judge)
        answers = rank_candidates(rated.quaternions, probability, rated.correlation, symmetry)
        angles = disorientation_angles(answers["quaternions"][:, 0], patterns.quaternions, symmetry)
        judges[kind] = judge
        figures[kind] = {
            "within_5_deg": float((angles < 5).mean()),
            "within_2_deg": float((angles < 2).mean()),
            "median_deg": float(np.median(angles)),
            "truth_among_candidates": float(near.any(axis=1).mean()),
        }
    return FittedJudges(judges, figures, answers["probability"][:, 0], angles < _RIGHT)


def candidates_right(quaternions, truth, symmetry) -> np.ndarray:
    """Return which candidates (n, k) are within 5 degrees of the truth (n, 4)."""
    columns = [
        disorientation_angles(quaternions[:, j], truth, symmetry) < _RIGHT
        for j in range(quaternions.shape[1])
    ]
    return np.stack(columns, axis=1) & quaternions.any(axis=-1)


def fit_judge(rated: RatedCandidates, log_posterior: np.ndarray | None, right: np.ndarray) -> Judge:
    """Return the judge of greatest likelihood.

    A weak prior (variance 1000) keeps the weights finite where the data are separable.

    Parameters
    ----------
    rated
        Candidates with their correlations.
    log_posterior
        Of the candidates, shape (n, k); None: of a technique that tells none.
    right
        Which of the candidates are right, shape (n, k), boolean.

    References
    ----------
    McFadden, D. (1974), conditional logit.
    """
    valid = np.any(rated.quaternions != 0, axis=-1)
    n, k = valid.shape
    # what each weight is of: (n_weights, n, k + 1), the last alternative being none of them
    terms = np.zeros((5 if log_posterior is not None else 3, n, k + 1))
    terms[0, :, :k] = compare_with_best(rated.correlation, valid)
    terms[1, :, k] = 1
    terms[2, :, :k] = compare_with_best(rated.tolerant, valid)
    if log_posterior is not None:
        terms[3, :, :k] = np.where(valid, log_posterior, 0)
        terms[4, :, k] = log_rest(log_posterior, valid)
    start = np.array([10.0, 8.0, 0.0, 0.5, 0.0])[: len(terms)]
    weights = fit_logit(terms, right, valid, start)
    correlation, none, tolerant, log_weight, none_log = (*weights, 0.0, 0.0)[:5]
    return Judge(log_weight, correlation, none, tolerant, none_log)


def fit_hybrid(
    rated: RatedCandidates, log_posterior: np.ndarray, right: np.ndarray, reach: np.ndarray
) -> Judge:
    """Return the judge by which a network's word joins the judge of candidate sets.

    Parameters
    ----------
    rated
        Candidates of matching and network together, with all their scores.
    log_posterior
        Of the candidates, by the network, shape (n, k).
    right
        Which of the candidates are right, shape (n, k), boolean.
    reach
        How far each detector shows spots, 1/angstrom, shape (n,).
    """
    valid = np.any(rated.quaternions != 0, axis=-1)
    n, k = valid.shape
    of_set, of_none = get_set_judge().rate(get_scores(rated), valid)
    terms = np.zeros((5, n, k + 1))
    terms[0, :, :k], terms[0, :, k:] = np.where(valid, of_set, 0), of_none
    terms[1, :, k] = 1
    terms[2, :, :k] = np.where(valid, log_posterior, 0)
    terms[3, :, k] = log_rest(log_posterior, valid)
    terms[4] = terms[2] * (reach - MEAN_REACH)[:, None]
    weights = fit_logit(terms, right, valid, np.array([1.0, 0.0, 0.3, 0.0, 0.0]))
    set_utility, none, log_weight, none_log, per_reach = weights
    return Judge(
        log_weight, 0.0, none,
        none_log_posterior=none_log, set_utility=set_utility, per_reach=per_reach,
    )  # fmt: skip


def fit_logit(
    terms: np.ndarray, right: np.ndarray, valid: np.ndarray, start: np.ndarray
) -> tuple[float, ...]:
    """Return the weights of terms by which what is right wins.

    Parameters
    ----------
    terms
        What each weight is of, shape (n_weights, n, k + 1), the last alternative being none.
    right
        Which of the k alternatives are right, shape (n, k), boolean; where none is, the last is.
    valid
        Which there are, shape (n, k), boolean.
    start
        Weights to begin with, shape (n_weights,).
    """
    from scipy.optimize import minimize

    n = len(right)
    right = np.column_stack([right, ~right.any(axis=1)])
    valid_or_none = np.column_stack([valid, np.ones(n, bool)])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        utility = np.where(valid_or_none, np.tensordot(weights, terms, 1), -1e9)
        total = np.logaddexp.reduce(utility, axis=1, keepdims=True)
        hit = np.logaddexp.reduce(np.where(right, utility, -1e9), axis=1, keepdims=True)
        pull = np.exp(utility - total) - right * np.exp(np.where(right, utility, -1e9) - hit)
        slope = np.tensordot(terms, pull, 2)
        prior = np.square(weights).sum() / 2e3
        return ((total - hit).sum() + prior) / n, (slope + weights / 1e3) / n

    fit = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-6})
    return tuple(float(w) for w in fit.x)


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
