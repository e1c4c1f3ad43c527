import logging
from types import SimpleNamespace

import gemmi
import numpy as np
import pytest
from diffpy.structure import Atom, Lattice, Structure
from diffsims.generators.simulation_generator import SimulationGenerator
from orix.crystal_map import Phase
from orix.quaternion import Orientation, Rotation

from pyxem_nas.diffraction import fibonacci_sphere, rotate_vectors
from pyxem_nas.indexing import template_matching
from pyxem_nas.indexing.template_matching import (
    TemplateSettings,
    get_template_library,
    match_templates,
)

ACQUISITION = SimpleNamespace(beam_energy=200.0, precession_angle=0.5)
GRID = 3.0  # degrees between templates
RADII = np.linspace(0.15, 1.8, 60)
N_AZIMUTHAL = 180
CRYSTALS = {
    "NbC": (225, (4.4702,) * 3 + (90, 90, 90), [("Nb", (0, 0, 0)), ("C", (0.5, 0.5, 0.5))]),
    "cementite": (
        62,
        (5.091, 6.7434, 4.526, 90, 90, 90),
        [
            ("Fe", (0.036, 0.25, 0.852)),
            ("Fe", (0.186, 0.063, 0.328)),
            ("C", (0.89, 0.25, 0.45)),
        ],
    ),
    "titanium": (194, (2.95, 2.95, 4.686, 90, 90, 120), [("Ti", (1 / 3, 2 / 3, 0.25))]),
    "pyrite": (205, (5.416,) * 3 + (90, 90, 90), [("Fe", (0, 0, 0)), ("S", (0.385,) * 3)]),
}


# Shares within 3 degrees, just below those reached: 0.775, 0.95, 0.80 and 0.85. Taking mirrored
# matches for direct ones, or turning the wrong way, loses about half of the answers or more.
SHARES = {"NbC": 0.75, "cementite": 0.9, "titanium": 0.775, "pyrite": 0.825}


def make_phase(name):
    space_group, lattice, atoms = CRYSTALS[name]
    structure = Structure([Atom(*atom) for atom in atoms], Lattice(*lattice))
    return Phase(name, space_group=space_group, structure=structure).expand_asymmetric_unit()


def draw_polar(phase, rotations, spot_width=0.03):
    """Square roots of Gaussian spots at diffsims' positions: no code of the package."""
    generator = SimulationGenerator(
        accelerating_voltage=ACQUISITION.beam_energy, precession_angle=ACQUISITION.precession_angle
    )
    azimuth = np.arange(N_AZIMUTHAL) * 2 * np.pi / N_AZIMUTHAL
    x = RADII[:, np.newaxis] * np.cos(azimuth)
    y = RADII[:, np.newaxis] * np.sin(azimuth)
    polar = np.zeros((rotations.size, *x.shape))
    for pattern, rotation in zip(polar, rotations, strict=True):
        vectors = generator.calculate_diffraction2d(
            phase, rotation, reciprocal_radius=1.8, max_excitation_error=0.015
        ).coordinates
        for (x_spot, y_spot, _), intensity in zip(vectors.data, vectors.intensity, strict=True):
            if np.hypot(x_spot, y_spot) > 1e-6:
                distance = (x - x_spot) ** 2 + (y - y_spot) ** 2
                pattern += intensity * np.exp(-distance / (2 * spot_width**2))
    return np.sqrt(polar).astype(np.float32)


def get_disorientation(phase, first, second):
    """Degrees between orientations (lab2crystal), up to the rotations of the Laue group."""
    symmetry = phase.point_group.laue.proper_subgroup
    first, second = (Orientation(values, symmetry=symmetry) for values in (first, second))
    return first.angle_with(second, degrees=True)


def turn_about_beam(quaternions, degrees):
    """Sample turned counter-clockwise: R Rz(-degrees)."""
    turn = Rotation.from_axes_angles((0, 0, 1), -degrees, degrees=True)
    return (Rotation(quaternions) * turn).data


@pytest.fixture(scope="module", params=list(CRYSTALS))
def case(request):
    """Phase, its templates, random rotations and the patterns of these."""
    phase = make_phase(request.param)
    library = get_template_library(phase, ACQUISITION, angular_resolution=GRID, disk_cache=False)
    quaternions = np.random.default_rng(11).normal(size=(40, 4))
    rotations = Rotation(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True))
    return SimpleNamespace(
        phase=phase, library=library, truth=rotations, polar=draw_polar(phase, rotations)
    )


