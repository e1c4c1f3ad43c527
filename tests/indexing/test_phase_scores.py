import numpy as np
import pytest
from conftest import draw_with_diffsims

from pyxem_nas.bundles.judges import PhaseJudge
from pyxem_nas.bundles.set_judge import PhaseScores
from pyxem_nas.diffraction import random_quaternions
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.indexing.phase_scores import N_SCORES, judge_phases, rate_phases, score_phase
from pyxem_nas.indexing.refinement import REFINEMENT_SPEC
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import Detector
from pyxem_nas.training.phase_calibration import fit_phase_judge

NAMES = ("ferrite", "NbC", "cementite")
GRID = {
    "spec": REFINEMENT_SPEC,
    "wavelength": Acquisition(200).wavelength,
    "precession_angle": 0.5,
}


@pytest.fixture(scope="module")
def patterns(steel):
    """For each phase orientations and polar patterns of diffsims' images."""
    found = []
    for k, name in enumerate(NAMES):
        truth = random_quaternions(40, np.random.default_rng(k))
        images = draw_with_diffsims(steel[name], truth)
        sampler = make_sampler(Detector((144, 144), (0.0246, 0.0246)), REFINEMENT_SPEC)
        centers = np.tile([70.3, 72.9], (len(images), 1))
        found.append((truth, compute_descriptors(images, centers, sampler)[0]))
    return found


@pytest.fixture(scope="module")
def reflections(steel):
    return get_reflections([steel[name] for name in NAMES])


@pytest.mark.parametrize("k", range(3))
def test_true_phase_scores_higher_than_any_other_orientation(k, patterns, reflections):
    truth, polar = patterns[k]
    right = score_phase(polar, truth, reflections, k, **GRID)
    assert np.median(right[:, 0]) > 0.75
    assert np.median(right[:, 1]) > 0.8
    assert np.median(right[:, 2]) < 0.2
    for other in range(3):
        stranger = random_quaternions(len(truth), np.random.default_rng(90 + other))
        wrong = score_phase(polar, stranger, reflections, other, **GRID)
        assert (right[:, 0] > wrong[:, 0]).mean() > 0.9
        assert (right[:, 2] < wrong[:, 2]).mean() > 0.9
        # however many spots the other phase has, chance explains nothing
        assert abs(np.mean(wrong[:, 1])) < 0.2


def test_scores_turn_with_the_pattern_and_do_not_know_brightness(patterns, reflections):
    truth, polar = patterns[1]
    before = score_phase(polar, truth, reflections, 1, **GRID)
    # a turn of the pattern by 30 degrees counter-clockwise is R Rz(-30)
    half = np.deg2rad(-30) / 2
    turn = np.array([np.cos(half), 0, 0, np.sin(half)])
    from pyxem_nas.diffraction import multiply_quaternions

    turned = multiply_quaternions(truth, turn)
    after = score_phase(3 * np.roll(polar, 30, axis=2), turned, reflections, 1, **GRID)
    np.testing.assert_allclose(after, before, atol=1e-3)


def test_empty_pattern_scores_nothing(reflections):
    scores = score_phase(
        np.zeros((2, *REFINEMENT_SPEC.shape), np.float32),
        random_quaternions(2, np.random.default_rng(0)),
        reflections,
        2,
        **GRID,
    )
    np.testing.assert_array_equal(scores, np.zeros((2, N_SCORES)))


def draw_scores(n, n_phases, seed=0):
    rng = np.random.default_rng(seed)
    columns = [rng.random((n, n_phases)) for _ in PhaseScores._fields]
    columns[PhaseScores._fields.index("spots")] *= 40
    return PhaseScores(*columns), rng


def test_fit_finds_the_weights_that_made_the_data():
    scores, rng = draw_scores(8000, 3)
    log_network = np.log(rng.dirichlet(np.ones(4), 8000))
    made = PhaseJudge(0.0, 0.0, 0.0, none=1.0, network=0.6, set_utility=0.3)
    probability = judge_phases(scores, made, log_network)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    classes = (rng.random((8000, 1)) > probability.cumsum(axis=1)).sum(axis=1)
    fitted = fit_phase_judge(scores, classes, log_network)
    assert fitted.set_utility == pytest.approx(0.3, abs=0.05)
    assert fitted.network == pytest.approx(0.6, abs=0.1)
    # the data held none of these as often as each phase; the judge expects it in one of ten
    assert fitted.none == pytest.approx(1.0 + np.log(3 / 9), abs=0.15)


def test_probability_is_the_softmax_of_utilities():
    scores = draw_scores(1, 2)[0]._replace(
        correlation=np.array([[0.5, 0.4]]),
        explained=np.array([[0.2, 0.3]]),
        missing=np.array([[0.1, 0.0]]),
    )
    judge = PhaseJudge(2.0, 1.0, -1.0, 0.3, 0.5)
    log_network = np.log([[0.2, 0.3, 0.5]])
    utility = np.array([1.0 + 0.2 - 0.1, 0.8 + 0.3, 0.3]) + 0.5 * log_network[0]
    expected = np.exp(utility) / np.exp(utility).sum()
    np.testing.assert_allclose(judge_phases(scores, judge, log_network)[0], expected)
    # and of what the shipped judge says, where it counts
    both = judge_phases(scores, PhaseJudge(2.0, 1.0, -1.0, 0.3, 0.5, 0.7), log_network)
    utility += 0.7 * rate_phases(scores)[0]
    np.testing.assert_allclose(both[0], np.exp(utility) / np.exp(utility).sum(), rtol=1e-6)
