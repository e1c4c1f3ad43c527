import numpy as np
import pytest
from conftest import SHARED

from pyxem_nas import Acquisition
from pyxem_nas.diffraction import (
    SpotLibrary,
    draw_dynamical_spots,
    laue_operations,
    multiply_quaternions,
    quaternions_to_matrices,
    random_quaternions,
    simulate_dynamical_spots,
)
from pyxem_nas.diffraction.kinematical import simulate_spots
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.patterns.spec import DescriptorSpec
from pyxem_nas.scans.camera import simulate_descriptors
from pyxem_nas.scans.randomization import Randomization
from pyxem_nas.scans.specimens import make_phase

ACQUISITION = Acquisition(200)
BLOCH = SHARED / "bloch_patterns.npz"


def simulate(phase, quaternions, thickness, precession=0.0, **options):
    n = len(quaternions)
    return simulate_dynamical_spots(
        phase,
        quaternions,
        ACQUISITION,
        thickness=np.full((n, 1), thickness),
        precession_angle=np.full(n, precession),
        **options,
    )


def test_thin_crystal_diffracts_kinematically(steel):
    phase = steel["NbC"]
    quaternions = random_quaternions(8, np.random.default_rng(0))
    thickness = 2.0
    spots = simulate(phase, quaternions, thickness, debye_waller=0.0)
    reflections = get_reflections([phase])
    reference = simulate_spots(
        reflections, quaternions, ACQUISITION, max_excitation_error=0.02, rocking_width=1e3
    )
    for i, (xy, intensity, _) in enumerate(reference):
        rows = slice(spots.bounds[i], spots.bounds[i + 1])
        distance = np.linalg.norm(xy[:, None] - spots.positions[rows][None], axis=-1)
        nearest = distance.argmin(axis=1)
        found = distance[np.arange(len(xy)), nearest] < 1e-4
        assert found.mean() > 0.9  # the faintest are left out
        # without a rocking curve the kinematical share is (pi t / extinction distance)^2
        scale = 1.391 * ACQUISITION.wavelength / phase.structure.lattice.volume
        expected = intensity[found] * (scale * thickness) ** 2
        np.testing.assert_allclose(
            spots.intensities[rows][nearest[found], 0], expected, rtol=0.05, atol=1e-7
        )


def test_intensity_is_conserved_and_oscillates(steel):
    quaternions = random_quaternions(20, np.random.default_rng(1))
    totals = np.array(
        [
            np.add.reduceat(spots.intensities[:, 0].astype(float), spots.bounds[:-1])
            for spots in (simulate(steel["NbC"], quaternions, t) for t in (50, 200, 400))
        ]
    )
    assert totals.min() > 0 and totals.max() <= 1 + 1e-6
    assert (np.diff(totals, axis=0) < 0).any()  # kinematical intensities only grow


def test_real_and_complex_structure_matrices_agree(steel):
    quaternions = random_quaternions(6, np.random.default_rng(2))
    phase = steel["cementite"]
    moved = phase.deepcopy()
    for atom in moved.structure:  # another origin: complex structure factors, same intensities
        atom.xyz = atom.xyz + np.array([0.13, 0.07, 0.21])
    first, second = (simulate(p, quaternions, 300.0, 0.5) for p in (phase, moved))
    np.testing.assert_array_equal(first.bounds, second.bounds)
    np.testing.assert_allclose(first.intensities, second.intensities, rtol=1e-3, atol=1e-7)


def test_library_turns_pattern_and_orientation_together(steel):
    rng = np.random.default_rng(3)
    phase = steel["NbC"]
    library = SpotLibrary([None, draw_dynamical_spots(phase, 4, ACQUISITION, rng)])
    wanted = np.ones(16)
    phases = np.ones((16, 2), int)
    draw, quaternions = library.draw(phases, np.zeros((16, 2, 4)), wanted, rng)
    vectors = get_reflections([phase]).vectors
    for i in range(16):
        first, last, _ = draw.rows[i, 0]
        c, s = np.cos(draw.turns[i, 0]), np.sin(draw.turns[i, 0])
        xy = draw.positions[first:last] @ np.array([[c, s], [-s, c]])
        lab = vectors @ quaternions_to_matrices(quaternions[i : i + 1, 0])[0]
        distance = np.linalg.norm(xy[:, None] - lab[None, :, :2], axis=-1)
        assert distance.min(axis=1).max() < 1e-4


def test_patterns_that_are_not_wanted_stay_kinematical(steel):
    rng = np.random.default_rng(4)
    library = SpotLibrary([draw_dynamical_spots(steel["ferrite"], 4, ACQUISITION, rng)])
    given = random_quaternions(6, rng).reshape(3, 2, 4)
    draw, quaternions = library.draw(np.zeros((3, 2), int), given, np.array([0, 1, 0]), rng)
    assert (draw.rows[[0, 2]] == -1).all() and (draw.rows[1, :, 0] >= 0).all()
    np.testing.assert_array_equal(quaternions[[0, 2]], given[[0, 2]])