@pytest.fixture
def small_library(monkeypatch):
    """Templates of NbC on a coarse grid, and no library in memory."""
    monkeypatch.setattr(template_matching, "_libraries", type(template_matching._libraries)())
    return lambda **options: get_template_library(
        make_phase("NbC"), ACQUISITION, angular_resolution=12, **options
    )


@pytest.fixture
def cache_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(template_matching.platformdirs, "user_cache_path", lambda name: tmp_path)
    return tmp_path / "templates"


def test_known_rotations_are_found(case):
    quaternions, scores = match_templates(case.polar, RADII, case.library)
    angle = get_disorientation(case.phase, quaternions[:, 0], case.truth.data)
    # Half the diagonal of a 3 degree cell is 2.1 degrees, half an azimuthal bin 1 degree. What is
    # missing to 1 are patterns of few spots, and for cementite 180 degree twins.
    share = np.mean(angle < 3)
    assert share >= SHARES[case.phase.name], f"{share}, median {np.median(angle)}"
    assert quaternions.shape == (40, 1, 4) and quaternions.dtype == np.float64
    assert scores.shape == (40, 1) and scores.dtype == np.float32
    assert np.all((scores > 0) & (scores <= 1))
    assert np.allclose(np.linalg.norm(quaternions, axis=-1), 1)


def test_rolling_the_pattern_turns_the_answer(case):
    quaternions, scores = match_templates(case.polar[:8], RADII, case.library)
    for n_bins in (1, 47, 133):
        rolled = np.roll(case.polar[:8], n_bins, axis=2)
        turned, turned_scores = match_templates(rolled, RADII, case.library)
        expected = turn_about_beam(quaternions[:, 0], n_bins * 360 / N_AZIMUTHAL)
        overlap = np.abs(np.sum(turned[:, 0] * expected, axis=-1))
        np.testing.assert_allclose(overlap, 1, atol=1e-9)
        np.testing.assert_allclose(turned_scores, scores, rtol=1e-5)


def test_opposite_beam_direction_gives_the_mirrored_pattern(case):
    half_turn = Rotation.from_axes_angles((0, 1, 0), 180, degrees=True)
    mirrored = draw_polar(case.phase, case.truth[:6] * half_turn)
    expected = case.polar[:6][:, :, -np.arange(N_AZIMUTHAL) % N_AZIMUTHAL]
    np.testing.assert_allclose(mirrored, expected, atol=1e-3 * expected.max())


def test_mirroring_the_pattern_turns_the_answer_over(case):
    quaternions, scores = match_templates(case.polar, RADII, case.library)
    mirrored = case.polar[:, :, -np.arange(N_AZIMUTHAL) % N_AZIMUTHAL]
    answer, mirrored_scores = match_templates(mirrored, RADII, case.library)
    half_turn = Rotation.from_axes_angles((0, 1, 0), 180, degrees=True)
    expected = (Rotation(quaternions[:, 0]) * half_turn).data
    np.testing.assert_allclose(mirrored_scores, scores, rtol=1e-5)
    # Templates that are their own mirror image tie: either answer is right, a symmetry apart.
    angle = get_disorientation(case.phase, answer[:, 0], expected)
    assert np.mean(angle < 0.01) >= 0.95


def test_n_best_is_sorted_and_starts_with_the_best(case):
    best, best_score = match_templates(case.polar[:5], RADII, case.library)
    quaternions, scores = match_templates(case.polar[:5], RADII, case.library, n_best=7)
    assert quaternions.shape == (5, 7, 4) and scores.shape == (5, 7)
    assert np.all(np.diff(scores, axis=1) <= 0)
    np.testing.assert_array_equal(scores[:, :1], best_score)
    np.testing.assert_allclose(quaternions[:, :1], best)


def test_result_does_not_depend_on_the_other_patterns(case):
    quaternions, scores = match_templates(case.polar[:7], RADII, case.library, n_best=2)
    for i in range(7):
        alone, score = match_templates(case.polar[i : i + 1], RADII, case.library, n_best=2)
        np.testing.assert_array_equal(alone[0], quaternions[i])
        np.testing.assert_array_equal(score[0], scores[i])


def test_prefilter_keeps_most_answers(case):
    _, scores = match_templates(case.polar, RADII, case.library)
    _, filtered = match_templates(case.polar, RADII, case.library, frac_keep=0.5)
    assert np.all(filtered <= scores + 1e-6)
    assert np.mean(filtered > 0.98 * scores) > 0.8


