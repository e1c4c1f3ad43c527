"""Bad patterns of every kind: never a crash nor a NaN in the map, but not indexed, or refused."""

import numpy as np
import pytest
from conftest import as_signal

from pyxem_nas import Acquisition, ModelBundle, simulate_scan

ACQUISITION = Acquisition(200, 0.7)
SIZE = 96
CENTER = (47.5, 47.5)
SCALE = 0.0246
# the columns that are numbers at every position; the others are NaN where they mean nothing
FINITE = ("phase_probability", "orientation_probability", "correlation")


@pytest.fixture(scope="module")
def bundle():
    return ModelBundle.load("silver")


@pytest.fixture(scope="module")
def good(bundle):
    """Six patterns of silver, (6, 96, 96) uint8."""
    signal, _ = simulate_scan(
        bundle.phase_list, (1, 6), ACQUISITION, seed=2, vacuum_share=0, n_grains=6
    )
    data = signal.data[0]
    middle = np.array(data.shape[1:]) // 2
    return np.ascontiguousarray(
        data[:, middle[0] - 48 : middle[0] + 48, middle[1] - 48 : middle[1] + 48].clip(0, 120)
    )


def index(data, bundle, *, center=CENTER, scale=SCALE, lazy=False, **options):
    signal = as_signal(data, scale=scale, center=center, lazy=lazy)
    if options.pop("auto", False):
        options["center"] = "auto"
    options = {"method": "network", "acquisition": ACQUISITION, **options}
    return signal.index_phase_orientation(bundle, show_progressbar=False, **options)


def assert_sound(xmap):
    assert np.isfinite(xmap.rotations.data).all()
    np.testing.assert_allclose(np.linalg.norm(xmap.rotations.data, axis=-1), 1)
    for name in FINITE:
        assert np.isfinite(xmap.prop[name]).all(), name


def make_hopeless():
    stack = np.zeros((9, SIZE, SIZE))
    stack[1] = np.nan
    stack[2] = np.inf
    stack[3] = -np.inf
    stack[4] = -5
    stack[5] = 255
    stack[6] = 7.5
    stack[7] = 1e-300
    stack[8] = 1e300
    return stack


@pytest.mark.parametrize("method", ["network", "template", "hybrid"])
@pytest.mark.parametrize("auto", [False, True])
def test_patterns_without_signal_are_not_indexed(method, auto, bundle):
    # a threshold of zero indexes whatever there is: still nothing is there
    xmap = index(make_hopeless(), bundle, method=method, auto=auto, min_confidence=0)
    assert (xmap.phase_id == -1).all()
    assert_sound(xmap)


def test_patterns_without_signal_do_not_disturb_their_neighbours(good, bundle):
    alone = index(good, bundle, min_confidence=0)
    mixed = np.concatenate([make_hopeless(), good.astype(float)])
    together = index(mixed, bundle, min_confidence=0)
    np.testing.assert_array_equal(together.rotations.data[9:], alone.rotations.data)
    np.testing.assert_array_equal(together.phase_id[9:], alone.phase_id)
    assert (alone.phase_id == 0).sum() >= 4  # else the test would compare nothing


def test_a_broken_pattern_does_not_lose_the_beam_of_the_others(good, bundle):
    from pyxem_nas.patterns import find_centers

    expected = find_centers(as_signal(good, scale=SCALE), (SCALE, SCALE))
    broken = np.concatenate([good.astype(float), np.full((1, SIZE, SIZE), np.nan)])
    found = find_centers(as_signal(broken, scale=SCALE), (SCALE, SCALE))
    np.testing.assert_allclose(found[:6], expected, atol=0.02)


def test_hot_pixels_dead_rows_and_beam_stops_give_sound_maps(good, bundle):
    hot = np.zeros((1, SIZE, SIZE))
    hot[0, 30, 40] = 1e6
    dead = good.astype(float)
    dead[:, ::7] = np.nan
    stopped = good.copy()
    stopped[:, 40:56, 40:] = 0
    for data in (hot, dead, stopped, stopped.astype(float) - 3):
        for auto in (False, True):
            assert_sound(index(data, bundle, auto=auto))
    mask = np.zeros((SIZE, SIZE), bool)
    mask[40:56, 40:] = True
    assert_sound(index(stopped, bundle, mask=mask))
    # all that may be seen is masked
    nothing = index(stopped, bundle, mask=np.ones_like(mask), min_confidence=0)
    assert (nothing.phase_id == -1).all()


DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "g"]


@pytest.mark.parametrize("auto", [False, True])
def test_every_real_dtype_and_byte_order_gives_the_same_map(auto, good, bundle):
    expected = index(good, bundle, auto=auto)
    assert_sound(expected)
    for dtype in [*DTYPES, *(f">{name}" for name in DTYPES if name not in ("u1", "i1", "g"))]:
        xmap = index(good.astype(dtype), bundle, auto=auto)
        np.testing.assert_array_equal(xmap.rotations.data, expected.rotations.data, dtype)
        np.testing.assert_array_equal(xmap.phase_id, expected.phase_id, dtype)
    assert_sound(index(good > 30, bundle, auto=auto))


def test_layout_of_the_memory_does_not_matter(good, bundle):
    expected = index(good, bundle)
    read_only = good.copy()
    read_only.flags.writeable = False
    doubled = np.repeat(good, 2, axis=2)[:, :, ::2]
    for data in (read_only, np.asfortranarray(good), doubled):
        for lazy in (False, True):
            xmap = index(data, bundle, lazy=lazy)
            np.testing.assert_array_equal(xmap.rotations.data, expected.rotations.data)


@pytest.mark.parametrize("dtype", [complex, "c8", object])
def test_numbers_that_are_no_counts_are_refused(dtype, good, bundle):
    with pytest.raises(TypeError, match="must be real"):
        index(good.astype(dtype), bundle)


@pytest.mark.parametrize("size", [1, 2, 15])
def test_tiny_detectors_are_refused(size, bundle):
    with pytest.raises(ValueError, match="at least 16 x 16 pixels"):
        index(np.ones((2, size, size)), bundle, center=(0, 0))


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (96, 60), (1024, 1024), (4096, 4096)])
def test_detectors_of_every_size_and_shape(shape, bundle):
    rng = np.random.default_rng(0)
    data = np.zeros((1, *shape), np.uint8)
    rows, columns = rng.integers(0, shape[0], 40), rng.integers(0, shape[1], 40)
    data[0, rows, columns] = 200
    center = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    # a blur of so many pixels takes its time: once is enough
    for auto in (False, True) if max(shape) < 4096 else (True,):
        assert_sound(index(data, bundle, center=center, scale=3.5 / max(shape), auto=auto))


@pytest.mark.parametrize("center", [(-20.0, 40.0), (40.0, SIZE + 3.0), (np.nan, 4.0)])
def test_beam_outside_the_frame_is_refused(center, good, bundle):
    with pytest.raises(ValueError, match="outside the detector|not finite"):
        as_signal(good, scale=SCALE).index_phase_orientation(
            bundle, acquisition=ACQUISITION, center=center
        )


def test_beam_in_the_corner_gives_a_sound_map(good, bundle):
    assert_sound(index(good, bundle, center=(0.5, 0.5)))
