import numpy as np
import pytest
from diffsims.generators.simulation_generator import SimulationGenerator
from orix.quaternion import Rotation
from scipy.spatial import cKDTree

from pyxem_nas.diffraction import random_quaternions
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.diffraction.kinematical import simulate_spots
from pyxem_nas.diffraction.reflections import get_reflections


@pytest.mark.parametrize("precession", [0.0, 0.7])
@pytest.mark.parametrize("name", ["NbC", "cementite", "titanium"])
def test_spots_agree_with_diffsims(name, precession, steel, titanium):
    phase = titanium if name == "titanium" else steel[name]
    quaternions = random_quaternions(3, np.random.default_rng(0))
    reflections = get_reflections([phase], reciprocal_radius=1.4, minimum_intensity=1e-9)
    spots = simulate_spots(
        reflections, quaternions, Acquisition(200, precession), max_excitation_error=0.02
    )
    truth = SimulationGenerator(200, precession_angle=precession).calculate_diffraction2d(
        phase,
        Rotation(quaternions),
        reciprocal_radius=1.4,
        max_excitation_error=0.02,
        with_direct_beam=False,
    )
    for (positions, intensities, _), vectors in zip(spots, truth.coordinates, strict=True):
        visible = vectors.intensity > 1e-6 * vectors.intensity.max()
        expected = vectors.data.reshape(-1, 3)[visible, :2]
        distance, index = cKDTree(positions).query(expected)
        assert len(positions) >= visible.sum() > 2
        assert distance.max() < 1e-5
        np.testing.assert_allclose(intensities[index], vectors.intensity[visible], rtol=1e-5)


def test_extinct_reflections_are_left_out(steel):
    reflections = get_reflections([steel["ferrite"]])
    assert (reflections.hkl.sum(axis=1) % 2 == 0).all()  # body-centred


def test_phase_without_atoms_is_refused(steel):
    from orix.crystal_map import Phase

    with pytest.raises(ValueError, match="has no atoms"):
        get_reflections([Phase("empty", space_group=225)])


@pytest.mark.parametrize("values", [{"beam_energy": 0}, {"precession_angle": 17.5}])
def test_impossible_acquisition_is_refused(values):
    with pytest.raises(ValueError, match="must be in"):
        Acquisition(**values)
