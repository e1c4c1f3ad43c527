"""calibrate="auto": a wrong calibration is mended where held-out positions say so, or let be."""

import numpy as np
import pytest

from pyxem_nas import Acquisition, ModelBundle, example_phases, simulate_scan
from pyxem_nas.indexing.self_calibration import _rank_gain

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


def test_a_small_error_is_found_though_the_sample_was_chosen_with_it(scan):
    # patterns that are explained best with a wrong scale are no witnesses against it
    matrix = index(scan, 1.02, calibrate="auto").prop["distortion"][0].reshape(2, 2)
    np.testing.assert_allclose(matrix, 1.02 * np.eye(2), atol=0.002)


def test_a_wandering_beam_is_followed_by_a_plane(scan):
    drift = np.linspace(-3, 3, 16)
    columns = []
    for sign in (1, -1):
        moved = scan.deepcopy()
        for k, step in enumerate(np.round(sign * drift).astype(int)):
            moved.data[:, k] = np.roll(scan.data[:, k], step, axis=-1)
        columns.append(index(moved, calibrate="auto").prop["beam_column"].reshape(10, 16))
    # half the difference: the simulated beam drifts on its own, too
    found = 0.5 * (columns[0] - columns[1])
    np.testing.assert_allclose(found, np.tile(drift, (10, 1)), atol=0.25)


def test_crystals_that_are_not_there_change_nothing(scan, caplog):
    with caplog.at_level("INFO", logger="pyxem_nas"):
        xmap = index(scan, bundle="steel", calibrate="auto")
    np.testing.assert_array_equal(xmap.prop["distortion"][0], np.eye(2).ravel())
    assert "from where they should" in caplog.text


@pytest.mark.parametrize(
    ("gain", "sure"), [(np.zeros(20), 0.0), (np.r_[np.ones(16), -np.ones(9)], 7 / 5)]
)
def test_a_gain_is_judged_by_its_signed_ranks(gain, sure):
    # of equal sizes it is the test of signs: their sum over the root of their number
    assert _rank_gain(gain) == pytest.approx(sure)


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
