import dataclasses

import numba
import numpy as np
import pytest

from pyxem_nas.diffraction import random_quaternions
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.patterns.spec import DescriptorSpec
from pyxem_nas.scans.camera import _expose, _noise_tables, simulate_descriptors
from pyxem_nas.scans.randomization import Randomization

SPEC = DescriptorSpec()


@pytest.fixture(scope="module")
def reflections(steel):
    return get_reflections(list(steel.values()))


def simulate(reflections, n, seed, randomization=None, phase=1, **options):
    rng = np.random.default_rng(seed)
    quaternions = random_quaternions(2 * n, rng).reshape(n, 2, 4)
    parameters = (randomization or Randomization()).draw(n, rng)
    phases = np.full((n, 2), phase)
    return simulate_descriptors(
        reflections, phases, quaternions, parameters, SPEC, rng, wavelength=0.02508, **options
    )


def test_same_seed_same_bytes_on_any_number_of_threads(reflections):
    first = simulate(reflections, 40, 5)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(first, simulate(reflections, 40, 5))
    finally:
        numba.set_num_threads(threads)
    assert not np.array_equal(first, simulate(reflections, 40, 6))


def test_descriptors_are_finite_and_of_unit_rms(reflections):
    for phase in range(3):
        descriptors = simulate(reflections, 200, 7, phase=phase)
        assert np.isfinite(descriptors).all()
        rms = np.sqrt(np.mean(descriptors**2, axis=(1, 2)))
        assert np.all((np.abs(rms - 1) < 1e-3) | (rms == 0))
        assert (rms > 0).mean() > 0.97


def test_noise_has_the_mean_of_a_poisson_distribution():
    counts, normal = _noise_tables()
    means = 2.0**-11 * (1 + np.arange(512) % 32 / 32) * 2.0 ** (np.arange(512) // 32)
    np.testing.assert_allclose(counts.mean(axis=1), means, rtol=1e-3, atol=1e-6)
    large = means > 0.1
    np.testing.assert_allclose(counts.var(axis=1)[large], means[large], rtol=0.1)
    assert abs(normal.std() - 1) < 0.02


@pytest.mark.parametrize("mean", [0.05, 0.7, 5.0, 40.0])
def test_exposure_draws_poisson_counts(mean):
    image = np.full((250, 250), mean, np.float32)
    _expose(image, 255.0, 1.0, *_noise_tables(), np.uint64(7))  # one count an electron
    assert image.mean() == pytest.approx(mean, rel=0.04)
    assert image.var() == pytest.approx(mean, rel=0.1)


def test_parameters_stay_in_their_ranges():
    randomization = Randomization()
    drawn = randomization.draw(2000, np.random.default_rng(0))
    for name in ("rocking_width", "dose", "scale", "center_error", "spot_loss"):
        low, high = getattr(randomization, name)
        assert drawn[name].min() >= low
        assert drawn[name].max() <= high
        assert drawn[name].std() > 0
    assert Randomization.from_dict(randomization.to_dict()) == randomization


def test_number_of_spots_is_limited(reflections):
    few = dataclasses.replace(
        Randomization(), max_spots=(3, 3.0001), background=(0.02, 0.0200001), spot_loss=(0, 0),
        dose=(3e5, 3.00001e5), overlap_share=(0, 0), halo_share=(0, 0), direct_beam=(0.5, 0.5001),
    )  # fmt: skip
    many = dataclasses.replace(few, max_spots=(300, 300.1))
    covered = [np.mean(simulate(reflections, 60, 8, r, phase=2) > 1) for r in (few, many)]
    assert covered[0] < 0.4 * covered[1]
