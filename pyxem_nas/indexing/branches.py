"""The branches of a phase: where its candidate orientations come from, and which is the answer.

Owns the way from described patterns of one phase to its answers, by exhaustive matching, network,
both, pyxem's matcher or a function of the user's. What a candidate is worth is `judging`'s; which
phase it is, `phase_choice`'s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyxem_nas.bundles import DEFAULT_JUDGES, Judge
from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.indexing.candidates import log_posterior_at, with_twins
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.judging import judge_candidates, rank_candidates
from pyxem_nas.indexing.matching import (
    DISTINCT_COSINE,
    MatchLibrary,
    get_match_library,
    match_spectra,
    score_spectra,
)
from pyxem_nas.indexing.matching_kernel import drop_known
from pyxem_nas.indexing.plan import IndexingPlan
from pyxem_nas.indexing.predictor import Predictor
from pyxem_nas.indexing.refinement import RatedCandidates, refine_candidates
from pyxem_nas.indexing.result_rows import MATCH, NETWORK, OTHER, RATED, TEMPLATE, put_answers

_N_TEMPLATES = 3  # best of pyxem's templates that refinement and judge see, with their twins
# the judges of a branch, with and without refinement
_KINDS = {
    "network": ("refined", "fast"),
    "match": ("match", "match fast"),
    "hybrid": ("hybrid", "hybrid fast"),
}
_N_NETWORK = 4  # likeliest candidates of a network that join those of matching


class Candidates(NamedTuple):
    """Candidates of one phase before refinement; the shapes are (n, k)."""

    quaternions: np.ndarray  # (n, k, 4), all-zero ones are none
    log_posterior: np.ndarray  # by a network, 0 without one
    matching: np.ndarray | None  # score of exhaustive matching at the grid
    origin: np.ndarray  # (k,), as in the map's `indexed_by`
    n_network: int | None = None  # see `judge_candidates`


def orient(
    predictor: Predictor, phase_id: int, described: Described, plan: IndexingPlan
) -> dict[str, np.ndarray]:
    """Return the answers of one phase's branch.

    Parameters
    ----------
    predictor
        Of the plan's bundle.
    phase_id
        Phase of all rows.
    described
        Patterns.
    plan
        What to do.

    Returns
    -------
    answers
        What `rank_candidates` returns; "mass", its probability as the judge gives it;
        "probability", NaN where the judge is not calibrated; "indexed_by"; of the first answer
        `RATED`, NaN where it was not rated so.
    """
    branch = plan.branches[phase_id]
    if callable(branch):
        return _orient_by_callable(predictor, branch, phase_id, described, plan)
    if branch == "template":
        return _orient_by_templates(predictor, phase_id, described, plan)
    candidates = find_candidates(predictor, phase_id, described, plan)
    kind = _KINDS[branch][0 if plan.refine else 1]
    judge = get_judge(predictor, phase_id, kind)
    rated = rate_candidates(predictor, candidates, phase_id, described, plan)
    answers = _conclude(predictor, phase_id, rated, candidates, judge, plan)
    if branch == "hybrid" and plan.template_threshold:
        unsure = np.flatnonzero(answers["mass"][:, 0] < plan.template_threshold)
        if len(unsure):
            few = [_take(values, unsure) for values in (rated, candidates)]
            joined = _rescue(predictor, phase_id, described.take(unsure), plan, *few, judge)
            put_answers(answers, unsure, joined)
    return answers


def find_candidates(
    predictor: Predictor, phase_id: int, described: Described, plan: IndexingPlan
) -> Candidates:
    """Return the candidates of a phase's branch, "network", "match" or "hybrid"."""
    branch = plan.branches[phase_id]
    if branch == "network":
        return _find_by_network(predictor, phase_id, described)
    matched = _find_by_matching(predictor, phase_id, described, plan)
    if branch == "match":
        return matched
    return _join_network(predictor, phase_id, described, plan, matched)


def get_judge(predictor: Predictor, phase_id: int, kind: str) -> Judge:
    """Return the bundle's judge of a phase, or the one for all phases."""
    return predictor.bundle.judges.get(phase_id, {}).get(kind, DEFAULT_JUDGES[kind])


