"""calibrate="auto": a wrong calibration is mended where held-out positions say so, or let be."""

import numpy as np
import pytest

from pyxem_nas import Acquisition, ModelBundle, example_phases, simulate_scan

ACQUISITION = Acquisition(200, 1.0)
OPTIONS = {"method": "network", "acquisition": ACQUISITION, "show_progressbar": False}


@pytest.fixture(scope="module")
def scan():
    signal, _ = simulate_scan(
        example_phases("silver"), (10, 16), ACQUISITION, seed=3, vacuum_share=0, n_grains=30,
        pattern_shape=(128, 128), scale=0.0276,
    )  # fmt: skip
    return signal


def index(scan, factor=1.0, bundle="silver", **options):
    signal = scan.deepcopy()
    for axis in signal.axes_manager.signal_axes:
        axis.scale *= factor
        axis.offset *= factor
    return signal.index_phase_orientation(bundle, **OPTIONS, **options)


def test_a_wrong_scale_is_found_and_used(scan):
    # pixels are said to be 3 % larger than they are: patterns look larger by that
    xmap = index(scan, 1.03, calibrate="auto")
    matrix = xmap.prop["distortion"][0].reshape(2, 2)
    np.testing.assert_allclose(matrix, 1.03 * np.eye(2), atol=0.006)
    plain, right = index(scan, 1.03), index(scan)
    assert xmap.correlation.mean() > plain.correlation.mean() + 0.01
    assert xmap.correlation.mean() == pytest.approx(right.correlation.mean(), abs=0.02)


def test_a_wandering_beam_is_followed_by_a_plane(scan):
    moved = scan.deepcopy()
    steps = np.round(np.linspace(-3, 3, 16)).astype(int)
    for k, step in enumerate(steps):
        moved.data[:, k] = np.roll(scan.data[:, k], step, axis=-1)
    xmap = index(moved, calibrate="auto")
    column = xmap.prop["beam_column"].reshape(10, 16)
    # the simulated beam drifts on its own, by little
    still = index(scan, calibrate="auto").prop["beam_column"].reshape(10, 16)
    np.testing.assert_allclose((column - still).mean(axis=0), steps, atol=1.0)


def test_what_cannot_be_judged_is_let_be(scan, caplog):
    with caplog.at_level("INFO", logger="pyxem_nas"):
        few = index(scan.inav[:2, :2], 1.03, calibrate="auto")
    assert "too few to calibrate" in caplog.text
    np.testing.assert_array_equal(few.prop["distortion"][0], np.eye(2).ravel())
    # noise: no crystal of the bundle is there
    noise = scan.deepcopy()
    noise.data = np.random.default_rng(0).poisson(3, scan.data.shape).astype(np.uint8)
    xmap = index(noise, calibrate="auto")
    np.testing.assert_array_equal(xmap.prop["distortion"][0], np.eye(2).ravel())


def test_an_unknown_calibration_is_refused(scan):
    with pytest.raises(ValueError, match='calibrate must be None or "auto"'):
        index(scan, calibrate=True)
    assert "distortion" not in index(scan.inav[:2, :2]).prop
    assert ModelBundle.load("silver").phase_names == ["silver"]
