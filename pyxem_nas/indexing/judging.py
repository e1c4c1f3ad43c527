"""Judging: which of a pattern's candidates is right, and how sure that is.

Owns the probability of each candidate by posterior and physics, their order, how many are
plausible, and reliability. Where candidates come from belongs to `candidates` and `matching`, the
weights to `bundles`.
"""

from __future__ import annotations

import numba
import numpy as np

from pyxem_nas.bundles import (
    MEAN_REACH,
    CandidateScores,
    Judge,
    get_set_judge,
    make_network_features,
)
from pyxem_nas.indexing.candidates import nearest
from pyxem_nas.indexing.refinement import RatedCandidates

_LEAST_REST = 1e-3  # of the posterior outside of candidates: no network is surer with reason
_COS_5, _COS_10 = np.cos(np.deg2rad([2.5, 5.0]))  # of half of 5 and 10 degrees


def judge_candidates(
    rated: RatedCandidates,
    log_posterior: np.ndarray,
    judge: Judge,
    *,
    n_network: int | None = None,
    reach: float | np.ndarray = MEAN_REACH,
) -> np.ndarray:
    """Return the probability of each candidate.

    Parameters
    ----------
    rated
        Candidates with their correlations; all-zero quaternions are none.
    log_posterior
        Shape (n, k).
    judge
        The weights. Where it is not calibrated the probabilities order the candidates and mean no
        more.
    n_network
        The first of the candidates are the network's: those from elsewhere may repeat them, and
        their posterior would count twice. None: all are.
    reach
        How far the detector shows spots, 1/angstrom (`IndexingPlan.reach`); of each pattern (n,).

    Returns
    -------
    probability
        Shape (n, k).
    """
    valid = np.any(rated.quaternions != 0, axis=-1)
    correlation = rated.correlation
    if judge.relative:
        correlation = compare_with_best(correlation, valid)
    weight = np.reshape(judge.weigh_posterior(reach), (-1, 1))
    utility = weight * log_posterior + judge.correlation * correlation
    if judge.tolerant:
        utility += judge.tolerant * compare_with_best(rated.tolerant, valid)
    if judge.matching and rated.matching is not None:
        utility += judge.matching * compare_with_best(rated.matching, valid)
    none = np.full((len(valid), 1), -np.inf if judge.none is None else judge.none)
    if judge.set_utility and rated.matching is not None:
        of_set, of_none = get_set_judge().rate(get_scores(rated), valid)
        if judge.network_judge is not None:
            features = get_network_features(
                rated, log_posterior, (of_set, of_none), n_network=n_network, reach=reach
            )
            of_set, of_none = judge.network_judge.rate_features(features, valid)
        utility = utility + judge.set_utility * of_set
        none = none + judge.set_utility * of_none
    utility = np.where(valid, utility, -np.inf)
    if judge.none_log_posterior:
        rest = log_rest(log_posterior[:, :n_network], valid[:, :n_network])
        none += judge.none_log_posterior * rest[:, None]
    highest = np.maximum(utility.max(axis=1, keepdims=True), none)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    share = np.exp(utility - highest)
    total = share.sum(axis=1, keepdims=True) + np.exp(none - highest)
    return share / np.maximum(total, 1e-300)


def get_scores(rated: RatedCandidates) -> CandidateScores:
    """Return what the judge of candidate sets looks at."""
    return CandidateScores(
        rated.correlation, rated.tolerant, rated.matching,
        rated.spots, rated.explained, rated.peaks,
    )  # fmt: skip


def get_network_features(
    rated: RatedCandidates,
    log_posterior: np.ndarray,
    utility: tuple[np.ndarray, np.ndarray],
    *,
    n_network: int | None = None,
    reach: float | np.ndarray,
) -> np.ndarray:
    """Return what `Judge.network_judge` looks at; `utility` is the shipped judge's word."""
    valid = np.any(rated.quaternions != 0, axis=-1)
    rest = log_rest(log_posterior[:, :n_network], valid[:, :n_network])
    return make_network_features(get_scores(rated), valid, utility, log_posterior, rest, reach)


