"""The round trip of DESIGN.md section 5, and what a user may pass."""

import dask.array as da
import numpy as np
import pytest
from conftest import as_signal, disorientation, draw_with_diffsims

from pyxem_nas import Acquisition, DescriptorSpec, ModelBundle, simulate_scan
from pyxem_nas.bundles.bundle import number_phases
from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    random_quaternions,
    rotate_vectors,
)
from pyxem_nas.diffraction.kinematical import simulate_spots
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.signals import get_blocks

ACQUISITION = Acquisition(200, 0.5)
N = 60


@pytest.fixture(scope="module")
def shipped():
    return ModelBundle.load("steel")


@pytest.fixture(scope="module")
def patterns(steel, titanium):
    """For each phase: orientations whose patterns hold enough spots, and diffsims' images."""
    found = {}
    for name, phase in {
        "NbC": steel["NbC"],
        "cementite": steel["cementite"],
        "titanium": titanium,
    }.items():
        candidates = random_quaternions(8 * N, np.random.default_rng(11))
        spots = simulate_spots(
            get_reflections([phase]), candidates, ACQUISITION, max_excitation_error=0.01
        )
        # one or two independent spots leave an orientation open, whoever looks at them
        rich = [np.sum(i > 0.02 * i.max(initial=0)) >= 8 for _, i, _ in spots]
        truth = candidates[rich][:N]
        assert len(truth) == N
        found[name] = (truth, draw_with_diffsims(phase, truth))
    return found


@pytest.fixture(scope="module")
def scan(shipped):
    return simulate_scan(shipped.phase_list, (6, 7), ACQUISITION, seed=5)


@pytest.mark.parametrize("name", ["NbC", "cementite"])
def test_round_trip_through_the_network(name, patterns, shipped, steel):
    truth, images = patterns[name]
    xmap = as_signal(images).index_phase_orientation(
        shipped, method="network", phases=[name], acquisition=ACQUISITION, min_confidence=0
    )
    angles = disorientation(xmap, truth, steel[name])
    assert np.median(angles) < 0.6
    # A wrong frame brings this to nearly nothing; how many are right is the benchmark's business.
    assert (angles < 3).mean() >= 0.75


@pytest.mark.parametrize(("method", "by"), [("match", 3), ("template", 1)])
@pytest.mark.parametrize("name", ["NbC", "cementite", "titanium"])
def test_round_trip_through_matching(name, method, by, patterns, steel, titanium):
    phase = titanium if name == "titanium" else steel[name]
    truth, images = patterns[name]
    bundle = ModelBundle.from_phases(number_phases([phase]), ACQUISITION)
    xmap = as_signal(images).index_phase_orientation(bundle, method=method, min_confidence=0)
    angles = disorientation(xmap, truth, phase)
    assert np.median(angles) < 0.6
    assert (angles < 3).mean() >= 0.8
    assert (xmap.prop["indexed_by"] == by).all()


@pytest.mark.parametrize("name", ["NbC", "cementite"])
def test_template_of_the_answer_lies_on_the_spots(name, patterns, shipped, steel):
    _, images = patterns[name]
    xmap = as_signal(images).index_phase_orientation(
        shipped, method="network", phases=[name], acquisition=ACQUISITION, min_confidence=0
    )
    spots = simulate_spots(
        get_reflections([steel[name]]), xmap.rotations.data, ACQUISITION, max_excitation_error=0.005
    )
    on_spots = []
    for image, (positions, intensities, _) in zip(images, spots, strict=True):
        strong = positions[intensities > 0.2 * intensities.max(initial=0)]
        columns = np.round(70.3 + strong[:, 0] / 0.0246).astype(int)
        rows = np.round(72.9 - strong[:, 1] / 0.0246).astype(int)
        inside = (columns >= 0) & (columns < 144) & (rows >= 0) & (rows < 144)
        on_spots.extend(image[rows[inside], columns[inside]] > 20)
    assert np.mean(on_spots) > 0.8
    assert (np.concatenate([i.ravel() for i in images]) > 20).mean() < 0.1


