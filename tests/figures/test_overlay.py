"""Spots over patterns: they lie where an independent simulation put its bright pixels."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import as_signal, draw_with_diffsims
from matplotlib.backend_bases import KeyEvent, MouseEvent
from orix.crystal_map import PhaseList

from pyxem_nas import Acquisition, ModelBundle
from pyxem_nas.diffraction import random_quaternions, turned_about_beam
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.figures.overlay import plot_overlay
from pyxem_nas.figures.spots import SpotMarks, Spots, format_hkl, locate_spots, turn_to_detector
from pyxem_nas.maps.crystal_map import make_crystal_map
from pyxem_nas.patterns.spec import Detector

SCALE, CENTER, N = 0.0246, (70.3, 72.9), 144
ACQUISITION = Acquisition(200, 0.5)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def scan(steel):
    """Return patterns (2, 3, ny, nx) of cementite by diffsims and their orientations (6, 4)."""
    quaternions = random_quaternions(6, np.random.default_rng(5))
    images = draw_with_diffsims(steel["cementite"], quaternions, scale=SCALE, center=CENTER)
    return images.reshape(2, 3, N, N), quaternions


@pytest.fixture(scope="module")
def bundle(steel):
    return ModelBundle.from_phases(PhaseList([steel["cementite"]]), ACQUISITION)


def map_of(quaternions, bundle, phase_id=None, **options):
    n = len(quaternions)
    columns = {
        "phase_id": np.zeros(n, int) if phase_id is None else phase_id,
        "rotations": quaternions.reshape(n, -1, 4),
        "correlation": np.full(n, 0.8),
    }
    return make_crystal_map(columns, bundle.phase_list, shape=(2, 3), step=(1.0, 1.0), **options)


def brightness(image, spots):
    """Return the share of spots on bright pixels, and of the image's light within 3 of a spot."""
    column, row = np.round(spots.pixels).astype(int).T
    bright = image > 15  # of 2000 at the strongest spot, and 0 between spots
    rows, columns = np.mgrid[:N, :N]
    near = (
        np.hypot(columns[..., None] - spots.pixels[:, 0], rows[..., None] - spots.pixels[:, 1]) < 4
    ).any(axis=-1)
    beam = np.hypot(columns - CENTER[0], rows - CENTER[1]) < 10
    beam |= np.hypot(columns - (N - 1 - CENTER[0]), rows - CENTER[1]) < 10
    beam |= np.hypot(columns - CENTER[0], rows - (N - 1 - CENTER[1])) < 10
    return bright[row, column].mean(), image[near & ~beam].sum() / image[~beam].sum()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("flip", "scan_rotation"), [(None, 0.0), ("x", 0.0), ("y", 0.0), (None, 35.0), ("x", -70.0)]
)
def test_spots_lie_on_the_bright_pixels_in_every_frame(scan, bundle, flip, scan_rotation, lazy):
    images, quaternions = scan
    center = list(CENTER)
    if flip == "x":
        images, center[0] = images[..., ::-1], N - 1 - center[0]
    elif flip == "y":
        images, center[1] = images[..., ::-1, :], N - 1 - center[1]
    s = as_signal(np.ascontiguousarray(images), scale=SCALE, center=center)

    def truth(descriptors, phase, acquisition):
        return quaternions[:, None], np.ones((6, 1))

    # the map as the signal's method makes it: the frames of both must be the same
    xmap = s.index_phase_orientation(
        bundle, method={"cementite": truth}, detector_flip=flip, scan_rotation=scan_rotation,
        show_progressbar=False, acquisition=ACQUISITION,
    )  # fmt: skip
    overlay = plot_overlay(
        s.as_lazy() if lazy else s, xmap, bundle, acquisition=ACQUISITION, detector_flip=flip,
        scan_rotation=scan_rotation, position=(0, 0),
    )  # fmt: skip
    on_spots, covered = [], []
    for position in [(0, 0), (2, 0), (1, 1)]:
        overlay.move_to(*position)
        image = images[position[::-1]]
        strong = overlay.spots.intensities > 0.05
        strong &= np.hypot(*(overlay.spots.pixels - center).T) * SCALE < 1.65  # diffsims: to 1.7
        shown = Spots(overlay.spots.pixels[strong], overlay.spots.intensities[strong])
        on_spots.append(brightness(image, shown)[0])
        covered.append(brightness(image, overlay.spots)[1])
    assert min(on_spots) > 0.9 and min(covered) > 0.9
    turned = overlay.show(twin=True)
    assert brightness(image, turned.spots)[0] < 0.7  # the twin is another pattern


