import numpy as np
import pytest

from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    multiply_quaternions,
    random_quaternions,
)
from pyxem_nas.indexing.regularization import _agree, regularize_candidates

TWIN = np.array([0.0, 0.0, 0.0, 1.0])
NO_SYMMETRY = [np.array([[1.0, 0, 0, 0]])] * 2


def brute_force(agree, own, edges, gain):
    """Return the exact marginals of a small Potts model by summing over all states."""
    n, k = own.shape
    states = np.indices((k + 1,) * n).reshape(n, -1).T
    unary = np.column_stack([own, 1 - own.sum(axis=1)])
    weight = np.prod(unary[np.arange(n), states], axis=1)
    for i, j in edges:
        a, b = states[:, i], states[:, j]
        same = np.zeros(len(states), bool)
        inside = (a < k) & (b < k)
        same[inside] = agree[i, j][a[inside], b[inside]]
        weight *= np.where(same, 1 + gain, 1)
    marginals = np.zeros((n, k))
    for c in range(k):
        marginals[:, c] = [weight[states[:, i] == c].sum() for i in range(n)]
    return marginals / weight.sum()


def test_beliefs_of_a_line_are_the_exact_marginals():
    rng = np.random.default_rng(3)
    base = random_quaternions(3, rng)
    pick = rng.integers(0, 3, (5, 2))
    pick[:, 1] = (pick[:, 0] + 1 + rng.integers(0, 2, 5)) % 3
    own = rng.dirichlet([1, 1, 0.3], 5)[:, :2]
    belief = regularize_candidates(
        base[pick], np.zeros((5, 2), int), own, (5,), NO_SYMMETRY, coupling=1.2, n_iterations=60
    )
    agree = {(i, i + 1): pick[i][:, None] == pick[i + 1][None] for i in range(4)}
    expected = brute_force(agree, own, list(agree), np.expm1(1.2))
    np.testing.assert_allclose(belief, expected, atol=1e-4)


def two_grains(shape, rng, *, wrong=0.2):
    """Return candidates of two grains side by side: the truth, its twin and a stranger."""
    grain = (np.indices(shape)[-1] >= shape[-1] // 2).astype(int).ravel()
    base = random_quaternions(2, rng)
    noise = np.concatenate(
        [np.ones((grain.size, 1)), 0.004 * rng.standard_normal((grain.size, 3))], 1
    )
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    truth = multiply_quaternions(base[grain], noise)
    twin = multiply_quaternions(truth, TWIN)
    other = random_quaternions(grain.size, rng)
    quaternions = np.stack([truth, twin, other], axis=1)
    probability = np.tile([0.75, 0.2, 0.04], (grain.size, 1))
    mistaken = rng.random(grain.size) < wrong
    probability[mistaken] = [0.35, 0.6, 0.04]
    return grain, quaternions, probability, mistaken


@pytest.mark.parametrize("shape", [(12, 16), (64,)])
def test_twin_errors_are_cleaned(shape):
    _, quaternions, probability, mistaken = two_grains(shape, np.random.default_rng(0))
    belief = regularize_candidates(
        quaternions, np.zeros(probability.shape, int), probability, shape, NO_SYMMETRY
    )
    wrong = belief.argmax(axis=1) != 0
    assert mistaken.sum() > 5
    assert wrong.sum() <= mistaken.sum() // (10 if len(shape) == 2 else 2)
    assert (belief.sum(axis=1) <= 1 + 1e-9).all()


def test_boundary_stays_where_the_patterns_put_it():
    shape = (10, 12)
    rng = np.random.default_rng(1)
    grain, quaternions, probability, _ = two_grains(shape, rng, wrong=0)
    # beside the boundary the other grain is a candidate too
    column = np.tile(np.arange(12), 10)
    other = np.where(column < 6, 6, 5) + 12 * np.repeat(np.arange(10), 12)
    near = (column == 5) | (column == 6)
    quaternions[near, 2] = quaternions[other[near], 0]
    probability[near] = [0.7, 0.1, 0.19]
    belief = regularize_candidates(
        quaternions, np.zeros(probability.shape, int), probability, shape, NO_SYMMETRY
    )
    assert (belief.argmax(axis=1) == 0).all()


def test_a_lone_position_that_is_sure_is_kept():
    shape = (7, 7)
    _, quaternions, probability, _ = two_grains(shape, np.random.default_rng(2), wrong=0)
    lone = random_quaternions(1, np.random.default_rng(5))[0]
    matrix = quaternions[24, 0].copy()
    quaternions[24] = [lone, multiply_quaternions(lone, TWIN), matrix]
    probability[24] = [0.97, 0.02, 1e-5]
    belief = regularize_candidates(
        quaternions, np.zeros(probability.shape, int), probability, shape, NO_SYMMETRY
    )
    assert belief[24].argmax() == 0


def test_phases_do_not_support_each_other():
    q = np.tile([[1.0, 0, 0, 0], [0, 0, 0, 1.0]], (3, 1, 1))
    own = np.array([[0.9, 0.1], [0.45, 0.55], [0.9, 0.1]])
    phase = np.array([[0, 0], [1, 1], [0, 0]])
    belief = regularize_candidates(q, phase, own, (3,), NO_SYMMETRY)
    np.testing.assert_allclose(belief[1], own[1], atol=1e-5)


def test_positions_left_out_neither_change_nor_count():
    q = np.tile([[1.0, 0, 0, 0], [0, 0, 0, 1.0]], (3, 1, 1))
    own = np.array([[0.9, 0.1], [0.45, 0.55], [0.9, 0.1]])
    excluded = np.array([True, False, True])
    belief = regularize_candidates(
        q, np.zeros((3, 2), int), own, (3,), NO_SYMMETRY, excluded=excluded
    )
    np.testing.assert_allclose(belief, own, atol=1e-5)


def test_agreement_is_the_disorientation(steel):
    rng = np.random.default_rng(7)
    group = laue_operations(steel["NbC"])
    a = random_quaternions(400, rng)
    b = random_quaternions(400, rng)
    angles = disorientation_angles(a, b, group)
    bound = float(np.median(angles))
    cosine = np.cos(np.deg2rad(bound) / 2)
    found = [_agree(x, y, group, 0, len(group), cosine) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(found, angles < bound)


def test_arrays_that_do_not_fit_are_named():
    q, own = np.ones((4, 2, 4)), np.full((4, 2), 0.5)
    with pytest.raises(ValueError, match=r"position of \(5,\)"):
        regularize_candidates(q, np.zeros((4, 2), int), own, (5,), NO_SYMMETRY)
    with pytest.raises(ValueError, match="at most 16"):
        regularize_candidates(
            np.ones((1, 17, 4)), np.zeros((1, 17), int), np.full((1, 17), 0.01), (1,), NO_SYMMETRY
        )
