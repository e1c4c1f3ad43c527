"""Neighbour-aware choice between the candidates of each scan position.

Owns the Markov random field over a scan: its unary terms are the candidates' own probabilities,
its pairwise terms favour neighbours of one phase and orientation. Pure functions of arrays; where
the candidates come from is `indexing.block`'s business. Orientations are chosen, never averaged, so
that nothing is smeared over a boundary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import multiply_quaternions

MAX_CANDIDATES = 16  # what fits into the bits that tell who agrees with whom
_LEAST = 1e-6  # of a candidate's probability: neighbours may raise any
_OTHER = 10.0  # degrees: candidates nearer to an answer are no other solution
_TURN = np.array([0.0, 0.0, 0.0, 1.0])  # half a turn about the beam
_DAMPING = 0.3  # share of the former messages that is kept, against oscillation


def regularize_candidates(
    quaternions: np.ndarray,
    phase_id: np.ndarray,
    probability: np.ndarray,
    shape: tuple[int, ...],
    symmetry: Sequence[np.ndarray],
    *,
    excluded: np.ndarray | None = None,
    tolerance: float = 4.0,
    coupling: float = 1.0,
    n_iterations: int = 12,
) -> np.ndarray:
    """Return the probability of each candidate, given those of its neighbours.

    Parameters
    ----------
    quaternions
        Candidates of each position, row-major over `shape`, shape (n, k, 4), lab2crystal, scalar
        first; all-zero where there are fewer than k. At most 16.
    phase_id
        Phase of each candidate, shape (n, k), integer.
    probability
        Probability of each by its own pattern, shape (n, k); what rows lack to 1 is the
        probability that none of them is right.
    shape
        Navigation shape: (), (nx,) or (ny, nx).
    symmetry
        For each phase the operations of its proper point group, shape (n_operations, 4).
    excluded
        True for positions that take no part (masked, not indexed), shape (n,).
    tolerance
        Candidates of neighbours agree if they are of one phase and nearer than this, degrees.
    coupling
        Logarithm of how much likelier two neighbours are to agree than not. Neighbours across a
        corner count with this over the square root of 2.
    n_iterations
        Rounds of messages between neighbours.

    Returns
    -------
    belief
        Shape (n, k), float64; what a row lacks to 1 is the belief that none is right. Rows of
        excluded positions are returned as they came.

    Raises
    ------
    ValueError
        If the arrays do not fit one another, or there are more than 16 candidates.

    Notes
    -----
    A Potts model over the 8 (in a line, 2) nearest neighbours, solved by loopy belief propagation
    (sum-product, damped). A grain boundary costs every neighbour pair across it the coupling and no
    more, however large the disorientation; a position leaves its own answer only for another of
    its own candidates, so that a boundary can move no farther than the patterns are ambiguous.

    References
    ----------
    Pearl, J. (1988) Probabilistic Reasoning in Intelligent Systems: belief propagation. Boykov, Y.
    et al. (2001) IEEE PAMI 23, 1222, doi:10.1109/34.969114: Potts model.

    Examples
    --------
    Two candidates each; the middle one alone would be wrong.

    >>> q = np.tile([[1.0, 0, 0, 0], [0, 0, 0, 1.0]], (3, 1, 1))
    >>> own = np.array([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]])
    >>> identity = np.array([[1.0, 0, 0, 0]])
    >>> regularize_candidates(q, np.zeros((3, 2), int), own, (3,), [identity]).argmax(axis=1)
    array([0, 0, 0])
    """
    quaternions = np.ascontiguousarray(quaternions, np.float64)
    own = np.array(probability, np.float64)
    n, k = own.shape
    if quaternions.shape != (n, k, 4) or np.shape(phase_id) != (n, k) or n != math.prod(shape):
        raise ValueError(
            f"quaternions (n, k, 4), phase_id (n, k) and probability (n, k) must have one row for "
            f"each position of {tuple(shape)!r}, got {quaternions.shape!r}, "
            f"{np.shape(phase_id)!r} and {own.shape!r}"
        )
    if k > MAX_CANDIDATES:
        raise ValueError(f"there can be at most {MAX_CANDIDATES} candidates, got {k}")
    left_out = np.zeros(n, bool) if excluded is None else np.asarray(excluded, bool).reshape(n)
    present = quaternions.any(axis=-1) & ~left_out[:, None]
    if not present.any():
        return own
    neighbours, weight = _neighbours(shape, left_out)
    operations, bounds = _join(symmetry)
    agreement = np.zeros((*neighbours.shape, k), np.uint16)
    run_rows(
        _find_agreement,
        n,
        quaternions,
        np.ascontiguousarray(phase_id, np.int64),
        present,
        neighbours,
        operations,
        bounds,
        np.cos(np.deg2rad(tolerance) / 2),
        agreement,
    )
    unary = np.zeros((n, k + 1))
    unary[:, :k] = np.where(present, np.maximum(own, _LEAST), 0)
    unary[:, k] = np.maximum(1 - own.sum(axis=1), _LEAST)
    unary /= unary.sum(axis=1, keepdims=True)
    gain = np.expm1(coupling * weight)
    messages = np.ones((*neighbours.shape, k), np.float32)
    for _ in range(n_iterations):
        received = np.ones_like(messages)
        run_rows(_pass_messages, n, unary, neighbours, agreement, gain, messages, received)
        messages = received
    belief = np.empty_like(unary)
    run_rows(_believe, n, unary, neighbours, messages, belief)
    return np.where(left_out[:, None], own, belief[:, :k])


def choose_by_neighbours(
    columns: Mapping[str, np.ndarray],
    candidates: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    symmetry: Sequence[np.ndarray],
    *,
    navigation_mask: np.ndarray | None = None,
    tolerance: float = 4.0,
    coupling: float = 1.0,
) -> dict[str, np.ndarray]:
    """Return the columns of a map in which each position has heard its neighbours.

    Parameters
    ----------
    columns
        From `result_rows.split_rows`.
    candidates
        From `result_rows.split_candidates`: "phase_id", "probability" and "correlation" (n, k),
        "quaternions" (n, k, 4).
    shape
        Navigation shape.
    symmetry
        For each phase the operations of its proper point group.
    navigation_mask
        True for positions that take no part, shape `shape`; not-indexed ones never do.
    tolerance, coupling
        As in `regularize_candidates`.

    Returns
    -------
    columns
        With the answers changed where another candidate is believed more, their probabilities those
        given the neighbours, and `regularized`, 1 where the answer was changed.
    """
    columns = {name: np.array(values) for name, values in columns.items()}
    phase_id, quaternions = candidates["phase_id"], candidates["quaternions"]
    excluded = columns["phase_id"] < 0
    if navigation_mask is not None:
        excluded = excluded | np.ravel(navigation_mask)
    belief = regularize_candidates(
        quaternions,
        phase_id,
        candidates["probability"],
        shape,
        symmetry,
        excluded=excluded,
        tolerance=tolerance,
        coupling=coupling,
    )
    own = _find_own(columns, candidates)
    chosen = belief.argmax(axis=1)
    changed = np.flatnonzero((chosen != own) & (belief.max(axis=1) > 0) & ~excluded)
    columns["regularized"] = np.zeros(len(own), np.int8)
    columns["regularized"][changed] = 1
    now = np.where(columns["regularized"] > 0, chosen, own)
    rows = np.flatnonzero((now >= 0) & ~excluded)
    _tell_probabilities(columns, candidates, belief, now, rows)
    if len(changed):
        _change_answers(columns, candidates, belief, chosen, changed, symmetry)
    return columns


def _find_own(columns, candidates) -> np.ndarray:
    """Return which candidate each position's answer is, shape (n,), -1 for none of them."""
    first = columns["rotations"][:, 0]
    cosine = np.abs(np.einsum("nkj,nj->nk", candidates["quaternions"], first))
    same = (cosine > 1 - 1e-9) & (candidates["phase_id"] == columns["phase_id"][:, None])
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def _tell_probabilities(columns, candidates, belief, now, rows) -> None:
    """Set phase and orientation probability of rows to those given the neighbours, in place.

    The probability that no candidate is right is shared among the phases as the candidates were.
    """
    phase_id, own = candidates["phase_id"][rows], candidates["probability"][rows]
    belief, now = belief[rows], now[rows]
    index = np.arange(len(rows))
    mine = phase_id == phase_id[index, now][:, None]
    none = np.maximum(1 - belief.sum(axis=1), 0)
    share = (own * mine).sum(axis=1) / np.maximum(own.sum(axis=1), 1e-300)
    phase = (belief * mine).sum(axis=1) + none * share
    several = ((phase_id != phase_id[:, :1]) & (own > 0)).any(axis=1)
    before = columns["phase_probability"][rows]
    # rows of one phase hold probabilities given that phase
    columns["phase_probability"][rows] = np.where(several & ~np.isnan(before), phase, before)
    before = columns["orientation_probability"][rows]
    value = belief[index, now] / np.maximum(phase, 1e-300)
    columns["orientation_probability"][rows] = np.where(
        np.isnan(before), np.nan, np.minimum(value, 1.0)
    )


