"""The phase of each pattern, and its answers: networks where they are sure, physics where not.

Owns the order of work on a stack of described patterns of unknown phase. What one phase answers is
`branches`'; the scores by which phases are compared are `phase_scores`'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pyxem_nas.bundles import PhaseJudge
from pyxem_nas.indexing.branches import orient, refine
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.phase_scores import judge_phases, score_phase
from pyxem_nas.indexing.plan import IndexingPlan
from pyxem_nas.indexing.predictor import Predictor
from pyxem_nas.indexing.result_rows import empty_answers, put_answers, tabulate


def choose_phases(
    predictor: Predictor, described: Described, plan: IndexingPlan, empty: np.ndarray, reject: bool
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return the phase of each pattern, -1 for none, its probability and its answers."""
    n, n_phases = len(described), len(predictor.bundle.phases)
    phase, probability = predictor.classify(described.phase_input, reject=reject)
    decided = phase is not None
    if not decided:
        phase, probability = np.zeros(n, int), np.zeros(n)
    answers = empty_answers(n, plan)
    sure = predictor.bundle.thresholds.phase if plan.refine else 0.0
    open_ = ~empty & (probability < sure) if decided else ~empty
    for k in range(n_phases):
        rows = np.flatnonzero((phase == k) & ~empty & ~open_)
        if len(rows):
            answer = orient(predictor, k, described.take(rows), plan)
            table = tabulate([answer], np.ones((len(rows), 1)), k, plan)
            put_answers(answers, rows, answer | table)
    rows = np.flatnonzero(open_)
    if len(rows):
        few = described.take(rows)
        log_network = predictor.log_phase_probability(few.phase_input) if decided else None
        answer = try_all(predictor, few, plan, log_network, reject=reject)
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
    n_phases = len(predictor.bundle.phases)
    quick = replace(plan, template_threshold=0.0)
    tried = [orient(predictor, k, described, quick) for k in range(n_phases)]
    scores = [_score(predictor, k, tried[k], described.polar, plan) for k in range(n_phases)]
    scores = np.stack(scores, axis=1)
    judge = predictor.bundle.phase_judge or PhaseJudge()
    probability = judge_phases(scores, judge, log_network)
    if plan.template_threshold:
        likely = probability[:, :-1].max(axis=1) >= predictor.bundle.thresholds.phase
        winner = probability[:, :-1].argmax(axis=1)
        for k in range(n_phases):
            unsure = tried[k]["mass"][:, 0] < plan.template_threshold
            rows = np.flatnonzero(unsure & (~likely | (winner == k)))
            if plan.branches[k] == "hybrid" and len(rows):
                few = described.take(rows)
                answer = orient(predictor, k, few, plan)
                put_answers(tried[k], rows, answer)
                scores[rows, k] = _score(predictor, k, answer, few.polar, plan)
        probability = judge_phases(scores, judge, log_network)
    return _answer_of_winner(tried, scores, probability, plan, reject)


def _answer_of_winner(tried, scores, probability, plan, reject) -> dict[str, np.ndarray]:
    """Return the answers of the likeliest phase, with "phase" and what is known of it."""
    shares = probability[:, :-1]
    winner = shares.argmax(axis=1)
    index = np.arange(len(winner))
    answers = {name: np.stack([t[name] for t in tried])[winner, index] for name in tried[0]}
    answers |= tabulate(tried, shares, 0, plan)
    quality = scores[..., 0].copy()
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


def _score(predictor, phase_id, answers, polar, plan) -> np.ndarray:
    """Return a phase's physical scores in its best orientation, which is refined for it."""
    best = answers["quaternions"][:, :1]
    if not plan.refine:
        best = refine(predictor, best, polar, phase_id, plan).quaternions
    grid = get_grid(plan)
    return score_phase(polar, best[:, 0], predictor.reflections, phase_id, **grid)


def get_grid(plan: IndexingPlan) -> dict[str, Any]:
    """Return what functions of polar patterns must know of them and of the microscope."""
    return {
        "spec": plan.sampler.specs[1],
        "wavelength": plan.acquisition.wavelength,
        "precession_angle": plan.acquisition.precession_angle,
    }