def log_rest(log_posterior: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the logarithm of the posterior outside of candidates (n, k), shape (n,)."""
    mass = np.where(valid, np.exp(log_posterior), 0.0).sum(axis=1)
    return np.log(np.maximum(1 - mass, _LEAST_REST))


def compare_with_best(correlation: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return correlations (n, k) over the highest of the valid ones of each row; 0 if that is 0."""
    best = np.where(valid, correlation, 0.0).max(axis=1, keepdims=True)
    return np.divide(correlation, best, out=np.zeros(correlation.shape), where=best > 0)


def rank_candidates(
    quaternions: np.ndarray,
    probability: np.ndarray,
    correlation: np.ndarray,
    symmetry: np.ndarray,
    *,
    n_best: int = 1,
) -> dict[str, np.ndarray]:
    """Order candidates, join those that became one, and rate the first.

    Parameters
    ----------
    quaternions, probability, correlation
        Candidates of shapes (n, k, 4), (n, k), (n, k).
    symmetry
        Operations of the proper point group, shape (n_operations, 4).
    n_best
        Number of answers.

    Returns
    -------
    answers
        "quaternions" (n, n_best, 4) (the last distinct one repeated where there are fewer),
        "probability" (n, n_best): the mass within 5 degrees of each, 0 where there are fewer;
        "n_plausible" (n,), how many distinct ones are needed for 9 patterns in 10;
        "correlations" (n, n_best); "correlation" (n,), that of the first; "reliability" and
        "twin_reliability" (n,): 100 (1 - Q2 / Q1), Q the correlation, Q2 the best solution more
        than 10 degrees from the first and from its twin, or the twin's.

    References
    ----------
    Rauch, E. F. and Dupuy, L. (2005) Arch. Metall. Mater. 50, 87: reliability of ASTAR maps.
    """
    quaternions = np.ascontiguousarray(quaternions, np.float64)
    probability = np.ascontiguousarray(probability, np.float64)
    n, k = probability.shape
    best = np.zeros((n, n_best, 4))
    best[..., 0] = 1
    mass, correlations = np.zeros((n, max(k, n_best))), np.zeros((n, n_best))
    reliability, twin = np.full(n, np.nan), np.full(n, np.nan)
    # what NumPy does here would take seconds to compile
    order = np.argsort(-probability, axis=1, kind="stable")
    absent = (quaternions == 0).all(axis=-1)
    _rank(
        quaternions, probability, np.ascontiguousarray(correlation, np.float64), symmetry, order,
        absent, best, mass, correlations, reliability, twin,
    )  # fmt: skip
    return {
        "quaternions": best,
        "probability": mass[:, :n_best],
        "n_plausible": get_set_judge().count_plausible(mass),
        "correlations": correlations,
        "correlation": correlations[:, 0].copy(),
        "reliability": reliability,
        "twin_reliability": twin,
    }


@numba.njit(cache=True)
def _rank(
    quaternions, probability, correlation, symmetry, order, absent, best, mass, found, reliability,
    twin_reliability,
):  # fmt: skip
    n, k = probability.shape
    n_best = best.shape[1]
    n_kept = mass.shape[1]
    image = np.empty(4)
    twin = np.empty(4)
    used = np.empty(k, np.bool_)
    for i in range(n):
        for j in range(k):
            used[j] = absent[i, j]
        n_found = 0
        for j in order[i]:
            if used[j] or n_found == n_kept:
                continue
            if n_found < n_best:
                for c in range(4):
                    best[i, n_found, c] = quaternions[i, j, c]
                found[i, n_found] = correlation[i, j]
            for m in range(k):
                if (
                    not used[m]
                    and nearest(quaternions[i, j], quaternions[i, m], symmetry, image) > _COS_5
                ):
                    used[m] = True
                    mass[i, n_found] += probability[i, m]
            n_found += 1
        if n_found == 0:
            continue
        for b in range(n_found, n_best):
            for c in range(4):
                best[i, b, c] = best[i, n_found - 1, c]
        q1 = found[i, 0]
        a = best[i, 0]
        twin[0], twin[1], twin[2], twin[3] = -a[3], a[2], -a[1], a[0]
        second, second_twin = -1.0, -1.0
        for m in range(k):
            if absent[i, m]:
                continue
            from_first = nearest(a, quaternions[i, m], symmetry, image)
            from_twin = nearest(twin, quaternions[i, m], symmetry, image)
            if from_first < _COS_10 and from_twin < _COS_10:
                second = max(second, correlation[i, m])
            elif from_twin >= _COS_10 and from_first < _COS_10:
                second_twin = max(second_twin, correlation[i, m])
        if q1 > 0:
            if second >= 0:
                reliability[i] = 100 * (1 - second / q1)
            if second_twin >= 0:
                twin_reliability[i] = 100 * (1 - second_twin / q1)
