import importlib.util
import json
import os
import subprocess
import sys
import warnings

import gemmi
import numpy as np
import pytest
from diffpy.structure import Atom, Lattice, Structure
from orix import io
from orix.crystal_map import CrystalMap, Phase, PhaseList
from orix.quaternion import Orientation, Rotation
from orix.vector import Vector3d

from pyxem_nas import evaluate
from pyxem_nas.diffraction import get_reflections, laue_operations, multiply_quaternions
from pyxem_nas.diffraction.hosts import get_lattice_parameters
from pyxem_nas.maps.crystal_map import make_crystal_map
from pyxem_nas.maps.export import channel_from_orix, save_map
from pyxem_nas.maps.files import read_map
from pyxem_nas.maps.mtex_script import write_mtex_script

PHASES = {
    "ferrite": (229, (2.866, 2.866, 2.866, 90, 90, 90)),
    "cementite": (62, (5.091, 6.7434, 4.526, 90, 90, 90)),
    "titanium": (194, (2.95, 2.95, 4.686, 90, 90, 120)),
    "quartz": (152, (4.913, 4.913, 5.405, 90, 90, 120)),
    "zirconia": (14, (5.15, 5.21, 5.32, 90, 99.2, 90)),
}
STEEL = ("ferrite", "cementite", "titanium")
SUFFIXES = (".ang", ".ctf", ".h5", ".hdf5")


def _phase_list(names=STEEL):
    return PhaseList(
        [
            Phase(name, PHASES[name][0], structure=Structure(lattice=Lattice(*PHASES[name][1])))
            for name in names
        ]
    )


def _map(names=STEEL, shape=(6, 7), *, step=(1.234, 0.987), phase_id=None, seed=1, **kwargs):
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    if phase_id is None:
        phase_id = np.resize([*range(len(names)), -1], n)
    quaternions = rng.normal(size=(n, 1, 4))
    columns = {
        "phase_id": np.asarray(phase_id),
        "rotations": quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True),
        "correlation": rng.uniform(0.2, 1, n),
        "reliability": rng.uniform(0, 100, n),
        "phase_probability": rng.uniform(0, 1, n),
        "orientation_probability": rng.uniform(0, 1, n),
    }
    return make_crystal_map(columns, _phase_list(names), shape=shape, step=step, **kwargs)


def _disorientation(a, b, phase):
    """Angles in degrees by orix, the independent truth."""
    group = phase.point_group.proper_subgroup
    angle = Orientation(a.data, symmetry=group).angle_with(
        Orientation(b.data, symmetry=group), degrees=True
    )
    return np.asarray(angle)


def _as_written(xmap, phase, suffix):
    """Rotations that orix reads: for .ctf in the Channel frame, which orix does not undo."""
    return channel_from_orix(phase) * xmap if suffix == ".ctf" else xmap


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_orix_reads_back_the_same_map(suffix, tmp_path):
    xmap = _map()
    save_map(tmp_path / f"map{suffix}", xmap)
    back = io.load(tmp_path / f"map{suffix}")
    assert back.shape == (6, 7)
    np.testing.assert_array_equal(back.is_indexed, xmap.is_indexed)
    for name in STEEL:
        rows = xmap.phase_id == xmap.phases.id_from_name(name)
        np.testing.assert_array_equal(back.phase_id == back.phases.id_from_name(name), rows)
        phase = xmap.phases[name]
        found = back.phases[name]
        assert found.point_group.laue.name == phase.point_group.laue.name
        np.testing.assert_allclose(
            get_lattice_parameters(found), PHASES[name][1], rtol=0, atol=1e-3
        )
        expected = _as_written(xmap.rotations[rows], phase, suffix)
        angles = _disorientation(back.rotations[rows], expected, phase)
        assert angles.max() < 0.01