def test_drawn_rings_are_at_the_spots_in_the_units_of_the_axes(scan, bundle):
    images, quaternions = scan
    s = as_signal(images, scale=SCALE, center=CENTER)
    overlay = plot_overlay(s, map_of(quaternions, bundle), bundle, position=(1, 0))
    drawn = np.asarray(overlay._marks.rings.get_offsets())
    assert np.allclose(drawn / SCALE + CENTER, overlay.spots.pixels)
    # y of the image points down: a spot at positive y of the laboratory has a smaller row
    reflections = get_reflections(bundle.phases)
    ((xy, _, hkl),) = _simulate(reflections, quaternions[1])
    index = {tuple(k): i for i, k in enumerate(hkl)}
    rows = [index[tuple(k)] for k in overlay.spots.hkl]
    assert np.allclose(overlay.spots.pixels[:, 1], CENTER[1] - xy[rows, 1] / SCALE, atol=1e-4)
    assert np.allclose(overlay.spots.pixels[:, 0], CENTER[0] + xy[rows, 0] / SCALE, atol=1e-4)


def _simulate(reflections, quaternion):
    from pyxem_nas.diffraction.kinematical import simulate_spots

    return simulate_spots(reflections, quaternion[None], ACQUISITION, reciprocal_radius=1.85)


def test_keys_and_clicks_change_what_is_shown(scan, bundle):
    images, quaternions = scan
    both = np.stack([quaternions, turned_about_beam(quaternions)], axis=1)
    xmap = map_of(both, bundle, np.array([0, 0, 0, 0, -1, 0]))
    overlay = plot_overlay(
        as_signal(images, scale=SCALE, center=CENTER), xmap, bundle, acquisition=ACQUISITION
    )
    canvas = overlay.figure.canvas
    first = overlay.spots.pixels

    def press(key):
        canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", canvas, key))

    press("n")
    assert overlay.solution == 2
    # turned by half a turn: every spot opposite
    assert np.allclose(2 * np.array(CENTER) - overlay.spots.pixels[:5], _nearest(first, overlay))
    second = overlay.spots.pixels
    press("b"), press("t")
    assert overlay.solution == 1 and overlay.twin
    assert np.allclose(overlay.spots.pixels, second)
    press("t"), press("i")
    assert not overlay._marks.labels
    press("i"), press("d")
    assert len(overlay._marks.rings.get_offsets()) == 0
    press("d")
    assert len(overlay._marks.rings.get_offsets()) == len(overlay.spots) > 5
    ax = overlay._viewer.signal._plot.navigator_plot.ax
    x, y = ax.transData.transform((1, 1))
    click = MouseEvent("button_press_event", canvas, x, y, button=1)
    canvas.callbacks.process("button_press_event", click)
    assert overlay.position == (1, 1)
    assert len(overlay.spots) == 0  # not indexed
    assert "not indexed" in overlay._text.get_text()


def _nearest(pixels, overlay):
    opposite = 2 * np.array(CENTER) - overlay.spots.pixels[:5]
    return pixels[np.hypot(*(opposite[:, None] - pixels[None]).transpose(2, 0, 1)).argmin(axis=1)]


def test_overlay_takes_lines_single_patterns_and_left_out_positions(scan, bundle):
    images, quaternions = scan
    s = as_signal(images, scale=SCALE, center=CENTER)
    mask = np.zeros((2, 3), bool)
    mask[0, 0] = True
    xmap = map_of(quaternions, bundle, navigation_mask=mask)
    overlay = plot_overlay(s, xmap, bundle, position=(2, 1))
    expected = overlay.spots.pixels
    assert len(overlay.move_to(0, 0).spots) == 0
    whole = map_of(quaternions, bundle)
    line = plot_overlay(s.inav[:, 1], whole[1], bundle, position=(2,))
    assert np.allclose(line.spots.pixels, expected)
    single = plot_overlay(s.inav[2, 1], whole[1, 2], bundle)
    assert np.allclose(single.spots.pixels, expected)
    found = plot_overlay(s, whole, bundle, center="auto", position=(2, 1))
    # at the edge of the detector half a pixel decides
    there = {tuple(k): at for k, at in zip(single.spots.hkl, expected, strict=True)}
    again = zip(found.spots.hkl, found.spots.pixels, strict=True)
    pairs = [(at, there[tuple(k)]) for k, at in again if tuple(k) in there]
    assert len(pairs) > 0.8 * len(expected)
    assert np.allclose(*zip(*pairs, strict=True), atol=0.5)


