"""Prediction: one block of patterns -> one block of result rows, and the dask map over blocks.

Owns the way of a pattern through phase, branch and refinement. A pure function of patterns, centres
and plan; models are loaded once per process and kept by the bundle's hash. Checks of user input and
HyperSpy belong to `signals`, what a candidate is worth to `candidates`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundle import Judge, ModelBundle, load_keras
from pyxem_nas.candidates import (
    judge_candidates,
    log_posterior_at,
    rank_candidates,
    select_candidates,
    with_twins,
)
from pyxem_nas.descriptors import (
    DescriptorSpec,
    PatternSpec,
    PolarSampler,
    compute_descriptors,
)
from pyxem_nas.orientation import laue_proper_group
from pyxem_nas.refinement import get_refinement_spec, refine_candidates
from pyxem_nas.simulation import Acquisition, Reflections, get_reflections

if TYPE_CHECKING:
    import dask.array as da

Branch = str | Callable[..., tuple[np.ndarray, np.ndarray]]

_BATCH = 256  # XLA compiles for one shape: blocks are cut and padded to it
_PROPERTIES = (
    "phase_id", "phase_probability", "orientation_probability", "correlation", "reliability",
    "twin_reliability", "phase_reliability", "indexed_by",
)  # fmt: skip
NETWORK, TEMPLATE, OTHER = 0, 1, 2
_N_TEMPLATES = 3  # best templates that refinement and judge see, with their twins

_lock = threading.RLock()  # TensorFlow and numba use all cores by themselves
_predictors: dict[str, Predictor] = {}


@dataclass(frozen=True)
class IndexingPlan:
    """All that a block needs beside its patterns.

    Parameters
    ----------
    bundle
        Phases, networks, calibration.
    sampler
        Sampling of the detector for `get_specs` of the bundle.
    branches
        Branch of each phase: "hybrid", "network", "template" or a callable.
    acquisition
        Beam energy and precession.
    n_best
        Answers per position.
    refine
        Refine orientations in continuous orientation space.
    template_threshold, min_confidence
        Decisions; None: the bundle's.
    """

    bundle: ModelBundle
    sampler: PolarSampler = field(repr=False)
    branches: tuple[Branch, ...]
    acquisition: Acquisition
    n_best: int = 1
    refine: bool = True
    template_threshold: float | None = None
    min_confidence: float | None = None

    @property
    def n_columns(self) -> int:
        """Number of columns of a block of result rows."""
        return len(_PROPERTIES) + 4 * self.n_best


def get_specs(bundle: ModelBundle) -> tuple[DescriptorSpec | PatternSpec, ...]:
    """Return how a bundle wants patterns described: for networks, for refinement, for the phase."""
    specs = (bundle.spec, get_refinement_spec(bundle.spec))
    return specs if bundle.pattern_spec is None else (*specs, bundle.pattern_spec)


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


def split_rows(rows: np.ndarray, plan: IndexingPlan) -> dict[str, np.ndarray]:
    """Return result rows as named columns, the argument of `crystal_map.make_crystal_map`."""
    columns = {name: rows[:, k] for k, name in enumerate(_PROPERTIES)}
    columns["phase_id"] = columns["phase_id"].astype(np.int32)
    columns["indexed_by"] = columns["indexed_by"].astype(np.int8)
    quaternions = rows[:, len(_PROPERTIES) :].reshape(len(rows), plan.n_best, 4)
    return {**columns, "rotations": quaternions}


def _index_chunk(patterns: np.ndarray, centers: np.ndarray, *, plan: IndexingPlan) -> np.ndarray:
    rows = index_block(_stack(patterns), centers.reshape(-1, 2), plan)
    return rows.reshape(*patterns.shape[:-2], -1)


def _describe_chunk(
    patterns: np.ndarray, centers: np.ndarray, *, sampler: PolarSampler
) -> np.ndarray:
    with _lock:
        (descriptors,) = compute_descriptors(_stack(patterns), centers.reshape(-1, 2), sampler)
    return descriptors.reshape(*patterns.shape[:-2], *descriptors.shape[1:])


def _stack(patterns: np.ndarray) -> np.ndarray:
    """Return patterns as one stack of native byte order, which compiled code needs."""
    patterns = np.ascontiguousarray(patterns.reshape(-1, *patterns.shape[-2:]))
    return patterns.astype(patterns.dtype.newbyteorder("="), copy=False)


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
    with _lock:
        predictor = get_predictor(plan.bundle)
        descriptors, polar, *cartesian = compute_descriptors(patterns, centers, plan.sampler)
        return predictor.index(descriptors, polar, plan, *cartesian)


def get_predictor(bundle: ModelBundle) -> Predictor:
    """Return the loaded networks and reflections of a bundle, one per process."""
    with _lock:
        predictor = _predictors.get(bundle.hash)
        if predictor is None:
            if len(_predictors) >= 4:
                _predictors.pop(next(iter(_predictors)))
            predictor = _predictors[bundle.hash] = Predictor(bundle)
        return predictor


class Predictor:
    """Networks and reflections of a bundle, ready for use in this process.

    Parameters
    ----------
    bundle
        The bundle.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = bundle
        self.reflections: Reflections = get_reflections(bundle.phases)
        self.symmetry = [
            np.ascontiguousarray(laue_proper_group(p).data.reshape(-1, 4)) for p in bundle.phases
        ]
        self._networks: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {}

    def run(self, name: str, descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a network's logits (n, n_out) and the log of the sum of their exponentials."""
        if name not in self._networks:
            self._networks[name] = _compile(load_keras(self.bundle.models[name]))
        network = self._networks[name]
        n = len(descriptors)
        parts = []
        for start in range(0, n, _BATCH):
            batch = descriptors[start : start + _BATCH]
            if len(batch) < _BATCH:
                batch = np.concatenate(
                    [batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), np.float32)]
                )
            parts.append(network(batch))
        logits, norms = (np.concatenate(p)[:n] for p in zip(*parts, strict=True))
        return logits, norms

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
        phase, probability = self.classify(inputs, reject=least > 0)
        n_phases = len(self.bundle.phases)
        if phase is None:
            answers, phase, probability, phase_reliability = self._try_all(descriptors, polar, plan)
        else:
            answers = _empty_answers(n, plan.n_best)
            for k in range(n_phases):
                rows = np.flatnonzero((phase == k) & ~empty)
                if len(rows):
                    answer = self.orient(k, descriptors[rows], polar[rows], plan)
                    for name, values in answer.items():
                        answers[name][rows] = values
            phase_reliability = np.full(n, np.nan)
        phase = np.where(empty | (phase >= n_phases), -1, phase)
        confidence = np.nan_to_num(probability, nan=1.0) * np.nan_to_num(
            answers["probability"][:, 0], nan=1.0
        )
        phase = np.where(confidence < least, -1, phase)
        rows = np.empty((n, plan.n_columns))
        columns = (
            phase, probability, answers["probability"][:, 0], answers["correlation"],
            answers["reliability"], answers["twin_reliability"], phase_reliability,
            answers["indexed_by"],
        )  # fmt: skip
        for k, values in enumerate(columns):
            rows[:, k] = values
        rows[:, len(columns) :] = answers["quaternions"].reshape(n, -1)
        return rows

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

    def _try_all(self, descriptors, polar, plan):
        """Run every phase's branch and keep, at each position, the one of best correlation."""
        tried = [self.orient(k, descriptors, polar, plan) for k in range(len(self.bundle.phases))]
        correlation = np.stack([answer["correlation"] for answer in tried])
        phase = correlation.argmax(axis=0)
        index = np.arange(len(descriptors))
        answers = {
            name: np.stack([answer[name] for answer in tried])[phase, index] for name in tried[0]
        }
        first, second = np.sort(correlation, axis=0)[::-1][:2]
        with np.errstate(divide="ignore", invalid="ignore"):
            reliability = np.where(first > 0, 100 * (1 - second / first), np.nan)
        return answers, phase, np.full(len(descriptors), np.nan), reliability

    def orient(
        self, phase_id: int, descriptors: np.ndarray, polar: np.ndarray, plan: IndexingPlan
    ) -> dict[str, np.ndarray]:
        """Return the answers of one phase's branch for rows of that phase."""
        branch = plan.branches[phase_id]
        if callable(branch):
            return self._orient_by_callable(branch, phase_id, descriptors, polar, plan)
        if branch == "template":
            return self._orient_by_templates(phase_id, polar, plan)
        logits, norms = self.run(f"orientation_{phase_id}", descriptors)
        cells = self.bundle.cells[phase_id]
        candidates, log_posterior = select_candidates(logits, norms, cells)
        candidates, correlation = self._refine(candidates, polar, phase_id, plan, plan.refine)
        judge = self._judge(phase_id, "refined" if plan.refine else "fast")
        answers = self._conclude(
            phase_id, candidates, log_posterior, correlation, judge, plan.n_best, NETWORK
        )
        if branch == "network":
            return answers
        threshold = plan.template_threshold
        threshold = self.bundle.thresholds.template if threshold is None else threshold
        unsure = np.flatnonzero(answers["probability"][:, 0] < threshold)
        if len(unsure) == 0:
            return answers
        templates = self._match_templates(phase_id, polar[unsure], plan)
        refined, score = self._refine(templates, polar[unsure], phase_id, plan, plan.refine)
        template_log = log_posterior_at(logits[unsure], norms[unsure], cells, templates)
        joined = self._conclude(
            phase_id,
            np.concatenate([candidates[unsure], refined], axis=1),
            np.concatenate([log_posterior[unsure], template_log], axis=1),
            np.concatenate([correlation[unsure], score], axis=1),
            judge,
            plan.n_best,
            NETWORK,
            n_network=candidates.shape[1],
        )
        for name, values in joined.items():
            answers[name][unsure] = values
        return answers

    def _orient_by_templates(self, phase_id, polar, plan) -> dict[str, np.ndarray]:
        templates = self._match_templates(phase_id, polar, plan)
        refined, score = self._refine(templates, polar, phase_id, plan, plan.refine)
        judge = self._judge(phase_id, "template")
        if not plan.refine:
            # the matcher's own order decides; refinement's score is another measure
            judge, score = Judge(0.0, 20.0), np.where(templates.any(axis=-1), score, 0)
            score[:, 1:] = np.minimum(score[:, 1:], score[:, :1] * (1 - 1e-9))
        flat = np.zeros(score.shape)
        return self._conclude(phase_id, refined, flat, score, judge, plan.n_best, TEMPLATE)

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
        _, correlation = self._refine(quaternions, polar, phase_id, plan, False)
        rank = np.broadcast_to(-np.arange(scores.shape[1], dtype=float), scores.shape)
        judge = Judge(1.0, 0.0)
        return self._conclude(phase_id, quaternions, rank, correlation, judge, plan.n_best, OTHER)

    def _match_templates(self, phase_id, polar, plan) -> np.ndarray:
        """Return the best templates and their twins, (m, 2 k, 4)."""
        from pyxem_nas.template_matching import get_template_library, match_templates

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

    def _refine(self, candidates, polar, phase_id, plan, refine):
        spec = plan.sampler.specs[1]
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
        self, phase_id, candidates, log_posterior, correlation, judge, n_best, by, n_network=None
    ) -> dict[str, np.ndarray]:
        probability = judge_candidates(candidates, log_posterior, correlation, judge)
        answers = rank_candidates(
            candidates, probability, correlation, self.symmetry[phase_id], n_best=n_best
        )
        if judge.none is None:
            answers["probability"] = np.full_like(answers["probability"], np.nan)
        answers["indexed_by"] = np.full(len(candidates), by)
        if n_network is not None:
            answers["indexed_by"][probability.argmax(axis=1) >= n_network] = TEMPLATE
        return answers


