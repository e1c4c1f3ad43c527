"""Prediction: one block of patterns -> one block of result rows, and the dask map over blocks.

Owns the way of a pattern through phase, branch and refinement. A pure function of patterns, centres
and plan; models are loaded once per process and kept by the bundle's hash. Checks of user input and
HyperSpy belong to `signals`, what a candidate is worth to `candidates`, what a phase is worth to
`phase_scores`, two crystals in one pattern to `overlaps`.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles import BundleError, Judge, ModelBundle, PhaseJudge, Thresholds
from pyxem_nas.diffraction import (
    Reflections,
    disorientation_angles,
    get_reflections,
    laue_operations,
)
from pyxem_nas.indexing.candidates import (
    judge_candidates,
    log_posterior_at,
    rank_candidates,
    select_candidates,
    sum_exponentials,
    with_twins,
)
from pyxem_nas.indexing.overlaps import OverlapJudge, take_out_spots
from pyxem_nas.indexing.phase_scores import N_SCORES, judge_phases, score_phase
from pyxem_nas.indexing.plan import SECOND, IndexingPlan
from pyxem_nas.indexing.refinement import RatedCandidates, refine_candidates
from pyxem_nas.indexing.result_rows import (
    NETWORK,
    OTHER,
    TEMPLATE,
    empty_answers,
    put_answers,
    tabulate,
)
from pyxem_nas.indexing.runtime import Network, Precision, Sample, choose_precision, load_network
from pyxem_nas.patterns import PolarSampler, compute_descriptors, to_native

if TYPE_CHECKING:
    import dask.array as da

_N_TEMPLATES = 3  # best templates that refinement and judge see, with their twins
_SAME = 5.0  # degrees: nearer to the first, a second crystal is the first

KERNEL_LOCK = threading.RLock()  # TensorFlow and numba use all cores by themselves
_predictors: dict[tuple[str, str], Predictor] = {}


def predict_lazily(patterns: da.Array, centers: np.ndarray, plan: IndexingPlan) -> da.Array:
    """Return result rows of a scan as a dask array.

    Parameters
    ----------
    patterns
        Scan of shape (..., ny, nx), whole patterns per chunk.
    centers
        Direct-beam positions (column, row) in pixels, shape (..., 2).
    plan
        What to do.

    Returns
    -------
    rows
        Array of shape (..., plan.n_columns), float64, chunked as the patterns.
    """
    return _map_blocks(_index_chunk, patterns, centers, (plan.n_columns,), np.float64, plan=plan)


def describe_lazily(patterns: da.Array, centers: np.ndarray, sampler: PolarSampler) -> da.Array:
    """Return descriptors (..., n_radial, n_azimuthal), float32, as `predict_lazily` does rows."""
    shape = sampler.specs[0].shape
    return _map_blocks(_describe_chunk, patterns, centers, shape, np.float32, sampler=sampler)


def _map_blocks(function, patterns, centers, row_shape, dtype, **options) -> da.Array:
    """Map a function (patterns, centers) -> rows over blocks of a scan."""
    import dask.array as da
    from dask import delayed

    # a key of its own in the graph: a cluster moves the networks once to each worker; as plain
    # arguments they would be pickled into every task
    options = {name: delayed(value, traverse=False) for name, value in options.items()}
    nav_chunks = patterns.chunks[:-2]
    centers = np.ascontiguousarray(centers, np.float32).reshape(*patterns.shape[:-2], 2)
    centers = da.from_array(centers[..., None], chunks=(*nav_chunks, 2, 1))
    if len(row_shape) == 1:
        options["drop_axis"] = patterns.ndim - 1
    return da.map_blocks(
        function,
        patterns,
        centers,
        dtype=dtype,
        chunks=(*nav_chunks, *((n,) for n in row_shape)),
        meta=np.empty((0,) * (len(nav_chunks) + len(row_shape)), dtype),
        **options,
    )


def _index_chunk(patterns: np.ndarray, centers: np.ndarray, *, plan: IndexingPlan) -> np.ndarray:
    rows = index_block(_stack(patterns), centers.reshape(-1, 2), plan)
    return rows.reshape(*patterns.shape[:-2], -1)


def _describe_chunk(
    patterns: np.ndarray, centers: np.ndarray, *, sampler: PolarSampler
) -> np.ndarray:
    with KERNEL_LOCK:
        (descriptors,) = compute_descriptors(_stack(patterns), centers.reshape(-1, 2), sampler)
    return descriptors.reshape(*patterns.shape[:-2], *descriptors.shape[1:])


def _stack(patterns: np.ndarray) -> np.ndarray:
    """Return patterns as one stack that compiled code takes."""
    return to_native(patterns.reshape(-1, *patterns.shape[-2:]))


def index_block(patterns: np.ndarray, centers: np.ndarray, plan: IndexingPlan) -> np.ndarray:
    """Index one block of patterns.

    Parameters
    ----------
    patterns
        Stack of shape (n, ny, nx), any real dtype, counts.
    centers
        Direct-beam positions (column, row) in pixels, shape (n, 2).
    plan
        What to do.

    Returns
    -------
    rows
        Array of shape (n, plan.n_columns), float64. Row i depends on pattern i alone.
    """
    with KERNEL_LOCK:
        predictor = get_predictor(plan.bundle, plan.precision)
        if plan.needs_polar:
            descriptors, polar, *cartesian = compute_descriptors(patterns, centers, plan.sampler)
        else:
            sampler = plan.sampler.without(1)
            descriptors, *cartesian = compute_descriptors(patterns, centers, sampler)
            polar = descriptors
        return predictor.index(descriptors, polar, plan, *cartesian)


def get_predictor(bundle: ModelBundle, precision: Precision = "auto") -> Predictor:
    """Return the loaded networks and reflections of a bundle, one per process and precision."""
    key = bundle.hash, choose_precision(precision)
    with KERNEL_LOCK:
        predictor = _predictors.get(key)
        if predictor is None:
            if len(_predictors) >= 4:
                _predictors.pop(next(iter(_predictors)))
            predictor = _predictors[key] = Predictor(bundle, key[1])
        return predictor


class Predictor:
    """Networks and reflections of a bundle, ready for use in this process.

    Parameters
    ----------
    bundle
        The bundle.
    precision
        Of the networks' arithmetic.
    """

    def __init__(self, bundle: ModelBundle, precision: Precision = "auto") -> None:
        self.bundle = bundle
        self.precision = choose_precision(precision)
        self.reflections: Reflections = get_reflections(bundle.phases)
        self.symmetry = [laue_operations(p) for p in bundle.phases]
        self._networks: dict[str, Network] = {}

    def run(self, name: str, descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a network's logits (n, n_out) and the log of the sum of their exponentials."""
        network = self._get_network(name)
        logits = np.concatenate(list(network.predict_all(descriptors)))
        logits = logits.astype(np.float32, copy=False) * np.float32(network.scale)
        return logits, sum_exponentials(logits)

    def find_candidates(
        self, phase_id: int, descriptors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return candidates and their log-posterior, as `select_candidates` does.

        The logits, up to a third of a megabyte a pattern, are looked at batch by batch.
        """
        network, cells = self._get_network(f"orientation_{phase_id}"), self.bundle.cells[phase_id]
        parts = [
            select_candidates(logits, None, cells, scale=network.scale)
            for logits in network.predict_all(descriptors)
        ]
        quaternions, log_posterior = zip(*parts, strict=True)
        return np.concatenate(quaternions), np.concatenate(log_posterior)

    def _get_network(self, name: str) -> Network:
        """Return a network, loaded at its first use."""
        if name not in self._networks:
            content = self.bundle.models[name]
            network = load_network(content, self.precision, Sample(self.bundle, name))
            _check_shapes(network, name, self.bundle)
            self._networks[name] = network
        return self._networks[name]

    def index(
        self,
        descriptors: np.ndarray,
        polar: np.ndarray,
        plan: IndexingPlan,
        cartesian: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return result rows for one stack of patterns, described as `get_specs` says."""
        n = len(descriptors)
        empty = ~descriptors.any(axis=(1, 2))
        thresholds = self.bundle.thresholds
        least = thresholds.confidence if plan.min_confidence is None else plan.min_confidence
        inputs = descriptors if cartesian is None else cartesian
        n_phases = len(self.bundle.phases)
        phase, probability = self.classify(inputs, reject=least > 0)
        decided = phase is not None
        if not decided:
            phase, probability = np.zeros(n, int), np.zeros(n)
        answers = empty_answers(n, plan)
        open_ = ~empty & (probability < (thresholds.phase if plan.refine else 0.0))
        open_ = ~empty if not decided else open_
        for k in range(n_phases):
            rows = np.flatnonzero((phase == k) & ~empty & ~open_)
            if len(rows):
                answer = self.orient(k, descriptors[rows], polar[rows], plan)
                put_answers(
                    answers, rows, answer | tabulate([answer], np.ones((len(rows), 1)), k, plan)
                )
        rows = np.flatnonzero(open_)
        if len(rows):
            log_network = self._log_network(inputs[rows]) if decided else None
            answer = self._try_all(
                descriptors[rows], polar[rows], plan, log_network, reject=least > 0
            )
            phase[rows], probability[rows] = answer.pop("phase"), answer.pop("phase_probability")
            put_answers(answers, rows, answer)
        phase = np.where(empty | (phase >= n_phases), -1, phase)
        probability = np.where(empty & (not decided), np.nan, probability)
        if plan.min_confidence is not None:
            thresholds = Thresholds(confidence=plan.min_confidence)
        left_out = thresholds.leave_out(probability, answers["probability"][:, 0])
        phase = np.where(left_out, -1, phase)
        columns = [
            phase, probability, answers["probability"][:, 0], answers["correlation"],
            answers["reliability"], answers["twin_reliability"], answers["phase_reliability"],
            answers["indexed_by"], answers["quaternions"][:, : plan.n_best], answers["table"],
        ]  # fmt: skip
        if plan.n_overlaps > 1:
            columns.append(self._find_second(descriptors, polar, plan, phase, answers, least))
        flat = [np.reshape(v, (n, math.prod(np.shape(v)[1:]))) for v in columns]
        return np.concatenate(flat, axis=1, dtype=np.float64)

    def classify(
        self, inputs: np.ndarray, *, reject: bool
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return phase id and its probability; None where physics decides.

        With `reject`, n_phases stands for "none of these".
        """
        n = len(inputs)
        if "phase" in self.bundle.models:
            logits, _ = self.run("phase", inputs)
            scaled = logits / (self.bundle.phase_temperature or 1.0)
            scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            scaled /= scaled.sum(axis=1, keepdims=True)
            # without rejection "none of these" is no answer
            allowed = scaled if reject else scaled[:, :-1]
            return allowed.argmax(axis=1), allowed.max(axis=1).astype(np.float64)
        if len(self.bundle.phases) == 1:
            return np.zeros(n, int), np.full(n, np.nan)
        return None, None

    def _log_network(self, inputs: np.ndarray) -> np.ndarray:
        """Return the logarithm of the phase network's probabilities, (n, n_phases + 1)."""
        logits, _ = self.run("phase", inputs)
        scaled = logits.astype(np.float64) / (self.bundle.phase_temperature or 1.0)
        return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)

    def _try_all(self, descriptors, polar, plan, log_network=None, *, reject=True):
        """Run every phase's branch and let physical scores decide at each position.

        The answers are those of the winning phase; "phase" and "phase_probability" tell it. With
        `reject`, n_phases stands for "none of these". Template matching, slow, comes last: for the
        winner, and for all phases where none is likely.
        """
        n_phases = len(self.bundle.phases)
        branches = plan.branches
        quick = tuple("network" if branch == "hybrid" else branch for branch in branches)
        plans = replace(plan, branches=quick), plan
        tried = [self.orient(k, descriptors, polar, plans[0]) for k in range(n_phases)]
        scores = np.stack([self._score(k, tried[k], polar, plan) for k in range(n_phases)], axis=1)
        judge = self.bundle.phase_judge or PhaseJudge()
        probability = judge_phases(scores, judge, log_network)
        likely = probability[:, :-1].max(axis=1) >= self.bundle.thresholds.phase
        winner = probability[:, :-1].argmax(axis=1)
        for k in range(n_phases):
            unsure = tried[k]["probability"][:, 0] < self._template_threshold(plan)
            rows = np.flatnonzero(unsure & (~likely | (winner == k)))
            if branches[k] == "hybrid" and len(rows):
                answer = self.orient(k, descriptors[rows], polar[rows], plans[1])
                put_answers(tried[k], rows, answer)
                scores[rows, k] = self._score(k, answer, polar[rows], plan)
        probability = judge_phases(scores, judge, log_network)
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
        answers["phase"] = np.where(none, n_phases, winner)
        return answers

    def _score(self, phase_id, answers, polar, plan) -> np.ndarray:
        """Return a phase's physical scores in its best orientation, which is refined for it."""
        best = answers["quaternions"][:, :1]
        if not plan.refine:
            best = self._refine(best, polar, phase_id, plan, True).quaternions
        return score_phase(polar, best[:, 0], self.reflections, phase_id, **self._grid(plan))

    def _grid(self, plan) -> dict[str, Any]:
        return {
            "spec": plan.sampler.specs[1],
            "wavelength": plan.acquisition.wavelength,
            "precession_angle": plan.acquisition.precession_angle,
        }

    def _template_threshold(self, plan) -> float:
        threshold = plan.template_threshold
        return self.bundle.thresholds.template if threshold is None else threshold

    def _find_second(self, descriptors, polar, plan, phase, answers, least) -> np.ndarray:
        """Return columns of a second crystal: phase, probability, correlation and quaternion."""
        columns = np.zeros((len(phase), len(SECOND) + 4))
        columns[:, 0], columns[:, len(SECOND)] = -1, 1
        first = answers["quaternions"][:, 0]
        rows, second = self.search_second(descriptors, polar, plan, phase, first)
        if not len(rows):
            return columns
        probability = OverlapJudge().get_probability(
            second["scores"], second["probability"][:, 0], second["left"]
        )
        probability[second["same"]] = 0
        kept = probability >= (0.5 if least > 0 else 0.0)
        found = [second["phase"], probability, second["correlation"], second["quaternions"][:, 0]]
        columns[rows[kept]] = np.column_stack(found)[kept]
        return columns

    def search_second(
        self,
        descriptors: np.ndarray,
        polar: np.ndarray,
        plan: IndexingPlan,
        phase: np.ndarray,
        first: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return what best explains the rest of patterns whose first crystal is taken out.

        Parameters
        ----------
        descriptors, polar
            As for `index`.
        plan
            What to do. Hybrid branches are network branches here: template matching of what is
            mostly noise would take the time of the whole scan.
        phase, first
            Phase (n,), -1 for not indexed, and orientation (n, 4) of the first crystal.

        Returns
        -------
        rows
            Rows in which something was left.
        second
            For each of them the answers as of `orient`, "phase", "scores" (`score_phase`), "left",
            the share of power left, and "same", true where it is the first crystal again.
        """
        phases = range(len(self.bundle.phases))
        plan = replace(plan, n_best=1, template_threshold=0.0, regularize=False, refine=True)
        rest, rest_polar = np.zeros_like(descriptors), np.zeros_like(polar)
        left = np.zeros(len(phase))
        grid = self._grid(plan)
        coarse = grid | {"spec": plan.sampler.specs[0]}
        for k in phases:
            mine = np.flatnonzero(phase == k)
            if len(mine):
                crystal = first[mine], self.reflections, k
                rest_polar[mine], left[mine] = take_out_spots(polar[mine], *crystal, **grid)
                rest[mine], _ = take_out_spots(descriptors[mine], *crystal, **coarse)
        rows = np.flatnonzero((left > 0) & rest.any(axis=(1, 2)))
        if not len(rows):
            return rows, {}
        second = self._try_all(rest[rows], rest_polar[rows], plan, reject=False)
        best, first = second["quaternions"][:, 0], first[rows]
        second["scores"] = np.zeros((len(rows), N_SCORES))
        second["left"] = left[rows]
        second["same"] = np.zeros(len(rows), bool)
        for k in phases:
            mine = np.flatnonzero(second["phase"] == k)
            if len(mine):
                second["scores"][mine] = score_phase(
                    rest_polar[rows[mine]], best[mine], self.reflections, k, **grid
                )
                group = laue_operations(self.bundle.phases[k])
                angle = disorientation_angles(best[mine], first[mine], group)
                second["same"][mine] = (phase[rows[mine]] == k) & (angle < _SAME)
        return rows, second

    def orient(
        self, phase_id: int, descriptors: np.ndarray, polar: np.ndarray, plan: IndexingPlan
    ) -> dict[str, np.ndarray]:
        """Return the answers of one phase's branch for rows of that phase."""
        branch = plan.branches[phase_id]
        if callable(branch):
            return self._orient_by_callable(branch, phase_id, descriptors, polar, plan)
        if branch == "template":
            return self._orient_by_templates(phase_id, polar, plan)
        candidates, log_posterior = self.find_candidates(phase_id, descriptors)
        # without refinement the network's own descriptor will do
        seen = polar if plan.refine else descriptors
        rated = self._refine(candidates, seen, phase_id, plan, plan.refine)
        judge = self._judge(phase_id, "refined" if plan.refine else "fast")
        answers = self._conclude(phase_id, rated, log_posterior, judge, plan, NETWORK)
        if branch == "network":
            return answers
        unsure = np.flatnonzero(answers["probability"][:, 0] < self._template_threshold(plan))
        if len(unsure) == 0:
            return answers
        templates = self._match_templates(phase_id, polar[unsure], plan)
        refined = self._refine(templates, seen[unsure], phase_id, plan, plan.refine)
        logits, norms = self.run(f"orientation_{phase_id}", descriptors[unsure])
        cells = self.bundle.cells[phase_id]
        template_log = log_posterior_at(logits, norms, cells, templates)
        joined = self._conclude(
            phase_id,
            RatedCandidates(
                *(
                    np.concatenate([a[unsure], b], axis=1)
                    for a, b in zip(rated, refined, strict=True)
                )
            ),
            np.concatenate([log_posterior[unsure], template_log], axis=1),
            judge,
            plan,
            NETWORK,
            n_network=candidates.shape[1],
        )
        put_answers(answers, unsure, joined)
        return answers

    def _orient_by_templates(self, phase_id, polar, plan) -> dict[str, np.ndarray]:
        templates = self._match_templates(phase_id, polar, plan)
        rated = self._refine(templates, polar, phase_id, plan, plan.refine)
        judge = self._judge(phase_id, "template")
        if not plan.refine:
            # the matcher's own order decides; refinement's score is another measure
            judge, score = Judge(0.0, 20.0), np.where(templates.any(axis=-1), rated.correlation, 0)
            score[:, 1:] = np.minimum(score[:, 1:], score[:, :1] * (1 - 1e-9))
            rated = rated._replace(correlation=score)
        flat = np.zeros(rated.correlation.shape)
        return self._conclude(phase_id, rated, flat, judge, plan, TEMPLATE)

    def _orient_by_callable(self, branch, phase_id, descriptors, polar, plan):
        quaternions, scores = branch(descriptors, self.bundle.phases[phase_id], plan.acquisition)
        quaternions = np.asarray(quaternions, np.float64)
        scores = np.asarray(scores, np.float64)
        if quaternions.ndim != 3 or quaternions.shape != (*scores.shape, 4):
            raise ValueError(
                f"the branch of {self.bundle.phase_names[phase_id]!r} must return quaternions "
                f"(m, k, 4) and scores (m, k), got {quaternions.shape} and {scores.shape}"
            )
        # the technique's own order stands; its scores are no probabilities
        order = np.argsort(-scores, axis=1)
        quaternions = np.take_along_axis(quaternions, order[..., None], axis=1)
        rated = self._refine(quaternions, polar, phase_id, plan, False)
        rank = np.broadcast_to(-np.arange(scores.shape[1], dtype=float), scores.shape)
        judge = Judge(1.0, 0.0)
        return self._conclude(phase_id, rated, rank, judge, plan, OTHER)

    def _match_templates(self, phase_id, polar, plan) -> np.ndarray:
        """Return the best templates and their twins, (m, 2 k, 4)."""
        from pyxem_nas.indexing.template_matching import get_template_library, match_templates

        # refinement goes beyond the grid: then a coarse one will do
        library = get_template_library(
            self.bundle.phases[phase_id],
            plan.acquisition,
            angular_resolution=2.0 if plan.refine else 1.0,
        )
        spec = plan.sampler.specs[1]
        n_best = max(_N_TEMPLATES, plan.n_best)
        quaternions, _ = match_templates(polar, spec.radii, library, n_best=n_best)
        return with_twins(quaternions)

    def _refine(self, candidates, polar, phase_id, plan, refine) -> RatedCandidates:
        spec = next(s for s in plan.sampler.specs if s.shape == polar.shape[1:])
        return refine_candidates(
            polar,
            candidates,
            self.reflections,
            phase_id,
            spec=spec,
            wavelength=plan.acquisition.wavelength,
            precession_angle=plan.acquisition.precession_angle,
            refine=refine,
        )

    def _judge(self, phase_id: int, kind: str) -> Judge:
        default = {"refined": Judge(), "fast": Judge(1.0, 0.0), "template": Judge(0.0, 20.0)}
        return self.bundle.judges.get(phase_id, {}).get(kind, default[kind])

    def _conclude(
        self, phase_id, rated, log_posterior, judge, plan, by, n_network=None
    ) -> dict[str, np.ndarray]:
        probability = judge_candidates(rated, log_posterior, judge, n_network=n_network)
        answers = rank_candidates(
            rated.quaternions,
            probability,
            rated.correlation,
            self.symmetry[phase_id],
            n_best=max(plan.n_best, plan.n_candidates),
        )
        answers["mass"] = answers["probability"]
        if judge.none is None:
            answers["probability"] = np.full_like(answers["probability"], np.nan)
        answers["indexed_by"] = np.full(len(probability), by)
        if n_network is not None:
            answers["indexed_by"][probability.argmax(axis=1) >= n_network] = TEMPLATE
        return answers


def _check_shapes(network: Network, name: str, bundle: ModelBundle) -> None:
    """Raise BundleError where a network is not one for what the bundle says of it."""
    if name == "phase":
        expected = ((bundle.pattern_spec or bundle.spec).shape, len(bundle.phases) + 1)
    else:
        expected = (bundle.spec.shape, bundle.cells[int(name.removeprefix("orientation_"))].n_cells)
    found = network.input_shape, network.n_outputs
    if found != expected:
        raise BundleError(
            f"network {name!r} of bundle {bundle.name!r} takes and gives {found!r}, its phases and "
            f"descriptor need {expected!r}; make the bundle anew"
        )
