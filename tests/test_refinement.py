import numpy as np
import pytest
from conftest import draw_with_diffsims

from pyxem_nas.descriptors import Detector, compute_descriptors, make_sampler
from pyxem_nas.evaluation import disorientation_angles
from pyxem_nas.orientation import laue_proper_group, multiply_quaternions, random_quaternions
from pyxem_nas.refinement import REFINEMENT_SPEC, refine_candidates
from pyxem_nas.simulation import get_reflections

CENTER = (70.3, 72.9)


def perturb(quaternions, degrees, rng):
    small = np.concatenate(
        [
            np.ones((len(quaternions), 1)),
            np.deg2rad(degrees) / 2 * rng.normal(size=(len(quaternions), 3)),
        ],
        axis=1,
    )
    return multiply_quaternions(quaternions, small / np.linalg.norm(small, axis=1, keepdims=True))


def polar_patterns(phase, quaternions):
    images = draw_with_diffsims(phase, quaternions, center=CENTER)
    sampler = make_sampler(Detector((144, 144), (0.0246, 0.0246)), REFINEMENT_SPEC)
    return compute_descriptors(images, np.tile(CENTER, (len(images), 1)), sampler)[0]


@pytest.mark.parametrize("name", ["NbC", "cementite", "titanium"])
def test_perturbed_orientation_comes_back(name, steel, titanium):
    phase = titanium if name == "titanium" else steel[name]
    rng = np.random.default_rng(4)
    truth = random_quaternions(24, rng)
    polar = polar_patterns(phase, truth)
    start = perturb(truth, 0.9, rng)
    group = laue_proper_group(phase)
    reflections = get_reflections([phase])
    settings = {"wavelength": 0.02508, "precession_angle": 0.5}
    refined, score = refine_candidates(polar, start[:, None], reflections, 0, **settings)
    before = disorientation_angles(start, truth, group)
    after = disorientation_angles(refined[:, 0], truth, group)
    assert np.median(before) > 1
    assert np.median(after) < 0.45
    _, score_before = refine_candidates(
        polar, start[:, None], reflections, 0, refine=False, **settings
    )
    assert (score >= score_before - 1e-9).all()


def test_score_prefers_the_truth_to_a_random_orientation(steel):
    phase = steel["cementite"]
    rng = np.random.default_rng(5)
    truth = random_quaternions(20, rng)
    candidates = np.stack([truth, random_quaternions(20, rng)], axis=1)
    _, score = refine_candidates(
        polar_patterns(phase, truth), candidates, get_reflections([phase]), 0,
        wavelength=0.02508, precession_angle=0.5, refine=False,
    )  # fmt: skip
    assert (score[:, 0] > score[:, 1]).all()
    assert score.max() <= 1


def test_empty_patterns_and_missing_candidates_score_zero(steel):
    polar = np.zeros((2, *REFINEMENT_SPEC.shape), np.float32)
    candidates = np.zeros((2, 3, 4))
    candidates[0, 0, 0] = 1
    refined, score = refine_candidates(
        polar, candidates, get_reflections([steel["NbC"]]), 0,
        wavelength=0.02508, precession_angle=0.0,
    )  # fmt: skip
    assert not score.any()
    np.testing.assert_array_equal(refined, candidates)
