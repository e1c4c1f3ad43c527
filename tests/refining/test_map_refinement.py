"""Maps refined whole, and what a scan's patterns say of its calibration."""

import numpy as np
import pytest
from conftest import as_signal, disorientation, draw_with_diffsims, perturb
from orix.crystal_map import CrystalMap, Phase, PhaseList
from orix.quaternion import Rotation

from pyxem_nas import Acquisition, ModelBundle, fit_distortion, refine_orientations
from pyxem_nas.bundles.bundle import number_phases
from pyxem_nas.diffraction import multiply_quaternions, random_quaternions
from pyxem_nas.patterns.distortion import describe_matrix, fit_displacements, measure_spots

ACQUISITION = Acquisition(200, 0.5)
SCALE = 0.0246


@pytest.fixture(scope="module")
def bundle(steel):
    return ModelBundle.from_phases(number_phases([steel["NbC"], steel["cementite"]]), ACQUISITION)


@pytest.fixture(scope="module")
def scan(steel):
    """True orientations of 24 cementite patterns and their images."""
    truth = random_quaternions(24, np.random.default_rng(3))
    return truth, draw_with_diffsims(steel["cementite"], truth)


def make_map(quaternions, phase, *, shape=(4, 6), phase_id=1, **options):
    """Return a map of one phase, whose id is not the bundle's."""
    rows, columns = np.indices(shape).reshape(2, -1)
    n = len(rows)
    return CrystalMap(
        rotations=Rotation(quaternions),
        phase_id=np.full(n, phase_id),
        phase_list=PhaseList(Phase(name=phase.name, point_group="mmm"), ids=phase_id),
        x=columns * 2.0,
        y=rows * 2.0,
        **options,
    )


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("shape", [(24,), (4, 6)])
def test_orientations_come_back(lazy, shape, scan, steel, bundle):
    truth, images = scan
    phase = steel["cementite"]
    start = perturb(truth, 0.9, np.random.default_rng(1))
    rows, columns = np.indices((1, 24) if len(shape) == 1 else shape).reshape(2, -1)
    xmap = CrystalMap(
        Rotation(start), np.full(24, 3), x=columns, y=rows if len(shape) == 2 else None,
        phase_list=PhaseList(Phase(name="cementite", point_group="mmm"), ids=3),
        prop={"iq": np.arange(24)},
    )  # fmt: skip
    signal = as_signal(images.reshape(*shape, 144, 144), lazy=lazy)
    refined = refine_orientations(signal, xmap, bundle, acquisition=ACQUISITION)
    assert np.median(disorientation(xmap, truth, phase)) > 1
    assert np.median(disorientation(refined, truth, phase)) < 0.3
    assert refined.shape == xmap.shape
    assert refined.phases.names == xmap.phases.names
    np.testing.assert_array_equal(refined.phase_id, 3)
    np.testing.assert_array_equal(refined.prop["iq"], np.arange(24))
    assert (refined.prop["correlation"] > 0.5).all()
    # the map that was given is left alone
    np.testing.assert_allclose(np.abs((xmap.rotations.data * start).sum(axis=1)), 1)
    assert "correlation" not in xmap.prop


def test_result_does_not_depend_on_chunks(scan, steel, bundle):
    truth, images = scan
    start = perturb(truth, 0.9, np.random.default_rng(1))
    xmap = make_map(start, steel["cementite"])
    whole = as_signal(images.reshape(4, 6, 144, 144))
    pieces = as_signal(images.reshape(4, 6, 144, 144), lazy=True)
    pieces.data = pieces.data.rechunk((3, 2, 70, 144))
    a = refine_orientations(whole, xmap, bundle, acquisition=ACQUISITION)
    b = refine_orientations(pieces, xmap, bundle, acquisition=ACQUISITION)
    np.testing.assert_array_equal(a.rotations.data, b.rotations.data)
    np.testing.assert_array_equal(a.prop["correlation"], b.prop["correlation"])


def test_every_rotation_is_refined_and_the_rest_kept(scan, steel, bundle):
    truth, images = scan
    phase = steel["cementite"]
    rng = np.random.default_rng(2)
    start = np.stack([perturb(truth, 0.9, rng), random_quaternions(24, rng)], axis=1)
    inside = np.ones(24, bool)
    inside[5:9] = False
    xmap = make_map(start, phase, is_in_data=inside, prop={"reliability": np.full(24, -5.0)})
    xmap[3, 5].phase_id = -1
    images = images.copy()
    images[0] = 0
    signal = as_signal(images.reshape(4, 6, 144, 144))
    refined = refine_orientations(signal, xmap, bundle, acquisition=ACQUISITION)
    np.testing.assert_array_equal(refined.is_in_data, inside)
    assert refined.rotations.shape == (20, 2)
    np.testing.assert_array_equal(refined.phase_id, xmap.phase_id)
    good = np.arange(24)[inside][1:-1]
    first = Rotation(refined.rotations.data[1:-1, 0])
    angles = disorientation(CrystalMap(first), truth[good], phase)
    assert np.median(angles) < 0.3
    # the second is a random orientation, far from the first
    assert np.median(refined.prop["reliability"][1:-1]) > 20
    # neither empty nor not-indexed positions change
    for k in (0, -1):
        np.testing.assert_allclose(refined.rotations.data[k], xmap.rotations.data[k])
        assert refined.prop["reliability"][k] == -5