def test_eager_and_lazy_and_chunks_give_one_map(scan, shipped):
    signal, _ = scan
    before = signal.data.copy()
    options = {"method": "network", "show_progressbar": False}
    eager = signal.index_phase_orientation(shipped, **options)
    np.testing.assert_array_equal(signal.data, before)
    assert eager.shape == (6, 7)
    for chunks in ((6, 7, 144, 144), (2, 3, 144, 144), (5, 1, 72, 50)):
        lazy = signal.as_lazy()
        lazy.data = da.from_array(signal.data, chunks=chunks)
        xmap = lazy.index_phase_orientation(shipped, **options)
        np.testing.assert_array_equal(xmap.phase_id, eager.phase_id)
        np.testing.assert_array_equal(xmap.rotations.data, eager.rotations.data)
        for name in eager.prop:
            np.testing.assert_array_equal(xmap.prop[name], eager.prop[name])


def test_simulated_scan_is_indexed(scan, shipped):
    from pyxem_nas import evaluate

    signal, truth = scan
    xmap = signal.index_phase_orientation(shipped, method="network", min_confidence=0)
    evaluation = evaluate(xmap, truth)
    assert evaluation.phase_accuracy > 0.8
    assert xmap.scan_unit == "nm"
    assert (xmap.dx, xmap.dy) == (5.0, 5.0)
    assert set(np.unique(xmap.phase_id)) <= {-1, 0, 1, 2}


def test_empty_patterns_are_not_indexed(scan, shipped):
    signal = scan[0].deepcopy()
    signal.data[0, :3] = 0
    xmap = signal.index_phase_orientation(shipped, method="network")
    assert (xmap.phase_id[:3] == -1).all()
    assert np.isfinite(xmap.rotations.data).all()


def test_one_dimensional_scan_and_single_pattern(scan, shipped):
    signal, _ = scan
    options = {"method": "network", "show_progressbar": False}
    whole = signal.index_phase_orientation(shipped, **options)
    line = signal.inav[:, 2].index_phase_orientation(shipped, **options)
    np.testing.assert_array_equal(line.rotations.data, whole.rotations.data[14:21])
    point = signal.inav[3, 2].index_phase_orientation(shipped, **options)
    np.testing.assert_array_equal(point.rotations.data[0], whole.rotations.data[17])


def test_method_is_chosen_per_phase(scan, shipped):
    signal, _ = scan

    def upright(descriptors, phase, acquisition):
        assert descriptors.shape[1:] == shipped.spec.shape
        assert phase.name == "ferrite"
        assert acquisition.beam_energy == 200
        answer = np.zeros((len(descriptors), 1, 4))
        answer[..., 0] = 1
        return answer, np.ones((len(descriptors), 1))

    method = {"ferrite": upright, "cementite": "template", "NbC": "network"}
    xmap = signal.index_phase_orientation(shipped, method=method, min_confidence=0)
    by = xmap.prop["indexed_by"]
    ferrite = xmap.phase_id == 0
    assert ferrite.any()
    assert (by[ferrite] == 2).all()
    np.testing.assert_array_equal(
        xmap.rotations.data[ferrite], np.tile([1, 0, 0, 0], (ferrite.sum(), 1))
    )
    assert (by[xmap.phase_id == 1] == 0).all()
    assert (by[xmap.phase_id == 2] == 1).all()


def test_unsure_rows_go_to_template_matching(scan, shipped):
    signal, _ = scan
    small = signal.inav[:3, :2]
    none = small.index_phase_orientation(shipped, template_threshold=0.0)
    assert not (none.prop["indexed_by"] == 1).any()
    every = small.index_phase_orientation(shipped, template_threshold=1.1)
    # templates join the network's candidates: the better wins, nothing is lost
    assert (every.prop["correlation"] >= none.prop["correlation"] - 0.15).all()


