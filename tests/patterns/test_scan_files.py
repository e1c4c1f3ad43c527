"""Every line of the table in docs/files.md: read, in its shape, with what it needs."""

import shutil
import warnings
import zipfile

import h5py
import hyperspy.api as hs
import numpy as np
import pytest
from conftest import shared_data
from dm4_files import write_dm4
from pyxem.signals import ElectronDiffraction2D, LazyElectronDiffraction2D

from pyxem_nas import Acquisition, save_map
from pyxem_nas.maps import make_crystal_map
from pyxem_nas.patterns import get_acquisition, get_scale, get_scan_axes, read_scan
from pyxem_nas.patterns.stated import get_beam_energy, get_precession

LAZY = pytest.mark.parametrize("lazy", [True, False])


def array_of(scan):
    data = scan.data
    return np.asarray(data.compute() if hasattr(data, "compute") else data)


@pytest.fixture
def images():
    return np.random.default_rng(0).poisson(9, (2, 3, 24, 20)).astype(np.uint16)


# --------------------------------------------------------------------- TopSpin


@LAZY
@pytest.mark.parametrize(
    ("name", "scan_shape", "shape", "step", "energy", "precession"),
    [("topspin_7x3", (3, 7), (37, 37), 5, 300, 0.5),
     ("topspin_test_A", (2, 5), (12, 14), 2, 200, 0.5),
     ("topspin_test_C", (3, 5), (12, 14), 1, 200, 0)],
)  # fmt: skip
def test_topspin_files_hold_one_scan_among_images(
    name, scan_shape, shape, step, energy, precession, lazy
):
    path = shared_data(f"files/{name}.app5")
    with pytest.warns(UserWarning, match="states the pixels of frames of"):
        scan = read_scan(path, lazy=lazy)
    assert sorted(scan.data.shape[-2:]) == sorted(shape)
    axes = get_scan_axes(scan)
    assert axes.shape == scan_shape and axes.unit == "nm"
    assert axes.step == pytest.approx((step, step), rel=1e-3)
    assert get_beam_energy(scan) == energy
    assert get_precession(scan) == pytest.approx(precession, abs=1e-9)
    with h5py.File(path) as file:  # h5py by hand: the patterns are in the order of their numbers
        found = []
        file.visititems(lambda key, _: found.append(key) if key.endswith("/0/Data") else None)
        group = file[found[0].removesuffix("/0/Data")]
        expected = np.stack([group[f"{k}/Data"][()] for k in range(len(group))])
    np.testing.assert_array_equal(array_of(scan).reshape(expected.shape), expected)


def test_the_angle_of_topspin_is_in_radians():
    with pytest.warns(UserWarning, match="by 16 then"):
        scan = read_scan(shared_data("files/topspin_7x3.app5"))
    # 1.0987e-4 rad over 0.019687 angstrom, 300 kV; its 37 pixels are every 16th of 580
    assert get_scale(scan, 300)[0] == pytest.approx(1.09869e-4 / 0.0196875, rel=1e-3)
    assert 16 * get_scale(scan, 300)[0] == pytest.approx(0.0893, abs=1e-4)
    # so has a signal that HyperSpy loaded
    loaded = hs.load(shared_data("files/topspin_7x3.app5"))[0]
    assert get_scale(loaded, 300) == get_scale(scan, 300)
    assert get_acquisition(loaded, Acquisition(80, 0)).beam_energy == 300


def test_patterns_too_small_to_index_are_said_to_be():
    with pytest.warns(UserWarning, match="frames of"):
        scan = read_scan(shared_data("files/topspin_test_A.app5"))
    with pytest.raises(ValueError, match=r"at least 16 x 16 pixels, got \(1[24], 1[24]\)"):
        scan.index_phase_orientation("silver", scan_rotation=0)


# --------------------------------------------------------------------- .h5 and .xml


@LAZY
def test_py4dstem_is_read_with_its_calibration(lazy):
    path = shared_data("files/py4DSTEM_size2x3x4x5.h5")
    scan = read_scan(path, lazy=lazy)
    assert isinstance(scan, LazyElectronDiffraction2D if lazy else ElectronDiffraction2D)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(array_of(scan), file["datacube_root/datacube/data"][()])
    assert get_scan_axes(scan) == ((2, 3), pytest.approx((0.1268, 0.1268), abs=1e-4), "nm")
    assert get_scale(scan) == pytest.approx((0.04425157, 0.04425157), rel=1e-6)