def test_scan_rotation_and_flip_are_taken_back(scan, steel, bundle):
    truth, images = scan
    turn = np.array([np.cos(np.deg2rad(-15)), 0, 0, np.sin(np.deg2rad(-15))])
    turned = multiply_quaternions(truth, turn)
    xmap = make_map(perturb(turned, 0.9, np.random.default_rng(1)), steel["cementite"])
    signal = as_signal(images[:, :, ::-1].reshape(4, 6, 144, 144), center=(143 - 70.3, 72.9))
    refined = refine_orientations(
        signal, xmap, bundle, acquisition=ACQUISITION, detector_flip="x", scan_rotation=30
    )
    assert np.median(disorientation(refined, turned, steel["cementite"])) < 0.3


def test_errors_say_what_to_do(scan, steel, bundle):
    truth, images = scan
    signal = as_signal(images.reshape(4, 6, 144, 144))
    foreign = make_map(truth, Phase(name="austenite"))
    with pytest.raises(ValueError, match=r"\['austenite'\].*\['NbC', 'cementite'\]; rename"):
        refine_orientations(signal, foreign, bundle)
    xmap = make_map(truth, steel["cementite"])
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(4, 3\).*crop"):
        refine_orientations(signal.inav[:3], xmap, bundle)
    with pytest.raises(ValueError, match="spots in 24 patterns|no pattern correlates"):
        noise = np.random.default_rng(0).poisson(2, images.shape).astype(np.uint8)
        fit_distortion(as_signal(noise.reshape(4, 6, 144, 144)), xmap, bundle)


def declare(images, factor, shift):
    """Return a signal whose calibration is off: scales (x, y) by factors, centre by pixels."""
    signal = as_signal(images.reshape(4, 6, 144, 144))
    center = np.array([70.3, 72.9]) - shift
    for axis, f, c in zip(signal.axes_manager.signal_axes, factor, center, strict=True):
        axis.scale, axis.offset = SCALE * f, -c * SCALE * f
    return signal


def test_fit_finds_a_wrong_calibration(scan, steel, bundle):
    truth, images = scan
    signal = declare(images, (1.03, 1.01), (0.9, -0.6))
    start = make_map(perturb(truth, 0.9, np.random.default_rng(1)), steel["cementite"])
    options = {"acquisition": ACQUISITION}
    fit = fit_distortion(signal, start, bundle, **options)
    np.testing.assert_allclose(fit.center_shift, (0.9, -0.6), atol=0.1)
    np.testing.assert_allclose(fit.distortion, np.diag([1.03, 1.01]), atol=0.002)
    assert fit.scale_factor == pytest.approx(np.sqrt(1.03 * 1.01), abs=0.002)
    assert fit.ellipticity == pytest.approx(1.03 / 1.01 - 1, abs=0.003)
    assert min(fit.azimuth, 180 - fit.azimuth) < 10
    assert fit.correlation_after > fit.correlation_before + 0.03
    assert "scale: +" in repr(fit) and "24 patterns" in repr(fit)
    assert fit.n_patterns == 24

    plain = refine_orientations(signal, start, bundle, **options)
    fitted = refine_orientations(
        signal, start, bundle, fit_center=True, fit_distortion=True, **options
    )
    angles = [np.median(disorientation(m, truth, steel["cementite"])) for m in (plain, fitted)]
    assert angles[1] < 0.3 and angles[1] < angles[0]
    assert fitted.prop["correlation"].mean() > plain.prop["correlation"].mean() + 0.03


def test_fit_of_a_right_calibration_changes_little(scan, steel, bundle):
    truth, images = scan
    xmap = make_map(truth, steel["cementite"])
    fit = fit_distortion(declare(images, (1, 1), (0, 0)), xmap, bundle, acquisition=ACQUISITION)
    np.testing.assert_allclose(fit.distortion, np.eye(2), atol=0.001)
    np.testing.assert_allclose(fit.center_shift, 0, atol=0.05)


def test_matrix_is_told_by_scale_ellipticity_and_azimuth():
    c, s = np.cos(np.deg2rad(35)), np.sin(np.deg2rad(35))
    axes = np.array([[c, -s], [s, c]])
    scale, ellipticity, azimuth = describe_matrix(axes @ np.diag([1.04, 1.02]) @ axes.T)
    assert scale == pytest.approx(np.sqrt(1.04 * 1.02))
    assert ellipticity == pytest.approx(1.04 / 1.02 - 1)
    assert azimuth == pytest.approx(35)


def test_robust_fit_ignores_outliers_and_offsets_of_patterns():
    rng = np.random.default_rng(7)
    owner = np.repeat(np.arange(30), 10)
    positions = rng.uniform(-1, 1, (300, 2))
    matrix = np.array([[0.02, 0.004], [0.004, -0.01]])
    displacement = positions @ matrix.T + rng.normal(0, 0.01, (30, 2))[owner]
    displacement += rng.normal(0, 0.002, (300, 2))
    displacement[::6] += rng.uniform(-0.2, 0.2, (50, 2))
    found, _, n_used = fit_displacements(positions, displacement, np.ones(300), owner)
    np.testing.assert_allclose(found, matrix, atol=0.001)
    assert n_used < 290


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_spots_are_found_to_a_tenth_of_a_pixel(sigma):
    rng = np.random.default_rng(8)
    rows, columns = np.indices((64, 64))
    expected = np.tile([30.0, 33.0], (20, 1))
    truth = rng.uniform(-1, 1, (20, 2))
    images = np.stack(
        [
            10 + 500 * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / sigma**2)
            for x, y in expected + truth
        ]
    )
    images[-1] = 10
    found, weight = measure_spots(images, np.arange(20), expected, (0.02, 0.02))
    np.testing.assert_allclose(found[:-1], truth[:-1], atol=0.1)
    assert (weight[:-1] > 0).all() and weight[-1] == 0
    mask = np.ones((64, 64), bool)
    assert not measure_spots(images, np.arange(20), expected, (0.02, 0.02), mask)[1].any()