ODD_CRYSTALS = {
    "monoclinic": ("P 1 21/n 1", (5.15, 5.21, 5.32, 90, 99.2, 90)),
    "c axis": ("P 1 1 21/b", (5.15, 5.21, 5.32, 90, 90, 99.2)),
    "triclinic": ("P -1", (5.1, 6.3, 7.2, 81, 97, 104)),
    "trigonal 321": ("P 31 2 1", (4.9, 4.9, 5.4, 90, 90, 120)),
    "trigonal 312": ("P 31 1 2", (4.9, 4.9, 5.4, 90, 90, 120)),
    "hexagonal axes": ("R -3 c :H", (5.0, 5.0, 13.7, 90, 90, 120)),
    "rhombohedral axes": ("R 3 m :R", (5.3, 5.3, 5.3, 58, 58, 58)),
}


def _crystal(name):
    """A phase with two atoms in general positions."""
    hm, lattice = ODD_CRYSTALS[name]
    setting = gemmi.find_spacegroup_by_name(hm)
    atoms = [
        Atom(element, np.array(op.apply_to_xyz(xyz)) % 1)
        for element, xyz in (("Fe", [0.137, 0.059, 0.213]), ("O", [0.291, 0.173, 0.042]))
        for op in setting.operations()
    ]
    structure = Structure(atoms, Lattice(*lattice))
    return Phase("one", space_group=setting.number, structure=structure)


@pytest.mark.parametrize("suffix", [".ang", ".ctf", ".h5"])
@pytest.mark.parametrize("name", ODD_CRYSTALS)
@pytest.mark.filterwarnings("ignore:.*cannot say that the symmetry axes")
def test_the_same_physical_axes_come_back(name, suffix, tmp_path):
    phase = _crystal(name)
    rotations = np.random.default_rng(3).normal(size=(12, 1, 4))
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    columns = {"phase_id": np.zeros(12, int), "rotations": rotations}
    xmap = make_crystal_map(columns, PhaseList(phase), shape=(3, 4), step=(1, 1))
    save_map(tmp_path / f"map{suffix}", xmap)
    back = read_map(tmp_path / f"map{suffix}")
    found = back.phases[int(back.phase_id[0])]
    axes = np.array(phase.structure.lattice.base)
    if name == "rhombohedral axes" and suffix != ".h5":  # by hand: a - b, b - c, a + b + c
        axes = np.array([axes[0] - axes[1], axes[1] - axes[2], axes.sum(axis=0)])
    for axis, written in zip(axes, found.structure.lattice.base, strict=True):
        expected = (~xmap.rotations * Vector3d(axis)).data
        seen = (~back.rotations * Vector3d(written)).data
        np.testing.assert_allclose(seen, expected, atol=2e-3)  # 0.01 degrees
    if suffix == ".h5":
        np.testing.assert_allclose(
            get_reflections([found]).intensities, get_reflections([phase]).intensities, rtol=1e-6
        )
        same = np.abs(laue_operations(found) @ laue_operations(phase).T).max(axis=1)
        np.testing.assert_allclose(same, 1, atol=1e-6)
    elif name != "rhombohedral axes":
        # the crystal's own symmetry decides, whatever group the file could name
        own = multiply_quaternions(laue_operations(phase)[-1], xmap.rotations.data)
        columns = {"phase_id": np.zeros(12, int), "rotations": own[:, np.newaxis]}
        turned = make_crystal_map(columns, PhaseList(phase), shape=(3, 4), step=(1, 1))
        assert evaluate(back, turned).orientation["one"].median < 0.01
    else:
        with pytest.raises(ValueError, match="whose frames differ"):
            evaluate(back, xmap)


