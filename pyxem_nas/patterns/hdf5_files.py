"""HDF5 files, a suffix of a dozen formats: which one a file is.

Owns the recognition by content, what is said of files that are no scans, and the frames of
DECTRIS detectors, whose reader in RosettaSciIO cannot be lazy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import h5py

__all__ = ["recognize_hdf5", "stack_frames"]

_FRAMES_PER_CHUNK_BYTES = 2**26
_EBSD = "backscatter patterns (EBSD), which are not of transmission: index them with kikuchipy"
_NO_SCANS = {
    "orix": "a crystal map of orix, or of this package, not a scan",
    "kikuchipy": f"a file of kikuchipy, with {_EBSD}",
    "edax": f"a file of EDAX, with {_EBSD}",
    "bruker nano": f"a file of Bruker, with {_EBSD}",
    "oxford instruments": f"a file of Oxford Instruments, with {_EBSD}",
}


def recognize_hdf5(path: Path) -> str | None:
    """Return HyperSpy's name for the format of an HDF5 file, None where it is not known here.

    Raises
    ------
    ValueError
        If it is a file of another kind than a scan.
    OSError
        If it is no HDF5 file.
    """
    import h5py

    with h5py.File(path, "r") as file:
        maker = _get_manufacturer(file)
        for name, what in _NO_SCANS.items():
            if maker.startswith(name):
                raise ValueError(f"it is {what}")
        if _is_emd(file):
            return "EMD"
        if "Experiments" in file:
            return "HSPY"
        if _frames(file):
            return "Arina"
    return None


def _get_manufacturer(file: h5py.File) -> str:
    """Return who wrote the file, in lower case, as h5ebsd and orix have it."""
    for key in file:
        if key.strip().lower() == "manufacturer" and hasattr(file[key], "shape"):
            value = np.ravel(file[key][()])[0]
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            return text.strip().lower()
    return ""


def _is_emd(file: h5py.File) -> bool:
    """Return whether a file is of py4DSTEM, old or new, or of EMD's other writers."""
    program = file.attrs.get("authoring_program", "")
    if isinstance(program, bytes):
        program = program.decode(errors="replace")
    groups = [group for group in file.values() if hasattr(group, "keys")]
    return (
        str(program).lower() in ("emdfile", "py4dstem")
        or "4DSTEM_experiment" in file
        or any("emd_group_type" in group.attrs for group in groups)
    )


def _frames(file: h5py.File) -> list[h5py.Dataset]:
    """Return the stacks of frames of a DECTRIS master file, in order."""
    group = file.get("entry/data")
    if group is None:
        return []
    found = {name: group.get(name) for name in sorted(group)}
    # a link to a data file that is missing gives None
    missing = [group.get(name, getlink=True).filename for name in found if found[name] is None]
    if missing:
        raise ValueError(
            f"its frames are in files that must lie beside it, of which {missing[0]!r} is missing"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
        )
    return [data for data in found.values() if getattr(data, "ndim", 0) == 3]


def stack_frames(path: Path, *, lazy: bool) -> Any:
    """Return the frames of a DECTRIS (Arina) master file as a signal, square where it can be.

    Parameters
    ----------
    path
        The master file; its data files lie beside it.
    lazy
        Whether to read frames when they are needed.

    Raises
    ------
    ValueError
        If the file holds no frames.
    """
    import dask.array as da
    import h5py
    from pyxem.signals import LazyElectronDiffraction2D

    try:
        import hdf5plugin  # noqa: F401  the filters that the detector writes with
    except ImportError as error:
        raise ImportError("Arina files need hdf5plugin: pip install hdf5plugin") from error
    file = h5py.File(path, "r")  # open as long as the lazy signal is
    stacks = _frames(file)
    if not stacks:
        raise ValueError("entry/data holds no stack of frames; is this the master file?")
    shape = stacks[0].shape[1:]
    n = max(1, _FRAMES_PER_CHUNK_BYTES // int(np.prod(shape) * stacks[0].dtype.itemsize))
    data = da.concatenate([da.from_array(stack, chunks=(n, -1, -1)) for stack in stacks])
    data = data.map_blocks(_clear_pixels, _get_dead_pixels(file, shape), dtype=data.dtype)
    side = int(np.sqrt(len(data)))
    signal = LazyElectronDiffraction2D(data)
    if side > 1 and side**2 == len(data):
        signal = LazyElectronDiffraction2D(data.reshape(side, side, *shape))
    _set_steps(signal, path)
    if not lazy:
        signal.compute(show_progressbar=False)
    return signal


def _get_dead_pixels(file: h5py.File, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return which pixels the detector itself says are dead, None where it does not."""
    mask = file.get("entry/instrument/detector/detectorSpecific/pixel_mask")
    if mask is None or mask.shape != shape or not np.any(mask[()]):
        return None
    return mask[()] != 0


def _clear_pixels(frames: np.ndarray, dead: np.ndarray | None) -> np.ndarray:
    """Return frames with 0, which descriptors leave out, for pixels without a count.

    DECTRIS writes the largest number there; it would be the brightest spot of all.
    """
    without = np.zeros(frames.shape, bool) if dead is None else np.broadcast_to(dead, frames.shape)
    if frames.dtype.kind == "u":
        without = without | (frames == np.iinfo(frames.dtype).max)
    return np.where(without, frames.dtype.type(0), frames)


def _set_steps(signal: Any, path: Path) -> None:
    """Set the step of the scan where the file beside the master file tells it."""
    import h5py

    beside = path.with_name(path.name.replace("_master.h5", ".h5"))
    if beside == path or not beside.is_file():
        return
    with h5py.File(beside, "r") as file:
        stated = file["STEM Metadata"].attrs.get("Pixel Size") if "STEM Metadata" in file else None
    if stated is not None:
        for axis in signal.axes_manager.navigation_axes:
            axis.scale, axis.units = float(np.ravel(stated)[0]), "nm"