def _change_answers(columns, candidates, belief, chosen, rows, symmetry) -> None:
    """Give rows the chosen candidate and the runners-up of its phase, in place."""
    index, pick = np.arange(len(rows)), chosen[rows]
    phase_id, quaternions = candidates["phase_id"][rows], candidates["quaternions"][rows]
    correlation = candidates["correlation"][rows]
    phase = phase_id[index, pick]
    columns["phase_reliability"][rows[phase != columns["phase_id"][rows]]] = np.nan
    columns["phase_id"][rows] = phase
    columns["correlation"][rows] = correlation[index, pick]
    present = (phase_id == phase[:, None]) & quaternions.any(axis=-1)
    order = np.argsort(-np.where(present, belief[rows], -1), axis=1, kind="stable")
    n_best = columns["rotations"].shape[1]
    last = np.minimum(np.arange(n_best)[None], present.sum(axis=1)[:, None] - 1)
    last = np.minimum(last, order.shape[1] - 1)
    ranked = np.take_along_axis(order, last, axis=1)
    columns["rotations"][rows] = np.take_along_axis(quaternions, ranked[..., None], axis=1)
    operations, bounds = _join(symmetry)
    first = quaternions[index, pick]
    reliability, twin_reliability = _rate(
        first,
        multiply_quaternions(first, _TURN),
        correlation[index, pick],
        np.ascontiguousarray(quaternions),
        np.where(present, correlation, -1.0),
        phase,
        operations,
        bounds,
        np.cos(np.deg2rad(_OTHER) / 2),
    )
    columns["reliability"][rows] = reliability
    columns["twin_reliability"][rows] = twin_reliability