@pytest.mark.parametrize(
    ("name", "suffix", "warns"),
    [("monoclinic", ".ang", False), ("c axis", ".ang", True), ("c axis", ".ctf", True),
     ("trigonal 321", ".ang", False), ("trigonal 312", ".ang", True),
     ("trigonal 312", ".ctf", False), ("rhombohedral axes", ".ang", False),
     ("hexagonal axes", ".ctf", False)],
)  # fmt: skip
def test_axes_that_a_format_cannot_say_warn(name, suffix, warns, tmp_path):
    phase = _crystal(name)
    columns = {"phase_id": np.zeros(2, int), "rotations": np.tile([1.0, 0, 0, 0], (2, 1, 1))}
    xmap = make_crystal_map(columns, PhaseList(phase), shape=(2,), step=(1,))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_map(tmp_path / f"map{suffix}", xmap)
    texts = [str(w.message) for w in caught if "symmetry axes" in str(w.message)]
    assert bool(texts) == warns
    assert all("'one'" in text and "keep the .h5 file" in text for text in texts)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("unit", "micrometres"),
    [("nm", 1e-3), ("um", 1), ("µm", 1), ("m", 1e6), ("A", 1e-4), ("angstrom", 1e-4), ("px", 1)],
)
def test_positions_of_text_files_are_micrometres(suffix, unit, micrometres, tmp_path):
    xmap = _map(shape=(3, 4), scan_unit=unit)
    save_map(tmp_path / f"map{suffix}", xmap)
    back = io.load(tmp_path / f"map{suffix}")
    if suffix in (".h5", ".hdf5"):
        # orix spoils letters outside ASCII
        assert back.scan_unit == ("um" if unit == "µm" else unit)
        micrometres = 1
    np.testing.assert_allclose(back.x, xmap.x * micrometres, rtol=0, atol=1e-8)
    np.testing.assert_allclose(back.y, xmap.y * micrometres, rtol=0, atol=1e-8)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_long_rows_of_small_steps_keep_their_length(suffix, tmp_path):
    # 1.234 nm in five decimals of a micrometre would come back as 502 columns
    xmap = _map(shape=(2, 500), step=(1.234, 1.234))
    save_map(tmp_path / f"map{suffix}", xmap)
    assert io.load(tmp_path / f"map{suffix}").shape == (2, 500)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (5, 1)])
def test_lines_columns_and_points_are_written(suffix, shape, tmp_path):
    n = int(np.prod(shape))
    xmap = _map(shape=shape, step=(1.5, 1.5)[: len(shape)], phase_id=np.resize([0, 1, 2], n))
    path = tmp_path / f"map{suffix}"
    save_map(path, xmap)
    if n == 1 and suffix in (".ang", ".ctf"):  # orix cannot read a table of one row
        assert len(path.read_text().splitlines()) > 10
        return
    back = io.load(path)
    assert back.shape == xmap.shape
    for name in ("x", "y"):
        found, given = getattr(back, name), getattr(xmap, name)
        assert (found is None) == (given is None)
        if given is not None:
            scale = 1 if suffix in (".h5", ".hdf5") else 1e-3
            np.testing.assert_allclose(found, given * scale, atol=1e-8)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("present", [[-1], [0], [2], [-1, 0, 1], [-1, 1], [0, 2]])
def test_phases_keep_their_names_when_some_are_absent(suffix, present, tmp_path):
    xmap = _map(shape=(3, 4), phase_id=np.resize(present, 12))
    save_map(tmp_path / f"map{suffix}", xmap)
    back = io.load(tmp_path / f"map{suffix}")
    names = {i: STEEL[i] if i >= 0 else "not_indexed" for i in present}
    expected = [names[i] for i in xmap.phase_id]
    if suffix == ".ctf" and 0 not in present and present != [-1]:
        # orix renumbers phases that occur nowhere before the first one; the file has them
        lines = (tmp_path / "map.ctf").read_text().splitlines()
        table = np.loadtxt(lines[lines.index("Phase\tX\tY" + _ctf_tail()) + 1 :])
        np.testing.assert_array_equal(table[:, 0], xmap.phase_id + 1)
        return
    assert [back.phases[int(i)].name for i in back.phase_id] == expected


def _ctf_tail():
    return "\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS"


@pytest.mark.parametrize("suffix", [".ang", ".ctf"])
def test_masked_positions_are_written_as_not_indexed_on_the_full_grid(suffix, tmp_path):
    mask = np.zeros((4, 5), bool)
    mask[0] = True
    mask[2, 2] = True
    xmap = _map(shape=(4, 5), phase_id=np.resize([0, 1, 2], 20), navigation_mask=mask)
    assert xmap.prop["correlation"].size == 14  # orix cannot copy a masked map after this
    save_map(tmp_path / f"map{suffix}", xmap)
    back = io.load(tmp_path / f"map{suffix}")
    assert back.shape == (4, 5)
    np.testing.assert_array_equal(~back.is_indexed, mask.ravel())


