"""Fits of a bundle's judges, temperature and thresholds to patterns of known orientation.

Owns the mathematics. Which patterns they are fitted to is the business of `bundle_calibration`
(simulations) and `recalibration` (a measured scan).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyxem_nas.bundles import MEAN_REACH, Judge, JudgeArchitecture, SetJudge, get_set_judge
from pyxem_nas.diffraction import Reflections, disorientation_angles
from pyxem_nas.indexing import (
    RatedCandidates,
    compare_with_best,
    get_network_features,
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
_FOLDS = 4  # of cameras; one of them is held out of the fit of a network judge
_LEAST_HELD_OUT = 300  # patterns: fewer cannot tell which judge is better
_NETWORK_JUDGE = JudgeArchitecture(width=16, depth=2, pooling="mean and maximum")
_EPOCHS = 20


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


@dataclass(frozen=True)
class HybridPatterns:
    """Patterns of one phase with the candidates of matching and network together.

    Parameters
    ----------
    rated
        Candidates with all their scores.
    log_posterior
        Of the candidates, by the network, shape (n, k).
    right
        Which of the candidates are right, shape (n, k), boolean.
    reach
        How far each detector shows spots, 1/angstrom, shape (n,).
    camera
        Number of the camera that each was seen through, shape (n,).
    """

    rated: RatedCandidates
    log_posterior: np.ndarray
    right: np.ndarray
    reach: np.ndarray
    camera: np.ndarray

    def take(self, rows: np.ndarray) -> HybridPatterns:
        """Return some of the patterns."""
        rated = RatedCandidates(*(column[rows] for column in self.rated))
        fields = (self.log_posterior, self.right, self.reach, self.camera)
        return HybridPatterns(rated, *(column[rows] for column in fields))

    def judge(self, judge: Judge) -> np.ndarray:
        """Return the probability of each candidate, shape (n, k)."""
        return judge_candidates(self.rated, self.log_posterior, judge, reach=self.reach)


def fit_hybrids(patterns: dict[int, HybridPatterns]) -> tuple[dict[int, Judge], dict[str, Any]]:
    """Return the judges by which networks' words join the judge of candidate sets, by phase.

    One network for all phases that sees these words, if patterns through cameras that it was not
    fitted to are likelier by it, by more than chance, than by the plain sum of utilities and
    weighed log-posteriors (`fit_hybrid`); if not, the plain sum.

    Parameters
    ----------
    patterns
        Of each phase.

    Returns
    -------
    judges
        Of each phase.
    figures
        How much likelier patterns are by the network, mean and standard error, and what was taken.
    """
    plain = {k: fit_hybrid(seen) for k, seen in patterns.items()}
    held = {k: seen.camera % _FOLDS == 1 for k, seen in patterns.items()}
    learned = {k: seen.take(np.flatnonzero(~held[k])) for k, seen in patterns.items()}
    others = {k: seen.take(np.flatnonzero(held[k])) for k, seen in patterns.items()}
    if sum(map(np.sum, held.values())) < _LEAST_HELD_OUT:
        return plain, {"network_judge": False}
    network_judge = _fit_network_judge(learned)
    gain = np.concatenate(
        [
            log_likelihood(seen.judge(_weigh(network_judge, 1.0, 0.0)), seen.right)
            - log_likelihood(seen.judge(fit_hybrid(learned[k])), seen.right)
            for k, seen in others.items()
        ]
    )
    mean, error = float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))
    figures = {"network_judge": mean > 1.96 * error, "gain": mean, "gain_error": error}
    if not figures["network_judge"]:
        return plain, figures
    # how sure it may be of cameras that it has not seen; its weights then know all of them
    scale = {k: _fit_scale(network_judge, seen) for k, seen in others.items()}
    network_judge = _fit_network_judge(patterns)
    return {k: _weigh(network_judge, *scale[k]) for k in patterns}, figures


def _weigh(network_judge: SetJudge, weight: float, none: float) -> Judge:
    return Judge(0.0, 0.0, none, set_utility=weight, network_judge=network_judge)


def _fit_network_judge(patterns: dict[int, HybridPatterns]) -> SetJudge:
    """Return a judge that sees the networks' words, fitted to patterns of all phases."""
    from pyxem_nas.training.judge_search import fit_judge_network

    features, right = [], []
    for seen in patterns.values():
        valid = np.any(seen.rated.quaternions != 0, axis=-1)
        features.append(np.concatenate([_describe(seen), valid[..., None]], axis=2))
        right.append(np.column_stack([seen.right, ~seen.right.any(axis=1)]))
    return fit_judge_network(
        np.concatenate(features, dtype=np.float32), np.concatenate(right), _NETWORK_JUDGE,
        epochs=_EPOCHS,
    )  # fmt: skip


def _describe(seen: HybridPatterns) -> np.ndarray:
    valid = np.any(seen.rated.quaternions != 0, axis=-1)
    utility = get_set_judge().rate(get_scores(seen.rated), valid)
    return get_network_features(seen.rated, seen.log_posterior, utility, reach=seen.reach)


def _fit_scale(network_judge: SetJudge, seen: HybridPatterns) -> tuple[float, float]:
    """Return the weight of a judge's utilities, and what to add to "none of them"."""
    valid = np.any(seen.rated.quaternions != 0, axis=-1)
    of_set, of_none = network_judge.rate_features(_describe(seen), valid)
    terms = np.zeros((2, len(valid), valid.shape[1] + 1))
    terms[0, :, :-1], terms[0, :, -1:] = np.where(valid, of_set, 0), of_none
    terms[1, :, -1] = 1
    return fit_logit(terms, seen.right, valid, np.array([1.0, 0.0]))


def log_likelihood(probability: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the logarithm of what is given to right candidates, or to none of them, (n,)."""
    hit = np.where(right, probability, 0).sum(axis=1)
    return np.log(np.maximum(np.where(right.any(axis=1), hit, 1 - probability.sum(axis=1)), 1e-9))


def fit_hybrid(patterns: HybridPatterns) -> Judge:
    """Return the judge that adds a network's word, weighed, to the judge of candidate sets."""
    rated, log_posterior = patterns.rated, patterns.log_posterior
    valid = np.any(rated.quaternions != 0, axis=-1)
    n, k = valid.shape
    of_set, of_none = get_set_judge().rate(get_scores(rated), valid)
    terms = np.zeros((5, n, k + 1))
    terms[0, :, :k], terms[0, :, k:] = np.where(valid, of_set, 0), of_none
    terms[1, :, k] = 1
    terms[2, :, :k] = np.where(valid, log_posterior, 0)
    terms[3, :, k] = log_rest(log_posterior, valid)
    terms[4] = terms[2] * (patterns.reach - MEAN_REACH)[:, None]
    weights = fit_logit(terms, patterns.right, valid, np.array([1.0, 0.0, 0.3, 0.0, 0.0]))
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