def _neighbours(shape: tuple[int, ...], left_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the neighbours of each position, (n, m), -1 for none, and a weight for each of m.

    Neighbour m - 1 - e lies opposite to neighbour e.
    """
    ny, nx = (1, 1, *shape)[-2:]
    index = np.where(left_out, -1, np.arange(ny * nx)).reshape(ny, nx)
    padded = np.pad(index, 1, constant_values=-1)
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    if ny == 1:
        steps = [(0, -1), (0, 1)]
    columns = [padded[1 + y : 1 + y + ny, 1 + x : 1 + x + nx].ravel() for y, x in steps]
    neighbours = np.stack(columns, axis=1)
    neighbours[left_out] = -1
    return neighbours, np.array([1 / math.hypot(*step) for step in steps])


def _join(symmetry: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the operations of all phases as one array, and where each phase's begin."""
    operations = np.concatenate([np.reshape(s, (-1, 4)) for s in symmetry]).astype(np.float64)
    bounds = np.cumsum([0, *(np.size(s) // 4 for s in symmetry)])
    return operations, bounds


@numba.njit(cache=True)
def _agree(a, b, operations, first, last, cosine):
    """Return whether a disorientation is small: half its cosine over a bound for some operation."""
    # a times the conjugate of b; the operations act from the left
    w = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]
    x = -a[0] * b[1] + a[1] * b[0] - a[2] * b[3] + a[3] * b[2]
    y = -a[0] * b[2] + a[1] * b[3] + a[2] * b[0] - a[3] * b[1]
    z = -a[0] * b[3] - a[1] * b[2] + a[2] * b[1] + a[3] * b[0]
    for s in range(first, last):
        dot = (
            operations[s, 0] * w + operations[s, 1] * x + operations[s, 2] * y
            + operations[s, 3] * z
        )  # fmt: skip
        if abs(dot) > cosine:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _find_agreement(
    start, stop, quaternions, phase_id, present, neighbours, operations, bounds, cosine, agreement
):  # fmt: skip
    """Fill in for each position, neighbour and candidate the neighbour's agreeing ones, as bits."""
    n_neighbours, k = agreement.shape[1:]
    for i in range(start, stop):
        # one half of the neighbours; the others are filled in from their side, each in its place
        for e in range(n_neighbours // 2, n_neighbours):
            j = neighbours[i, e]
            if j < 0:
                continue
            opposite = n_neighbours - 1 - e
            for c in range(k):
                if not present[i, c]:
                    continue
                phase = phase_id[i, c]
                for d in range(k):
                    if not present[j, d] or phase_id[j, d] != phase:
                        continue
                    if _agree(
                        quaternions[i, c], quaternions[j, d], operations, bounds[phase],
                        bounds[phase + 1], cosine,
                    ):  # fmt: skip
                        agreement[i, e, c] |= np.uint16(1 << d)
                        agreement[j, opposite, d] |= np.uint16(1 << c)


@numba.njit(cache=True)
def _combine(unary, neighbours, messages, left_out, out):
    """Fill in the normalised product of a position's unary term and all messages but one."""
    k = messages.shape[1]
    for c in range(k + 1):
        out[c] = unary[c]
    for e in range(len(neighbours)):
        if neighbours[e] < 0 or e == left_out:
            continue
        total = 0.0
        for c in range(k):
            out[c] *= messages[e, c]
        for c in range(k + 1):
            total += out[c]
        for c in range(k + 1):
            out[c] /= total


@numba.njit(cache=True, nogil=True)
def _pass_messages(start, stop, unary, neighbours, agreement, gain, messages, received):
    """Fill in the messages that each position gets from its neighbours in the next round."""
    n_neighbours, k = messages.shape[1:]
    cavity = np.empty(k + 1)
    for i in range(start, stop):
        for e in range(n_neighbours):
            j = neighbours[i, e]
            if j < 0:
                continue
            # what neighbour j thinks without what i told it
            opposite = n_neighbours - 1 - e
            _combine(unary[j], neighbours[j], messages[j], opposite, cavity)
            for c in range(k):
                bits = agreement[i, e, c]
                share = 0.0
                for d in range(k):
                    if bits >> np.uint16(d) & np.uint16(1):
                        share += cavity[d]
                message = 1 + gain[e] * share
                received[i, e, c] = (1 - _DAMPING) * message + _DAMPING * messages[i, e, c]


@numba.njit(cache=True, nogil=True)
def _believe(start, stop, unary, neighbours, messages, belief):
    """Fill in the beliefs of each position, the last that none of its candidates is right."""
    for i in range(start, stop):
        _combine(unary[i], neighbours[i], messages[i], -1, belief[i])


@numba.njit(cache=True)
def _rate(first, twin, q1, quaternions, correlation, phase, operations, bounds, cosine):
    """Return 100 (1 - Q2 / Q1) against the best other solution and against the twin."""
    n, k = correlation.shape
    reliability, twin_reliability = np.full(n, np.nan), np.full(n, np.nan)
    for i in range(n):
        low, high = bounds[phase[i]], bounds[phase[i] + 1]
        other, turned = -1.0, -1.0
        for c in range(k):
            if correlation[i, c] < 0 or _agree(
                first[i], quaternions[i, c], operations, low, high, cosine
            ):
                continue
            if _agree(twin[i], quaternions[i, c], operations, low, high, cosine):
                turned = max(turned, correlation[i, c])
            else:
                other = max(other, correlation[i, c])
        if q1[i] > 0 and other >= 0:
            reliability[i] = 100 * (1 - other / q1[i])
        if q1[i] > 0 and turned >= 0:
            twin_reliability[i] = 100 * (1 - turned / q1[i])
    return reliability, twin_reliability