def _empty_answers(n: int, n_best: int) -> dict[str, np.ndarray]:
    quaternions = np.zeros((n, n_best, 4))
    quaternions[..., 0] = 1
    return {
        "quaternions": quaternions,
        "probability": np.zeros((n, n_best)),
        "correlation": np.zeros(n),
        "reliability": np.full(n, np.nan),
        "twin_reliability": np.full(n, np.nan),
        "indexed_by": np.full(n, NETWORK),
    }


def _compile(model: Any) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a compiled function from a fixed-size batch to logits and their log-sum-exp."""
    import tensorflow as tf

    shape = (_BATCH, *model.input_shape[1:])

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec(shape, tf.float32)])
    def forward(batch):
        logits = model(batch, training=False)
        return logits, tf.reduce_logsumexp(logits, axis=-1)

    def predict(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, norm = forward(tf.constant(batch))
        return logits.numpy(), norm.numpy()

    return predict


def resolve_branches(bundle: ModelBundle, method: str | Mapping[str, Branch]) -> tuple[Branch, ...]:
    """Return the branch of each phase of a bundle.

    Parameters
    ----------
    bundle
        The bundle.
    method
        One branch for all phases, or a mapping from phase names; phases that it leaves out are
        "hybrid". A phase without an orientation network is matched to templates.

    Raises
    ------
    ValueError
        If a branch or a phase is unknown, or "network" is asked for a phase without one.
    TypeError
        If `method` is neither a name nor a mapping.
    """
    known = ("hybrid", "network", "template")
    if not isinstance(method, str | Mapping):
        raise TypeError(
            f"method must be a name or a mapping from phase names, got {type(method).__name__}"
        )
    if isinstance(method, Mapping):
        unknown = sorted(set(method) - set(bundle.phase_names))
        if unknown:
            raise ValueError(
                f"method names no phase of the bundle: {unknown!r}; it has {bundle.phase_names!r}"
            )
        chosen = [method.get(name, "hybrid") for name in bundle.phase_names]
    else:
        chosen = [method] * len(bundle.phase_names)
    for k, branch in enumerate(chosen):
        if callable(branch):
            continue
        if branch not in known:
            raise ValueError(f"method must be one of {known!r} or a callable, got {branch!r}")
        if branch != "template" and not bundle.has_orientation_network(k):
            if branch == "network":
                raise ValueError(
                    f"phase {bundle.phase_names[k]!r} has no orientation network; use "
                    'method="template" or train one with search_models'
                )
            chosen[k] = "template"
    return tuple(chosen)
