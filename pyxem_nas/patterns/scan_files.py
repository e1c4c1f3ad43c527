"""The scan in a file: which reader, which of several signals, in which shape.

Owns `read_scan` and what it takes to make a scan of what HyperSpy's readers return: scans without
navigation axes, images beside the scan, axes that are swapped, centres that nobody measured. The
formats themselves belong to RosettaSciIO, the recognition of HDF5 files to `hdf5_files`.
"""

from __future__ import annotations

import inspect
import io
import struct
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.file_reading import reading, silenced
from pyxem_nas.patterns.hdf5_files import recognize_hdf5, stack_frames
from pyxem_nas.patterns.units import convert_length, to_inverse_angstrom

if TYPE_CHECKING:
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["read_scan"]

_MAX_PROMISE = 100  # times a block file's size, by its header
_HDF5 = (".h5", ".hdf5", ".hdf", ".emd")
_STREAMS = (".mib", ".tvips", ".h5")  # of cameras, which may not know the shape of the scan
_SHAPE_HINT = "give the scan's shape, scan_shape=(rows, columns), --scan-shape ROWS,COLUMNS"


def read_scan(
    path: Path,
    *,
    lazy: bool = True,
    reader: str | None = None,
    scan_shape: tuple[int, int] | None = None,
) -> ElectronDiffraction2D:
    """Return the one scan in a file of any format that HyperSpy reads.

    Parameters
    ----------
    path
        The file.
    lazy
        Whether to read the patterns when they are needed, piece by piece.
    reader
        HyperSpy's name of the format, for a file that several formats could be. None: by suffix
        and content.
    scan_shape
        Rows and columns of the scan, for formats that are read as one line of patterns.

    Returns
    -------
    scan
        Diffraction patterns. A beam centre that no one measured, the middle of the camera that
        some readers write, is left out.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it cannot be read, does not hold exactly one scan of diffraction patterns, or a number
        of patterns that `scan_shape` does not have.
    """
    suffix = path.suffix.lower()
    with reading(path, "by HyperSpy"), silenced("hyperspy.io"):  # what it logs is raised, too
        if suffix == ".blo":
            _check_blockfile(path)
        if reader is None:
            reader = _recognize(path)
        signals = _load(path, reader, lazy)
    scan = _choose_scan(path, [_with_navigation(signal) for signal in signals])
    scan = _put_patterns_last(scan)
    if reader in ("EMPAD", "Topspin") or suffix == ".app5":
        # the middle of the camera, which these readers give for the centre, is no measurement
        for axis in scan.axes_manager.signal_axes:
            axis.offset = 0.0
    _check_frame_size(path, scan)
    return _shape_scan(path, scan, scan_shape)


def _recognize(path: Path) -> str | None:
    """Return HyperSpy's name of a format that shares its suffix with others, None if it is clear.

    Raises ValueError where the file is known to be no scan.
    """
    if path.suffix.lower() in _HDF5:
        return recognize_hdf5(path)
    if path.suffix.lower() == ".xml":
        head = path.read_bytes()[: 2**16]
        return "EMPAD" if b"raw_file" in head or b"scan_parameters" in head else None
    return None


def _load(path: Path, reader: str | None, lazy: bool) -> list[Any]:
    """Return the signals in a file."""
    import hyperspy.api as hs

    if reader is not None:
        _check_reader(path, reader)
        if reader.lower() == "arina":
            return [stack_frames(path, lazy=lazy)]  # HyperSpy's reader has no lazy way
    settings: dict[str, Any] = {"signal_type": "electron_diffraction"}
    settings["escape_square_brackets"] = True  # else taken for a pattern of several names
    if reader is not None:
        known = inspect.signature(hs.load).parameters  # HyperSpy 2.4 renamed it
        settings["file_format" if "file_format" in known else "reader"] = reader
    # a block file of one row or column is read right in the lazy way only, one that ended early,
    # with zeros for what is missing, in the other only
    is_blockfile = path.suffix.lower() == ".blo"
    by_pieces = _is_complete(path) if is_blockfile else lazy
    try:
        # TopSpin's reader has a progress bar that cannot be turned off from here
        with redirect_stderr(io.StringIO()) if path.suffix.lower() == ".app5" else nullcontext():
            try:
                loaded = hs.load(str(path), lazy=by_pieces, **settings)
            except NotImplementedError:  # of readers that are not lazy
                loaded = hs.load(str(path), lazy=False, **settings)
    except ValueError as error:
        if "multiple file readers" not in str(error):
            raise
        names = str(error).rpartition(":")[2].strip()
        raise ValueError(
            f"several readers might fit, {names}; choose one, reader=..., --reader ..."
        ) from error
    signals = loaded if isinstance(loaded, list) else [loaded]
    if is_blockfile and by_pieces and not lazy:
        for signal in signals:
            signal.compute(show_progressbar=False)
    return signals