@pytest.mark.parametrize("flip", ["x", "y"])
def test_stated_flip_gives_the_same_map(flip, patterns, shipped):
    _, images = patterns["cementite"]
    options = {
        "method": "network", "phases": ["cementite"], "acquisition": ACQUISITION,
        "min_confidence": 0,
    }  # fmt: skip
    plain = as_signal(images).index_phase_orientation(shipped, **options)
    mirrored = images[:, :, ::-1] if flip == "x" else images[:, ::-1]
    center = (143 - 70.3, 72.9) if flip == "x" else (70.3, 143 - 72.9)
    flipped = as_signal(mirrored, center=center).index_phase_orientation(
        shipped, detector_flip=flip, **options
    )
    same = np.abs(np.sum(plain.rotations.data * flipped.rotations.data, axis=1))
    assert np.mean(2 * np.rad2deg(np.arccos(np.clip(same, 0, 1))) < 1) > 0.9


def test_scan_rotation_turns_the_laboratory(scan, shipped):
    signal, _ = scan
    options = {"method": "network", "show_progressbar": False}
    plain = signal.index_phase_orientation(shipped, **options)
    turned = signal.index_phase_orientation(shipped, scan_rotation=90, **options)
    # what lay along x of the diffraction frame lies along y of the scan
    indexed = plain.phase_id >= 0
    assert indexed.sum() > 20
    x_before = rotate_vectors(plain.rotations.data[indexed], np.array([1.0, 0, 0]))
    y_after = rotate_vectors(turned.rotations.data[indexed], np.array([0, 1.0, 0]))
    np.testing.assert_allclose(y_after, x_before, atol=1e-6)


def test_n_best_are_distinct_and_first_is_the_answer(scan, shipped):
    signal, _ = scan
    options = {"method": "network", "show_progressbar": False, "min_confidence": 0}
    one = signal.index_phase_orientation(shipped, **options)
    three = signal.index_phase_orientation(shipped, n_best=3, **options)
    assert three.rotations_per_point == 3
    np.testing.assert_array_equal(three.rotations.data[:, 0], one.rotations.data)


def test_navigation_mask_leaves_positions_out(scan, shipped):
    signal, _ = scan
    mask = np.zeros((6, 7), bool)
    mask[1, 2] = True
    xmap = signal.index_phase_orientation(shipped, method="network", navigation_mask=mask)
    np.testing.assert_array_equal(xmap.is_in_data, ~mask.ravel())
    with pytest.raises(ValueError, match=r"shape \(6, 7\)"):
        signal.index_phase_orientation(shipped, navigation_mask=mask.T)


@pytest.mark.parametrize(
    ("units", "factor"),
    [("$A^{-1}$", 1), ("1/angstrom", 1), ("nm^-1", 10), ("1/nm", 10), ("k_A^-1", 1),
     (r"$\AA^{-1}$", 1), ("nm$^{-1}$", 10), ("mrad", 25.08)],
)  # fmt: skip
def test_units_are_converted(units, factor, patterns):
    images = patterns["NbC"][1][:2]
    expected = as_signal(images).get_polar_descriptors().data
    signal = as_signal(images, scale=0.0246 * factor, units=units)
    signal.set_experimental_parameters(beam_energy=200)
    np.testing.assert_allclose(signal.get_polar_descriptors().data, expected, atol=0.02)


@pytest.mark.parametrize("units", ["", "px", "furlong", "nm"])
def test_uncalibrated_signal_is_refused(units, patterns, shipped):
    signal = as_signal(patterns["NbC"][1][:2], units=units)
    with pytest.raises(ValueError, match="calibrate"):
        signal.index_phase_orientation(shipped)


