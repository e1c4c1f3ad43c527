"""Candidates: a posterior over orientation cells -> a few distinct orientations.

Owns what happens between the network's output and its judgement: distinct maxima of the posterior
and their 180-degree twins. Which of them is right, `judging` decides.
"""

from __future__ import annotations

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import OrientationCells, multiply_quaternions
from pyxem_nas.indexing.vector_loops import BLOCK, find_block_maxima

_FASTMATH = {"contract", "reassoc", "nsz"}
_FASTMATH_FINITE = _FASTMATH | {"nnan", "ninf"}  # lets maxima run on vector registers
_NEGLIGIBLE = np.float32(-22)  # log of a cell's share that a sum over 100,000 need not hold
_N_TOP = 32  # cells looked at, for 6 candidates: they hold the posterior's mass of all but hopeless
_MERGE_COSINE = np.cos(np.deg2rad(6.0) / 2)  # half angles: cells nearer than 6 degrees are one
TWIN = np.array([0.0, 0.0, 0.0, 1.0])  # half a turn about the beam


def sum_exponentials(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum of the exponentials of each row (n, m), float32, finite.

    To 1e-4: the exponential is a power of a polynomial, which runs on vector registers.
    """
    logits = np.ascontiguousarray(logits, np.float32)
    norms = np.empty(len(logits), np.float32)
    run_rows(_log_norms, len(logits), logits, norms)
    return norms


def select_candidates(
    logits: np.ndarray,
    log_norm: np.ndarray | None,
    cells: OrientationCells,
    *,
    scale: float = 1.0,
    n_candidates: int | None = None,
    n_twins: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct maxima of the posterior and the twins of the first of them.

    Parameters
    ----------
    logits
        Network output of shape (n, n_inplane * n_directions), float32, or int8 steps of `scale`.
    log_norm
        Logarithm of the sum of their exponentials, shape (n,). None: `sum_exponentials`, by the
        way.
    cells
        What the logits stand for.
    scale
        Value of one step of the logits.
    n_candidates
        Number of maxima more than 6 degrees apart. None: 6, and 12 for phases with two operations
        or one, which have the most orientations to choose from.
    n_twins
        Of how many of them the 180-degree twin is added, if it is not among them.

    Returns
    -------
    quaternions
        Shape (n, n_candidates + n_twins, 4), by falling posterior, then the twins; the mean of the
        cells that a maximum spans, weighed by their posterior. All-zero where there are fewer.
    log_posterior
        Logarithm of the posterior mass of each, shape (n, n_candidates + n_twins), -30 at least.
    """
    if n_candidates is None:
        n_candidates = 6 if len(cells.symmetry) > 2 else 12
    return select_with_norms(
        logits, log_norm, cells, scale=scale, n_candidates=n_candidates, n_twins=n_twins
    )[:2]


def select_with_norms(
    logits: np.ndarray,
    log_norm: np.ndarray | None,
    cells: OrientationCells,
    *,
    scale: float = 1.0,
    n_candidates: int = 6,
    n_twins: int = 2,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `select_candidates` does, and the logarithm of the sum of exponentials (n,)."""
    n, n_out = len(logits), n_candidates + n_twins
    logits = np.ascontiguousarray(logits, np.int8 if logits.dtype == np.int8 else np.float32)
    norms = np.empty(n, np.float32)
    quaternions, log_posterior = np.zeros((n, n_out, 4)), np.full((n, n_out), -30.0)
    run_rows(
        _select,
        n,
        logits,
        np.empty(0, np.float32) if log_norm is None else np.asarray(log_norm, np.float32),
        np.float32(scale),
        cells.references,
        cells.symmetry,
        cells.n_inplane,
        n_candidates,
        n_twins,
        quaternions,
        log_posterior,
        norms,
    )
    return quaternions, log_posterior, norms


def log_posterior_at(
    logits: np.ndarray,
    log_norm: np.ndarray,
    cells: OrientationCells,
    quaternions: np.ndarray,
    *,
    scale: float = 1.0,
) -> np.ndarray:
    """Return the log-posterior of given orientations: their cell and the two beside it in plane.

    `quaternions` has shape (n, k, 4); the result (n, k). Logits are in steps of `scale`.
    """
    n, k = quaternions.shape[:2]
    norm = np.linalg.norm(quaternions, axis=-1, keepdims=True)
    safe = np.where(norm > 0, quaternions, [1.0, 0, 0, 0]).reshape(-1, 4)
    direction, inplane = cells.encode(safe)
    shaped = logits.reshape(n, cells.n_inplane, cells.n_directions)
    rows = np.repeat(np.arange(n), k)
    bins = np.round(inplane).astype(int)
    values = [
        scale * shaped[rows, (bins + turn) % cells.n_inplane, direction] - log_norm[rows]
        for turn in (-1, 0, 1)
    ]
    total = np.logaddexp.reduce(values, axis=0).reshape(n, k)
    return np.where(norm[..., 0] > 0, np.maximum(total, -30.0), -30.0)


def with_twins(quaternions: np.ndarray) -> np.ndarray:
    """Return candidates (n, k, 4) followed by their 180-degree twins, (n, 2 k, 4)."""
    return np.concatenate([quaternions, multiply_quaternions(quaternions, TWIN)], axis=1)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True)
def nearest(a, b, symmetry, image):
    """Return |cos| of half the disorientation; `image` becomes b's equivalent nearest to a."""
    best = -1.0
    for k in range(len(symmetry)):
        s = symmetry[k]
        w = s[0] * b[0] - s[1] * b[1] - s[2] * b[2] - s[3] * b[3]
        x = s[0] * b[1] + s[1] * b[0] + s[2] * b[3] - s[3] * b[2]
        y = s[0] * b[2] - s[1] * b[3] + s[2] * b[0] + s[3] * b[1]
        z = s[0] * b[3] + s[1] * b[2] - s[2] * b[1] + s[3] * b[0]
        dot = a[0] * w + a[1] * x + a[2] * y + a[3] * z
        if abs(dot) > best:
            best = abs(dot)
            sign = 1.0 if dot > 0 else -1.0
            image[0], image[1], image[2], image[3] = sign * w, sign * x, sign * y, sign * z
    return best


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True)
def list_variants(a, symmetry, variants):
    """Fill `variants` (4, n_operations) with what an orientation's variants are compared with.

    The scalar product of column k and b is that of a and the variant of b by operation k.
    """
    for k in range(len(symmetry)):
        s = symmetry[k]  # its conjugate times a
        variants[0, k] = s[0] * a[0] + s[1] * a[1] + s[2] * a[2] + s[3] * a[3]
        variants[1, k] = s[0] * a[1] - s[1] * a[0] - s[2] * a[3] + s[3] * a[2]
        variants[2, k] = s[0] * a[2] + s[1] * a[3] - s[2] * a[0] - s[3] * a[1]
        variants[3, k] = s[0] * a[3] - s[1] * a[2] + s[2] * a[1] - s[3] * a[0]


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, forceinline=True)
def largest_product(variants, b):
    """Return |cos| of half the disorientation, as `nearest` does, on vector registers."""
    largest = 0.0
    for k in range(variants.shape[1]):
        product = abs(
            variants[0, k] * b[0]
            + variants[1, k] * b[1]
            + variants[2, k] * b[2]
            + variants[3, k] * b[3]
        )
        largest = product if product > largest else largest
    return largest


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, forceinline=True)
def _sum_exp(row, largest, maxima, scale):
    """Return the sum of ``exp(scale (row - largest))``, `maxima` from `find_block_maxima`."""
    total = 0.0
    for b in range(maxima.size):
        if (maxima[b] - largest) * scale < _NEGLIGIBLE:
            continue
        part = row[b * BLOCK : (b + 1) * BLOCK]
        sum_of_part = np.float32(0)
        for i in range(part.size):
            x = (np.float32(part[i]) - largest) * scale
            x = x if x > np.float32(-80) else np.float32(-80)
            # exp(x) = exp(x / 128)**128
            r = x * np.float32(1 / 128)
            e = np.float32(1 / 6) + r * np.float32(1 / 24)
            e = np.float32(1) + r * (np.float32(1) + r * (np.float32(0.5) + r * e))
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            sum_of_part += e
        total += sum_of_part
    return total


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True)
def keep_top(values, start, top, value):
    """Put those of `values` that belong there into the falling `value`, their index into `top`."""
    last = len(value) - 1
    for i in range(values.size):
        v = np.float32(values[i])
        if v > value[last]:
            j = last
            while j > 0 and value[j - 1] < v:
                value[j] = value[j - 1]
                top[j] = top[j - 1]
                j -= 1
            value[j] = v
            top[j] = start + i


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True)
def _top_cells(logits, maxima, top, value):
    """Fill `top` with the indices of the largest logits, falling; `maxima` are those of blocks."""
    value[:] = np.float32(-3e38)
    keep_top(maxima, 0, top, value)
    # as many blocks reach this, so as many cells do: blocks below it hold none of the largest
    least = value[len(value) - 1]
    value[:] = np.float32(-3e38)
    for b in range(maxima.size):
        # and a block that holds none larger than the last of those found adds nothing
        if maxima[b] >= least and maxima[b] > value[len(value) - 1]:
            keep_top(logits[b * BLOCK : (b + 1) * BLOCK], b * BLOCK, top, value)


