"""Signals that do not fit: refused with the way to do it, warned of, or indexed all the same."""

import warnings

import dask.array as da
import numpy as np
import pytest

from pyxem_nas import Acquisition, ModelBundle, simulate_scan

ACQUISITION = Acquisition(200, 0.7)
OPTIONS = {"method": "network", "acquisition": ACQUISITION, "show_progressbar": False}


@pytest.fixture(scope="module")
def bundle():
    return ModelBundle.load("silver")


@pytest.fixture(scope="module")
def scan(bundle):
    # one grain alone does not show all rings
    options = {"seed": 4, "vacuum_share": 0, "n_grains": 20}
    return simulate_scan(bundle.phase_list, (4, 5), ACQUISITION, **options)[0]


def rescaled(scan, factor):
    signal = scan.deepcopy()
    for axis in signal.axes_manager.signal_axes:
        axis.scale *= factor
        axis.offset *= factor
    return signal


@pytest.mark.parametrize("lazy", [False, True])
def test_every_number_of_navigation_axes_up_to_two(lazy, scan, bundle):
    whole = scan.index_phase_orientation(bundle, **OPTIONS)
    for signal, rows in (
        (scan, slice(None)),
        (scan.inav[:, 1], slice(5, 10)),
        (scan.inav[2, 3], 17),
    ):
        part = (signal.as_lazy() if lazy else signal).index_phase_orientation(bundle, **OPTIONS)
        np.testing.assert_array_equal(
            part.rotations.data, whole.rotations.data[rows].reshape(-1, 4)
        )


@pytest.mark.parametrize("n_axes", [3, 4])
def test_more_axes_are_refused_with_the_way_to_do_it(n_axes, bundle):
    from pyxem.signals import ElectronDiffraction2D

    series = ElectronDiffraction2D(np.zeros((2,) * n_axes + (16, 16)))
    with pytest.raises(ValueError, match=r"frame by frame.*s\.inav\["):
        series.index_phase_orientation(bundle)


def test_in_situ_series_is_indexed_frame_by_frame(scan, bundle):
    import hyperspy.api as hs

    series = hs.stack([scan, scan.deepcopy()], show_progressbar=False)
    series.set_signal_type("electron_diffraction")
    expected = scan.index_phase_orientation(bundle, **OPTIONS)
    for k in range(2):
        xmap = series.inav[:, :, k].index_phase_orientation(bundle, **OPTIONS)
        np.testing.assert_array_equal(xmap.rotations.data, expected.rotations.data)


@pytest.mark.parametrize("unit", ["", "px", "nm", "s", "1/px", "eV", "furlong", "1/s"])
def test_signal_without_a_reciprocal_unit_is_refused(unit, scan, bundle):
    signal = scan.deepcopy()
    for axis in signal.axes_manager.signal_axes:
        axis.units = unit
    with pytest.raises(ValueError, match=r"calibrate the signal first"):
        signal.index_phase_orientation(bundle, **OPTIONS)


@pytest.mark.parametrize("scale", [0.0, -0.02, np.nan, np.inf])
def test_impossible_scale_is_refused(scale, scan, bundle):
    signal = scan.deepcopy()
    for axis in signal.axes_manager.signal_axes:
        axis.scale = scale
    with pytest.raises(ValueError, match="scale must be positive"):
        signal.index_phase_orientation(bundle, center=(70, 70), **OPTIONS)


@pytest.mark.parametrize("lazy", [False, True])
def test_scale_off_by_ten_is_warned_of(lazy, scan, bundle):
    for factor, message in (
        (0.1, "first ring of the phases is at 0.4"),
        (10, "0.0246 instead of"),
        (1000, "a pixel is 24.6 1/angstrom wide, the first ring of the phases lies within it"),
    ):
        signal = rescaled(scan, factor)
        with pytest.warns(UserWarning, match=message):
            (signal.as_lazy() if lazy else signal).index_phase_orientation(bundle, **OPTIONS)


def test_scale_far_too_small_is_warned_of_on_a_large_detector(scan, bundle):
    # reaching beyond the first ring does not help: the rings themselves must fit
    center = [-a.offset / a.scale + 450 for a in scan.axes_manager.signal_axes]
    signal = type(scan)(np.pad(scan.data, ((0, 0), (0, 0), (450, 450), (450, 450))))
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = 0.00246, "1/angstrom"
    with pytest.warns(UserWarning, match="0.0246 instead of 0.00246"):
        signal.index_phase_orientation(bundle, center=center, **OPTIONS)


