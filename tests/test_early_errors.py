"""What can be refused before the work is refused before it: no pattern is computed."""

import re

import dask.array as da
import numpy as np
import pytest
from hyperspy.axes import DataAxis
from pyxem.signals import ElectronDiffraction2D, LazyElectronDiffraction2D

from pyxem_nas import Acquisition, ModelBundle, simulate_scan
from pyxem_nas.cli import main

SHAPE = (2, 3)


@pytest.fixture(scope="module")
def bundle():
    return ModelBundle.load("silver")


@pytest.fixture(scope="module")
def images(bundle):
    scan, _ = simulate_scan(
        bundle.phase_list, SHAPE, Acquisition(200, 0.7), seed=2, pattern_shape=(64, 64), scale=0.055
    )
    return scan.data


class CountedScan:
    """A lazy scan that counts the blocks of it that are computed."""

    def __init__(self, images):
        self.n_blocks = 0

        def count(block):
            self.n_blocks += 1
            return block

        source = da.from_array(images, chunks=(1, 1, -1, -1))
        counted = source.map_blocks(count, dtype=images.dtype, meta=images[:0, :0])
        self.signal = LazyElectronDiffraction2D(counted)
        for axis in self.signal.axes_manager.signal_axes:
            axis.scale, axis.units, axis.offset = 0.055, "1/angstrom", -31.5 * 0.055
        for axis in self.signal.axes_manager.navigation_axes:
            axis.scale, axis.units = 5.0, "nm"


@pytest.fixture
def counted(images):
    return CountedScan(images)


def test_the_count_counts(counted, bundle):
    counted.signal.index_phase_orientation(bundle, method="network", show_progressbar=False)
    assert counted.n_blocks >= np.prod(SHAPE)


def set_scan_axis(**values):
    def change(s):
        for name, value in values.items():
            setattr(s.axes_manager.navigation_axes[0], name, value)

    return change


def set_detector_axes(**values):
    def change(s):
        for axis in s.axes_manager.signal_axes:
            for name, value in values.items():
                setattr(axis, name, value)

    return change


def make_not_uniform(s):
    axis = DataAxis(axis=[0.0, 1.0, 4.0], name="x", navigate=True, units="nm")
    s.axes_manager._axes[1] = axis
    axis.axes_manager = s.axes_manager


def state(**metadata):
    def change(s):
        for name, value in metadata.items():
            s.metadata.set_item(f"Acquisition_instrument.TEM.{name}", value)

    return change


def state_units_of_the_scan(unit):
    def change(s):
        for axis in s.axes_manager.navigation_axes:
            axis.units = unit

    return change


CASES = {
    "step 0": (set_scan_axis(scale=0.0), {}, "has a step of 0"),
    "negative step": (set_scan_axis(scale=-5.0), {}, "has a step of -5"),
    "step that is none": (set_scan_axis(scale=np.nan), {}, "has a step of nan"),
    "scan not uniform": (make_not_uniform, {}, "'x' of the scan.*is not uniform"),
    "units that do not compare": (set_scan_axis(units="s"), {}, "in 'nm', 's'.*do not compare"),
    "one unit missing": (set_scan_axis(units=""), {}, "in 'nm', ''.*do not compare"),
    "no unit of the detector": (set_detector_axes(units="px"), {}, "no unit"),
    "radians in a wave": (set_detector_axes(units="rad/nm"), {}, "divide the scale by 2 pi"),
    "scale of 0": (set_detector_axes(scale=0.0), {"center": (31, 31)}, "scale must be positive"),
    "beam energy with its unit": (state(beam_energy="200 kV"), {}, "number in kV, got '200 kV'"),
    "beam energy in V": (state(beam_energy=2e5), {}, "must be in kV"),
    "precession with its unit": (state(rocking_angle="12 mrad"), {}, "number in mrad"),
    "beam energy of no bundle": (state(beam_energy=80), {}, "80 kV"),
    "centre outside": (None, {"center": (64, 3)}, "outside the detector"),
    "centre that is none": (None, {"center": "beam"}, "center must be None"),
    "shape of the centre": (None, {"center": np.zeros((3, 2, 2))}, "center must have shape"),
    "shape of the mask": (None, {"mask": np.zeros((3, 3), bool)}, "detector's shape"),
    "shape of the scan's mask": (None, {"navigation_mask": np.zeros((3, 2), bool)}, "scan's shape"),
    "nothing left": (None, {"navigation_mask": np.ones(SHAPE, bool)}, "leaves out every"),
    "flip": (None, {"detector_flip": "z"}, "detector_flip"),
    "singular distortion": (None, {"distortion": np.zeros((2, 2))}, "positive determinant"),
    "rotation with its unit": (None, {"scan_rotation": "25 deg"}, "number in degrees"),
    "rotation that is none": (None, {"scan_rotation": np.inf}, "angle in degrees"),
    "unknown method": (None, {"method": "magic"}, "method must be"),
    "unknown phase": (None, {"phases": ["gold"]}, "gold"),
    "no answers": (None, {"n_best": 0}, "n_best"),
    "three crystals": (None, {"n_overlaps": 3}, "n_overlaps"),
    "unknown precision": (None, {"precision": "int4"}, "precision"),
}  # fmt: skip


@pytest.mark.parametrize("center", ["auto", (31.5, 31.5)])
@pytest.mark.parametrize("name", CASES)
def test_no_block_is_computed_before_an_error(name, center, counted, bundle):
    change, options, message = CASES[name]
    if change is not None:
        change(counted.signal)
    with pytest.raises(ValueError, match=message):
        counted.signal.index_phase_orientation(bundle, **{"center": center, **options})
    assert counted.n_blocks == 0


