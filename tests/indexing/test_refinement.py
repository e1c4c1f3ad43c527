import numpy as np
import pytest
from conftest import draw_with_diffsims, perturb

from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    random_quaternions,
)
from pyxem_nas.diffraction.reflections import Reflections, get_reflections
from pyxem_nas.indexing.refinement import (
    REFINEMENT_SPEC,
    TOLERANT_ROD_WIDTH,
    RefinementSettings,
    mark_unseen,
    refine_candidates,
)
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import Detector

CENTER = (70.3, 72.9)


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
    group = laue_operations(phase)
    reflections = get_reflections([phase])
    settings = {"wavelength": 0.02508, "precession_angle": 0.5}
    refined, score, *_ = refine_candidates(polar, start[:, None], reflections, 0, **settings)
    before = disorientation_angles(start, truth, group)
    after = disorientation_angles(refined[:, 0], truth, group)
    assert np.median(before) > 1
    assert np.median(after) < 0.45
    _, score_before, *_ = refine_candidates(
        polar, start[:, None], reflections, 0, refine=False, **settings
    )
    assert (score >= score_before - 1e-9).all()


def test_score_prefers_the_truth_to_a_random_orientation(steel):
    phase = steel["cementite"]
    rng = np.random.default_rng(5)
    truth = random_quaternions(20, rng)
    candidates = np.stack([truth, random_quaternions(20, rng)], axis=1)
    _, score, *_ = refine_candidates(
        polar_patterns(phase, truth), candidates, get_reflections([phase]), 0,
        wavelength=0.02508, precession_angle=0.5, refine=False,
    )  # fmt: skip
    assert (score[:, 0] > score[:, 1]).all()
    assert score.max() <= 1


def test_empty_patterns_and_missing_candidates_score_zero(steel):
    polar = np.zeros((2, *REFINEMENT_SPEC.shape), np.float32)
    candidates = np.zeros((2, 3, 4))
    candidates[0, 0, 0] = 1
    refined, score, *_ = refine_candidates(
        polar, candidates, get_reflections([steel["NbC"]]), 0,
        wavelength=0.02508, precession_angle=0.0,
    )  # fmt: skip
    assert not score.any()
    np.testing.assert_array_equal(refined, candidates)


def score_by_numpy(
    polar, quaternion, reflections, wavelength, precession, width, exponent, saturation=12.0
):
    """Return the score as `refine_candidates` defines it, spot by spot."""
    from scipy.ndimage import map_coordinates

    from pyxem_nas.diffraction import quaternions_to_matrices

    spec = REFINEMENT_SPEC
    polar = polar / (1 + polar / saturation)
    x, y, z = (reflections.vectors @ quaternions_to_matrices(quaternion)).T
    radius = np.hypot(x, y)
    error = 1 / wavelength - np.sqrt(wavelength**-2 - radius**2) - z
    sigma = np.sqrt(width**2 + 0.5 * (radius * np.deg2rad(precession)) ** 2)
    weight = (reflections.intensities / reflections.intensities.max()) ** exponent
    weight = weight * np.exp(-0.5 * (error / sigma) ** 2) * np.sqrt(width / sigma)
    ring = (radius - spec.radial_range[0]) / spec.radial_step - 0.5
    used = (np.abs(error) < np.sqrt(12) * sigma) & (ring >= 0) & (ring < spec.n_radial - 1)
    turn = np.rad2deg(np.arctan2(y, x)) % 360 / 360 * spec.n_azimuthal
    heights = map_coordinates(polar, [ring[used], turn[used]], order=1, mode="grid-wrap")
    up = np.pad(polar, ((1, 1), (0, 0)))
    around = [
        np.roll(up[1 + dr : 1 + dr + len(polar)], turn, axis=1)
        for dr in (-1, 0, 1)
        for turn in (-1, 0, 1)
        if (dr, turn) != (0, 0)
    ]
    peaks = polar[(polar > 0) & (polar > np.max(around, axis=0))]
    return weight[used] @ heights / np.sqrt((weight[used] ** 2).sum() * (peaks**2).sum())


def test_score_is_that_of_the_documentation(steel):
    phase = steel["cementite"]
    truth = random_quaternions(6, np.random.default_rng(6))
    polar = polar_patterns(phase, truth)
    reflections = get_reflections([phase])
    _, score, *_ = refine_candidates(
        polar, truth[:, None], reflections, 0,
        wavelength=0.02508, precession_angle=0.5, refine=False,
        settings=RefinementSettings(rod_width=0.012, intensity_exponent=0.3, saturation=5.0),
    )  # fmt: skip
    expected = [
        score_by_numpy(p, q, reflections, 0.02508, 0.5, 0.012, 0.3, 5.0)
        for p, q in zip(polar, truth, strict=True)
    ]
    np.testing.assert_allclose(score[:, 0], expected, atol=2e-3)