def test_missing_centre_is_found_with_a_warning(patterns, shipped):
    images = patterns["NbC"][1]
    signal = as_signal(images)
    for axis in signal.axes_manager.signal_axes:
        axis.offset = 0
    options = {
        "method": "network", "phases": ["NbC"], "acquisition": ACQUISITION, "min_confidence": 0,
    }  # fmt: skip
    with pytest.warns(UserWarning, match="no beam centre"):
        found = signal.index_phase_orientation(shipped, **options)
    expected = as_signal(images).index_phase_orientation(shipped, **options)
    group = laue_operations(found.phases[0])
    angles = disorientation_angles(found.rotations.data, expected.rotations.data, group)
    # where two answers are as likely, a hundredth of a pixel may decide
    certain = np.minimum(found.orientation_probability, expected.orientation_probability) > 0.9
    assert certain.sum() >= 20
    assert (angles[certain] < 0.5).all()
    given = signal.index_phase_orientation(shipped, center=(70.3, 72.9), **options)
    np.testing.assert_allclose(given.rotations.data, expected.rotations.data, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "magic"}, ValueError, "must be one of"),
        ({"method": 3}, TypeError, "method must be"),
        ({"method": {"gold": "network"}}, ValueError, "no phase of the bundle"),
        ({"phases": ["gold"]}, ValueError, "no phase"),
        ({"n_best": 0}, ValueError, "at least 1"),
        ({"center": (3, 4, 5)}, ValueError, "center must have shape"),
        ({"center": (-4, 5)}, ValueError, "outside the detector"),
        ({"center": "middle"}, ValueError, "auto"),
        ({"detector_flip": "z"}, ValueError, "detector_flip"),
        ({"mask": np.zeros((3, 3))}, ValueError, "detector's shape"),
        ({"acquisition": Acquisition(300, 0.5)}, ValueError, "300 kV"),
        ({"acquisition": Acquisition(200, 3)}, ValueError, "precession of 3"),
        ({"bundle": 3}, TypeError, "path or name"),
    ],
)
def test_impossible_arguments_are_refused(options, error, message, scan, shipped):
    with pytest.raises(error, match=message):
        scan[0].index_phase_orientation(**{"bundle": shipped, **options})


def test_metadata_clash_is_refused(scan, shipped):
    signal = scan[0].deepcopy()
    signal.set_experimental_parameters(beam_energy=80)
    with pytest.raises(ValueError, match="80 kV"):
        signal.index_phase_orientation(shipped)


def test_complex_patterns_and_tiny_detectors_are_refused(scan, shipped):
    signal = scan[0].deepcopy()
    signal.data = signal.data.astype(complex)
    with pytest.raises(TypeError, match="real"):
        signal.index_phase_orientation(shipped)
    with pytest.raises(ValueError, match="16 x 16"):
        scan[0].isig[:8, :8].index_phase_orientation(shipped, center=(4, 4))


def test_descriptors_keep_navigation_and_survive_saving(scan, tmp_path):
    import hyperspy.api as hs

    signal, _ = scan
    spec = DescriptorSpec(n_radial=30, n_azimuthal=90)
    descriptors = signal.get_polar_descriptors(spec)
    assert descriptors.data.shape == (6, 7, 30, 90)
    lazy = signal.as_lazy().get_polar_descriptors(spec)
    assert lazy._lazy
    np.testing.assert_array_equal(lazy.data.compute(), descriptors.data)
    descriptors.save(tmp_path / "d.hspy")
    loaded = hs.load(tmp_path / "d.hspy")
    assert type(loaded).__name__ == "PolarDescriptor2D"
    assert loaded.spec == spec
    assert type(hs.load(tmp_path / "d.hspy", lazy=True)).__name__ == "LazyPolarDescriptor2D"
    np.testing.assert_array_equal(loaded.data, descriptors.data)
    assert loaded.axes_manager.signal_axes[1].units == "1/angstrom"


def test_blocks_are_parts_of_large_chunks():
    from pyxem.signals import LazyElectronDiffraction2D

    # as HyperSpy reads a .blo file: blocks across borders would keep bands of the scan in memory
    data = da.zeros((145, 300, 144, 144), chunks=(123, 123, 123, 123), dtype=np.uint8)
    blocks = get_blocks(LazyElectronDiffraction2D(data))
    assert blocks.shape == data.shape
    assert blocks.chunks[2:] == ((144,), (144,))
    for axis in (0, 1):
        borders = np.cumsum(blocks.chunks[axis])
        assert set(np.cumsum(data.chunks[axis])) <= set(borders)
    assert 512 <= max(blocks.chunks[0]) * max(blocks.chunks[1]) <= 1024
