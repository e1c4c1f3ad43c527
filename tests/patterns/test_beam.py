"""The direct beam, found where it is not the brightest spot."""

import numpy as np
import pytest
from pyxem.signals import ElectronDiffraction2D

from pyxem_nas.patterns import get_beam, search_beam

SCALE = 0.025
SIZE = 128


def draw(spots, center, rng, *, halo=6.0, cap=None):
    """Return an image of spots (x, y, height), y up in 1/angstrom, on a halo of the beam."""
    rows, columns = np.indices((SIZE, SIZE))
    radius = np.hypot(columns - center[0], rows - center[1]) * SCALE
    image = halo * np.exp(-radius / 0.4) + 0.5
    for x, y, height in spots:
        distance2 = (columns - center[0] - x / SCALE) ** 2 + (rows - center[1] + y / SCALE) ** 2
        image += height * np.exp(-0.5 * distance2 / 1.5**2)
    counts = rng.poisson(image)
    return np.clip(counts, 0, cap) if cap else counts


def lattice(rng, direct, *, brighter=()):
    """Return the spots of a random plane of a lattice within 1.3 1/angstrom."""
    angle, side = rng.uniform(0, np.pi), rng.uniform(0.3, 0.45)
    a = side * np.array([np.cos(angle), np.sin(angle)])
    b = side * rng.uniform(0.9, 1.2) * np.array([-np.sin(angle), np.cos(angle)])
    spots = [
        (*(h * a + k * b), rng.uniform(20, 90))
        for h in range(-5, 6)
        for k in range(-5, 6)
        if (h, k) != (0, 0) and np.linalg.norm(h * a + k * b) < 1.3
    ]
    for h, k, height in brighter:
        spots.append((*(h * a + k * b), height))
    return [*spots, (0, 0, direct)]


def make_scan(rng, shape, center, *, slope=(0, 0), cap=None, direct=60, brighter=(), one=False):
    seed = rng.integers(1000)
    data = np.zeros((*shape, SIZE, SIZE), np.uint16)
    centers = np.zeros((*shape, 2))
    for i, j in np.ndindex(*shape):
        centers[i, j] = center + np.array(slope) * [j / shape[1], i / shape[0]]
        source = np.random.default_rng(seed) if one else rng
        data[i, j] = draw(lattice(source, direct, brighter=brighter), centers[i, j], rng, cap=cap)
    return ElectronDiffraction2D(data), centers


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("direct", "brighter", "cap"),
    [(60, (), None), (400, (), 255), (25, ((1, 0, 300), (0, -1, 250)), None)],
    ids=["as bright", "saturated", "weaker"],
)
def test_the_beam_is_found_to_a_fraction_of_a_pixel(direct, brighter, cap, lazy):
    rng = np.random.default_rng(1)
    options = {"direct": direct, "brighter": brighter, "cap": cap}
    scan, centers = make_scan(rng, (5, 6), np.array([70.3, 55.6]), slope=(2, -1.5), **options)
    if lazy:
        scan = scan.as_lazy()
    found = search_beam(scan, (SCALE, SCALE))
    away = np.linalg.norm(found.centers - centers, axis=-1)
    assert np.median(away) < 0.4
    assert (away < 1.5).all()
    assert not found.is_open


def test_one_crystal_whose_reflection_outshines_the_beam():
    rng = np.random.default_rng(3)
    scan, centers = make_scan(
        rng, (4, 5), np.array([66.0, 62.0]), direct=50, brighter=((1, 1, 500),), one=True
    )
    brightest = np.unravel_index(scan.data.sum(axis=(0, 1)).argmax(), (SIZE, SIZE))[::-1]
    assert np.linalg.norm(brightest - centers[0, 0]) > 10, "else this test could not fail"
    found = search_beam(scan, (SCALE, SCALE))
    assert np.linalg.norm(found.centers - centers, axis=-1).max() < 1.5


def test_a_beam_behind_its_stop_is_found_by_the_symmetry_of_the_spots():
    rng = np.random.default_rng(5)
    scan, centers = make_scan(rng, (4, 5), np.array([60.4, 66.2]))
    rows, columns = np.indices((SIZE, SIZE))
    mask = (np.hypot(columns - 61, rows - 66) < 7) | ((np.abs(rows - 66) < 4) & (columns > 60))
    scan.data[..., mask] = 0
    found = search_beam(scan, (SCALE, SCALE), mask)
    assert not found.seen.any()
    assert np.linalg.norm(found.centers - centers, axis=-1).max() < 1.5


def test_a_centre_jumps_nowhere():
    rng = np.random.default_rng(7)
    scan, centers = make_scan(rng, (5, 6), np.array([64.0, 64.0]))
    scan.data[2, 3] = 0  # a hole
    scan.data[1, 1, 60, 68] = 5000  # a cosmic ray beside the beam
    found = search_beam(scan, (SCALE, SCALE))
    assert not found.seen[2, 3]
    assert np.linalg.norm(found.centers - centers, axis=-1).max() < 1.5


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_background_tells_the_beam_among_spots_as_bright(which):
    # three equal spots off one line: neither brightness nor the spots' symmetry tells
    places = np.array([(54.0, 60.0), (76.0, 66.0), (62.0, 84.0)])
    rows, columns = np.indices((SIZE, SIZE))
    x, y = places[which]
    image = 20 * np.exp(-np.hypot(columns - x, rows - y) * SCALE / 0.3)
    for x, y in places:
        image += 100 * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / 1.5**2)
    scan = ElectronDiffraction2D(np.random.default_rng(5).poisson(image).astype(np.uint16))
    found = search_beam(scan, (SCALE, SCALE))
    assert np.linalg.norm(found.centers - places[which]) < 1.5


def test_an_open_choice_is_left_to_the_user():
    # two spots and nothing else: neither halo nor symmetry tells which is the beam
    image = np.zeros((SIZE, SIZE))
    rows, columns = np.indices((SIZE, SIZE))
    for x in (54, 74):
        image += 100 * np.exp(-0.5 * ((columns - x) ** 2 + (rows - 64) ** 2) / 1.5**2)
    scan = ElectronDiffraction2D(image)
    assert search_beam(scan, (SCALE, SCALE)).is_open
    with pytest.warns(UserWarning, match=r"may be at \(.*center=\(column, row\)"):
        get_beam(scan, "auto", (SCALE, SCALE))


def test_a_stated_centre_is_sure(recwarn):
    scan = ElectronDiffraction2D(np.zeros((2, 3, 20, 20)))
    beam = get_beam(scan, (9, 10), (SCALE, SCALE))
    assert beam.probability == 1 and not beam.was_sought and beam.seen.all()
    np.testing.assert_array_equal(beam.centers, np.broadcast_to([9, 10], (2, 3, 2)))


@pytest.mark.parametrize("shape", [(20, 20), (3, 20, 20), (2, 3, 20, 20)])
def test_empty_patterns_have_the_middle(shape):
    found = search_beam(ElectronDiffraction2D(np.zeros(shape)), (SCALE, SCALE))
    np.testing.assert_allclose(found.centers, np.broadcast_to([9.5, 9.5], (*shape[:-2], 2)), atol=1)
    assert not found.seen.any()
