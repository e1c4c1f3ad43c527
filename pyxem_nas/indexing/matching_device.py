"""Exhaustive matching on a GPU: the same correlations as `matching_kernel`'s, by Keras.

Owns the products on a device, in blocks of bounded memory: all of `keras.ops`, compiled by XLA, so
that the backend may be TensorFlow, which the package has, or JAX. Which peaks are distinct, the
processor finds while the device compares the next block. `matching` decides who works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.indexing import matching_kernel as kernel
from pyxem_nas.indexing.vector_loops import PLACES

if TYPE_CHECKING:
    from pyxem_nas.indexing.match_library import MatchLibrary

__all__ = ["find_maxima", "match_on_device"]

_BYTES = 2**30  # of the device's memory, about, for a block's products
_MOST_PATTERNS = 1024  # of a block
_FEW_BITS = -(2**13)  # the bits of a number that a GPU's matrix units look at
_tables: WeakKeyDictionary[MatchLibrary, dict[str, Any]] = WeakKeyDictionary()


def match_on_device(
    spectra: np.ndarray, library: MatchLibrary, n_best: int, cosine: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `matching.match_spectra` does, compared by Keras's device.

    Parameters
    ----------
    spectra
        From `matching.transform`, shape (n, n_harmonics, 2, n_radial), float32.
    library
        Of one phase.
    n_best
        Number of orientations.
    cosine
        Of half the angle within which two peaks are one.

    Returns
    -------
    quaternions, scores
        Shapes (n, n_best, 4) and (n, n_best), as of `matching.match_spectra`; scores are equal to
        1e-5, so that candidates as near as that may change places.
    """
    quaternions = np.zeros((len(spectra), n_best, 4))
    scores = np.zeros((len(spectra), n_best), np.float32)
    for start, highest in find_maxima(spectra, library):
        rows = slice(start, start + len(highest))
        run_rows(
            kernel.choose,
            len(highest),
            highest,
            library.references,
            library.symmetry,
            library.n_angles,
            cosine,
            quaternions[rows],
            scores[rows],
        )
    return quaternions, scores


