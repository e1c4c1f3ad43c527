"""The compiled parts of exhaustive matching: correlations and their highest peaks.

Owns loops over arrays and the order in which they lie in memory. All of it is float32 and made of
small matrix products whose matrices stay in the cache of a core. Row i depends on pattern i alone.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np

from pyxem_nas.indexing.candidates import largest_product, list_variants
from pyxem_nas.indexing.vector_loops import (
    BLOCK,
    PLACES,
    find_block_maxima,
    find_block_maximum,
    keep_highest,
    multiply,
    multiply_narrow,
)

_FASTMATH = {"contract", "reassoc", "nsz"}
TILE = 64  # templates that are compared at once
GROUP = 4  # patterns that are compared at once
GROUPS_PER_TASK = 8  # the maxima of all templates fit the cache
_N_QUARTERS = 8  # of a turn, of the template and of its mirror image
_N_TOP = 128  # highest grid points looked at for distinct peaks


@numba.njit(cache=True, error_model="numpy")
def _project(spectra, bases, rows, projected):
    """Fill in the coefficients of up to GROUP patterns in a library's radial profiles.

    `spectra` (n, n_harmonics, 2, n_radial), `projected` (n_harmonics, 2 GROUP, n_ranks); `rows`
    (2 GROUP, n_radial) is a workspace of zeros.
    """
    n_harmonics, n_radial, n_ranks = bases.shape
    flat = bases.ravel()
    for h in range(n_harmonics):
        for i in range(2 * len(spectra)):
            for r in range(n_radial):
                rows[i, r] = spectra[i // 2, h, i % 2, r]
        multiply_narrow(
            rows.ravel(), 0, n_radial, 2 * GROUP, n_radial,
            flat, h * n_radial * n_ranks, n_ranks, n_ranks,
            projected.ravel(), h * projected[h].size, n_ranks,
        )  # fmt: skip


@numba.njit(cache=True, error_model="numpy")
def _correlate(spectra, tile, ranks, cosines, sines, work, highest):
    """Compare a group of patterns with a tile of templates; fill in the maxima of each pattern.

    `spectra` (n_harmonics, 2 GROUP, n_ranks): real and imaginary rows of each pattern; `tile`
    (n_rows, 2 TILE); `highest` (GROUP, 8, TILE) as of `keep_highest`.
    """
    products, sums, found = work
    flat_spectra, flat_tile, flat = spectra.ravel(), tile.ravel(), products.ravel()
    flat_sums = sums.ravel()
    width, n_ranks, n_even = 2 * TILE, spectra.shape[2], cosines[0].shape[1]
    of_pattern, n_angles = products[0].size, len(cosines[0])
    at = 0
    for h in range(len(ranks)):
        multiply(
            flat_spectra, h * spectra[0].size, n_ranks, 2 * GROUP, ranks[h],
            flat_tile, at, width, width, flat, h * width, of_pattern,
        )  # fmt: skip
        at += ranks[h] * width
    for i in range(GROUP):
        real, imaginary = 2 * i * of_pattern, (2 * i + 1) * of_pattern
        starts = real, imaginary + TILE, real + TILE, imaginary
        for k in range(8):
            waves = (cosines if k < 4 else sines)[k % 2].ravel()
            multiply(
                waves, 0, n_even, n_angles, n_even,
                flat, starts[k // 2] + k % 2 * n_even * width, width, TILE,
                flat_sums, k * n_angles * TILE, TILE,
            )  # fmt: skip
        keep_highest(flat_sums, n_angles, TILE, found.ravel())
        for quarter in range(_N_QUARTERS):  # no slices: their checks take seconds to compile
            for j in range(TILE):
                highest[i, quarter, j] = found[quarter, j]


@numba.njit(cache=True, error_model="numpy")
def _turned(reference, angle, out):
    """Fill `out` with the orientation whose pattern is turned by an angle."""
    c, s = np.cos(-0.5 * angle), np.sin(-0.5 * angle)
    a, b, d, e = reference[0], reference[1], reference[2], reference[3]
    out[0], out[1], out[2], out[3] = a * c - e * s, b * c + d * s, d * c - b * s, e * c + a * s


@numba.njit(cache=True, fastmath=_FASTMATH | {"nnan"}, forceinline=True, error_model="numpy")
def _find_highest(numbers, maxima):
    """Return the largest of numbers, of which the first is at the returned place.

    `maxima` are those of their blocks.
    """
    highest = maxima[0]
    for b in range(maxima.size):  # no branches: vectors do it
        highest = maxima[b] if maxima[b] > highest else highest
    block = 0
    while maxima[block] != highest:
        block += 1
    at = block * BLOCK
    while numbers[at] != highest:
        at += 1
    return highest, at


@numba.njit(cache=True, error_model="numpy")
def _choose_distinct(highest, references, symmetry, n_angles, cosine, quaternions, scores):
    """Fill in those of the maxima (n_tiles, 8, TILE) that are distinct and highest.

    Of `keep_highest`; those looked at become 0.
    """
    places = highest.ravel()
    flat = places.view(np.float32)
    maxima = np.empty((flat.size + BLOCK - 1) // BLOCK, np.float32)
    find_block_maxima(flat, maxima)
    variants = np.empty((len(scores), 4, len(symmetry)))
    q = np.empty(4)
    n_kept = 0
    for _ in range(_N_TOP):
        height, top = _find_highest(flat, maxima)
        place = places[top]
        if place < PLACES or n_kept == len(scores):
            break
        places[top] = 0
        block = top // BLOCK
        maxima[block] = find_block_maximum(flat, block * BLOCK)
        tile, rest = divmod(top, _N_QUARTERS * TILE)
        quarter, column = divmod(rest, TILE)
        template = tile * TILE + column
        if template >= references.shape[1]:
            continue
        angle = 2 * np.pi * (place % PLACES + 0.5) / n_angles
        angle = -angle if quarter % 2 else angle
        angle = angle + np.pi if quarter % 4 == 2 else angle
        angle = angle + np.pi if quarter % 4 == 3 else angle
        _turned(references[quarter // 4, template], angle, q)
        known = False
        for k in range(n_kept):
            if largest_product(variants[k], q) > cosine:
                known = True
                break
        if not known:
            list_variants(q, symmetry, variants[n_kept])
            for c in range(4):
                quaternions[n_kept, c] = q[c]
            scores[n_kept] = height
            n_kept += 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def choose(start, stop, highest, references, symmetry, n_angles, cosine, quaternions, scores):
    """Fill in the distinct highest of maxima (n, n_tiles, 8, TILE), which are used up."""
    for i in range(start, stop):
        _choose_distinct(
            highest[i], references, symmetry, n_angles, cosine, quaternions[i], scores[i]
        )


@cache
def make_tables(
    n_angles: int, n_even: int
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return cosines and sines of even and odd harmonics at the angles of a quarter turn."""
    angles = 2 * np.pi * (np.arange(n_angles // 4) + 0.5) / n_angles
    even = np.outer(angles, 2.0 * (np.arange(n_even) + 1))
    odd = np.outer(angles, 2.0 * np.arange(n_even) + 1)
    cosines = np.cos(even).astype(np.float32), np.cos(odd).astype(np.float32)
    return cosines, (np.sin(even).astype(np.float32), np.sin(odd).astype(np.float32))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def match(
    first, stop, spectra, bases, tiles, ranks, references, symmetry, cosines, sines, n_angles,
    cosine, quaternions, scores,
):  # fmt: skip
    """Fill in the distinct highest peaks of groups: quaternions (n, n_best, 4), scores (n, n_best).

    `spectra` are `transform`'s; `bases`, `tiles`, `ranks`, `references` and `symmetry` a library's;
    `cosines` and `sines` from `make_tables`; `cosine` is that of half the angle within which two
    peaks are one.
    """
    n_harmonics = spectra.shape[1]
    n_tiles, n_ranks = len(tiles), bases.shape[2]
    n = min(stop - first, GROUPS_PER_TASK)
    highest = np.empty((n, GROUP, n_tiles, _N_QUARTERS, TILE), np.int32)
    projected = np.zeros((n, n_harmonics, 2 * GROUP, n_ranks), np.float32)
    rows = np.zeros((2 * GROUP, bases.shape[1]), np.float32)
    work = (
        np.empty((2 * GROUP, n_harmonics, 2 * TILE), np.float32),
        np.empty((8, n_angles // 4, TILE), np.float32),
        np.empty((_N_QUARTERS, TILE), np.int32),
    )
    for begin in range(first, stop, GROUPS_PER_TASK):
        n = min(stop - begin, GROUPS_PER_TASK)
        for g in range(n):
            start = (begin + g) * GROUP
            _project(spectra[start : start + GROUP], bases, rows, projected[g])
        for t in range(n_tiles):  # outside: a tile stays in the cache for all groups
            for g in range(n):
                _correlate(projected[g], tiles[t], ranks, cosines, sines, work, highest[g, :, t])
        for g in range(n):
            start = (begin + g) * GROUP
            for i in range(min(GROUP, len(spectra) - start)):
                _choose_distinct(
                    highest[g, i], references, symmetry, n_angles, cosine,
                    quaternions[start + i], scores[start + i],
                )  # fmt: skip


@numba.njit(cache=True, error_model="numpy")
def _compose(a, b, out):
    """Fill `out` with the product of two quaternions."""
    out[0] = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3]
    out[1] = a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2]
    out[2] = a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1]
    out[3] = a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0]


