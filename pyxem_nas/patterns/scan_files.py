"""The scan in a file: which reader, which of several signals, in which shape.

Owns `read_scan` and what it takes to make a scan of what HyperSpy's readers return: scans without
navigation axes, images beside the scan, axes that are swapped, centres that nobody measured. The
formats themselves belong to RosettaSciIO, the recognition of HDF5 files to `hdf5_files`.
"""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.file_reading import reading, silenced
from pyxem_nas.patterns.file_checks import check_empad, check_scan_file, is_complete_blockfile
from pyxem_nas.patterns.hdf5_files import recognize_hdf5, stack_frames
from pyxem_nas.patterns.units import convert_length, to_inverse_angstrom

if TYPE_CHECKING:
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["read_scan"]

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
        check_scan_file(path, reader)
        if reader is None:
            reader = _recognize(path)
        signals = _load(path, reader, lazy, as_line=scan_shape is not None)
    scan = _choose_scan(path, [_with_navigation(signal) for signal in signals])
    scan = _put_patterns_last(scan)
    if suffix == ".app5" or (reader or "").lower() == "empad":
        # the middle of the camera, which these readers give for the centre, is no measurement
        for axis in scan.axes_manager.signal_axes:
            axis.offset = 0.0
    _set_tvips(scan)
    _check_frame_size(path, scan)
    _warn_of_frames_left_out(path, scan)
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


def _load(path: Path, reader: str | None, lazy: bool, *, as_line: bool) -> list[Any]:
    """Return the signals in a file; of a Merlin stream `as_line` all frames, in no shape."""
    import hyperspy.api as hs

    suffix = path.suffix.lower()
    kind = (reader or suffix).lower().removeprefix(".")
    settings: dict[str, Any] = {"signal_type": "electron_diffraction"}
    settings["escape_square_brackets"] = True  # else taken for a pattern of several names
    if reader is not None:
        _check_reader(path, reader)
        if kind == "arina":
            return [stack_frames(path, lazy=lazy)]  # HyperSpy's reader has no lazy way
        known = inspect.signature(hs.load).parameters  # HyperSpy 2.4 renamed it
        settings["file_format" if "file_format" in known else "reader"] = reader
    if kind in ("mib", "quantumdetector") and as_line:
        # more than there are: else frames that the header's lines do not take up are left out
        settings["navigation_shape"] = (2**40,)
    by_pieces = _is_read_by_pieces(path, kind, lazy)
    try:
        # TopSpin's reader has a progress bar that cannot be turned off from here
        with redirect_stderr(io.StringIO()) if suffix == ".app5" else nullcontext():
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
    if kind == "empad":
        check_empad(path, max(signals[0].axes_manager.navigation_size, 1))
    if by_pieces and not lazy:
        for signal in signals:
            signal.compute(show_progressbar=False)
    return [signal.as_lazy() if lazy and not signal._lazy else signal for signal in signals]


def _is_read_by_pieces(path: Path, kind: str, lazy: bool) -> bool:
    """Return whether to load a file lazily, whatever is made of it then."""
    if kind in ("blo", "blockfile"):
        # one row or column is read right in the lazy way only; a scan that ended early, with zeros
        # for what is missing, in the other only
        return is_complete_blockfile(path)
    if kind in ("prz", "pantarhei"):
        return False  # the lazy way takes compressed numbers for pixels
    return lazy or kind == "empad"  # whose frames are looked for before they are read


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
    if [axis.name for axis in axes] == ["Q_y", "Q_x", "R_y", "R_x"]:
        signal = _reverse_axes(signal)  # of old py4DSTEM files HyperSpy transposes the whole array
        axes = signal.axes_manager._axes
    told = bool(signal.axes_manager.navigation_axes) and bool(signal.axes_manager.signal_axes)
    if len(axes) in (3, 4) and not told:  # py4DSTEM, Arina
        for axis in axes[:-2]:
            axis.navigate = True
        for axis in axes[-2:]:
            axis.navigate = False
    signal.set_signal_type("electron_diffraction")
    return signal


def _reverse_axes(signal: Any) -> Any:
    """Return a signal whose array is transposed, the first two axes those of the scan."""
    axes = [axis.get_axis_dictionary() for axis in signal.axes_manager._axes[::-1]]
    for k, axis in enumerate(axes):
        axis["navigate"] = k < 2
    return type(signal)(
        signal.data.T,
        axes=axes,
        metadata=signal.metadata.as_dictionary(),
        original_metadata=signal.original_metadata.as_dictionary(),
    )


def _choose_scan(path: Path, signals: Sequence[Any]) -> ElectronDiffraction2D:
    """Return the one signal that is a scan: images beside it have no navigation axes."""
    from pyxem.signals import ElectronDiffraction2D

    patterns = [signal for signal in signals if isinstance(signal, ElectronDiffraction2D)]
    dimensions = [signal.axes_manager.navigation_dimension for signal in patterns]
    scans = [signal for signal, n in zip(patterns, dimensions, strict=True) if n]
    if len(scans) > 1 and dimensions.count(2) == 1:  # stacks of images beside a scan of two axes
        scans = [patterns[dimensions.index(2)]]
    elif not scans:  # a single pattern, beside images at most
        told = [s for s in patterns if _is_reciprocal(s.axes_manager.signal_axes[0].units)]
        scans = patterns if len(patterns) == 1 else told
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


def _set_tvips(scan: ElectronDiffraction2D) -> None:
    """Set what the header of a TVIPS camera's stream means, which its reader takes otherwise.

    Its pixels are those of the camera in nm, no calibration, its high tension is in volts; HyperSpy
    writes both in the units of its signals, and its name beside them.
    """
    header = scan.original_metadata.get_item("tvips_header")
    if header is None or "HYPERSPY" in str(header.get_item("dummy")):
        return
    for axis in scan.axes_manager.signal_axes:
        axis.scale, axis.offset, axis.units = 1.0, 0.0, "px"
    volts = float(header.get_item("ht") or 0)
    if volts > 5000:
        scan.metadata.set_item("Acquisition_instrument.TEM.beam_energy", volts / 1000)


def _warn_of_frames_left_out(path: Path, scan: ElectronDiffraction2D) -> None:
    """Warn where HyperSpy leaves out frames of a Merlin camera that fill no line."""
    n = scan.original_metadata.get_item("mib_properties.frame_number_in_file")
    n_read = max(scan.axes_manager.navigation_size, 1)
    if n is not None and n > n_read:
        warnings.warn(
            f"{str(path)!r} holds {n} frames, of which {n_read} are read, as lines of "
            f"{scan.axes_manager.navigation_shape[0]}; if that is not the scan, {_SHAPE_HINT}",
            stacklevel=3,
        )


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
