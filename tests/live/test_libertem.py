"""The UDF in real LiberTEM contexts on a file: the maps are those of index_phase_orientation."""

import importlib.util
import sys
import warnings
import zipfile

import numpy as np
import pytest
from conftest import shared_data

from pyxem_nas import ModelBundle, evaluate, example_phases, simulate_scan
from pyxem_nas.live.libertem import PhaseOrientationUDF

SHAPE = (6, 8)
SCALE = 0.055
CENTER = (31.5, 31.5)


def test_import_needs_no_libertem_and_the_error_names_the_extra(monkeypatch):
    for name in ("libertem", "libertem.udf"):
        monkeypatch.setitem(sys.modules, name, None)
    spec = importlib.util.find_spec("pyxem_nas.live.libertem")
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    with pytest.raises(ImportError, match=r"pyxem-nas\[live\]"):
        without.PhaseOrientationUDF("silver", scale=0.01, center=(0, 0))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return a small .blo file written by RosettaSciIO."""
    acquisition = ModelBundle.load("silver").acquisition
    scan, _ = simulate_scan(
        example_phases("silver"), SHAPE, acquisition, seed=4, pattern_shape=(64, 64), scale=SCALE
    )
    path = tmp_path_factory.mktemp("live") / "scan.blo"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a .blo file keeps its scale in cm
        scan.save(path)
    return path


@pytest.fixture(scope="module")
def scan(file):
    import hyperspy.api as hs

    s = hs.load(file, lazy=True, signal_type="electron_diffraction")
    s.calibration.scale, s.calibration.units = SCALE, "$A^{-1}$"
    return s


@pytest.fixture(scope="module", params=["inline", "dask"])
def context(request):
    lt = pytest.importorskip("libertem.api", reason="needs the extra live")
    options = {"cpus": 2} if request.param == "dask" else {}
    with lt.Context.make_with(request.param, **options) as context:
        yield context


@pytest.fixture(scope="module")
def inline():
    lt = pytest.importorskip("libertem.api", reason="needs the extra live")
    with lt.Context.make_with("inline") as context:
        yield context


def assert_same(xmap, reference):
    assert xmap.shape == reference.shape
    assert np.array_equal(xmap.phase_id, reference.phase_id)
    assert np.array_equal(xmap.rotations.data, reference.rotations.data)
    assert xmap.phases.names == reference.phases.names
    # where the beam was found LiberTEM's map does not say
    told = {name for name in reference.prop if not name.startswith("beam_")}
    assert set(xmap.prop) == told
    for name in told:
        values = reference.prop[name]
        assert np.array_equal(xmap.prop[name], values, equal_nan=True), name


def test_maps_are_those_of_index_phase_orientation(context, file, scan):
    options = {"method": "network", "n_best": 2}
    reference = scan.index_phase_orientation("silver", center=CENTER, **options)
    data = context.load("blo", path=str(file), num_partitions=3)
    udf = PhaseOrientationUDF("silver", scale=SCALE, center=CENTER, **options)
    results = context.run_udf(dataset=data, udf=udf)
    assert results["rotations"].data.shape == (*SHAPE, 2, 4)
    assert_same(udf.to_crystal_map(results), reference)


def test_maps_grow_while_the_scan_runs(inline, file, scan):
    """With one centre per position, a mask, a mirrored camera and a turned scan, too."""
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), bool)
    mask[:, 40:42] = True
    options = {
        "center": CENTER + rng.uniform(-1, 1, (*SHAPE, 2)).astype(np.float32), "mask": mask,
        "detector_flip": "x", "method": "network", "refine": False,
    }  # fmt: skip
    reference = scan.index_phase_orientation("silver", **options, scan_rotation=30.0)
    data = inline.load("blo", path=str(file), num_partitions=3)
    udf = PhaseOrientationUDF("silver", scale=SCALE, **options)
    known = []
    for part in inline.run_udf_iter(dataset=data, udf=udf):
        xmap = udf.to_crystal_map(part.buffers[0], scan_rotation=30.0, step=(5.0, 5.0))
        done = xmap.is_in_data
        known.append(int(done.sum()))
        same = reference.rotations.data[done]
        assert np.array_equal(xmap.rotations.data, same), "what is known is final"
    assert known == sorted(set(known)) and known[-1] == np.prod(SHAPE) and known[0] < known[-1]
    assert_same(xmap, reference)


def test_the_beam_is_followed_near_the_center(inline, file, scan):
    from pyxem_nas.patterns import beam_position

    reach = max(2, round(0.12 / SCALE))
    patterns = scan.data.compute().reshape(-1, 64, 64)
    centers = np.array([beam_position(p, 32, 32, reach) for p in patterns]).reshape(*SHAPE, 2)
    reference = scan.index_phase_orientation("silver", center=centers, method="network")
    data = inline.load("blo", path=str(file))
    udf = PhaseOrientationUDF(
        "silver", scale=SCALE, center=(32, 32), follow_beam=True, method="network"
    )
    assert_same(udf.to_crystal_map(inline.run_udf(dataset=data, udf=udf)), reference)


def test_a_region_of_interest_leaves_the_rest_out(inline, file):
    data = inline.load("blo", path=str(file), num_partitions=3)
    udf = PhaseOrientationUDF("silver", scale=SCALE, center=CENTER, method="network")
    roi = np.zeros(SHAPE, bool)
    roi[1:4, 2:5] = True
    whole = udf.to_crystal_map(inline.run_udf(dataset=data, udf=udf))
    part = udf.to_crystal_map(inline.run_udf(dataset=data, udf=udf, roi=roi))
    assert np.array_equal(part.is_in_data, roi.ravel())
    assert np.array_equal(part.rotations.data, whole.rotations.data[roi.ravel()])


def test_wrong_use_is_said(inline, file):
    good = {"scale": SCALE, "center": CENTER}
    for wrong, message in (
        ({"scale": -1}, "scale must be positive"),
        ({"center": 3.0}, "center must be finite"),
        ({"n_best": 0}, "n_best must be at least 1"),
        ({"detector_flip": "z"}, "detector_flip must be"),
        ({"method": "magic"}, "method must be one of"),
        ({"center": np.zeros((*SHAPE, 2)), "follow_beam": True}, "follow_beam needs one center"),
    ):
        with pytest.raises(ValueError, match=message):
            PhaseOrientationUDF("silver", **(good | wrong))
    data = inline.load("blo", path=str(file))
    udf = PhaseOrientationUDF("silver", scale=SCALE, center=np.zeros((3, 3, 2)))
    with pytest.raises(Exception, match=r"center must have shape .* got \(3, 3, 2\)"):
        inline.run_udf(dataset=data, udf=udf)


@pytest.fixture(scope="module")
def merlin(tmp_path_factory):
    """Return a real .mib file, and the same with simulated patterns in its frames."""
    folder = tmp_path_factory.mktemp("merlin")
    with zipfile.ZipFile(shared_data("files/Merlin_navigation4x2_ROI.zip")) as archive:
        archive.extractall(folder)
    real = folder / "001_4x2_6bit.mib"
    scan, truth = simulate_scan(
        example_phases("silver"), (2, 4), ModelBundle.load("silver").acquisition, seed=6,
        pattern_shape=(256, 256), scale=0.0138, spot_sigma=2.8, vacuum_share=0, n_grains=1,
    )  # fmt: skip
    frames = np.frombuffer(real.read_bytes(), np.uint8).reshape(8, -1).copy()
    n_header = frames.shape[1] - 256 * 256
    # the file counts rows from the bottom of what HyperSpy shows
    frames[:, n_header:] = scan.data.reshape(8, 256, 256)[:, ::-1].reshape(8, -1)
    filled = folder / "filled.mib"
    filled.write_bytes(frames.tobytes())
    (folder / "filled.hdr").write_bytes(real.with_suffix(".hdr").read_bytes())
    return {"real": real, "filled": filled}, truth, tuple(scan.calibration.center)


@pytest.mark.parametrize("name", ["real", "filled"])
@pytest.mark.parametrize("follow_beam", [False, True])
def test_merlin_files_give_one_map_here_and_in_hyperspy(inline, merlin, name, follow_beam):
    from pyxem_nas.patterns import read_scan

    files, truth, center_of_filled = merlin
    scan = read_scan(files[name])
    scan.calibration.scale, scan.calibration.units = 0.0138, "1/angstrom"
    # off the middle: its mirror is another place
    center = center_of_filled if name == "filled" else (120.0, 140.0)
    options = {"method": "network", "min_confidence": 0}
    centers = np.array(center)
    if follow_beam:
        from pyxem_nas.patterns import beam_position

        reach = max(2, round(0.12 / 0.0138))
        column, row = (round(v) for v in center)
        centers = np.array(
            [beam_position(p, column, row, reach) for p in scan.data.compute().reshape(8, 256, 256)]
        ).reshape(2, 4, 2)
    reference = scan.index_phase_orientation("silver", center=centers, **options)
    data = inline.load("mib", path=str(files[name].with_suffix(".hdr")), nav_shape=(2, 4))
    from libertem.udf.raw import PickUDF

    raw = inline.run_udf(dataset=data, udf=PickUDF(), roi=np.arange(8).reshape(2, 4) == 5)
    raw = np.asarray(raw["intensity"].data)[0]
    assert np.array_equal(raw[::-1], scan.data.reshape(8, 256, 256)[5].compute())
    assert not np.array_equal(raw[::-1], raw), "else this test could not fail"
    options |= {"scale": 0.0138, "center": center, "follow_beam": follow_beam}
    udf = PhaseOrientationUDF("silver", **options)
    xmap = udf.to_crystal_map(inline.run_udf(dataset=data, udf=udf))
    assert_same(xmap, reference)
    if name == "filled":
        # and the map is right; with the rows as LiberTEM has them it would be mirrored
        assert evaluate(xmap, truth).orientation_twin_forgiven["silver"].within_5 > 0.8
        wrong = PhaseOrientationUDF("silver", **options, rows_upwards=False)
        mirrored = wrong.to_crystal_map(inline.run_udf(dataset=data, udf=wrong))
        assert evaluate(mirrored, truth).orientation_twin_forgiven["silver"].within_5 < 0.5


def test_partitions_of_the_merlin_camera_are_known_by_their_class():
    pytest.importorskip("libertem.api", reason="needs the extra live")

    class MerlinLivePartition:  # LiberTEM-live's is not installed with the extra
        pass

    class DectrisLivePartition:
        pass

    def hands_rows_upwards(partition, **options):
        udf = PhaseOrientationUDF("silver", scale=SCALE, center=CENTER, **options)
        return udf.copy_for_partition(partition, None).params.rows_upwards

    assert hands_rows_upwards(MerlinLivePartition())
    assert not hands_rows_upwards(MerlinLivePartition(), rows_upwards=False)
    assert not hands_rows_upwards(DectrisLivePartition())
    assert hands_rows_upwards(DectrisLivePartition(), rows_upwards=True)