def find_maxima(
    spectra: np.ndarray, library: MatchLibrary, *, n_block: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the start of each block and its maxima (m, n_tiles, 8, TILE), as of `keep_highest`.

    The device works on the next block meanwhile. `n_block` patterns are compared at once; None: as
    many as the memory allows.
    """
    from keras import ops

    n_block = n_block or choose_block(library)
    tables = _get_tables(library)
    waiting = None
    for start in range(0, len(spectra), n_block):
        block = spectra[start : start + n_block]
        n = len(block)
        if n < n_block:  # compiled for one shape
            block = np.pad(block, ((0, n_block - n), (0, 0), (0, 0), (0, 0)))
        found = _get_compiled()(ops.convert_to_tensor(block), **tables)
        if waiting is not None:
            yield _fetch(*waiting)
        waiting = start, n, found
    if waiting is not None:
        yield _fetch(*waiting)


def _fetch(start: int, n: int, found: Any) -> tuple[int, np.ndarray]:
    from keras import ops

    # JAX's arrays are not to be written to
    return start, np.require(ops.convert_to_numpy(found)[:n], requirements=["C", "W"])


def choose_block(library: MatchLibrary) -> int:
    """Return how many patterns are compared at once, a power of two."""
    n_templates = len(library.coefficients) * kernel.TILE
    # products and their parts, sums at the angles of a quarter turn
    numbers = n_templates * (16 * library.n_harmonics + 8 * library.n_angles // 4)
    n_block = _MOST_PATTERNS
    while n_block > 8 and 4 * n_block * numbers > _BYTES:
        n_block //= 2
    return n_block


def _get_tables(library: MatchLibrary) -> dict[str, Any]:
    """Return what the device must know of a library, kept there as long as the library is."""
    if library not in _tables:
        from keras import ops

        arrays = {
            "bases": library.bases,
            "templates": _spread(library),
            "cosines": _stack(library, 0),
            "sines": _stack(library, 1),
        }
        _tables[library] = {name: ops.convert_to_tensor(a) for name, a in arrays.items()}
    return _tables[library]


def _stack(library: MatchLibrary, which: int) -> np.ndarray:
    """Return cosines or sines of even and of odd harmonics, shape (2, n_angles / 4, n_even)."""
    return np.stack(kernel.make_tables(library.n_angles, library.n_harmonics // 2)[which])


def _spread(library: MatchLibrary) -> np.ndarray:
    """Return a library's coefficients with all harmonics of one rank: (n_harmonics, n_ranks, ...).

    The last axes are real and imaginary part and templates, (2, n_templates).
    """
    n_tiles, n_ranks = len(library.coefficients), library.bases.shape[2]
    tiles = library.coefficients.reshape(n_tiles, -1, 2, kernel.TILE).transpose(1, 2, 0, 3)
    spread = np.zeros((library.n_harmonics, n_ranks, 2, n_tiles * kernel.TILE), np.float32)
    row = 0
    for h, rank in enumerate(library.ranks):
        spread[h, :rank] = tiles[row : row + rank].reshape(rank, 2, -1)
        row += rank
    return spread


@cache
def _get_compiled() -> Callable:
    """Return `_compare` compiled by XLA, for each shape at its first use."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(_compare)
    import tensorflow as tf

    return tf.function(_compare, jit_compile=True)


def _compare(spectra: Any, bases: Any, templates: Any, cosines: Any, sines: Any) -> Any:
    """Return the packed maxima (n, n_tiles, 8, TILE), int32, of patterns and templates."""
    from keras import ops

    n, n_harmonics, _, n_radial = spectra.shape
    n_ranks, _, n_templates = templates.shape[1:]
    rows = ops.reshape(ops.transpose(spectra, (1, 0, 2, 3)), (n_harmonics, 2 * n, n_radial))
    rows = _multiply(rows, bases)
    products = _multiply(rows, ops.reshape(templates, (n_harmonics, n_ranks, 2 * n_templates)))
    products = ops.reshape(products, (n_harmonics, n, 2, 2, n_templates))
    a, b = products[:, :, 0, 0], products[:, :, 1, 1]  # real and imaginary parts of both
    c, d = products[:, :, 0, 1], products[:, :, 1, 0]
    # of templates and of their mirror images, which are their conjugates
    along = _sum(cosines, ops.stack([a + b, a - b], axis=1))
    across = _sum(sines, ops.stack([d - c, d + c], axis=1))
    quarters = []
    for m in range(2):
        for half in (1, -1):  # half a turn negates odd harmonics
            x, y = (sums[0, :, m] + half * sums[1, :, m] for sums in (along, across))
            quarters += [_keep_highest(x - y), _keep_highest(x + y)]
    highest = ops.reshape(ops.stack(quarters, axis=1), (n, 8, -1, kernel.TILE))
    return ops.transpose(highest, (0, 2, 1, 3))


def _sum(waves: Any, products: Any) -> Any:
    """Return sums over harmonics (n_harmonics, 2, n, n_templates), even and odd ones apart.

    Shape (2, n_angles / 4, 2, n, n_templates).
    """
    from keras import ops

    shape = products.shape
    flat = ops.reshape(products, (2, shape[0] // 2, -1))
    return ops.reshape(_multiply(waves, flat), (2, waves.shape[1], *shape[1:]))


def _keep_highest(correlations: Any) -> Any:
    """Return the highest of the first axis and where it is, packed as `keep_highest` does."""
    from keras import ops

    places = ops.reshape(ops.arange(correlations.shape[0], dtype="int32"), (-1, 1, 1))
    bits = ops.bitwise_and(ops.view(correlations, dtype="int32"), -PLACES)
    return ops.maximum(ops.max(ops.bitwise_or(bits, places), axis=0), 0)


def _multiply(a: Any, b: Any) -> Any:
    """Return the matrix product, right to the last bits of float32.

    A GPU's matrix units, which Keras's backends use, look at the first eleven binary digits of each
    number alone (TF32). So numbers go there in two parts, of which both fit.
    """
    from keras import ops

    (a, a_rest), (b, b_rest) = _split(a), _split(b)
    first = ops.concatenate([a, a, a_rest], axis=-1)
    return ops.matmul(first, ops.concatenate([b, b_rest, b], axis=-2))


def _split(x: Any) -> tuple[Any, Any]:
    """Return the part of a number that matrix units look at, and the rest."""
    from keras import ops

    kept = ops.view(ops.bitwise_and(ops.view(x, dtype="int32"), _FEW_BITS), dtype="float32")
    return kept, x - kept