@pytest.mark.parametrize("refine", [False, True])
def test_tolerant_correlation_is_the_score_of_a_broad_rocking_curve(steel, refine):
    phase = steel["NbC"]
    rng = np.random.default_rng(8)
    truth = random_quaternions(6, rng)
    polar = polar_patterns(phase, truth)
    reflections = get_reflections([phase])
    start = np.stack([perturb(truth, 0.9, rng), random_quaternions(6, rng)], axis=1)
    rated = refine_candidates(
        polar, start, reflections, 0, wavelength=0.02508, precession_angle=0.5, refine=refine
    )
    for i, j in np.ndindex(6, 2):
        expected = score_by_numpy(
            polar[i], rated.quaternions[i, j], reflections, 0.02508, 0.5, TOLERANT_ROD_WIDTH, 0.2
        )
        assert rated.tolerant[i, j] == pytest.approx(expected, abs=3e-3)


def test_spots_and_peaks_are_counted_and_explained():
    # three peaks, of which a made-up crystal predicts two, equally strong
    polar = np.zeros((1, *REFINEMENT_SPEC.shape), np.float32)
    rings, turns = np.array([20, 20, 40]), np.array([30, 120, 200])
    polar[0, rings, turns] = 3.0, 3.0, 6.0
    radii = REFINEMENT_SPEC.radii[[20, 20]]
    angles = np.deg2rad((turns[:2]).astype(float))
    vectors = np.column_stack([radii * np.cos(angles), radii * np.sin(angles), 0 * radii])
    vectors[:, 2] = 0.02508 * radii**2 / 2  # on the Ewald sphere
    reflections = Reflections(
        np.array([[1, 0, 0], [0, 1, 0]]), vectors, np.ones(2), np.ones(2), (0, 2)
    )
    rated = refine_candidates(
        polar, np.array([[[1.0, 0, 0, 0]]]), reflections, 0, wavelength=0.02508,
        precession_angle=0.0, refine=False, settings=RefinementSettings(saturation=np.inf),
    )  # fmt: skip
    power = np.array([9.0, 9.0, 36.0])
    assert rated.peaks[0, 0] == pytest.approx(power.sum() ** 2 / (power**2).sum(), rel=1e-5)
    assert rated.spots[0, 0] == pytest.approx(2, rel=1e-3)
    assert rated.explained[0, 0] == pytest.approx(np.sqrt(18 / 54), abs=0.02)


def test_a_pattern_is_refined_alike_in_any_company(steel):
    phase = steel["NbC"]
    rng = np.random.default_rng(7)
    truth = random_quaternions(7, rng)
    polar = polar_patterns(phase, truth)
    start = np.stack([perturb(truth, 0.9, rng), random_quaternions(7, rng)], axis=1)
    start[2, 1] = 0
    arguments = {"wavelength": 0.02508, "precession_angle": 0.5}
    reflections = get_reflections([phase])
    together = refine_candidates(polar, start, reflections, 0, **arguments)
    for i in range(7):
        alone = refine_candidates(
            polar[i : i + 1], start[i : i + 1, ::-1], reflections, 0, **arguments
        )
        for a, b in zip(together[:3], alone[:3], strict=True):
            np.testing.assert_array_equal(a[i], b[0][::-1])


def test_spots_that_the_detector_hides_do_not_count(steel):
    phase = steel["NbC"]
    truth = random_quaternions(30, np.random.default_rng(9))
    images = draw_with_diffsims(phase, truth, center=CENTER)
    mask = np.zeros((144, 144), bool)
    mask[:, 80:] = True
    centers = np.tile(CENTER, (30, 1))
    sampler = make_sampler(Detector((144, 144), (0.0246, 0.0246), mask=mask), REFINEMENT_SPEC)
    (polar,) = compute_descriptors(images, centers, sampler)
    marked = mark_unseen(polar.copy(), centers, sampler, REFINEMENT_SPEC)
    # azimuth 0 is to the right, under the mask; 180 degrees to the left
    assert (marked[:, 20:40, 0] == -1).all() and (marked[:, 20:40, 180] >= 0).all()
    np.testing.assert_array_equal(marked[marked >= 0], polar[marked >= 0])
    scores = [
        refine_candidates(
            p, truth[:, None], get_reflections([phase]), 0,
            wavelength=0.02508, precession_angle=0.5, refine=False,
        )[1]
        for p in (polar, marked)
    ]  # fmt: skip
    assert (scores[1] >= scores[0] - 1e-6).all()
    assert np.median(scores[1]) > 1.15 * np.median(scores[0])