@numba.njit(cache=True, error_model="numpy")
def _find_template(q, references, beams, symmetry, variant):
    """Return the nearest template, whether it is a mirror image, and the turn in the plane.

    `beams` (n_templates, 3) are the directions that the references turn +z onto.
    """
    best, template, mirrored, operation = -1.0, 0, 0, 0
    for k in range(len(symmetry)):
        _compose(symmetry[k], q, variant)
        w, x, y, z = variant[0], variant[1], variant[2], variant[3]
        beam_x, beam_y = 2 * (x * z + w * y), 2 * (y * z - w * x)
        beam_z = 1 - 2 * (x * x + y * y)
        for t in range(len(beams)):
            cosine = beam_x * beams[t, 0] + beam_y * beams[t, 1] + beam_z * beams[t, 2]
            if abs(cosine) > best:
                best, template, operation = abs(cosine), t, k
                mirrored = 1 if cosine < 0 else 0
    _compose(symmetry[operation], q, variant)
    r = references[mirrored, template]
    turn_w = r[0] * variant[0] + r[1] * variant[1] + r[2] * variant[2] + r[3] * variant[3]
    turn_z = r[0] * variant[3] - r[1] * variant[2] + r[2] * variant[1] - r[3] * variant[0]
    return template, mirrored, -2 * np.arctan2(turn_z, turn_w)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _multiply_one(projected, tiles, ranks, template, mirrored, products):
    """Fill in the product of one pattern and one template, per harmonic (n_harmonics, 2)."""
    tile, column = tiles[template // TILE], template % TILE
    row = 0
    for h in range(len(ranks)):
        real, imaginary = np.float32(0), np.float32(0)
        for r in range(ranks[h]):
            p_real, p_imaginary = projected[h, 0, r], projected[h, 1, r]
            t_real, t_imaginary = tile[row + r, column], tile[row + r, TILE + column]
            t_imaginary = t_imaginary if mirrored else -t_imaginary
            real += p_real * t_real - p_imaginary * t_imaginary
            imaginary += p_real * t_imaginary + p_imaginary * t_real
        products[h, 0], products[h, 1] = real, imaginary
        row += ranks[h]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def score(
    start, stop, spectra, bases, tiles, ranks, references, symmetry, n_angles, quaternions, scores
):  # fmt: skip
    """Fill in the scores (n, k) of orientations (n, k, 4) at the nearest points of the grid.

    The highest within two steps of the in-plane angle; 0 for all-zero orientations. Other arguments
    as for `match`.
    """
    n_harmonics, half = spectra.shape[1], np.pi / n_angles
    projected = np.zeros((n_harmonics, 2 * GROUP, bases.shape[2]), np.float32)
    rows = np.zeros((2 * GROUP, bases.shape[1]), np.float32)
    products = np.empty((n_harmonics, 2), np.float32)
    variant = np.empty(4)
    cosines, sines = np.empty(2 * n_angles), np.empty(2 * n_angles)  # at all half steps
    for k in range(2 * n_angles):
        cosines[k], sines[k] = np.cos(k * half), np.sin(k * half)
    beams = np.empty((references.shape[1], 3))
    for t in range(len(beams)):
        r = references[0, t]
        beams[t, 0], beams[t, 1] = 2 * (r[1] * r[3] + r[0] * r[2]), 2 * (r[2] * r[3] - r[0] * r[1])
        beams[t, 2] = 1 - 2 * (r[1] * r[1] + r[2] * r[2])
    for i in range(start, stop):
        _project(spectra[i : i + 1], bases, rows, projected)
        for k in range(quaternions.shape[1]):
            q = quaternions[i, k]
            if q[0] == 0 and q[1] == 0 and q[2] == 0 and q[3] == 0:
                continue
            t, mirrored, turn = _find_template(q, references, beams, symmetry, variant)
            _multiply_one(projected, tiles, ranks, t, mirrored, products)
            nearest = int(np.floor(0.5 * turn / half))
            for offset in range(-2, 3):
                at = 2 * (nearest + offset) + 1
                total = 0.0
                for h in range(n_harmonics):
                    harmonic = 2 * (h + 1) if h < n_harmonics // 2 else 2 * h + 1 - n_harmonics
                    angle = harmonic * at % (2 * n_angles)
                    total += products[h, 0] * cosines[angle] - products[h, 1] * sines[angle]
                scores[i, k] = max(scores[i, k], total)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def drop_known(start, stop, candidates, known, symmetry, cosine):
    """Set candidates (n, k, 4) to 0, in place, that are near one of the known (n, m, 4)."""
    variants = np.empty((4, len(symmetry)))
    for i in range(start, stop):
        for k in range(candidates.shape[1]):
            list_variants(candidates[i, k], symmetry, variants)
            for m in range(known.shape[1]):
                if largest_product(variants, known[i, m]) > cosine:
                    for c in range(4):
                        candidates[i, k, c] = 0
                    break