def test_patterns_are_left_as_they_were_and_nothing_is_printed(case, capsys, caplog):
    polar = case.polar[:6].copy()
    with caplog.at_level(logging.WARNING):
        match_templates(polar, RADII, case.library)
    np.testing.assert_array_equal(polar, case.polar[:6])
    assert capsys.readouterr() == ("", "") and not caplog.records


def test_bins_hold_every_spot_inside_the_radii(case):
    library = case.library
    bins = library.get_bins(RADII, N_AZIMUTHAL)
    radial_step, azimuthal_step = RADII[1] - RADII[0], 2 * np.pi / N_AZIMUTHAL
    for i in range(0, library.n_templates, 25):
        radius, azimuth = library.spot_radius[i], library.spot_azimuth[i]
        is_inside = library.spot_intensity[i] > 0
        is_inside &= (radius > RADII[0] - radial_step / 2) & (radius < RADII[-1] + radial_step / 2)
        n = is_inside.sum()
        assert n == np.count_nonzero(bins.radial_index[i])
        np.testing.assert_array_equal(bins.intensity[i, :n], library.spot_intensity[i, is_inside])
        np.testing.assert_array_equal(bins.radial_index[i, n:], 0)
        radial_error = RADII[bins.radial_index[i, :n] - 1] - radius[is_inside]
        azimuthal_error = bins.azimuthal_index[i, :n] * azimuthal_step - azimuth[is_inside]
        azimuthal_error = np.angle(np.exp(1j * azimuthal_error))
        assert np.all(np.abs(radial_error) <= radial_step / 2 + 1e-6)
        assert np.all(np.abs(azimuthal_error) <= azimuthal_step / 2 + 1e-6)


def test_pattern_without_signal_scores_zero(small_library):
    polar = np.zeros((2, 60, N_AZIMUTHAL), dtype=np.float32)
    quaternions, scores = match_templates(polar, RADII, small_library(disk_cache=False))
    np.testing.assert_array_equal(scores, 0)
    assert np.allclose(np.linalg.norm(quaternions, axis=-1), 1)


def test_no_patterns_and_more_answers_than_templates(small_library):
    library = small_library(disk_cache=False)
    quaternions, scores = match_templates(np.zeros((0, 60, 180)), RADII, library, n_best=10_000)
    assert quaternions.shape == (0, library.n_templates, 4)
    polar = np.random.default_rng(0).random((2, 60, 180))
    quaternions, scores = match_templates(polar, RADII, library, n_best=10_000)
    assert scores.shape == (2, library.n_templates) and np.all(np.isfinite(scores))


def test_template_without_spots_never_wins(small_library):
    library = small_library(disk_cache=False)
    library.spot_intensity[3] = 0
    polar = np.random.default_rng(0).random((2, 60, 180))
    for frac_keep in (1.0, 0.9):
        _, scores = match_templates(
            polar, RADII, library, n_best=library.n_templates, frac_keep=frac_keep
        )
        assert np.all(np.isfinite(scores)) and np.all(scores[:, -1] == 0)


def test_library_is_made_once(small_library, monkeypatch, cache_folder):
    library = small_library()
    assert small_library() is library
    assert small_library(reciprocal_radius=1.0) is not library
    for _ in range(2):
        assert small_library(minimum_intensity=1e-3).settings.minimum_intensity == 1e-3
    monkeypatch.setattr(template_matching, "_N_LIBRARIES", 2)
    small_library(intensity_exponent=1)
    assert len(template_matching._libraries) == 2


def test_library_comes_back_from_disk(small_library, monkeypatch, cache_folder):
    library = small_library()
    template_matching._libraries.clear()
    with monkeypatch.context() as patch:
        patch.setattr(template_matching, "_simulate_library", None)  # calling it would raise
        loaded = small_library()
    assert loaded is not library and loaded.settings == library.settings
    for name in ("quaternions", "spot_radius", "spot_azimuth", "spot_intensity"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(library, name))
    assert [path.suffix for path in cache_folder.iterdir()] == [".npz"]


@pytest.mark.parametrize("content", [b"", b"PK broken", None])
def test_broken_file_is_made_again(small_library, cache_folder, caplog, content):
    library = small_library()
    (path,) = cache_folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    template_matching._libraries.clear()
    np.testing.assert_array_equal(small_library().quaternions, library.quaternions)
    assert "they are made again" in caplog.text
    assert path.read_bytes()[:100] == whole[:100]


