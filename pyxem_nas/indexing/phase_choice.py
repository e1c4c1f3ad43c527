"""The phase of each pattern, and its answers: networks where they are sure, physics where not.

Owns the order of work on a stack of described patterns of unknown phase. What one phase answers is
`branches`'; the scores by which phases are compared are `phase_scores`'.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from pyxem_nas.bundles import DEFAULT_PHASE_JUDGE, PhaseScores
from pyxem_nas.indexing.branches import get_library, orient, refine
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.matching import score_spectra
from pyxem_nas.indexing.phase_scores import judge_phases, score_phase
from pyxem_nas.indexing.plan import IndexingPlan
from pyxem_nas.indexing.predictor import Predictor
from pyxem_nas.indexing.result_rows import RATED, empty_answers, put_answers, tabulate


def choose_phases(
    predictor: Predictor, described: Described, plan: IndexingPlan, empty: np.ndarray, reject: bool
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return the phase of each pattern, -1 for none, its probability and its answers."""
    n, n_phases = len(described), len(predictor.bundle.phases)
    log_network = predictor.log_phase_probability(described.phase_input)
    phase, probability = predictor.classify(log_network, n, reject=reject)
    decided = phase is not None
    if not decided:
        phase, probability = np.zeros(n, int), np.zeros(n)
    answers = empty_answers(n, plan)
    sure = predictor.bundle.thresholds.phase if plan.refine else 0.0
    open_ = ~empty & (probability < sure) if decided else ~empty
    for k in range(n_phases):
        rows = np.flatnonzero((phase == k) & ~empty & ~open_)
        if len(rows):
            few = described.take(rows)
            answer = orient(predictor, k, few, plan)
            table = tabulate([answer], np.ones((len(rows), 1)), k, plan)
            put_answers(answers, rows, answer | table)
            if plan.refine:
                known = probability[rows], None if log_network is None else log_network[rows]
                doubted, probability[rows] = _doubt(predictor, k, few, plan, answer, *known, reject)
                phase[rows[doubted]] = n_phases
    rows = np.flatnonzero(open_)
    if len(rows):
        few = described.take(rows)
        known = log_network[rows] if decided else None
        answer = try_all(predictor, few, plan, known, reject=reject)
        phase[rows], probability[rows] = answer.pop("phase"), answer.pop("phase_probability")
        put_answers(answers, rows, answer)
    phase = np.where(empty | (phase >= n_phases), -1, phase)
    return phase, np.where(empty & (not decided), np.nan, probability), answers


def try_all(
    predictor: Predictor,
    described: Described,
    plan: IndexingPlan,
    log_network: np.ndarray | None = None,
    *,
    reject: bool = True,
) -> dict[str, np.ndarray]:
    """Run every phase's branch and let physical scores decide at each position.

    The answers are those of the winning phase; "phase" and "phase_probability" tell it. With
    `reject`, n_phases stands for "none of these". pyxem's matcher, slow, comes last where it is
    only the last resort: for the winner, and for all phases where none is likely.
    """
    bundle = predictor.bundle
    quick = replace(plan, template_threshold=0.0)
    tried = [orient(predictor, k, described, quick) for k in range(len(bundle.phases))]
    judge = bundle.phase_judge or DEFAULT_PHASE_JUDGE
    whole = judge.set_utility != 0
    scores = [_score(predictor, k, tried[k], described, plan, whole) for k in range(len(tried))]
    probability = judge_phases(_join(scores), judge, log_network)
    if plan.template_threshold:
        likely = probability[:, :-1].max(axis=1) >= bundle.thresholds.phase
        winner = probability[:, :-1].argmax(axis=1)
        for k in range(len(tried)):
            unsure = tried[k]["mass"][:, 0] < plan.template_threshold
            rows = np.flatnonzero(unsure & (~likely | (winner == k)))
            if plan.branches[k] == "hybrid" and len(rows):
                few = described.take(rows)
                answer = orient(predictor, k, few, plan)
                put_answers(tried[k], rows, answer)
                better = _score(predictor, k, answer, few, plan, whole)
                for column, values in zip(scores[k], better, strict=True):
                    column[rows] = values
        probability = judge_phases(_join(scores), judge, log_network)
    return _answer_of_winner(tried, _join(scores).correlation, probability, plan, reject)