def get_library(predictor: Predictor, phase_id: int, plan: IndexingPlan) -> MatchLibrary:
    """Return the library of a phase for the plan's microscope and detector."""
    return get_match_library(
        predictor.bundle.phases[phase_id],
        plan.acquisition,
        predictor.bundle.spec,
        visible=None if plan.visible is None else np.array(plan.visible),
        fingerprint=predictor.get_fingerprint(phase_id),
    )


def _find_by_network(predictor, phase_id, described) -> Candidates:
    quaternions, log_posterior = predictor.find_candidates(phase_id, described.network_input)
    origin = np.full(quaternions.shape[1], NETWORK)
    return Candidates(quaternions, log_posterior, None, origin)


def _find_by_matching(predictor, phase_id, described, plan) -> Candidates:
    library = get_library(predictor, phase_id, plan)
    n_best = max(plan.n_best, plan.n_matches)
    quaternions, scores = match_spectra(described.spectra, library, n_best=n_best)
    origin = np.full(n_best, MATCH)
    return Candidates(quaternions, np.zeros(scores.shape), scores, origin)


def _join_network(predictor, phase_id, described, plan, matched) -> Candidates:
    """Return the candidates of matching and those of the network that are not among them."""
    found, log_posterior, weighed = predictor.find_and_weigh(
        phase_id, described.network_input, matched.quaternions
    )
    found, log_posterior = found[:, :_N_NETWORK].copy(), log_posterior[:, :_N_NETWORK].copy()
    symmetry = predictor.symmetry[phase_id]
    run_rows(drop_known, len(found), found, matched.quaternions, symmetry, DISTINCT_COSINE)
    library = get_library(predictor, phase_id, plan)
    scores = score_spectra(described.spectra, library, found)
    return Candidates(
        np.concatenate([found, matched.quaternions], axis=1),
        np.concatenate([log_posterior, weighed], axis=1),
        np.concatenate([scores, matched.matching], axis=1),
        np.concatenate([np.full(found.shape[1], NETWORK), matched.origin]),
    )


def rate_candidates(
    predictor: Predictor,
    candidates: Candidates,
    phase_id: int,
    described: Described,
    plan: IndexingPlan,
) -> RatedCandidates:
    """Refine candidates where the plan wants it, and rate them."""
    if not plan.refine and candidates.matching is not None:
        # the fast mode: the grid's score is all that is needed
        score = candidates.matching.astype(np.float64)
        return RatedCandidates(candidates.quaternions, score, score, matching=score)
    # without refinement the network's own descriptor will do
    seen = described.polar if plan.refine else described.descriptors
    rated = refine(predictor, candidates.quaternions, seen, phase_id, plan, plan.refine)
    return rated._replace(matching=candidates.matching)


def refine(predictor, quaternions, polar, phase_id, plan, wanted=True) -> RatedCandidates:
    """Refine, or only rate, orientations against polar patterns of one of the plan's grids."""
    spec = next(s for s in plan.sampler.specs if s.shape == polar.shape[1:])
    return refine_candidates(
        polar,
        quaternions,
        predictor.reflections,
        phase_id,
        spec=spec,
        wavelength=plan.acquisition.wavelength,
        precession_angle=plan.acquisition.precession_angle,
        refine=wanted,
    )


def _conclude(predictor, phase_id, rated, candidates, judge, plan) -> dict[str, np.ndarray]:
    """Return the answers that a judge chooses among rated candidates."""
    probability = judge_candidates(
        rated, candidates.log_posterior, judge, n_network=candidates.n_network, reach=plan.reach
    )
    answers = rank_candidates(
        rated.quaternions,
        probability,
        rated.correlation,
        predictor.symmetry[phase_id],
        n_best=max(plan.n_best, plan.n_candidates),
    )
    answers["mass"] = answers["probability"]
    if judge.none is None:
        answers["probability"] = np.full_like(answers["probability"], np.nan)
        answers["n_plausible"][:] = 0
    winner = probability.argmax(axis=1)
    answers["indexed_by"] = candidates.origin[winner]
    for name in RATED:
        scores = getattr(rated, name)
        scores = np.full(probability.shape, np.nan) if scores is None else scores
        answers[name] = scores[np.arange(len(winner)), winner].astype(float)
    return answers