def test_h5_keeps_mask_solutions_and_properties(tmp_path):
    mask = np.zeros(4, bool)
    mask[1] = True
    columns = {
        "phase_id": np.array([0, 1, 2, -1]),
        "rotations": np.random.default_rng(2).normal(size=(4, 3, 4)),
        "phase_probability": np.array([0.5, np.nan, 0.25, np.nan]),
    }
    xmap = make_crystal_map(columns, _phase_list(), shape=(4,), step=(1,), navigation_mask=mask)
    save_map(tmp_path / "map.h5", xmap)
    back = io.load(tmp_path / "map.h5")
    np.testing.assert_array_equal(back.is_in_data, ~mask)
    np.testing.assert_array_equal(back.prop["phase_probability"], xmap.prop["phase_probability"])
    assert back.rotations.shape == (3, 3)
    np.testing.assert_allclose((~back.rotations * xmap.rotations).angle, 0, atol=1e-6)


def test_ang_has_what_tools_look_for(tmp_path):
    xmap = _map(shape=(2, 4))
    save_map(tmp_path / "map.ang", xmap)
    lines = (tmp_path / "map.ang").read_text().splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert "# GRID: SqrGrid" in header
    numbers = [line.split()[-1] for line in header if line.startswith("# Phase ")]
    assert numbers == ["1", "2", "3"]
    codes = [line.split()[-1] for line in header if line.startswith("# Symmetry")]
    assert codes == ["43", "22", "62"]
    table = np.loadtxt(tmp_path / "map.ang")
    np.testing.assert_array_equal(table[:, 7], xmap.phase_id + 1)
    np.testing.assert_array_equal(table[:, 6] == -1, xmap.phase_id == -1)
    indexed = xmap.is_indexed
    np.testing.assert_allclose(table[indexed, 5], xmap.correlation[indexed], atol=1e-5)
    np.testing.assert_allclose(table[indexed, 6], xmap.reliability[indexed] / 100, atol=1e-5)


def test_ang_declares_no_phase_beyond_the_last_one_where_zero_occurs(tmp_path):
    # else MTEX takes the phase column for zero based and shifts every phase by one
    save_map(tmp_path / "map.ang", _map(shape=(2, 4), phase_id=np.resize([0, -1, 1], 8)))
    text = (tmp_path / "map.ang").read_text()
    assert "# Phase 2" in text
    assert "# Phase 3" not in text


def test_ctf_has_what_tools_look_for(tmp_path):
    xmap = _map(shape=(2, 4))
    probability = xmap.orientation_probability
    probability[0] = np.nan
    xmap.prop["orientation_probability"] = probability
    save_map(tmp_path / "map.ctf", xmap)
    raw = (tmp_path / "map.ctf").read_bytes()
    assert raw.startswith(b"Channel Text File\r\n")
    lines = raw.decode().splitlines()
    assert lines[4:8] == ["XCells\t4", "YCells\t2", "XStep\t0.00098700", "YStep\t0.00123400"]
    first = lines.index("Phases\t3") + 1
    fields = [line.split("\t") for line in lines[first : first + 3]]
    assert [f[2:5] for f in fields] == [
        ["ferrite", "11", "229"],
        ["cementite", "3", "62"],
        ["titanium", "9", "194"],
    ]
    assert fields[2][:2] == ["2.9500;2.9500;4.6860", "90.0000;90.0000;120.0000"]
    table = np.loadtxt(lines[first + 4 :])
    np.testing.assert_array_equal(table[:, 0], xmap.phase_id + 1)
    np.testing.assert_array_equal(table[:, 4], np.where(xmap.is_indexed, 0, 3))
    indexed = xmap.is_indexed
    assert table[0, 8] == 0
    np.testing.assert_allclose(
        table[indexed, 8][1:], 1 - xmap.orientation_probability[indexed][1:], atol=1e-4
    )
    np.testing.assert_allclose(table[indexed, 9], 255 * xmap.correlation[indexed], atol=0.51)
    np.testing.assert_allclose(table[indexed, 10], 2.55 * xmap.reliability[indexed], atol=0.51)
    assert not table[~indexed, 5:].any()