def _doubt(
    predictor, phase_id, described, plan, answers, probability, log_network, reject
) -> tuple[np.ndarray, np.ndarray]:
    """Return which patterns are none of their phase, if any is rejected, and the probability.

    A phase network has seen what noise there is in its simulations; what a phase in its best
    orientation does not explain is none of it, whatever the network says.
    """
    n_phases, judge = len(predictor.bundle.phases), predictor.bundle.phase_judge
    judge = judge or DEFAULT_PHASE_JUDGE
    if not judge.set_utility:
        return np.zeros(len(described), bool), probability
    scores = _join([_score(predictor, phase_id, answers, described, plan)])
    if log_network is not None:
        log_network = log_network[:, [phase_id, n_phases]]
    explained, none = judge_phases(scores, judge, log_network).T
    doubted = reject & (none > explained)
    return doubted, np.where(doubted, none, np.fmin(probability, explained))


def score_phases(predictor: Predictor, described: Described, plan: IndexingPlan) -> PhaseScores:
    """Return the scores of all phases, each in the best orientation by its branch."""
    answers = [orient(predictor, k, described, plan) for k in range(len(predictor.bundle.phases))]
    return _join([_score(predictor, k, a, described, plan) for k, a in enumerate(answers)])


def _join(scores: list[PhaseScores]) -> PhaseScores:
    """Return the scores of several phases, columns (n,), as columns (n, n_phases)."""
    return PhaseScores(*(np.stack(columns, axis=1) for columns in zip(*scores, strict=True)))


def _answer_of_winner(tried, correlation, probability, plan, reject) -> dict[str, np.ndarray]:
    """Return the answers of the likeliest phase, with "phase" and what is known of it."""
    shares = probability[:, :-1]
    winner = shares.argmax(axis=1)
    index = np.arange(len(winner))
    answers = {name: np.stack([t[name] for t in tried])[winner, index] for name in tried[0]}
    answers |= tabulate(tried, shares, 0, plan)
    quality = correlation.copy()
    first = quality[index, winner]
    quality[index, winner] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        reliability = np.where(first > 0, 100 * (1 - quality.max(axis=1) / first), np.nan)
    answers["phase_reliability"] = np.maximum(reliability, 0.0)
    answers["phase_probability"] = shares.max(axis=1)
    none = reject & (probability[:, -1] > answers["phase_probability"])
    answers["phase_probability"][none] = probability[none, -1]
    answers["phase"] = np.where(none, shares.shape[1], winner)
    return answers


def _score(predictor, phase_id, answers, described, plan, whole=True) -> PhaseScores:
    """Return a phase's scores in its best orientation, which is refined for it; columns (n,).

    Without `whole` those that bundles of older schemas judge by; the matching score is NaN then
    where the branch does not match.
    """
    best, correlation = answers["quaternions"][:, 0], answers["correlation"]
    rated = {name: answers[name] for name in RATED}
    if not plan.refine:
        refined = refine(predictor, best[:, None], described.polar, phase_id, plan)
        best, correlation = refined.quaternions[:, 0], refined.correlation[:, 0]
        rated |= {name: getattr(refined, name)[:, 0] for name in RATED if name != "matching"}
    grid = get_grid(plan)
    scores = score_phase(described.polar, best, predictor.reflections, phase_id, **grid)
    matching = rated["matching"]
    if whole and np.isnan(matching).any():  # of a branch that does not match
        library = get_library(predictor, phase_id, plan)
        matching = score_spectra(described.spectra, library, best[:, None])[:, 0]
    first, last = predictor.reflections.bounds[phase_id : phase_id + 2]
    return PhaseScores(
        *scores.T,
        np.array(matching, float),
        correlation,
        rated["tolerant"],
        rated["explained"],
        rated["spots"],
        rated["peaks"],
        np.full(len(best), math.log(last - first)),
    )


def get_grid(plan: IndexingPlan) -> dict[str, Any]:
    """Return what functions of polar patterns must know of them and of the microscope."""
    return {
        "spec": plan.sampler.specs[1],
        "wavelength": plan.acquisition.wavelength,
        "precession_angle": plan.acquisition.precession_angle,
    }
