"""Tests of exhaustive matching and of its libraries: against loops and known truth."""

from __future__ import annotations

import numpy as np
import pytest

from pyxem_nas.diffraction import (
    Acquisition,
    get_reflections,
    laue_operations,
    multiply_quaternions,
    random_quaternions,
    rotate_vectors,
    simulate_spots,
)
from pyxem_nas.indexing import match_library as libraries
from pyxem_nas.indexing import template_drawing
from pyxem_nas.indexing.match_library import get_match_library
from pyxem_nas.indexing.matching import match_descriptors
from pyxem_nas.indexing.template_drawing import MatchingSettings, draw_templates
from pyxem_nas.patterns import DescriptorSpec
from pyxem_nas.scans.specimens import example_phases, make_phase

ACQUISITION = Acquisition(200.0, 0.5)
SPEC = DescriptorSpec()
#: A phase of each Laue group with more than one way to go wrong.
CRYSTALS = {
    "m-3m": lambda: example_phases("steel")["NbC"],
    "mmm": lambda: example_phases("steel")["cementite"],
    "6/mmm": lambda: make_phase(
        "Ti", 194, (2.95, 2.95, 4.686, 90, 90, 120), [("Ti", (1 / 3, 2 / 3, 0.25))]
    ),
    "2/m": lambda: make_phase(
        "ZrO2", 14, (5.15, 5.21, 5.31, 90, 99.2, 90),
        [("Zr", (0.275, 0.04, 0.208)), ("O", (0.07, 0.332, 0.345)), ("O", (0.45, 0.757, 0.479))],
    ),
    "-1": lambda: make_phase(
        "triclinic", 2, (4.1, 5.2, 6.3, 85, 97, 104),
        [("Ti", (0.1, 0.2, 0.3)), ("O", (0.6, 0.3, 0.8))],
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(libraries.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    libraries._libraries.clear()
    yield
    libraries._libraries.clear()


def draw(phase, quaternions, sigma=0.03):
    """Return descriptors with a Gaussian at each kinematical spot, by a plain loop."""
    x, y = SPEC.positions
    patterns = []
    spots = simulate_spots(
        get_reflections([phase]), quaternions, ACQUISITION,
        max_excitation_error=0.03, rocking_width=0.012, rocking_curve="gaussian",
    )  # fmt: skip
    for positions, intensities, _ in spots:
        pattern = np.zeros(SPEC.shape)
        for (at_x, at_y), intensity in zip(positions, intensities, strict=True):
            distance2 = (x - at_x) ** 2 + (y - at_y) ** 2
            pattern += np.sqrt(intensity) * np.exp(-distance2 / (2 * sigma**2))
        patterns.append(pattern)
    return np.array(patterns, np.float32)


def disorientation(first, second, symmetry):
    """Return angles in degrees between orientations (n, 4) under symmetry."""
    images = multiply_quaternions(symmetry[:, None], second[None])
    cosine = np.abs((images * first).sum(axis=-1)).max(axis=0)
    return np.rad2deg(2 * np.arccos(np.minimum(cosine, 1)))


def correlate_by_loops(pattern, templates, settings, n_harmonics):
    """Return the correlations (2, n_templates, n_angles) with templates and mirror images.

    Everything is done on the grid of the descriptor, each bin times its radius; a template is
    turned by the phases of its harmonics, for each angle anew.
    """
    area = SPEC.radii[:, None]
    pattern = pattern.astype(float) ** (11 / 16)
    pattern /= np.sqrt((area * pattern**2).sum())
    harmonics = np.arange(n_harmonics + 1)
    found = np.empty((2, len(templates), settings.n_angles))
    for t, template in enumerate(templates.astype(float)):
        mirrored = template[:, -np.arange(SPEC.n_azimuthal) % SPEC.n_azimuthal]
        for m, drawn in enumerate((template, mirrored)):
            spectrum = np.fft.rfft(drawn / np.sqrt((area * drawn**2).sum()), axis=1)
            spectrum = spectrum[:, : n_harmonics + 1]
            spectrum[:, 0] = 0
            for k in range(settings.n_angles):
                angle = 2 * np.pi * (k + 0.5) / settings.n_angles
                turned = np.fft.irfft(spectrum * np.exp(-1j * harmonics * angle), SPEC.n_azimuthal)
                found[m, t, k] = (area * pattern * turned).sum()
    return found


@pytest.mark.parametrize("group", ["m-3m", "2/m"])
def test_scores_are_those_of_a_loop_over_templates_and_angles(group):
    phase = CRYSTALS[group]()
    settings = MatchingSettings(spacing=9.0, n_angles=48, n_harmonics=40, tolerance=0.0)
    library = get_match_library(phase, ACQUISITION, SPEC, settings)
    patterns = draw(phase, random_quaternions(3, np.random.default_rng(1)))
    # templates of other harmonics than the pattern's default
    quaternions, scores = match_with(patterns, library, settings)
    templates = draw_templates(phase, library.references[0], ACQUISITION, SPEC, settings)
    for i, pattern in enumerate(patterns):
        expected = correlate_by_loops(pattern, templates, settings, settings.n_harmonics)
        m, t, k = np.unravel_index(expected.argmax(), expected.shape)
        assert scores[i, 0] == pytest.approx(expected.max(), abs=2e-6)
        half = -np.pi * (k + 0.5) / settings.n_angles
        turn = np.array([np.cos(half), 0, 0, np.sin(half)])
        best = multiply_quaternions(library.references[m, t], turn)
        # a mirror image on a mirror plane of the crystal is a template again
        angle = disorientation(quaternions[i, :1], best[None], library.symmetry)
        assert angle < 0.01 or np.sort(expected.ravel())[-2] > expected.max() - 1e-6
        # all the others are scores of grid points, too, and none is above the first
        far = np.abs(expected.ravel()[:, None] - scores[i][scores[i] > 0]).min(axis=0)
        assert far.max() < 2e-6
        assert np.all(np.diff(scores[i]) <= 0)


@pytest.mark.parametrize(("n_radial", "n_azimuthal"), [(40, 180), (21, 90), (8, 77), (12, 64)])
def test_coefficients_are_those_of_a_fourier_transform(n_radial, n_azimuthal):
    from pyxem_nas.indexing import matching

    spec = DescriptorSpec(n_radial=n_radial, n_azimuthal=n_azimuthal)
    rng = np.random.default_rng(12)
    patterns = np.maximum(rng.normal(size=(19, *spec.shape)), -1).astype(np.float32)
    patterns[7] = 0
    n_harmonics = template_drawing.count_harmonics(MatchingSettings(), spec)
    spectra = matching.transform(patterns, spec)
    assert spectra.shape == (19, n_harmonics, 2, -(-n_radial // 4) * 4)
    values = np.sqrt(spec.radii)[:, None] * np.maximum(patterns, 0).astype(float) ** (11 / 16)
    norm = np.sqrt((values**2).sum(axis=(1, 2), keepdims=True))
    values = values / np.where(norm > 0, norm, 1) * np.sqrt(2 / n_azimuthal)
    expected = np.fft.rfft(values, axis=2)[:, :, template_drawing.order_harmonics(n_harmonics)]
    expected = expected.transpose(0, 2, 1)
    found = spectra[..., :n_radial]
    np.testing.assert_allclose(found[:, :, 0], expected.real, atol=1e-6)
    np.testing.assert_allclose(found[:, :, 1], expected.imag, atol=1e-6)
    assert not spectra[..., n_radial:].any() and not spectra[7].any()


def match_with(patterns, library, settings):
    """Match by settings of other harmonics than the default ones."""
    from pyxem_nas.indexing import matching

    spectra = matching.transform(patterns, SPEC, n_harmonics=settings.n_harmonics)
    return matching.match_spectra(spectra, library, n_best=6)


@pytest.mark.parametrize("group", ["m-3m", "-1"])
def test_scores_of_orientations_are_those_of_their_grid_points(group):
    from pyxem_nas.indexing import matching

    phase = CRYSTALS[group]()
    patterns = draw(phase, random_quaternions(6, np.random.default_rng(8)))
    library = get_match_library(phase, ACQUISITION, SPEC, MatchingSettings(spacing=6.0))
    spectra = matching.transform(patterns, SPEC)
    quaternions, scores = matching.match_spectra(spectra, library)
    # any variant of an orientation, and a little beside the grid point
    variants = multiply_quaternions(library.symmetry[-1], quaternions)
    beside = multiply_quaternions(variants, np.array([1, 0, 0, np.deg2rad(0.2)]))
    found = matching.score_spectra(spectra, library, beside)
    valid = quaternions.any(axis=-1)
    # two steps to each side there may be a higher one
    assert np.all(found[valid] >= scores[valid] - 1e-5)
    np.testing.assert_allclose(found[:, 0], scores[:, 0], atol=1e-5)
    assert not found[~valid].any()


@pytest.mark.parametrize("group", CRYSTALS)
def test_finds_the_orientation_of_kinematical_patterns(group):
    phase = CRYSTALS[group]()
    truth = random_quaternions(16, np.random.default_rng(2))
    library = get_match_library(phase, ACQUISITION, SPEC, MatchingSettings(spacing=3.0))
    quaternions, scores = match_descriptors(draw(phase, truth), library, SPEC)
    symmetry = laue_operations(phase)
    angles = np.stack([disorientation(quaternions[:, k], truth, symmetry) for k in range(6)])
    # half the diagonal of a cell and half a step in the plane
    assert np.mean(angles[0] < 3.0) >= 0.8, angles[0]
    assert np.all(angles.min(axis=0) < 3.5), angles.min(axis=0)
    assert scores[:, 0].min() > 0.4 and scores.max() < 1


def test_mirror_images_are_templates_of_the_opposite_direction():
    phase = CRYSTALS["-1"]()
    settings = MatchingSettings(spacing=20.0)
    library = get_match_library(phase, ACQUISITION, SPEC, settings)
    drawn = [draw_templates(phase, q, ACQUISITION, SPEC, settings) for q in library.references]
    mirrored = drawn[0][:, :, -np.arange(SPEC.n_azimuthal) % SPEC.n_azimuthal]
    np.testing.assert_allclose(drawn[1], mirrored, atol=1e-4)


def test_peaks_are_distinct_and_empty_patterns_have_none():
    phase = CRYSTALS["m-3m"]()
    patterns = draw(phase, random_quaternions(2, np.random.default_rng(3)))
    patterns[1] = 0
    library = get_match_library(phase, ACQUISITION, SPEC)
    quaternions, scores = match_descriptors(patterns, library, SPEC)
    assert not quaternions[1].any() and not scores[1].any()
    found = quaternions[0][scores[0] > 0]
    for k in range(1, len(found)):
        several = np.broadcast_to(found[k], found[:k].shape)
        assert disorientation(several, found[:k], library.symmetry).min() > 6.0


def test_rows_depend_on_their_own_pattern_alone():
    phase = CRYSTALS["mmm"]()
    patterns = draw(phase, random_quaternions(11, np.random.default_rng(4)))
    library = get_match_library(phase, ACQUISITION, SPEC, MatchingSettings(spacing=5.0))
    whole = match_descriptors(patterns, library, SPEC)
    parts = [match_descriptors(patterns[k : k + 3], library, SPEC) for k in range(0, 11, 3)]
    for a, b in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(a, np.concatenate(b))


def test_reduced_rank_changes_scores_by_less_than_a_thousandth():
    phase = CRYSTALS["mmm"]()
    patterns = draw(phase, random_quaternions(8, np.random.default_rng(5)))
    exact, reduced = (
        get_match_library(phase, ACQUISITION, SPEC, MatchingSettings(spacing=5.0, tolerance=t))
        for t in (0.0, MatchingSettings.tolerance)
    )
    assert reduced.ranks.sum() < 0.9 * exact.ranks.sum()
    difference = (
        match_descriptors(patterns, exact, SPEC)[1] - match_descriptors(patterns, reduced, SPEC)[1]
    )
    assert np.abs(difference[:, 0]).max() < 1e-3


def test_what_the_detector_does_not_show_is_no_evidence():
    phase = CRYSTALS["mmm"]()
    truth = random_quaternions(8, np.random.default_rng(6))
    patterns = draw(phase, truth)
    visible = (SPEC.radii < 0.8).astype(float)
    patterns[:, visible == 0] = 0
    settings = MatchingSettings(spacing=4.0)
    whole, seen = (
        get_match_library(phase, ACQUISITION, SPEC, settings, visible=v) for v in (None, visible)
    )
    assert (seen.bases[:, visible.astype(int) == 0] == 0).all()
    _, low = match_descriptors(patterns, whole, SPEC)
    _, high = match_descriptors(patterns, seen, SPEC)
    assert np.all(high[:, 0] > 1.1 * low[:, 0])


def test_directions_fill_the_sector_evenly():
    symmetry = laue_operations(CRYSTALS["mmm"]())
    directions = template_drawing.sample_directions(symmetry, 5.0)
    images = rotate_vectors(symmetry[:, None], directions[None]).reshape(-1, 3)
    images = np.concatenate([images, -images])
    rng = np.random.default_rng(7)
    sphere = rng.standard_normal((2000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    nearest = np.rad2deg(np.arccos(np.clip((sphere @ images.T).max(axis=1), -1, 1)))
    assert nearest.max() < 5.0
    between = np.rad2deg(np.arccos(np.clip(directions @ directions.T, -1, 1)))
    assert (between + 180 * np.eye(len(directions))).min() > 2.5


def test_libraries_are_kept_on_disk_and_damaged_ones_are_made_again(caplog):
    phase = CRYSTALS["m-3m"]()
    settings = MatchingSettings(spacing=8.0)
    made = get_match_library(phase, ACQUISITION, SPEC, settings)
    (path,) = (libraries.platformdirs.user_cache_path("pyxem_nas") / "matching").iterdir()
    libraries._libraries.clear()
    read = get_match_library(phase, ACQUISITION, SPEC, settings)
    np.testing.assert_array_equal(read.coefficients, made.coefficients)
    path.write_bytes(path.read_bytes()[:1000])
    libraries._libraries.clear()
    again = get_match_library(phase, ACQUISITION, SPEC, settings)
    np.testing.assert_array_equal(again.coefficients, made.coefficients)
    assert "made again" in caplog.text