@LAZY
def test_py4dstem_with_an_image_beside_the_scan(lazy, images, tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update(authoring_program="emdfile", version_major=1, version_minor=0)
        for name, data, kind, units in (
            ("datacube", images, "DataCube", ("nm", "nm", "A^-1", "A^-1")),
            ("realslice", images[..., 0, 0], "RealSlice", ("nm", "nm")),
        ):
            group = file.create_group(f"root/{name}")
            file["root"].attrs.update(emd_group_type="root", python_class="Root")
            group.attrs.update(emd_group_type="array", python_class=kind)
            group["data"] = data
            for k, unit in enumerate(units):
                axis = group.create_dataset(f"dim{k}", data=np.array([0, 0.5]))
                axis.attrs.update(name=f"axis{k}", units=unit)
    scan = read_scan(path, lazy=lazy)
    np.testing.assert_array_equal(array_of(scan), images)
    assert get_scale(scan) == (0.5, 0.5)


@LAZY
def test_arina_is_read_in_the_shape_that_is_stated(lazy, images, tmp_path):
    path = tmp_path / "scan_master.h5"
    frames = images.reshape(6, 24, 20)
    with h5py.File(path, "w") as file:  # the frames lie in files of their own, as the detector's do
        for k, part in enumerate((frames[:4], frames[4:]), start=1):
            with h5py.File(tmp_path / f"scan_data_{k:06d}.h5", "w") as data:
                data["entry/data/data"] = part
            file[f"entry/data/data_{k:06d}"] = h5py.ExternalLink(
                f"scan_data_{k:06d}.h5", "entry/data/data"
            )
    with pytest.warns(UserWarning, match="one line of 6 patterns.*--scan-shape ROWS,COLUMNS"):
        line = read_scan(path, lazy=lazy)
    assert line.data.shape == (6, 24, 20)
    scan = read_scan(path, lazy=lazy, scan_shape=(2, 3))
    np.testing.assert_array_equal(array_of(scan), images)
    assert get_scan_axes(scan) == ((2, 3), (1, 1), "px")


def test_a_square_arina_scan_needs_nothing(images, tmp_path):
    path = tmp_path / "scan_master.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = images.reshape(6, 24, 20)[:4]
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_group("STEM Metadata").attrs["Pixel Size"] = [0.8]
    assert get_scan_axes(read_scan(path)) == ((2, 2), (0.8, 0.8), "nm")


@LAZY
def test_empad_is_read_by_its_xml(lazy, tmp_path):
    frames = np.random.default_rng(1).random((2, 3, 130, 128)).astype("<f4")
    frames.tofile(tmp_path / "scan_x3_y2.raw")
    path = tmp_path / "scan.xml"
    path.write_text(
        '<root><raw_file filename="scan_x3_y2.raw"/><pix_x>3</pix_x><pix_y>2</pix_y></root>'
    )
    for reader in (None, "EMPAD", "empad"):
        scan = read_scan(path, lazy=lazy, reader=reader)
        assert scan._lazy == lazy
        np.testing.assert_array_equal(array_of(scan), frames[:, :, :128])
        # the reader's centre, the middle, is no measurement
        assert [axis.offset for axis in scan.axes_manager.signal_axes] == [0, 0]


@LAZY
def test_a_hspy_file_of_another_suffix_is_read(lazy, images, tmp_path):
    ElectronDiffraction2D(images).save(tmp_path / "scan.hspy")
    shutil.move(tmp_path / "scan.hspy", tmp_path / "scan.h5")
    np.testing.assert_array_equal(array_of(read_scan(tmp_path / "scan.h5", lazy=lazy)), images)


def test_files_that_are_no_scans_are_named(tmp_path):
    from orix.crystal_map import Phase, PhaseList

    rows = {"phase_id": np.zeros(4, int), "rotations": np.tile([1.0, 0, 0, 0], (4, 1, 1))}
    phases = PhaseList(Phase("a", space_group=225))
    save_map(tmp_path / "map.h5", make_crystal_map(rows, phases, shape=(2, 2), step=(1, 1)))
    with pytest.raises(ValueError, match="map.h5.*is a crystal map of orix"):
        read_scan(tmp_path / "map.h5")
    for key, maker, match in (
        ("manufacturer", b"kikuchipy", r"of kikuchipy, with backscatter patterns \(EBSD\)"),
        ("Manufacturer", "EDAX", "of EDAX, with backscatter"),
        (" Manufacturer", b"Bruker Nano", "of Bruker"),
    ):
        with h5py.File(tmp_path / "ebsd.h5", "w") as file:
            file[key] = maker
        with pytest.raises(ValueError, match=f"ebsd.h5.*{match}"):
            read_scan(tmp_path / "ebsd.h5")


def test_a_reader_is_chosen_or_the_choice_is_said(images, tmp_path):
    path = tmp_path / "what.h5"
    with h5py.File(path, "w") as file:
        file["data"] = images
    with pytest.raises(ValueError, match=r"several readers might fit, \[.*'USID'.*--reader"):
        read_scan(path)
    with pytest.raises(ValueError, match="no reader 'Merlin'; for .h5 it has .*Arina"):
        read_scan(path, reader="Merlin")
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = images[0]
    for reader in ("Arina", "arina"):
        with pytest.warns(UserWarning, match="one line of 3"):
            assert read_scan(path, reader=reader).data.shape == (3, 24, 20)


def write_old_py4dstem(path, data):
    """Write what py4DSTEM up to 0.12 did: axes dim1 to dim4, the version at the top group."""
    with h5py.File(path, "w") as file:
        top = file.create_group("4DSTEM_experiment")
        top.attrs.update(emd_group_type=2, version_major=0, version_minor=7)
        group = top.create_group("data/datacubes/datacube_0")
        group.attrs["emd_group_type"] = 1
        group["data"] = data
        for k, (name, unit) in enumerate(
            (("R_x", "[nm]"), ("R_y", "[nm]"), ("Q_x", "[A^-1]"), ("Q_y", "[A^-1]")), start=1
        ):
            axis = group.create_dataset(f"dim{k}", data=0.5 * np.arange(data.shape[k - 1]))
            axis.attrs.update(name=name, units=unit)


@LAZY
def test_old_py4dstem_files_are_not_transposed(lazy, images, tmp_path):
    # HyperSpy gives the transpose of the whole array: a mirrored map
    write_old_py4dstem(tmp_path / "scan.h5", images)
    scan = read_scan(tmp_path / "scan.h5", lazy=lazy)
    np.testing.assert_array_equal(array_of(scan), images)
    assert get_scan_axes(scan) == ((2, 3), (0.5, 0.5), "nm")
    assert get_scale(scan) == (0.5, 0.5)


@LAZY
def test_dead_pixels_of_arina_are_no_spots(lazy, images, tmp_path):
    path, frames = tmp_path / "scan_master.h5", images.reshape(6, 24, 20)[:4].copy()
    frames[1:, 3, 4] = 65535  # DECTRIS' number for a pixel without a count
    dead = np.zeros((24, 20), np.uint32)
    dead[7, 8] = 2
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = frames
        file["entry/instrument/detector/detectorSpecific/pixel_mask"] = dead
    frames[1:, 3, 4] = frames[:, 7, 8] = 0
    scan = read_scan(path, lazy=lazy)
    np.testing.assert_array_equal(array_of(scan).reshape(frames.shape), frames)
    assert scan.data.dtype == np.uint16


def test_frames_of_arina_that_are_missing_are_named(images, tmp_path):
    with h5py.File(tmp_path / "scan_master.h5", "w") as file:
        file["entry/data/data_000001"] = images[0]
        for k in (2, 3):
            link = h5py.ExternalLink(f"scan_data_{k:06d}.h5", "entry/data/data")
            file[f"entry/data/data_{k:06d}"] = link
    with pytest.raises(ValueError, match=r"'scan_data_000002.h5' is missing, and 1 more"):
        read_scan(tmp_path / "scan_master.h5")


@LAZY
def test_frames_of_empad_that_are_missing_are_said_before_they_are_read(lazy, tmp_path):
    path = tmp_path / "scan.xml"
    path.write_text('<root><raw_file filename="s.raw"/><pix_x>3</pix_x><pix_y>2</pix_y></root>')
    with pytest.raises(ValueError, match=r"its frames are in 's.raw', which must lie beside"):
        read_scan(path, lazy=lazy)
    np.zeros((5, 130, 128), "<f4").tofile(tmp_path / "s.raw")
    with pytest.raises(ValueError, match=r"'s.raw' holds 5 patterns of the 6"):
        read_scan(path, lazy=lazy)


# --------------------------------------------------------------------- streams


@pytest.fixture
def mib(tmp_path):
    with zipfile.ZipFile(shared_data("files/Merlin_navigation4x2_ROI.zip")) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@LAZY
@pytest.mark.parametrize(
    ("name", "shape"), [("001_4x2_6bit", (256, 256)), ("002_4x2_6bit_roi128", (128, 256))]
)
def test_merlin_files_have_the_shape_of_their_header(name, shape, lazy, mib):
    scan = read_scan(mib / f"{name}.mib", lazy=lazy)
    assert scan.data.shape == (2, 4, *shape[::-1]) or scan.data.shape == (2, 4, *shape)
    stated = read_scan(mib / f"{name}.mib", lazy=lazy, scan_shape=(4, 2))
    np.testing.assert_array_equal(array_of(stated).ravel(), array_of(scan).ravel())
    assert stated.data.shape[:2] == (4, 2)


@LAZY
def test_tvips_is_one_line_or_what_is_stated(lazy):
    path = shared_data("files/test_tvips_2345_000.tvips")
    with pytest.warns(UserWarning, match="one line of 6 patterns.*--scan-shape"):
        line = read_scan(path, lazy=lazy)
    # the axis of time, of step 0 in this file, is no axis of a map
    assert get_scan_axes(line) == ((6,), (1,), "px")
    scan = read_scan(path, lazy=lazy, scan_shape=(2, 3))
    assert get_scan_axes(scan) == ((2, 3), (1, 1), "px")
    np.testing.assert_array_equal(array_of(scan).reshape(6, 4, 5), array_of(line))
    with pytest.raises(ValueError, match="holds 6 patterns, a scan of 4 x 2 has 8.*fit: 2 x 3"):
        read_scan(path, lazy=lazy, scan_shape=(4, 2))


def write_mib(path, frames, header=None):
    """Write frames (n, ny, nx) of 8 to 32 bits as a Merlin camera does, and an .hdr file."""
    bits = 8 * frames.dtype.itemsize
    content = b""
    for k, frame in enumerate(frames, start=1):
        ny, nx = frame.shape
        text = f"MQ1,{k:06d},00384,01,{nx:04d},{ny:04d},U{bits:02d},   1x1,01,2021-05-07 18:51:10"
        text += ",0.1,0,0,0,3RX,MQ1A,2021-05-07T16:51:10.905800928Z,100000000ns,6,"
        content += text.encode().ljust(384) + frame.astype(frame.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(content)
    if header is not None:
        keys = ("Frames in Acquisition (Number)", "Frames per Trigger (Number)")
        lines = [f"{key}:\t{value}\n" for key, value in zip(keys, header, strict=True)]
        path.with_suffix(".hdr").write_text("".join(["HDR,\t\n", *lines, "End\t"]))


@LAZY
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_merlin_frames_of_every_depth_keep_their_numbers(dtype, lazy, tmp_path):
    frames = np.random.default_rng(5).integers(0, 250, (6, 24, 20)).astype(dtype)
    write_mib(tmp_path / "scan.mib", frames, (6, 3))
    scan = read_scan(tmp_path / "scan.mib", lazy=lazy)
    assert scan.data.shape == (2, 3, 24, 20)
    # HyperSpy shows the file's rows from the bottom
    np.testing.assert_array_equal(array_of(scan).reshape(6, 24, 20), frames[:, ::-1])


@LAZY
def test_merlin_frames_that_fill_no_line_are_not_lost_without_a_word(lazy, tmp_path):
    frames = np.random.default_rng(6).integers(0, 250, (12, 24, 20)).astype(np.uint16)
    write_mib(tmp_path / "scan.mib", frames, (12, 5))  # a header that is wrong
    with pytest.warns(UserWarning, match="holds 12 frames, of which 10 are read, as lines of 5"):
        assert read_scan(tmp_path / "scan.mib", lazy=lazy).data.shape == (2, 5, 24, 20)
    scan = read_scan(tmp_path / "scan.mib", lazy=lazy, scan_shape=(3, 4))
    np.testing.assert_array_equal(array_of(scan).reshape(12, 24, 20), frames[:, ::-1])


def test_files_that_are_not_what_their_suffix_says_are_refused(images, tmp_path):
    write_mib(tmp_path / "raw.mib", images[0])
    content = (tmp_path / "raw.mib").read_bytes()
    (tmp_path / "raw.mib").write_bytes(content.replace(b",U16,", b",R64,"))
    (tmp_path / "short.mib").write_bytes(content[:1000])
    (tmp_path / "SCAN.MIB").write_bytes(content)
    for name, text, match in (
        ("raw.mib", None, "its frames are raw"),
        ("short.mib", None, "no whole frame"),
        ("SCAN.MIB", None, "rename .MIB"),
        ("text.mib", "hello", "no file of a Merlin camera"),
        ("scan.tvips", "hello", "_000.tvips"),
        ("scan_001.tvips", "hello", "_000.tvips"),
        ("scan.blo", "hello", "header is cut off"),
        ("scan.zspy", "hello", "is a folder"),
        ("scan.what", "hello", "has no reader for .what"),
        ("scan", "hello", "no reader for a name without suffix"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=match):
            read_scan(tmp_path / name)
    (tmp_path / "folder.blo").mkdir()
    with pytest.raises(ValueError, match="it is a folder"):
        read_scan(tmp_path / "folder.blo")


def write_tvips(path, frames, *, pixel, tension, writer):
    """Write frames (n, ny, nx) uint16 as a TVIPS camera does: a header, then a record a frame."""
    head = np.zeros(14, "<u4")
    ny, nx = frames.shape[1:]
    head[:13] = 256, 2, nx, ny, 16, 0, 0, 1, 1, pixel, tension, 80, 60
    content = head[:13].tobytes() + (writer * 40).encode()[:204]
    record = np.zeros(15, "<u4")
    for k, frame in enumerate(frames):
        record[:7] = k, 1_600_000_000 + k, 0, 0, 0, 0, 2
        content += record.tobytes() + frame.tobytes()
    path.write_bytes(content)


@LAZY
def test_the_camera_of_tvips_states_no_scale_and_its_tension_in_volts(lazy, images, tmp_path):
    path, frames = tmp_path / "scan_000.tvips", images.reshape(6, 24, 20)
    write_tvips(path, frames, pixel=15600, tension=200_000, writer="TVIPS ")
    scan = read_scan(path, lazy=lazy, scan_shape=(2, 3))
    np.testing.assert_array_equal(array_of(scan), images)
    with pytest.raises(ValueError, match="no unit"):  # 15600 is the camera's pixel in nm
        get_scale(scan)
    assert get_beam_energy(scan) == 200
    write_tvips(path, frames, pixel=2, tension=200, writer="HYPERSPY ")
    scan = read_scan(path, lazy=lazy, scan_shape=(2, 3))
    assert get_scale(scan) == (0.2, 0.2) and get_beam_energy(scan) == 200


# --------------------------------------------------------------------- .blo, .dm4


@LAZY
@pytest.mark.parametrize(
    ("name", "scan_shape"), [("nanomegas_2x3", (3, 2)), ("silver/silver_52x16", (16, 52))]
)
def test_block_files_of_nanomegas(name, scan_shape, lazy):
    path = shared_data(f"{name}.blo")
    scan = read_scan(path, lazy=lazy)
    content = path.read_bytes()
    start = int.from_bytes(content[12:16], "little")
    frames = np.frombuffer(content, np.uint8, offset=start).reshape(-1, 144**2 + 6)[:, 6:]
    np.testing.assert_array_equal(array_of(scan), frames.reshape(*scan_shape, 144, 144))
    with pytest.raises(ValueError, match="got 'cm'"):
        get_scale(scan)


@LAZY
@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1), (2, 3)])
def test_block_files_of_one_row_or_column(shape, lazy, tmp_path):
    rows, columns = shape
    content = np.random.default_rng(2).integers(0, 255, (rows, columns, 32, 32)).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a .blo file keeps its scale in cm
        ElectronDiffraction2D(content).save(tmp_path / "scan.blo")
    scan = read_scan(tmp_path / "scan.blo", lazy=lazy)
    assert scan._lazy == lazy
    np.testing.assert_array_equal(array_of(scan), content)


