"""Blocks: one block of patterns -> one block of result rows, and the dask map over blocks.

Owns how a scan is cut into blocks for dask, that a block is computed by one thread at a time, and
how answers become rows. The way of a pattern through phase, branch and refinement is
`phase_choice`'s and `branches`'. Checks of user input and HyperSpy belong to `signals`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.bundles import Thresholds
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.phase_choice import choose_phases, get_grid
from pyxem_nas.indexing.plan import IndexingPlan
from pyxem_nas.indexing.predictor import KERNEL_LOCK, Predictor, get_predictor
from pyxem_nas.indexing.refinement import mark_unseen
from pyxem_nas.indexing.second_crystal import find_second
from pyxem_nas.indexing.tilt import correct_tilts
from pyxem_nas.patterns import PolarSampler, compute_descriptors, to_native

if TYPE_CHECKING:
    import dask.array as da


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


def index_block(
    patterns: np.ndarray, centers: np.ndarray, plan: IndexingPlan, *, tilt: bool = True
) -> np.ndarray:
    """Index one block of patterns.

    Parameters
    ----------
    patterns
        Stack of shape (n, ny, nx), any real dtype, counts.
    centers
        Direct-beam positions (column, row) in pixels, shape (n, 2).
    plan
        What to do.
    tilt
        Whether refined orientations are corrected last (`tilt.correct_tilts`); without, they are
        those of the highest correlation, from which a fit of the geometry starts.

    Returns
    -------
    rows
        Array of shape (n, plan.n_columns), float64. Row i depends on pattern i alone.
    """
    with KERNEL_LOCK:
        predictor = get_predictor(plan.bundle, plan.precision)
        return index_described(predictor, describe(patterns, centers, plan), plan, tilt)


def index_described(
    predictor: Predictor, described: Described, plan: IndexingPlan, tilt: bool = True
) -> np.ndarray:
    """Return result rows for one stack of patterns, shape (n, plan.n_columns), float64."""
    thresholds = predictor.bundle.thresholds
    reject = plan.min_confidence is None or plan.min_confidence > 0
    described = dataclasses.replace(described, trunk=predictor.trunk)
    empty = ~described.descriptors.any(axis=(1, 2))
    phase, probability, answers = choose_phases(predictor, described, plan, empty, reject)
    if plan.min_confidence is not None:
        thresholds = Thresholds(confidence=plan.min_confidence)
    left_out = thresholds.leave_out(probability, answers["probability"][:, 0])
    phase = np.where(left_out, -1, phase)
    if tilt:
        _correct_tilts(predictor, described, plan, phase, answers)
    columns = [
        phase, probability, answers["probability"][:, 0], answers["correlation"],
        answers["reliability"], answers["twin_reliability"], answers["phase_reliability"],
        answers["indexed_by"], np.where(phase < 0, 0, answers["n_plausible"]),
        answers["quaternions"][:, : plan.n_best], answers["table"],
    ]  # fmt: skip
    if plan.n_overlaps > 1:
        first = answers["quaternions"][:, 0]
        columns.append(find_second(predictor, described, plan, phase, first, reject))
    n = len(described)
    flat = [np.reshape(v, (n, math.prod(np.shape(v)[1:]))) for v in columns]
    return np.concatenate(flat, axis=1, dtype=np.float64)


def _correct_tilts(predictor, described, plan, phase, answers) -> None:
    """Tilt answers and candidates as their spots vote for, in place."""
    table = answers["table"]
    for k in range(len(predictor.bundle.phases)):
        rows = np.flatnonzero(phase == k)
        if len(rows):
            answers["quaternions"][rows] = correct_answers(
                predictor, described, plan, k, answers["quaternions"][rows], rows
            )
        mine = (table[..., 0] == k) & (table[..., 1] > 0)
        rows = np.flatnonzero(mine.any(axis=1))
        if len(rows):
            shown, found = mine[rows, :, None], table[rows, :, -4:]
            corrected = correct_answers(
                predictor, described, plan, k, np.where(shown, found, 0), rows
            )
            table[rows, :, -4:] = np.where(shown, corrected, found)


def correct_answers(
    predictor: Predictor,
    described: Described,
    plan: IndexingPlan,
    phase_id: int,
    quaternions: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Return refined orientations (m, k, 4) of some patterns, tilted as their spots vote for.

    Where nothing is refined, and those of a technique of the user's, stay as they are.
    """
    if not plan.refine or callable(plan.branches[phase_id]):
        return quaternions
    return correct_tilts(
        described.polar, quaternions, predictor.reflections, phase_id, rows=rows, **get_grid(plan)
    )


def describe(patterns: np.ndarray, centers: np.ndarray, plan: IndexingPlan) -> Described:
    """Return patterns (n, ny, nx) described as a plan needs them."""
    if plan.needs_polar:
        descriptors, polar, *cartesian = compute_descriptors(patterns, centers, plan.sampler)
        mark_unseen(polar, centers, plan.sampler, plan.sampler.specs[1])
    else:
        sampler = plan.sampler.without(1)
        descriptors, *cartesian = compute_descriptors(patterns, centers, sampler)
        polar = descriptors
    return Described(descriptors, polar, plan.bundle.spec, *cartesian)