def test_descriptor_of_turned_library_pattern_rolls(steel):
    rng = np.random.default_rng(5)
    spec = DescriptorSpec()
    library = SpotLibrary([draw_dynamical_spots(steel["NbC"], 1, ACQUISITION, rng)])
    draw, quaternions = library.draw(np.zeros((2, 2), int), np.zeros((2, 2, 4)), np.ones(2), rng)
    draw.rows[1] = draw.rows[0]
    draw.turns[0], draw.turns[1] = 0.4, 0.4 + 2 * np.pi * 30 / spec.n_azimuthal
    quiet = Randomization(
        dose=(1e6, 1e6), background=(0.02, 0.02), center_error=(0, 0), ellipticity=(0, 0),
        overlap_share=(0, 0), intensity_jitter=(0, 0), spot_loss=(0, 0), beam_stop=(0, 0),
        scale_error=(0, 0), gamma=(1, 1), spot_width=(0.04, 0.04), scale=(0.02, 0.02),
    )  # fmt: skip
    parameters = quiet.draw(2, rng)
    parameters[1] = parameters[0]
    reflections = get_reflections([steel["NbC"]])
    first, second = simulate_descriptors(
        reflections, np.array([[0, -1]] * 2), quaternions, parameters, spec, rng,
        wavelength=ACQUISITION.wavelength, dynamical=draw,
    )  # fmt: skip
    rolled = [
        np.corrcoef(np.roll(first, k, axis=1).ravel(), second.ravel())[0, 1] for k in (30, -30)
    ]
    assert max(rolled[0], rolled[1]) > 0.9 and rolled[0] > rolled[1] + 0.2


@pytest.mark.skipif(not BLOCH.exists(), reason="needs ../shared/data/bloch_patterns.npz")
@pytest.mark.parametrize("name", ["NbC", "ferrite"])
def test_agrees_with_abtem(steel, name):
    with np.load(BLOCH) as file:
        n_spots = file[f"{name}_n_spots"][:40]
        rotations, thickness = file[f"{name}_rotation"][:40], file[f"{name}_thickness"][:40]
        reference = np.split(file[f"{name}_spots"][: n_spots.sum()], np.cumsum(n_spots)[:-1])
    spots = simulate_dynamical_spots(
        steel[name],
        rotations,
        ACQUISITION,
        thickness=thickness[:, None],
        precession_angle=np.full(40, 0.7),
        debye_waller=8 * np.pi**2 * 0.07**2,
    )
    cosines = []
    for i, rows in enumerate(reference):
        rows = rows[np.hypot(rows[:, 0], rows[:, 1]) > 1e-3]
        own = slice(spots.bounds[i], spots.bounds[i + 1])
        distance = np.linalg.norm(rows[:, None, :2] - spots.positions[own][None], axis=-1)
        nearest = distance.argmin(axis=1)
        same = distance[np.arange(len(rows)), nearest] < 0.01
        value = np.where(same, spots.intensities[own][nearest, 0], 0)
        norm = np.linalg.norm(spots.intensities[own]) * np.linalg.norm(rows[:, 2])
        cosines.append(value @ rows[:, 2] / norm)
    assert np.median(cosines) > 0.99 and np.quantile(cosines, 0.25) > 0.95


@pytest.mark.parametrize(
    "phase",
    [
        make_phase("titanium", 194, (2.95, 2.95, 4.68, 90, 90, 120),
                   [("Ti", (1 / 3, 2 / 3, 0.25))]),
        make_phase("zirconia", 14, (5.15, 5.21, 5.32, 90, 99.2, 90),
                   [("Zr", (0.275, 0.04, 0.208)), ("O", (0.07, 0.332, 0.345)),
                    ("O", (0.45, 0.757, 0.479))]),
    ],
    ids=lambda phase: phase.name,
)  # fmt: skip
def test_equivalent_orientations_diffract_alike(phase):
    # of a crystal with inversion; misplaced atoms would break it
    quaternions = random_quaternions(3, np.random.default_rng(5))
    first = simulate(phase, quaternions, 250.0, 0.4)
    for operation in laue_operations(phase):
        second = simulate(phase, multiply_quaternions(operation, quaternions), 250.0, 0.4)
        for i in range(3):
            one, other = (
                np.column_stack([s.positions, s.intensities])[s.bounds[i] : s.bounds[i + 1]]
                for s in (first, second)
            )
            strong = one[one[:, 2] > 1e-3]
            distance = np.linalg.norm(strong[:, None, :2] - other[:, :2], axis=-1)
            assert distance.min(axis=1).max() < 1e-4
            found = other[distance.argmin(axis=1), 2]
            np.testing.assert_allclose(found, strong[:, 2], rtol=0.02, atol=1e-4)