def test_unwritable_folder_is_no_error(small_library, cache_folder, caplog):
    cache_folder.write_text("a file where the folder should be")
    assert small_library().n_templates > 0
    assert "Cannot keep templates" in caplog.text


def test_key_tells_structures_apart():
    settings = TemplateSettings(200.0, 0.0, 1.0, 1.8, 0.02, 0.01, 0.5)
    first, second = make_phase("NbC"), make_phase("NbC")
    assert template_matching._get_key(first, settings) == template_matching._get_key(
        second, settings
    )
    second.structure[0].occupancy = 0.5
    assert template_matching._get_key(first, settings) != template_matching._get_key(
        second, settings
    )


def test_phase_without_spots_in_some_orientations_has_templates():
    structure = Structure([Atom("Fe", (0, 0, 0))], Lattice(2.866, 2.866, 2.866, 90, 90, 90))
    iron = Phase("iron", space_group=229, structure=structure).expand_asymmetric_unit()
    library = get_template_library(
        iron,
        SimpleNamespace(beam_energy=200.0, precession_angle=0.0),
        angular_resolution=6,
        reciprocal_radius=0.8,
        max_excitation_error=0.001,
        disk_cache=False,
    )
    assert np.any(library.spot_intensity.sum(axis=1) == 0)
    assert np.all(library.spot_radius[library.spot_intensity > 0] > 0.4)  # no direct beam


def test_unusable_arguments_are_named(small_library):
    library = small_library(disk_cache=False)
    polar = np.zeros((2, 60, N_AZIMUTHAL))
    with pytest.raises(ValueError, match=r"got \(2, 60, 180\) and \(59,\)"):
        match_templates(polar, RADII[1:], library)
    with pytest.raises(ValueError, match="radii must rise in even steps"):
        match_templates(polar, RADII**2, library)
    with pytest.raises(ValueError, match="n_best must be at least 1"):
        match_templates(polar, RADII, library, n_best=0)
    with pytest.raises(ValueError, match="frac_keep"):
        match_templates(polar, RADII, library, frac_keep=1.5)
    with pytest.raises(ValueError, match="angular_resolution must be positive, got -1"):
        get_template_library(make_phase("NbC"), ACQUISITION, angular_resolution=-1)
    with pytest.raises(ValueError, match="templates need a phase with atoms"):
        get_template_library(Phase("empty"), ACQUISITION)


@pytest.mark.parametrize(
    "number", [2, 14, 62, 88, 141, 147, 151, 154, 162, 167, 176, 194, 205, 227]
)
def test_templates_cover_every_direction_in_the_crystals_own_axes(number):
    setting = gemmi.find_spacegroup_by_number(number)
    lattice = {
        "triclinic": (5.1, 6.3, 7.2, 81, 97, 104), "monoclinic": (5.1, 6.3, 7.2, 90, 108, 90),
        "orthorhombic": (5.1, 6.3, 7.2, 90, 90, 90), "tetragonal": (5.6, 5.6, 7.2, 90, 90, 90),
        "cubic": (6.4, 6.4, 6.4, 90, 90, 90),
    }.get(setting.crystal_system_str(), (5.6, 5.6, 7.2, 90, 90, 120))  # fmt: skip
    atoms = [
        Atom(element, np.array(op.apply_to_xyz(xyz)) % 1)
        for element, xyz in (("Fe", [0.137, 0.059, 0.213]), ("O", [0.291, 0.173, 0.042]))
        for op in setting.operations()
    ]
    phase = Phase("any", space_group=number, structure=Structure(atoms, Lattice(*lattice)))
    library = get_template_library(
        phase, ACQUISITION, angular_resolution=6, reciprocal_radius=0.4, disk_cache=False
    )
    beams = rotate_vectors(library.quaternions, np.array([0.0, 0, 1]))
    # by hand: the group's rotations in the lattice's own base, and the mirrored templates
    base = phase.structure.lattice.base
    rotations = np.array([op.rot for op in setting.operations().sym_ops]) / gemmi.Op.DEN
    matrices = base.T @ rotations @ np.linalg.inv(base.T)
    images = np.einsum("nij,mj->nmi", np.concatenate([matrices, -matrices]), beams).reshape(-1, 3)
    cosine = (fibonacci_sphere(4000) @ images.T).max(axis=1)
    assert np.rad2deg(np.arccos(cosine.min())) < 6 / np.sqrt(2) + 0.1