@LAZY
def test_a_block_file_that_ended_early_has_zeros_for_the_rest(lazy, tmp_path):
    content = np.random.default_rng(3).integers(1, 255, (4, 5, 32, 32)).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ElectronDiffraction2D(content).save(tmp_path / "scan.blo")
    path = tmp_path / "scan.blo"
    path.write_bytes(path.read_bytes()[: -6 * (32 * 32 + 6)])
    scan = array_of(read_scan(path, lazy=lazy)).reshape(20, 32, 32)
    np.testing.assert_array_equal(scan[:14], content.reshape(20, 32, 32)[:14])
    assert not scan[14:].any()


@LAZY
@pytest.mark.parametrize("units", [("1/nm", "nm"), ("mrad", "µm"), ("", "")])
def test_a_dm4_file_with_the_detector_first_is_turned(units, lazy, tmp_path):
    content = np.random.default_rng(4).poisson(3, (128, 128, 20, 21)).astype(np.uint8)
    write_dm4(tmp_path / "scan.dm4", content, np.repeat(units, 2).tolist(), (0.3, 0.3, 2, 2))
    with pytest.warns(UserWarning, match="swapped: 20 x 21 patterns of 128 x 128 pixels"):
        scan = read_scan(tmp_path / "scan.dm4", lazy=lazy)
    np.testing.assert_array_equal(array_of(scan), content.transpose(2, 3, 0, 1))
    assert {str(axis.units) for axis in scan.axes_manager.signal_axes} <= {units[0], "<undefined>"}
    assert [axis.scale for axis in scan.axes_manager.navigation_axes] == [2, 2]
    assert get_beam_energy(scan) == 200