def _check_reader(path: Path, reader: str) -> None:
    """Raise ValueError unless HyperSpy has a reader of that name."""
    from rsciio import IO_PLUGINS

    names = {
        name.lower() for plugin in IO_PLUGINS for name in (plugin["name"], *plugin["name_aliases"])
    }
    if reader.lower() not in names:
        suffix = path.suffix.lower().removeprefix(".")
        fitting = [p["name"] for p in IO_PLUGINS if suffix in map(str.lower, p["file_extensions"])]
        raise ValueError(
            f"HyperSpy has no reader {reader!r}; for .{suffix} it has "
            f"{', '.join(fitting) or 'none'}"
        )


def _with_navigation(signal: Any) -> Any:
    """Return a signal of three or four axes with the last two as the detector's."""
    axes = signal.axes_manager._axes
    if len(axes) in (3, 4) and not signal.axes_manager.navigation_axes:  # py4DSTEM, Arina
        for axis in axes[:-2]:
            axis.navigate = True
        for axis in axes[-2:]:
            axis.navigate = False
    signal.set_signal_type("electron_diffraction")
    return signal


def _choose_scan(path: Path, signals: Sequence[Any]) -> ElectronDiffraction2D:
    """Return the one signal that is a scan: images beside it have no navigation axes."""
    from pyxem.signals import ElectronDiffraction2D

    patterns = [signal for signal in signals if isinstance(signal, ElectronDiffraction2D)]
    scans = [signal for signal in patterns if signal.axes_manager.navigation_dimension]
    if len(scans) != 1:
        scans = patterns if len(signals) == 1 else scans
    if len(scans) == 1:
        return scans[0]
    listed = "; ".join(f"{k}: {signal!r}" for k, signal in enumerate(signals))
    raise ValueError(
        f"{str(path)!r} holds {len(scans)} scans of diffraction patterns in {listed}; save the one "
        "to index to a file of its own, e.g. hs.load(...)[0].save('scan.zspy')"
    )


def _put_patterns_last(scan: ElectronDiffraction2D) -> ElectronDiffraction2D:
    """Return a scan whose file counts over the detector first, then over the specimen, turned."""
    manager = scan.axes_manager
    if manager.navigation_dimension != 2:
        return scan
    told = [_is_reciprocal(axis.units) for axis in (*manager.navigation_axes, *manager.signal_axes)]
    swapped = told == [True, True, False, False]
    if None in told[:2] and None in told[2:]:
        # no units: nobody has a hundred times as many positions as pixels on so small a detector
        swapped = max(manager.signal_shape) < 64 and min(manager.navigation_shape) > 3 * max(
            manager.signal_shape
        )
    if not swapped:
        return scan
    turned = scan.transpose(signal_axes=manager.navigation_axes)
    turned.set_signal_type("electron_diffraction")
    ny, nx = turned.axes_manager._signal_shape_in_array
    rows, columns = turned.axes_manager._navigation_shape_in_array
    warnings.warn(
        f"the file's axes are those of {ny * nx} images of {columns} x {rows} pixels; they were "
        f"swapped: {rows} x {columns} patterns of {ny} x {nx} pixels",
        stacklevel=3,
    )
    return turned


def _is_reciprocal(units: Any) -> bool | None:
    """Return whether a unit is of a detector, False if of a specimen, None if it does not tell."""
    if convert_length(units, "nm") is not None:
        return False
    try:
        to_inverse_angstrom(units, 200.0)  # the energy matters to the value, not to whether
    except ValueError:
        return None
    return True