@pytest.mark.parametrize("name", ["silver", "steel"])
def test_right_scale_is_not_warned_of(name):
    bundle = ModelBundle.load(name)
    signal, _ = simulate_scan(bundle.phase_list, (8, 8), ACQUISITION, seed=7)
    templates = ModelBundle.from_phases(bundle.phase_list, ACQUISITION)
    noise = signal.deepcopy()
    noise.data = np.random.default_rng(0).poisson(2, noise.data.shape).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for s in (signal, noise):
            s.inav[:4, :4].index_phase_orientation(
                templates.select_phases([templates.phase_names[0]]), show_progressbar=False
            )


@pytest.mark.parametrize("shape", [(5, 4), (20,), (4, 5, 1), ()])
def test_navigation_mask_of_another_shape_is_refused(shape, scan, bundle):
    with pytest.raises(ValueError, match=r"scan's shape \(4, 5\)"):
        scan.index_phase_orientation(bundle, navigation_mask=np.zeros(shape, bool), **OPTIONS)


def test_masked_positions_are_not_in_the_data(scan, bundle):
    mask = np.eye(4, 5, dtype=bool)
    xmap = scan.index_phase_orientation(bundle, navigation_mask=mask, **OPTIONS)
    np.testing.assert_array_equal(xmap.is_in_data, ~mask.ravel())
    with pytest.raises(ValueError, match="leaves out every position"):
        scan.index_phase_orientation(bundle, navigation_mask=np.ones((4, 5), bool), **OPTIONS)


def test_maps_are_bit_identical_for_any_chunks_and_scheduler(scan, bundle):
    expected = scan.index_phase_orientation(bundle, **OPTIONS)
    chunkings = ((4, 5, 144, 144), (1, 1, 144, 144), (3, 2, 100, 7), (4, 5, 1, 144))
    for chunks in chunkings:
        for scheduler in ("synchronous", "threads"):
            import dask

            signal = scan.as_lazy()
            signal.data = da.from_array(scan.data, chunks=chunks)
            with dask.config.set(scheduler=scheduler):
                xmap = signal.index_phase_orientation(bundle, **OPTIONS)
            np.testing.assert_array_equal(xmap.phase_id, expected.phase_id)
            np.testing.assert_array_equal(xmap.rotations.data, expected.rotations.data)
            for name in expected.prop:
                np.testing.assert_array_equal(xmap.prop[name], expected.prop[name], name)


@pytest.mark.parametrize("suffix", ["blo", "hspy"])
def test_a_file_that_ends_early_is_refused_or_its_rest_not_indexed(suffix, scan, bundle, tmp_path):
    from pyxem_nas.patterns import read_scan

    path = tmp_path / f"scan.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a .blo file keeps its scale in cm
        scan.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    try:
        signal = read_scan(path)
    except ValueError as error:
        assert path.name in str(error)
        return
    for axis, center in zip(signal.axes_manager.signal_axes, (71.5, 71.5), strict=True):
        axis.scale, axis.units, axis.offset = 0.0246, "1/angstrom", -center * 0.0246
    try:
        xmap = signal.index_phase_orientation(bundle, min_confidence=0, **OPTIONS)
    except ValueError as error:
        assert "file size" in str(error)
        return
    assert (xmap.phase_id[:8] == 0).all()
    assert (xmap.phase_id[-6:] == -1).all()


def test_a_block_file_that_promises_billions_of_patterns_is_refused_at_once(scan, tmp_path):
    from pyxem_nas.patterns import read_scan

    path = tmp_path / "scan.blo"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a .blo file keeps its scale in cm
        scan.save(path)
    content = bytearray(path.read_bytes())
    content[24:28] = b"\xff\xff\xff\xff"  # columns and rows
    path.write_bytes(content)
    with pytest.raises(ValueError, match="scan.blo.*promises 65535 x 65535 patterns of 144 x 144"):
        read_scan(path)


def test_our_own_warnings_are_errors_here():
    # the filter in pyproject.toml: without it a deprecated call of ours would go unnoticed
    code = compile("import warnings; warnings.warn('x', DeprecationWarning)", "<ours>", "exec")
    with pytest.raises(DeprecationWarning):
        exec(code, {"__name__": "pyxem_nas.example"})


def test_a_host_that_has_changed_is_named(monkeypatch):
    from pyxem.signals import LazyPolarDiffraction2D

    from pyxem_nas.diffraction.hosts import check_hosts

    check_hosts()
    monkeypatch.setattr(LazyPolarDiffraction2D, "get_orientation", lambda self, simulation: None)
    with pytest.raises(ImportError, match=r"pyxem 0.* has no LazyPolar.*'n_best'.*pip install"):
        check_hosts()