def _take(values: Any, rows: np.ndarray) -> Any:
    """Return some rows of a named tuple of arrays."""
    kept = {"origin", "n_network"}
    fields = {
        name: value if value is None or name in kept else value[rows]
        for name, value in values._asdict().items()
    }
    return type(values)(**fields)


def _rescue(
    predictor, phase_id, described, plan, rated, candidates, judge
) -> dict[str, np.ndarray]:
    """Return the answers with the candidates of pyxem's matcher beside those known."""
    templates = _match_templates(predictor, phase_id, described.polar, plan)
    library = get_library(predictor, phase_id, plan)
    cells = predictor.bundle.cells[phase_id]
    logits, norms = predictor.run(f"orientation_{phase_id}", described.network_input)
    more = Candidates(
        templates,
        log_posterior_at(logits, norms, cells, templates),
        score_spectra(described.spectra, library, templates),
        np.full(templates.shape[1], TEMPLATE),
    )
    more_rated = rate_candidates(predictor, more, phase_id, described, plan)
    rated = RatedCandidates(
        *(np.concatenate(pair, axis=1) for pair in zip(rated, more_rated, strict=True))
    )
    known = candidates.quaternions.shape[1]
    joined = Candidates(
        np.concatenate([candidates.quaternions, more.quaternions], axis=1),
        np.concatenate([candidates.log_posterior, more.log_posterior], axis=1),
        np.concatenate([candidates.matching, more.matching], axis=1),
        np.concatenate([candidates.origin, more.origin]),
        known,
    )
    return _conclude(predictor, phase_id, rated, joined, judge, plan)


def _orient_by_templates(predictor, phase_id, described, plan) -> dict[str, np.ndarray]:
    templates = _match_templates(predictor, phase_id, described.polar, plan)
    rated = refine(predictor, templates, described.polar, phase_id, plan, plan.refine)
    judge = get_judge(predictor, phase_id, "template")
    if not plan.refine:
        # the matcher's own order decides; refinement's score is another measure
        judge, score = Judge(0.0, 20.0), np.where(templates.any(axis=-1), rated.correlation, 0)
        score[:, 1:] = np.minimum(score[:, 1:], score[:, :1] * (1 - 1e-9))
        rated = rated._replace(correlation=score)
    origin = np.full(templates.shape[1], TEMPLATE)
    flat = np.zeros(rated.correlation.shape)
    candidates = Candidates(templates, flat, None, origin)
    return _conclude(predictor, phase_id, rated, candidates, judge, plan)


def _orient_by_callable(predictor, branch, phase_id, described, plan):
    quaternions, scores = branch(
        described.descriptors, predictor.bundle.phases[phase_id], plan.acquisition
    )
    quaternions = np.asarray(quaternions, np.float64)
    scores = np.asarray(scores, np.float64)
    if quaternions.ndim != 3 or quaternions.shape != (*scores.shape, 4):
        raise ValueError(
            f"the branch of {predictor.bundle.phase_names[phase_id]!r} must return quaternions "
            f"(m, k, 4) and scores (m, k), got {quaternions.shape} and {scores.shape}"
        )
    # the technique's own order stands; its scores are no probabilities
    order = np.argsort(-scores, axis=1)
    quaternions = np.take_along_axis(quaternions, order[..., None], axis=1)
    rated = refine(predictor, quaternions, described.polar, phase_id, plan, False)
    rank = np.broadcast_to(-np.arange(scores.shape[1], dtype=float), scores.shape)
    candidates = Candidates(quaternions, rank, None, np.full(scores.shape[1], OTHER))
    return _conclude(predictor, phase_id, rated, candidates, Judge(1.0, 0.0), plan)


def _match_templates(predictor, phase_id, polar, plan) -> np.ndarray:
    """Return the best of pyxem's templates and their twins, (m, 2 k, 4)."""
    from pyxem_nas.indexing.template_matching import get_template_library, match_templates

    # refinement goes beyond the grid: then a coarse one will do
    library = get_template_library(
        predictor.bundle.phases[phase_id],
        plan.acquisition,
        angular_resolution=2.0 if plan.refine else 1.0,
    )
    spec = plan.sampler.specs[1]
    n_best = max(_N_TEMPLATES, plan.n_best)
    quaternions, _ = match_templates(polar, spec.radii, library, n_best=n_best)
    return with_twins(quaternions)