@numba.njit(cache=True, nogil=True)
def _log_norms(start, stop, logits, norms):
    maxima = np.empty((logits.shape[1] + BLOCK - 1) // BLOCK, np.float32)
    for i in range(start, stop):
        largest = find_block_maxima(logits[i], maxima)
        norms[i] = largest + np.log(_sum_exp(logits[i], largest, maxima, np.float32(1)))


@numba.njit(cache=True)
def _cell_quaternion(reference, inplane, n_inplane, out):
    half = -np.pi * inplane / n_inplane
    c, s = np.cos(half), np.sin(half)
    a, b, d, e = reference[0], reference[1], reference[2], reference[3]
    out[0], out[1], out[2], out[3] = a * c - e * s, b * c + d * s, d * c - b * s, e * c + a * s


@numba.njit(cache=True, nogil=True)
def _select(
    start, stop, logits, log_norm, scale, references, symmetry, n_inplane, n_candidates, n_twins,
    quaternions, log_posterior, norms,
):  # fmt: skip
    n_directions = len(references)
    n_top = _N_TOP if n_candidates <= 6 else 2 * _N_TOP
    top = np.zeros(n_top, np.int64)
    value = np.empty(n_top, np.float32)
    q = np.empty(4)
    image = np.empty(4)
    centre = np.zeros((n_candidates, 4))
    variants = np.empty((n_candidates, 4, len(symmetry)))
    mass = np.zeros(n_candidates)
    cell = np.zeros(n_candidates, np.int64)
    maxima = np.empty((logits.shape[1] + BLOCK - 1) // BLOCK, np.float32)
    for i in range(start, stop):
        row = logits[i]
        largest = find_block_maxima(row, maxima)
        if len(log_norm):
            norm = log_norm[i]
        else:
            norm = scale * largest + np.log(_sum_exp(row, largest, maxima, scale))
        norms[i] = norm
        _top_cells(row, maxima, top, value)
        n_kept = 0
        for t in range(n_top):
            p = np.exp(scale * value[t] - norm)
            if p < 1e-12:
                break
            _cell_quaternion(
                references[top[t] % n_directions], top[t] // n_directions, n_inplane, q
            )
            merged = False
            for j in range(n_kept):
                if largest_product(variants[j], q) > _MERGE_COSINE:
                    nearest(centre[j], q, symmetry, image)
                    for c in range(4):
                        quaternions[i, j, c] += p * image[c]
                    mass[j] += p
                    merged = True
                    break
            if not merged and n_kept < n_candidates:
                for c in range(4):
                    centre[n_kept, c] = q[c]
                    quaternions[i, n_kept, c] = p * q[c]
                list_variants(q, symmetry, variants[n_kept])
                mass[n_kept] = p
                cell[n_kept] = top[t]
                n_kept += 1
        for j in range(n_kept):
            a = quaternions[i, j]
            length = np.sqrt(a[0] ** 2 + a[1] ** 2 + a[2] ** 2 + a[3] ** 2)
            for c in range(4):
                a[c] /= length
            log_posterior[i, j] = np.log(mass[j])
        for j in range(min(n_twins, n_kept)):
            a = quaternions[i, j]
            q[0], q[1], q[2], q[3] = -a[3], a[2], -a[1], a[0]
            known = False
            list_variants(q, symmetry, variants[0])  # no longer needed for the first
            for m in range(n_kept):
                if largest_product(variants[0], quaternions[i, m]) > _MERGE_COSINE:
                    known = True
            if known:
                continue
            for c in range(4):
                quaternions[i, n_candidates + j, c] = q[c]
            direction, inplane = cell[j] % n_directions, cell[j] // n_directions
            total = 0.0
            for turn in range(-1, 2):
                other = (inplane + n_inplane // 2 + turn) % n_inplane
                total += np.exp(scale * row[other * n_directions + direction] - norm)
            log_posterior[i, n_candidates + j] = max(np.log(max(total, 1e-300)), -30.0)