ON_THE_COMMAND_LINE = {name: case for name, case in CASES.items() if not case[1]} | {
    "unit that no text format takes": (state_units_of_the_scan("s"), {}, "cannot be written.*'s'"),
}


@pytest.fixture
def index(monkeypatch, counted, tmp_path):
    """Return a function that runs `pyxem-nas index` on the counted scan: (exit code, stderr)."""
    from pyxem_nas import patterns

    (tmp_path / "scan.hspy").touch()
    monkeypatch.setattr(patterns, "read_scan", lambda path, **settings: counted.signal)
    monkeypatch.delenv("PYXEM_NAS_DEBUG", raising=False)

    def run(capsys, *arguments):
        words = ["pyxem-nas", "index", tmp_path / "scan.hspy", "--bundle", "silver", *arguments]
        monkeypatch.setattr("sys.argv", list(map(str, words)))
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("name", ON_THE_COMMAND_LINE)
def test_no_block_is_computed_before_an_error_of_the_command(
    name, index, counted, tmp_path, capsys
):
    change, _, message = ON_THE_COMMAND_LINE[name]
    change(counted.signal)
    code, said = index(capsys, "--output", tmp_path / "map.ctf")
    assert code == 2 and "Traceback" not in said
    if name == "radians in a wave":  # its way out is another here
        message = "'rad/nm' counts radians.*--scale"
    assert re.search(message, said)
    assert counted.n_blocks == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scan.hspy"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none/map.ctf", "make it first"), ("map.tif", "ends in .ctf"), ("folder.h5", "is a folder"),
     ("file/map.h5", "not a folder|make it first"), ("there.h5", "--overwrite")],
)  # fmt: skip
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    name, message, index, counted, tmp_path, capsys
):
    (tmp_path / "folder.h5").mkdir()
    for there in ("file", "there.h5"):
        (tmp_path / there).touch()
    code, said = index(capsys, "--output", tmp_path / name)
    assert code == 2 and re.search(message, said), said
    assert counted.n_blocks == 0


def test_the_count_counts_on_the_command_line(index, counted, tmp_path, capsys):
    code, said = index(capsys, "--output", tmp_path / "map.h5", "--method", "network")
    assert code in (None, 0), said
    assert counted.n_blocks >= np.prod(SHAPE) and (tmp_path / "map.h5").exists()


def test_a_store_that_cannot_be_is_refused_before_the_work(counted, bundle, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for store in (tmp_path, tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(ValueError, match="holds other files|cannot be made a folder"):
            counted.signal.index_phase_orientation(bundle, center="auto", store=store)
    assert counted.n_blocks == 0


def test_axes_in_two_units_become_one(counted, bundle):
    row, column = counted.signal.axes_manager.navigation_axes[::-1]
    row.scale, row.units = 0.005, "µm"
    column.scale, column.units = 5.0, "nm"
    xmap = counted.signal.index_phase_orientation(
        bundle, method="network", refine=False, show_progressbar=False
    )
    assert xmap.scan_unit == "nm"
    assert (xmap.dx, xmap.dy) == (pytest.approx(5), pytest.approx(5))


def test_a_single_row_needs_no_step(images, bundle):
    signal = ElectronDiffraction2D(images[:1])
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units, axis.offset = 0.055, "1/angstrom", -31.5 * 0.055
    signal.axes_manager.navigation_axes[1].scale = 0.0
    xmap = signal.index_phase_orientation(bundle, method="network", show_progressbar=False)
    assert xmap.size == 3


def test_a_time_series_is_indexed_and_said_to_be_no_map_of_lengths(counted, bundle):
    for axis in counted.signal.axes_manager.navigation_axes:
        axis.units = "s"
    with pytest.warns(UserWarning, match="'s' is no length.*not as .ang or .ctf"):
        counted.signal.index_phase_orientation(bundle, method="network", show_progressbar=False)


@pytest.mark.parametrize(("angle", "is_warned_of"), [(1.0, True), (1.99, True), (12.2, False)])
def test_a_precession_in_degrees_is_warned_of(angle, is_warned_of, counted, bundle, recwarn):
    counted.signal.set_experimental_parameters(beam_energy=200, rocking_angle=angle)
    options = {"method": "network", "refine": False, "show_progressbar": False}
    try:
        counted.signal.index_phase_orientation(bundle, **options)
    except ValueError as error:  # the bundle may not be for so small a precession
        assert "precession" in str(error)
    messages = [str(w.message) for w in recwarn if "count it in mrad" in str(w.message)]
    assert bool(messages) == is_warned_of
    if is_warned_of:
        assert f"rocking_angle={1000 * np.deg2rad(angle):.4g}" in messages[0]


@pytest.mark.parametrize("key", ["scan_rotation", "rotation"])
def test_a_rotation_that_only_the_file_states_is_warned_of(key, counted, bundle):
    state(**{key: 25.0})(counted.signal)
    options = {"method": "network", "refine": False, "show_progressbar": False}
    with pytest.warns(UserWarning, match="scan rotation of 25 degrees.*scan_rotation=25 or -25"):
        loose = counted.signal.index_phase_orientation(bundle, **options)
    stated = counted.signal.index_phase_orientation(bundle, scan_rotation=0, **options)
    np.testing.assert_array_equal(loose.rotations.data, stated.rotations.data)
