import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter, map_coordinates

from pyxem_nas.patterns.blur import blur_pattern
from pyxem_nas.patterns.kernel import _ring_median, compute_descriptors, describe_pattern
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import DescriptorSpec, Detector

SPEC = DescriptorSpec()
CENTER = np.array([[69.4, 73.2]])


def draw(positions, *, scale=0.0246, shape=(144, 144), center=CENTER[0], sigma=1.5):
    """Return an image with Gaussian spots at positions (x, y) in 1/angstrom, y up."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for x, y in positions:
        distance2 = (columns - center[0] - x / scale) ** 2 + (rows - center[1] + y / scale) ** 2
        image += 1000 * np.exp(-0.5 * distance2 / sigma**2)
    return image


def describe(images, detector=None, center=CENTER, spec=SPEC):
    detector = detector or Detector((144, 144), (0.0246, 0.0246))
    centers = np.broadcast_to(center, (len(images), 2))
    return compute_descriptors(np.asarray(images), centers, make_sampler(detector, spec))[0]


def on_ring(radius, degrees):
    return radius * np.cos(np.deg2rad(degrees)), radius * np.sin(np.deg2rad(degrees))


def test_spot_lies_at_its_radius_and_azimuth():
    descriptor = describe([draw([on_ring(0.8, 70)])])[0]
    ring, turn = np.unravel_index(descriptor.argmax(), descriptor.shape)
    assert abs(SPEC.radii[ring] - 0.8) < SPEC.radial_step
    assert abs(np.rad2deg(SPEC.azimuths[turn]) - 70) <= 2


def test_descriptor_agrees_with_scipy():
    rng = np.random.default_rng(0)
    spots = [
        on_ring(r, a)
        for r, a in zip(rng.uniform(0.3, 1.5, 12), rng.uniform(0, 360, 12), strict=True)
    ]
    image = draw(spots) + 5
    blurred = gaussian_filter(image, SPEC.blur / 0.0246, truncate=2 / (SPEC.blur / 0.0246))
    radius, azimuth = np.meshgrid(SPEC.radii, SPEC.azimuths, indexing="ij")
    columns = CENTER[0, 0] + radius * np.cos(azimuth) / 0.0246
    rows = CENTER[0, 1] - radius * np.sin(azimuth) / 0.0246
    inside = (columns >= 0) & (rows >= 0) & (columns <= 143) & (rows <= 143)
    polar = np.sqrt(map_coordinates(blurred, [rows, columns], order=1))
    polar[~inside] = np.nan
    expected = np.clip(polar - np.nanmedian(polar, axis=1, keepdims=True), 0, None)
    expected[np.isnan(expected)] = 0
    expected[inside.mean(axis=1) < 0.25] = 0
    expected /= np.sqrt(np.mean(expected**2))
    found = describe([image])[0]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_descriptor_rolls_with_pattern():
    spots = [(0.4, 10), (0.7, 95), (1.1, 200), (1.3, 291)]
    first = describe([draw([on_ring(r, a) for r, a in spots])])[0]
    turned = describe([draw([on_ring(r, a + 16) for r, a in spots])])[0]  # 8 bins of 2 degrees
    rolled = np.roll(first, 8, axis=1)
    assert np.corrcoef(rolled.ravel(), turned.ravel())[0, 1] > 0.98


def test_radii_are_physical():
    spots = [on_ring(0.5, 30), on_ring(0.9, 160), on_ring(1.0, 250)]
    coarse = describe([draw(spots)])[0]
    fine = describe(
        [draw(spots, scale=0.0123, shape=(288, 288), center=(140, 146), sigma=3)],
        Detector((288, 288), (0.0123, 0.0123)),
        np.array([[140, 146]]),
    )[0]
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("flip", ["x", "y"])
def test_stated_flip_is_undone(flip):
    image = draw([on_ring(0.5, 30), on_ring(0.9, 160)])
    mirrored = image[:, ::-1] if flip == "x" else image[::-1]
    center = CENTER.copy()
    center[0, 0 if flip == "x" else 1] = 143 - center[0, 0 if flip == "x" else 1]
    found = describe([mirrored], Detector((144, 144), (0.0246, 0.0246), flip=flip), center)
    np.testing.assert_allclose(found, describe([image]), atol=2e-3)


def test_distortion_is_undone():
    stretch = np.diag([1.05, 0.95])
    spots = [on_ring(0.5, 30), on_ring(0.9, 160), on_ring(1.2, 260)]
    distorted = draw([stretch @ spot for spot in spots])
    detector = Detector((144, 144), (0.0246, 0.0246), distortion=stretch)
    right, wrong = describe([distorted], detector)[0], describe([distorted])[0]
    expected = describe([draw(spots)])[0]
    assert np.corrcoef(right.ravel(), expected.ravel())[0, 1] > 0.97
    assert np.corrcoef(wrong.ravel(), expected.ravel())[0, 1] < 0.9


def test_masked_pixels_do_not_count():
    image = draw([on_ring(0.5, 30), on_ring(0.9, 160)])
    mask = np.zeros(image.shape, bool)
    mask[100:110, 20:40] = True
    spoiled = np.where(mask, 1e6, image)
    detector = Detector(image.shape, (0.0246, 0.0246), mask=mask)
    np.testing.assert_allclose(describe([spoiled], detector), describe([image], detector))
    assert (
        np.corrcoef(describe([spoiled], detector).ravel(), describe([image]).ravel())[0, 1] > 0.99
    )


def test_row_depends_on_its_pattern_alone():
    rng = np.random.default_rng(1)
    images = rng.poisson(3, (7, 144, 144)).astype(np.uint8)
    together = describe(images)
    alone = np.concatenate([describe(images[i : i + 1]) for i in range(7)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((144, 144)),
        np.full((144, 144), 7),
        np.full((144, 144), -3.0),
        np.full((144, 144), np.nan),
        np.full((144, 144), np.inf),
    ],
)
def test_pattern_without_signal_gives_zeros(image):
    assert not describe([image]).any()


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i8", "f4", "f8", "?"])
def test_every_real_dtype_gives_finite_descriptors(dtype):
    image = np.clip(draw([on_ring(0.5, 30)]), 0, 250).astype(dtype)
    descriptor = describe([image])
    assert descriptor.dtype == np.float32
    assert np.isfinite(descriptor).all()
    assert np.sqrt(np.mean(descriptor**2)) == pytest.approx(1, abs=1e-4)


def test_nan_pixels_are_empty_pixels():
    image = draw([on_ring(0.5, 30), on_ring(0.9, 160)])
    broken = image.copy()
    broken[5, 5], broken[8, 90] = np.nan, np.inf
    np.testing.assert_allclose(describe([broken]), describe([image]), atol=2e-2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_radial": 1}, "2 to 4096 radial"),
        ({"radial_range": (1.0, 0.5)}, "increasing"),
        ({"blur": -1}, "blur must be"),
    ],
)
def test_impossible_specifications_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DescriptorSpec(**fields)


@pytest.mark.parametrize("shape", [(37, 53), (16, 144)])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.81, 1.4, 1.9, 3.3])
def test_blur_agrees_with_scipy(shape, sigma):
    rng = np.random.default_rng(4)
    image = rng.poisson(5, shape).astype(np.uint16)
    # as the Gaussian of `make_sampler`: cut at two standard deviations, none below 0.2 pixels
    x = np.arange(-int(np.ceil(2 * sigma)), int(np.ceil(2 * sigma)) + 1)
    kernel = np.exp(-0.5 * (x / sigma) ** 2) if sigma > 0.2 else np.array([1.0])
    kernel = (kernel / kernel.sum()).astype(np.float32)
    ones = np.ones(shape, np.float32)
    found = np.empty(shape, np.float32)
    blur_pattern(image, ones, ones, kernel, kernel, np.empty_like(found), found)
    expected = convolve(image.astype(float), np.outer(kernel, kernel), mode="constant")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_simulator_and_measurement_share_one_definition():
    image = draw([on_ring(0.4, 20), on_ring(0.9, 160), on_ring(1.3, 250)]).astype(np.float32)
    image += np.float32(0.3)
    sigma = SPEC.blur / 0.0246
    x = np.arange(-int(np.ceil(2 * sigma)), int(np.ceil(2 * sigma)) + 1)
    kernel = np.exp(-0.5 * (x / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    ones, blurred = np.ones_like(image), np.empty_like(image)
    # word for word what `camera` does
    blur_pattern(image, ones, ones, kernel, kernel, np.empty_like(image), blurred)
    offsets = (SPEC.positions * np.array([1, -1])[:, None, None]).astype(np.float32)
    offsets = offsets * np.float32(1 / 0.0246)
    found = np.zeros(SPEC.shape, np.float32)
    describe_pattern(
        blurred, np.float32(CENTER[0, 0]), np.float32(CENTER[0, 1]), offsets, True, found
    )
    expected = describe([image])[0]
    # the simulator leaves the pattern's outermost pixels darker: rings that stay inside agree
    inside = (SPEC.radii + 3 * SPEC.radial_step) / 0.0246 < 69.4
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)
    assert inside.sum() > 30


def test_ring_median_is_that_of_seen_bins():
    rng = np.random.default_rng(5)
    for n, n_unseen in ((180, 0), (180, 77), (37, 4), (8, 1)):
        values = rng.exponential(1.0, n).astype(np.float32)
        values[rng.permutation(n)[:n_unseen]] = -1
        seen = values[values >= 0]
        ring = np.full(-(-n // 32) * 32, 3e38, np.float32)
        ring[:n] = values
        low, high = seen.min(), seen.max()
        found = _ring_median(ring, n, low, high, np.float32(len(seen)))
        step = (high - low) / 4096
        # of an even number, the lower of the two in the middle
        assert abs(found - np.sort(seen)[(len(seen) - 1) // 2]) <= step
    assert _ring_median(ring, 8, low, high, np.float32(1)) == -1


def test_specifications_are_computed_alone_as_together():
    images = np.random.default_rng(6).poisson(3, (5, 144, 144)).astype(np.uint8)
    fine = DescriptorSpec(72, 360)
    sampler = make_sampler(Detector((144, 144), (0.0246, 0.0246)), SPEC, fine)
    centers = np.broadcast_to(CENTER, (5, 2))
    coarse, _ = compute_descriptors(images, centers, sampler)
    without = sampler.without(1)
    assert without.specs == (SPEC,)
    (alone,) = compute_descriptors(images, centers, without)
    np.testing.assert_array_equal(alone, coarse)
