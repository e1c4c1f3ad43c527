"""Of the posterior's maxima; ranking and judging are tested through `prediction`."""

import numpy as np
import pytest
from scipy.special import logsumexp

from pyxem_nas.bundles.judges import Judge
from pyxem_nas.diffraction import make_cells
from pyxem_nas.indexing.candidates import _top_cells, select_candidates, sum_exponentials
from pyxem_nas.indexing.judging import judge_candidates
from pyxem_nas.indexing.refinement import RatedCandidates
from pyxem_nas.indexing.vector_loops import BLOCK, find_block_maxima


def draw_logits(n, m, seed=0):
    rng = np.random.default_rng(seed)
    return (6 * rng.standard_normal((n, m)) - 12).astype(np.float32)


@pytest.mark.parametrize("m", [3, 64, 19890, 20011])
def test_sum_of_exponentials_agrees_with_scipy(m):
    logits = draw_logits(7, m)
    logits[3] = -500
    logits[3, 1] = 40
    found = sum_exponentials(logits)
    np.testing.assert_allclose(found, logsumexp(logits.astype(float), axis=1), atol=1e-4)


@pytest.mark.parametrize("kind", ["random", "equal", "rising", "one block"])
def test_top_cells_are_those_of_a_sort(kind):
    row = draw_logits(1, 5000, seed=1)[0]
    if kind == "equal":
        row = np.round(row / 20).astype(np.float32)  # many ties
    elif kind == "rising":
        row = np.sort(row)
    elif kind == "one block":
        row[640:700] += 100
    maxima = np.empty(-(-len(row) // BLOCK), np.float32)
    assert find_block_maxima(row, maxima) == row.max()
    top, value = np.zeros(32, np.int64), np.empty(32, np.float32)
    _top_cells(row, maxima, top, value)
    expected = np.argsort(-row, kind="stable")[:32]
    np.testing.assert_array_equal(top, expected)
    np.testing.assert_array_equal(value, row[expected])


@pytest.fixture(scope="module")
def cells(steel):
    return make_cells(steel["NbC"], spacing=6)


def test_first_candidate_is_the_likeliest_cell(cells):
    n_cells = cells.n_inplane * cells.n_directions
    logits = np.full((5, n_cells), -20, np.float32)
    chosen = np.random.default_rng(2).integers(0, n_cells, 5)
    logits[np.arange(5), chosen] = 10
    quaternions, log_posterior = select_candidates(logits, None, cells)
    expected = cells.decode(chosen % cells.n_directions, chosen // cells.n_directions)
    cosine = np.abs(np.sum(quaternions[:, 0] * expected, axis=-1))
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    np.testing.assert_allclose(log_posterior[:, 0], 0, atol=1e-3)
    given, log_given = select_candidates(logits, sum_exponentials(logits), cells)
    np.testing.assert_allclose(given, quaternions, atol=1e-6)
    np.testing.assert_allclose(log_given, log_posterior, atol=1e-5)


def test_noise_that_lowers_all_correlations_changes_no_probability():
    quaternions = np.tile([1.0, 0, 0, 0], (2, 3, 1))
    quaternions[1, 2] = 0  # no candidate, however well it scores
    log_posterior = np.log([[0.5, 0.3, 0.1], [0.2, 0.6, 0.1]])
    correlation = np.array([[0.8, 0.9, 0.5], [0.4, 0.3, 0.7]])
    judge = Judge(0.8, 25.0, 20.0)
    rated = RatedCandidates(quaternions, correlation, np.sqrt(correlation))
    dimmed = RatedCandidates(quaternions, 0.4 * correlation, 0.7 * np.sqrt(correlation))
    clean = judge_candidates(rated, log_posterior, judge)
    noisy = judge_candidates(dimmed, log_posterior, judge)
    np.testing.assert_allclose(noisy, clean, rtol=1e-12)
    assert clean[1, 2] == 0
    utility = np.append(0.8 * log_posterior[1, :2] + 25.0 * np.array([1.0, 0.75]), 20.0)
    expected = np.exp(utility) / np.exp(utility).sum()
    np.testing.assert_allclose(clean[1, :2], expected[:2], rtol=1e-12)


def test_tolerant_correlation_and_what_is_left_of_the_posterior_count():
    quaternions = np.tile([1.0, 0, 0, 0], (2, 3, 1))
    log_posterior = np.log([[0.5, 0.3, 0.1], [0.2, 0.1, 0.05]])
    rated = RatedCandidates(
        quaternions, np.full((2, 3), 0.5), np.array([[0.2, 0.4, 0.1], [0.8, 0.6, 0.4]])
    )
    found = judge_candidates(rated, log_posterior, Judge(0.0, 0.0, 1.0, 4.0, 2.0))
    for row, rest in zip((0, 1), (0.1, 0.65), strict=True):
        relative = rated.tolerant[row] / rated.tolerant[row].max()
        weights = np.exp(np.append(4 * relative, 1 + 2 * np.log(rest)))
        np.testing.assert_allclose(found[row], weights[:3] / weights.sum(), rtol=1e-9)
    # a candidate from elsewhere takes nothing from what the network leaves
    once = judge_candidates(rated, log_posterior, Judge(0.0, 0.0, 1.0, 4.0, 2.0), n_network=2)
    assert np.all(once.sum(axis=1) < found.sum(axis=1))


def test_a_network_counts_less_where_the_detector_shows_more():
    judge = Judge(0.4, 0.0, 0.0, per_reach=-0.5)
    np.testing.assert_allclose(judge.weigh_posterior(np.array([1.0, 1.4, 1.8])), [0.6, 0.4, 0.2])
    assert judge.weigh_posterior(3.0) == 0  # never against its word
    quaternions = np.tile([1.0, 0, 0, 0], (2, 2, 1))
    log_posterior = np.log([[0.6, 0.1], [0.6, 0.1]])
    flat = np.ones((2, 2))
    rated = RatedCandidates(quaternions, flat, flat)
    found = judge_candidates(rated, log_posterior, judge, reach=np.array([1.0, 1.8]))
    np.testing.assert_allclose(found[:, 0] / found[:, 1], [6**0.6, 6**0.2], rtol=1e-9)


def test_judge_of_the_first_schema_takes_correlations_as_they_are():
    quaternions = np.tile([1.0, 0, 0, 0], (1, 2, 1))
    correlation = np.array([[0.4, 0.3]])
    judge = Judge(0.0, 10.0, 2.0, relative=False)
    rated = RatedCandidates(quaternions, correlation, correlation)
    found = judge_candidates(rated, np.zeros((1, 2)), judge)
    weights = np.exp([4.0, 3.0, 2.0])
    np.testing.assert_allclose(found[0], weights[:2] / weights.sum(), rtol=1e-12)


def test_pattern_without_correlation_has_finite_probabilities():
    quaternions = np.tile([1.0, 0, 0, 0], (1, 2, 1))
    nothing = np.zeros((1, 2))
    found = judge_candidates(RatedCandidates(quaternions, nothing, nothing), nothing, Judge())
    assert np.isfinite(found).all()
