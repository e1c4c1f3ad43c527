"""The UDF in real LiberTEM contexts on a file: the maps are those of index_phase_orientation."""

import importlib.util
import sys
import warnings

import numpy as np
import pytest

from pyxem_nas import ModelBundle, example_phases, simulate_scan
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
