import numpy as np
import pytest
from conftest import draw_with_diffsims

from pyxem_nas.diffraction import random_quaternions
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.indexing.overlaps import OverlapJudge, take_out_spots
from pyxem_nas.indexing.refinement import REFINEMENT_SPEC
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import DescriptorSpec, Detector

ACQUISITION = {"wavelength": Acquisition(200).wavelength, "precession_angle": 0.5}


def describe(images, spec):
    sampler = make_sampler(Detector((144, 144), (0.0246, 0.0246)), spec)
    return compute_descriptors(images, np.tile([70.3, 72.9], (len(images), 1)), sampler)[0]


@pytest.fixture(scope="module")
def crystals(steel):
    rng = np.random.default_rng(4)
    first, second = random_quaternions(30, rng), random_quaternions(30, rng)
    images = [draw_with_diffsims(steel["NbC"], q) for q in (first, second)]
    return first, second, images, get_reflections([steel["NbC"]])


@pytest.mark.parametrize("spec", [REFINEMENT_SPEC, DescriptorSpec()])
def test_the_first_crystals_spots_go(spec, crystals):
    first, _, images, reflections = crystals
    _, left = take_out_spots(
        describe(images[0], spec), first, reflections, 0, spec=spec, **ACQUISITION
    )
    assert np.median(left) < 0.1


@pytest.mark.parametrize("spec", [REFINEMENT_SPEC, DescriptorSpec()])
def test_the_second_crystals_spots_stay(spec, crystals):
    first, _, images, reflections = crystals
    both = describe(images[0] + images[1], spec)
    alone = describe(images[1], spec)
    rest, left = take_out_spots(both, first, reflections, 0, spec=spec, **ACQUISITION)

    def likeness(a, b):
        return (a * b).mean(axis=(1, 2)) / np.sqrt((a**2).mean((1, 2)) * (b**2).mean((1, 2)))

    assert (likeness(rest, alone) > likeness(both, alone)).mean() > 0.9
    assert np.median(likeness(rest, alone)) > 0.8
    assert (left > 0.2).mean() > 0.8
    np.testing.assert_allclose((rest**2).mean(axis=(1, 2)), 1, rtol=1e-4)


def test_nothing_is_left_of_nothing(crystals):
    first, _, _, reflections = crystals
    rest, left = take_out_spots(
        np.zeros((3, *REFINEMENT_SPEC.shape), np.float32), first[:3], reflections, 0,
        spec=REFINEMENT_SPEC, **ACQUISITION,
    )  # fmt: skip
    assert not rest.any()
    np.testing.assert_array_equal(left, np.zeros(3))


def test_taking_out_turns_with_the_pattern(crystals):
    from pyxem_nas.diffraction import multiply_quaternions

    first, _, images, reflections = crystals
    both = describe(images[0] + images[1], REFINEMENT_SPEC)
    half = np.deg2rad(-90) / 2
    turned = multiply_quaternions(first, np.array([np.cos(half), 0, 0, np.sin(half)]))
    options = {"spec": REFINEMENT_SPEC, **ACQUISITION}
    _, left = take_out_spots(both, first, reflections, 0, **options)
    _, after = take_out_spots(np.roll(both, 90, axis=2), turned, reflections, 0, **options)
    np.testing.assert_allclose(after, left, atol=0.02)


def test_probability_is_the_logistic_of_the_odds():
    judge = OverlapJudge(2.0, 1.0, -1.0, 0.7, 0.5, 0.3, -1.0)
    second = {
        "scores": np.array([[0.6, 0.5, 0.2]]),
        "phase_probability": np.array([0.8]),
        "probability": np.array([[0.9, 0.05]]),
        "left": np.array([0.4]),
    }
    odds = 1.2 + 0.5 - 0.2 + 0.7 * np.log(4) + 0.5 * 0.9 + 0.3 * np.log(0.4) - 1.0
    found = judge.get_probability(second)
    assert found[0] == pytest.approx(1 / (1 + np.exp(-odds)))
    nothing = {"probability": np.array([[np.nan]]), "left": np.array([0.0])}
    unknown = judge.get_probability(second | nothing | {"phase_probability": np.array([1.0])})
    assert 0 < unknown[0] < 1