def _check_frame_size(path: Path, scan: ElectronDiffraction2D) -> None:
    """Warn where TopSpin's calibration is that of frames of another size."""
    size = scan.original_metadata.get_item("ProcedureData.FrameSize")
    shape = scan.axes_manager._signal_shape_in_array
    if not isinstance(size, int) or size <= max(shape):
        return
    factor = round(size / max(shape))
    warnings.warn(
        f"{str(path)!r} states the pixels of frames of {size} x {size}; its patterns have "
        f"{shape[0]} x {shape[1]}. If they were binned, by {factor} then, pixels are {factor} "
        "times as large as stated: state the scale",
        stacklevel=3,
    )


def _shape_scan(
    path: Path, scan: ElectronDiffraction2D, scan_shape: tuple[int, int] | None
) -> ElectronDiffraction2D:
    """Return a scan in the shape that the user states; one without positions in pixels."""
    axes = scan.axes_manager.navigation_axes
    n = int(np.prod(scan.axes_manager.navigation_shape)) if axes else 1
    if scan_shape is None:
        if len(axes) == 1 and n > 1 and path.suffix.lower() in _STREAMS:
            warnings.warn(
                f"{str(path)!r} does not tell the shape of its scan and is read as one line of {n} "
                f"patterns; if it is a map, {_SHAPE_HINT}",
                stacklevel=3,
            )
        for axis in axes:
            if axis.is_uniform and convert_length(axis.units, "nm") is None:
                if convert_length(axis.units, "s") is not None:  # the time of a stream's frames
                    axis.scale, axis.offset, axis.units = 1.0, 0.0, "px"
        return scan
    rows, columns = (int(v) for v in scan_shape)
    if rows < 1 or columns < 1 or rows * columns != n:
        fitting = [f"{k} x {n // k}" for k in range(2, int(np.sqrt(n)) + 1) if n % k == 0]
        raise ValueError(
            f"{str(path)!r} holds {n} patterns, a scan of {rows} x {columns} has "
            f"{rows * columns}; shapes that fit: {', '.join(fitting[-6:]) or 'none but a line'}. "
            "Load a stream with frames before or after the scan by hs.load and cut it (s.inav)"
        )
    detector = [axis.get_axis_dictionary() for axis in scan.axes_manager.signal_axes[::-1]]
    positions = [
        {"name": name, "size": size, "scale": 1.0, "offset": 0.0, "units": "px", "navigate": True}
        for name, size in (("y", rows), ("x", columns))
    ]
    return type(scan)(
        scan.data.reshape(rows, columns, *scan.data.shape[-2:]),
        axes=[*positions, *detector],
        metadata=scan.metadata.as_dictionary(),
        original_metadata=scan.original_metadata.as_dictionary(),
    )


def _check_blockfile(path: Path) -> None:
    """Raise ValueError where a .blo file's header promises far more than the file can hold.

    A scan that ended early is no fault, but of a damaged header HyperSpy would list, for hours, the
    pieces of billions of patterns.
    """
    side, nx, ny, size = _read_blockfile_header(path)
    promised = nx * ny * (side**2 + 6)
    if promised > _MAX_PROMISE * size:
        raise ValueError(
            f"its header promises {ny} x {nx} patterns of {side} x {side} pixels, "
            f"{promised:,} bytes; the file has {size:,}"
        )


def _is_complete(path: Path) -> bool:
    """Return whether a .blo file holds all patterns that its header promises."""
    with path.open("rb") as file:
        file.seek(12)
        start = struct.unpack("<I", file.read(4))[0]
    side, nx, ny, size = _read_blockfile_header(path)
    return start + nx * ny * (side**2 + 6) <= size


def _read_blockfile_header(path: Path) -> tuple[int, int, int, int]:
    """Return pixels along a side, columns, rows and bytes of a .blo file."""
    with path.open("rb") as file:
        header = file.read(28)
    if len(header) < 28:
        raise ValueError("it is no block file: its header is cut off")
    side, _, nx, ny = struct.unpack("<4H", header[20:])
    return side, nx, ny, path.stat().st_size