@LAZY
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_dm4_file_with_the_scan_first_is_not_turned(dtype, lazy, images, tmp_path):
    write_dm4(tmp_path / "scan.dm4", images.astype(dtype), ("nm", "nm", "1/nm", "1/nm"), (2,) * 4)
    scan = read_scan(tmp_path / "scan.dm4", lazy=lazy)
    np.testing.assert_array_equal(array_of(scan), images)
    assert get_scan_axes(scan) == ((2, 3), (2, 2), "nm") and get_scale(scan) == (0.2, 0.2)


@pytest.mark.parametrize("units", [("1/nm", "nm"), ("", "nm"), ("", "")])
def test_a_file_with_the_scan_first_is_not_turned(units, images, tmp_path):
    signal = ElectronDiffraction2D(images)
    for axes, unit in (
        (signal.axes_manager.signal_axes, units[0]),
        (signal.axes_manager.navigation_axes, units[1]),
    ):
        for axis in axes:
            axis.units = unit
    signal.save(tmp_path / "scan.hspy")
    np.testing.assert_array_equal(array_of(read_scan(tmp_path / "scan.hspy")), images)


def test_two_scans_in_a_file_are_listed(images, tmp_path, monkeypatch):
    path = tmp_path / "scan.hspy"
    ElectronDiffraction2D(images).save(path)
    two = [ElectronDiffraction2D(images), ElectronDiffraction2D(images)]
    monkeypatch.setattr(hs, "load", lambda *args, **settings: two)
    with pytest.raises(
        ValueError, match=r"holds 2 scans .* 0: <.*; 1: <.*hs.load\(...\)\[0\].save"
    ):
        read_scan(path)


def test_a_scan_of_two_axes_is_chosen_among_stacks_of_images(images, tmp_path, monkeypatch):
    path = tmp_path / "scan.hspy"
    ElectronDiffraction2D(images).save(path)
    beside = [ElectronDiffraction2D(images[0]), ElectronDiffraction2D(images)]
    monkeypatch.setattr(hs, "load", lambda *args, **settings: beside)
    np.testing.assert_array_equal(array_of(read_scan(path)), images)


@LAZY
@pytest.mark.parametrize("suffix", ["emd", "nxs", "npy", "zspy", "tif", "prz"])
@pytest.mark.parametrize("dtype", [np.uint8, ">u2", np.float32])
def test_formats_that_hyperspy_writes_come_back(suffix, dtype, lazy, images, tmp_path):
    path = tmp_path / f"scan.{suffix}"
    expected = (images[0] if suffix == "tif" else images).astype(dtype)  # at most one axis
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ElectronDiffraction2D(expected).save(path)
        scan = read_scan(path, lazy=lazy)
    assert scan._lazy == lazy
    np.testing.assert_array_equal(array_of(scan), expected)