def test_closed_overlay_no_longer_listens(scan, bundle):
    images, quaternions = scan
    s = as_signal(images, scale=SCALE, center=CENTER)
    overlay = plot_overlay(s, map_of(quaternions, bundle), bundle)
    s._plot.close()
    s.axes_manager.indices = (1, 1)
    assert overlay._update not in s.axes_manager.events.indices_changed.connected


def test_second_overlay_of_a_scan_replaces_the_first_and_no_other_figure(scan, bundle):
    images, quaternions = scan
    s = as_signal(images, scale=SCALE, center=CENTER)
    first = plot_overlay(s, map_of(quaternions, bundle), bundle)
    mine = plt.figure()
    second = plot_overlay(s, map_of(quaternions, bundle), bundle)
    assert plt.get_fignums() == [mine.number, second.figure.number]
    assert first._update not in s.axes_manager.events.indices_changed.connected
    assert len(second.move_to(1, 1).spots) > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solution": 2}, "solution must be 1 to 1"),
        ({"detector_flip": "z"}, 'detector_flip must be "x", "y" or None'),
        ({"center": "middle"}, 'center must be None, "auto" or pixels'),
        ({"navigator": "sum"}, 'navigator must be "ipf" or "phase"'),
    ],
)
def test_wrong_arguments_of_overlay_are_told(scan, bundle, options, message):
    images, quaternions = scan
    s = as_signal(images, scale=SCALE, center=CENTER)
    with pytest.raises(ValueError, match=message):
        plot_overlay(s, map_of(quaternions, bundle), bundle, **options)


def test_map_of_another_scan_or_bundle_is_refused(scan, bundle, steel):
    images, quaternions = scan
    s = as_signal(images, scale=SCALE, center=CENTER)
    xmap = map_of(quaternions, bundle)
    with pytest.raises(ValueError, match=r"6 positions, the scan the shape \(2, 2\)"):
        plot_overlay(s.inav[:2], xmap, bundle)
    other = ModelBundle.from_phases(PhaseList([steel["NbC"]]), ACQUISITION)
    with pytest.raises(ValueError, match=r"the map has the phases \['cementite'\]"):
        plot_overlay(s, xmap, other)


# ------------------------------------------------------------------------- spots


def test_labels_neither_overlap_nor_leave_the_frame(bundle):
    quaternion = random_quaternions(1, np.random.default_rng(1))[0]
    spots = locate_spots(
        quaternion, get_reflections(bundle.phases), 0, acquisition=ACQUISITION,
        detector=Detector((N, N), (SCALE, SCALE)), center=np.array(CENTER),
        max_excitation_error=0.02,
    )  # fmt: skip
    assert (np.diff(spots.intensities) <= 0).all() and len(spots) > 20
    figure, ax = plt.subplots()
    ax.imshow(np.zeros((N, N)))
    figure.canvas.draw()
    marks = SpotMarks(ax, n_labels=12)
    marks.show(spots, CENTER, "red")
    assert 5 < len(marks.labels) <= 12
    boxes = [label.get_window_extent() for label in marks.labels]
    frame = ax.get_window_extent()
    for i, box in enumerate(boxes):
        assert frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_turn_to_detector_undoes_the_scan_rotation():
    quaternions = random_quaternions(4, np.random.default_rng(0))
    there = turn_to_detector(quaternions, -40.0)
    assert np.allclose(turn_to_detector(there, 40.0), quaternions)
    assert not np.allclose(there, quaternions)


def test_indices_have_bars_and_gaps():
    assert format_hkl((0, -2, 4)) == r"$0\bar{2}4$"
    assert format_hkl((0, -12, 4)) == r"$0\,\bar{12}\,4$"
