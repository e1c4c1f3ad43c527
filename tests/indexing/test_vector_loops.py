"""The inner loops of matching against NumPy, and on processors of narrower vectors."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pyxem_nas.indexing.vector_loops import (
    BLOCK,
    COLUMNS,
    PLACES,
    ROWS,
    compress,
    find_block_maxima,
    keep_highest,
    list_near,
    multiply,
    multiply_narrow,
)


def check_products():
    """Multiply parts of larger arrays; what is beside the result stays as it is."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2 * ROWS + 1, 9)), rng.standard_normal((7, 3 * COLUMNS))
    a, b = a.astype(np.float32), b.astype(np.float32)
    out = np.full((3 * ROWS, 3 * COLUMNS), 5, np.float32)
    many = rng.standard_normal((8, 9)).astype(np.float32)
    narrow = np.full((8, 32), 5, np.float32)
    part = b.ravel(), COLUMNS, 3 * COLUMNS
    multiply_narrow(many.ravel(), 2, 9, 8, 7, *part, 16, narrow.ravel(), 16, 32)
    np.testing.assert_allclose(
        narrow[:, 16:], many[:, 2:] @ b[:, COLUMNS : COLUMNS + 16], rtol=1e-5, atol=1e-5
    )
    assert (narrow[:, :16] == 5).all()
    multiply(
        a.ravel(), 9 + 2, 9, 2 * ROWS, 7, b.ravel(), COLUMNS, 3 * COLUMNS, 2 * COLUMNS,
        out.ravel(), 3 * COLUMNS, 3 * COLUMNS,
    )  # fmt: skip
    expected = np.full_like(out, 5)
    expected[1 : 1 + 2 * ROWS, : 2 * COLUMNS] = a[1:, 2:] @ b[:, COLUMNS:]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def check_maxima(n_angles):
    """Find the maxima of correlations whose harmonics are summed the long way."""
    rng = np.random.default_rng(1)
    sums = rng.standard_normal((8, n_angles, COLUMNS)).astype(np.float32)
    sums[:, :, 3] = 0
    highest = np.zeros((8, COLUMNS), np.int32)
    keep_highest(sums.ravel(), n_angles, COLUMNS, highest.ravel())
    for m, sign in enumerate((1, -1)):  # a template, its mirror image
        for back in (0, 1):  # half a turn negates the odd harmonics
            cosines = sums[0] + sign * sums[2] + (-1) ** back * (sums[1] + sign * sums[3])
            sines = sums[6] - sign * sums[4] + (-1) ** back * (sums[7] - sign * sums[5])
            for forward in (0, 1):
                correlations = cosines + (2 * forward - 1) * sines
                row = highest[4 * m + 2 * back + forward]
                value, place = row.view(np.float32), row % PLACES
                best = correlations.max(axis=0)
                found = best > 0
                np.testing.assert_allclose(value[found], best[found], rtol=2e-5, atol=1e-6)
                assert (place == correlations.argmax(axis=0))[found].all()
                assert (row[~found] < PLACES).all()
                assert not found[3]


def check_lists(n, n_most):
    """List columns near a plane; what is beyond the list's end stays as it is."""
    rng = np.random.default_rng(2)
    table = rng.standard_normal((6, n)).astype(np.float32)
    normal = np.float32([0.36, 0.48, 0.8])
    reach = rng.uniform(-0.1, 0.5, n).astype(np.float32)
    indices = np.full(n_most + 32, -7, np.int32)
    n_found = list_near(table.ravel(), n, *normal, reach, indices, n_most)
    expected = np.flatnonzero(np.abs(table[3] - normal @ table[:3]) < reach)
    if len(expected) < n_most:
        assert n_found == len(expected) > 0
    else:
        assert n_most <= n_found < n_most + 16
    np.testing.assert_array_equal(indices[:n_found], expected[:n_found])
    assert (indices[n_found:] == -7).all()


def check_block_maxima(dtype):
    """Find the largest numbers of blocks, the last of which is short."""
    values = np.random.default_rng(3).integers(-128, 127, 5 * BLOCK + 7).astype(dtype)
    values[2 * BLOCK : 3 * BLOCK] = -128  # none above 0
    maxima = np.empty(6, np.float32)
    largest = find_block_maxima(values, maxima)
    expected = [values[b * BLOCK : (b + 1) * BLOCK].max() for b in range(6)]
    np.testing.assert_array_equal(maxima, expected)
    assert largest == max(expected)


def check_powers():
    """Raise numbers of any size that a descriptor has, none below 0."""
    values = np.geomspace(1e-6, 1e6, 480).astype(np.float32)
    values[[5, 17]] = 0, -1
    weights = np.linspace(0.1, 2, 480).astype(np.float32)
    out = np.empty(480, np.float32)
    power = compress(values, weights, 480, out)
    expected = weights * np.maximum(values, 0).astype(float) ** (11 / 16)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    np.testing.assert_allclose(power, (expected**2).sum(), rtol=1e-5)
    assert (out[[5, 17]] == 0).all()


def test_products_of_parts_are_those_of_numpy():
    check_products()


@pytest.mark.parametrize("n_angles", [4, 36, PLACES])
def test_maxima_are_those_of_all_correlations(n_angles):
    check_maxima(n_angles)


@pytest.mark.parametrize(("n", "n_most"), [(16, 100), (496, 100), (496, 7)])
def test_lists_are_those_of_numpy(n, n_most):
    check_lists(n, n_most)


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_block_maxima_are_those_of_numpy(dtype):
    check_block_maxima(dtype)


def test_powers_are_those_of_numpy():
    check_powers()


def test_narrower_vectors_give_the_same():
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        pytest.skip("names features of processors of one kind")
    code = "import test_vector_loops as t; assert t.COLUMNS == 16; t.check_products(); "
    code += "t.check_maxima(36); t.check_lists(496, 100); t.check_lists(496, 7); "
    code += "t.check_powers(); t.check_block_maxima('i1'); t.check_block_maxima('f4')"
    environment = os.environ | {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma",
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
    }
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