def test_channel_frame_of_hexagonal_phases_is_30_degrees_from_that_of_orix():
    phase = _phase_list(["titanium"])[0]
    rotation = channel_from_orix(phase)
    np.testing.assert_allclose(
        (rotation * phase.a_axis).data[0], [2.95 * np.cos(np.pi / 6), -2.95 / 2, 0], atol=1e-12
    )
    # DREAM.3D and MTEX: phi2 of EDAX and of Oxford differ by 30 degrees
    euler = Rotation.from_euler(np.deg2rad([[40.0, 70.0, 20.0]]))
    np.testing.assert_allclose(np.rad2deg((rotation * euler).to_euler()), [[40, 70, 50]])


@pytest.mark.parametrize("name", ["titanium", "quartz", "zirconia"])
def test_channel_frame_has_x_along_a_star_and_z_along_c(name):
    phase = _phase_list([name])[0]
    rotation = channel_from_orix(phase)
    np.testing.assert_allclose(np.cross((rotation * phase.ar_axis).data, [1, 0, 0]), 0, atol=1e-12)
    np.testing.assert_allclose(np.cross((rotation * phase.c_axis).data, [0, 0, 1]), 0, atol=1e-12)


def test_existing_file_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "map.ctf"
    path.write_text("old")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_map(path, _map())
    assert path.read_text() == "old"
    save_map(path, _map(), overwrite=True)
    assert path.read_text().startswith("Channel")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_write_leaves_the_old_file_and_no_other(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"map{suffix}"
    path.write_text("old")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savetxt", fail)
    monkeypatch.setattr("orix.io.plugins.orix_hdf5.file_writer", fail)
    with pytest.raises(OSError, match="disk full"):
        save_map(path, _map(), overwrite=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_requests_are_refused_with_a_way_out(tmp_path):
    xmap = _map()
    with pytest.raises(ValueError, match=r"'\.txt'.*\.ang, \.ctf or \.h5"):
        save_map(tmp_path / "map.txt", xmap)
    with pytest.raises(FileNotFoundError, match="make it first"):
        save_map(tmp_path / "nowhere" / "map.ctf", xmap)
    xmap.scan_unit = "furlong"
    with pytest.raises(ValueError, match="'furlong'.*set xmap.scan_unit"):
        save_map(tmp_path / "map.ctf", xmap)
    scattered = CrystalMap(Rotation.random(3), x=np.array([0, 1, 5.0]), y=np.array([0, 2, 1.0]))
    with pytest.raises(ValueError, match="not a rectangular grid"):
        save_map(tmp_path / "map.ang", scattered)
    assert not list(tmp_path.iterdir())


def test_mtex_script_names_map_and_frame(tmp_path):
    write_mtex_script(tmp_path / "load_map.m", tmp_path / "it's.ctf")
    text = (tmp_path / "load_map.m").read_text(encoding="utf-8")
    assert "fullfile(fileparts(mfilename('fullpath')), 'it''s.ctf')" in text
    assert "rotation.byAxisAngle(xvector, turn)" in text and "load_turned(180*degree)" in text
    # an MTEX that does not know the option would leave the angles as they are, without a word
    lines = (tmp_path / "load_map.m").read_text().splitlines()
    check = next(k for k, line in enumerate(lines) if "< 1*degree, error(needed)" in line)
    assert any(line.startswith("needed = ['needs MTEX 7") for line in lines[:check])
    assert lines[check + 1] == "plot(ebsd);"
    write_mtex_script(tmp_path / "load_map.m", tmp_path / "other" / "map.ang")
    assert f"fullfile('{(tmp_path / 'other').resolve()}', 'map.ang')" in (
        tmp_path / "load_map.m"
    ).read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"must end in \.m"):
        write_mtex_script(tmp_path / "load.txt", tmp_path / "map.ctf")
    with pytest.raises(ValueError, match=r"reads \.ang and \.ctf"):
        write_mtex_script(tmp_path / "load.m", tmp_path / "map.h5")


def test_mtex_script_states_the_frame_of_monoclinic_phases(tmp_path):
    for suffix in (".ang", ".ctf"):
        save_map(tmp_path / f"map{suffix}", _map(("zirconia", "titanium"), shape=(2, 3)))
        write_mtex_script(tmp_path / "load_map.m", tmp_path / f"map{suffix}")
        text = (tmp_path / "load_map.m").read_text(encoding="utf-8")
        stated = "ebsd('zirconia').CS = crystalSymmetry('2/m', [5.1500 5.2100 5.3200]" in text
        assert stated == (suffix == ".ang")
        assert ("'X||a', 'Z||c*', 'mineral', 'zirconia'" in text) == (suffix == ".ang")
        assert "ebsd('titanium')" not in text


# ---------------------------------------------------------------- MTEX, an independent reader

# The PyPI package mtex (MTEX in Python, needs Python 3.12) may live in another environment: name
# its interpreter in PYXEM_NAS_MTEX_PYTHON. It reads files only, nothing of this package.
MTEX_PYTHON = (
    sys.executable if importlib.util.find_spec("mtex") else os.environ.get("PYXEM_NAS_MTEX_PYTHON")
)
MTEX_READER = """
import json, sys
import numpy as np
from mtex import EBSD, crystalFrame, rotation, vector3d, xvector
turn = rotation.byAxisAngle(xvector, np.pi)
ebsd = EBSD.load(sys.argv[1], eulerCorrection=turn, grid=False)
ids = np.asarray(ebsd.phaseId).ravel()
frames = list(ebsd.CSList.frames)
for name, cell in json.loads(sys.argv[2]).items():  # what the script states of their frames
    angles = np.deg2rad(cell[3:])
    frames = [
        crystalFrame("2/m", cell[:3], angles, "X||a", "Z||c*", mineral=name)
        if f.isIndexed and f.name == name else f for f in frames
    ]
axes = np.full((ids.size, 3, 3), np.nan)
for i, frame in enumerate(frames):
    if frame.isIndexed:
        for k in range(3):
            axis = vector3d(np.asarray(frame.axes.data)[k])
            axes[ids == i, k] = (ebsd.rotations[ids == i] * axis).data.reshape(-1, 3)
print(json.dumps({
    "names": [frames[i].name if frames[i].isIndexed else None for i in ids],
    "position": np.asarray(ebsd.pos.data).reshape(-1, 3).tolist(),
    "axes": np.nan_to_num(axes).tolist(),
}))
"""


@pytest.mark.skipif(
    MTEX_PYTHON is None,
    reason="package mtex is not installed here (it needs Python 3.12) and PYXEM_NAS_MTEX_PYTHON "
    "does not name an interpreter that has it",
)
@pytest.mark.parametrize(
    ("suffix", "names"),
    [
        (".ctf", STEEL),
        (".ctf", ("titanium",)),
        (".ctf", ("quartz", "zirconia")),
        (".ang", STEEL),
        (".ang", ("quartz", "ferrite")),
        (".ang", ("zirconia", "titanium")),
    ],
)
@pytest.mark.parametrize("absent", [False, True])
def test_mtex_reads_the_physical_crystal_axes_in_the_frame_of_the_map(
    suffix, names, absent, tmp_path
):
    n_present = max(len(names) - 1, 1) if absent else len(names)
    xmap = _map(names, shape=(4, 5), phase_id=np.resize([*range(n_present), -1], 20))
    save_map(tmp_path / f"map{suffix}", xmap)
    stated = {name: PHASES[name][1] for name in names if suffix == ".ang" and name == "zirconia"}
    process = subprocess.run(
        [MTEX_PYTHON, "-c", MTEX_READER, str(tmp_path / f"map{suffix}"), json.dumps(stated)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["names"] == [names[i] if i >= 0 else None for i in xmap.phase_id]
    position = np.array(found["position"])
    np.testing.assert_allclose(position[:, 0], xmap.x * 1e-3, atol=1e-8)
    np.testing.assert_allclose(position[:, 1], xmap.y * 1e-3, atol=1e-8)
    to_map = np.array([1, -1, -1])  # laboratory: y up, z out; map: y down, z in
    for i, name in enumerate(names[:n_present]):
        rows = xmap.phase_id == i
        phase = xmap.phases[name]
        for k, axis in enumerate((phase.a_axis, phase.b_axis, phase.c_axis)):
            expected = (~xmap.rotations[rows] * axis).data * to_map
            # 0.01 degrees of 7 angstrom
            np.testing.assert_allclose(np.array(found["axes"])[rows, k], expected, atol=1e-3)
