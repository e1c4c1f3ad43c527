import numpy as np
import pytest
from conftest import draw_with_diffsims

from pyxem_nas.bundles.judges import PhaseJudge
from pyxem_nas.diffraction import random_quaternions
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.indexing.phase_scores import N_SCORES, fit_phase_judge, judge_phases, score_phase
from pyxem_nas.indexing.refinement import REFINEMENT_SPEC
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import Detector

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


def test_fit_finds_the_weights_that_made_the_data():
    rng = np.random.default_rng(0)
    scores = rng.random((6000, 3, N_SCORES))
    made = PhaseJudge(6.0, 3.0, -2.0, 4.0, 0.7)
    log_network = np.log(rng.dirichlet(np.ones(4), len(scores)))
    probability = judge_phases(scores, made)
    classes = (rng.random((len(scores), 1)) > probability.cumsum(axis=1)).sum(axis=1)
    fitted = fit_phase_judge(scores, classes)
    for name in ("correlation", "explained", "missing", "none"):
        assert getattr(fitted, name) == pytest.approx(getattr(made, name), abs=0.5)
    probability = judge_phases(scores, made, log_network)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    classes = (rng.random((len(scores), 1)) > probability.cumsum(axis=1)).sum(axis=1)
    assert 0.4 < fit_phase_judge(scores, classes, log_network).network < 1.0


def test_probability_is_the_softmax_of_utilities():
    scores = np.array([[[0.5, 0.2, 0.1], [0.4, 0.3, 0.0]]])
    judge = PhaseJudge(2.0, 1.0, -1.0, 0.3, 0.5)
    log_network = np.log([[0.2, 0.3, 0.5]])
    utility = np.array([1.0 + 0.2 - 0.1, 0.8 + 0.3, 0.3]) + 0.5 * log_network[0]
    expected = np.exp(utility) / np.exp(utility).sum()
    np.testing.assert_allclose(judge_phases(scores, judge, log_network)[0], expected)
