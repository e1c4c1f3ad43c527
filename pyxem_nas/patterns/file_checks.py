"""What a scan's file lacks, said before its patterns are read.

Owns the looks at files of which the readers of RosettaSciIO say in their own terms only, or not
until the patterns are read, that they are cut off, alone, renamed or of another kind. What is read
belongs to `scan_files`.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

__all__ = ["check_empad", "check_scan_file", "is_complete_blockfile"]

_MAX_PROMISE = 100  # times a block file's size, by its header
_EMPAD_FRAME_BYTES = 130 * 128 * 4  # 128 rows of pixels and two of the camera's own, float32


def check_scan_file(path: Path, reader: str | None = None) -> None:
    """Raise ValueError if a file cannot be what its suffix says, or others that it needs lack.

    Parameters
    ----------
    path
        The file; it exists.
    reader
        What the user says of its format: the suffix tells nothing then.

    Raises
    ------
    ValueError
        If its reader would fail, later or in terms that tell the user nothing.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        if suffix != ".zspy":
            raise ValueError("it is a folder; of folders only .zspy is a scan")
        return
    if reader is None:
        _check_suffix(suffix)
    elif reader.lower() != "blockfile":
        return
    check = {".blo": _check_blockfile, ".mib": _check_mib, ".tvips": _check_tvips}.get(suffix)
    if check is not None:
        check(path)
    elif suffix == ".zspy":
        raise ValueError(
            "a .zspy scan is a folder, this is a file; unpack it, or if it is a zip store of zarr, "
            "hs.load(zarr.ZipStore(...)).save('scan.zspy')"
        )


def _check_suffix(suffix: str) -> None:
    """Raise ValueError where HyperSpy has no reader: it would try to read a photograph."""
    from rsciio import IO_PLUGINS

    known = {f".{end.lower()}" for plugin in IO_PLUGINS for end in plugin["file_extensions"]}
    if suffix not in known:
        raise ValueError(
            f"it has no reader for {suffix or 'a name without suffix'}; rename the file by its "
            "format, or convert it, e.g. to .zspy"
        )


# ------------------------------------------------------------------------- NanoMEGAS


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


def is_complete_blockfile(path: Path) -> bool:
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


# ------------------------------------------------------------------------- cameras


def _check_mib(path: Path) -> None:
    """Raise ValueError unless a .mib file has a header, a reader for its numbers, and a frame."""
    with path.open("rb") as file:
        head = file.read(384).split(b",")
    if head[0] != b"MQ1" or len(head) < 8:
        raise ValueError("it is no file of a Merlin camera: its frames begin with 'MQ1,'")
    if head[6].startswith(b"R"):
        raise ValueError(
            "its frames are raw (R64), as the chip sends them; save them as U08, U16 or U32, or "
            "load them with LiberTEM"
        )
    if path.suffix != ".mib":
        raise ValueError(f"its .hdr is looked for by a name in .mib; rename {path.suffix} so")
    frame = int(head[2]) + int(head[4]) * int(head[5]) * int(head[6][1:]) // 8
    if path.stat().st_size < frame:
        raise ValueError(f"it holds no whole frame, of {frame:,} bytes")


def _check_tvips(path: Path) -> None:
    """Raise ValueError unless a .tvips file is the first of its series, by its name."""
    found = re.search(r"_(\d{3})\.tvips$", path.name.lower())
    if found is None or int(found[1]):
        raise ValueError(
            "the files of a series are found by their names: give the first, which ends in "
            "_000.tvips"
        )


def check_empad(path: Path, n_patterns: int) -> None:
    """Raise ValueError unless the frames that an EMPAD's .xml names are there, all of them.

    Parameters
    ----------
    path
        The .xml file.
    n_patterns
        Number of patterns that it promises.

    Raises
    ------
    ValueError
        If the file of the frames is missing or shorter.
    """
    found = re.search(rb'raw_file[^>]*filename="([^"]+)"', path.read_bytes())
    if found is None:
        return
    frames = path.with_name(found[1].decode(errors="replace"))
    if not frames.is_file():
        raise ValueError(f"its frames are in {frames.name!r}, which must lie beside it")
    n = frames.stat().st_size // _EMPAD_FRAME_BYTES
    if n < n_patterns:
        raise ValueError(
            f"{frames.name!r} holds {n} patterns of the {n_patterns} that the .xml promises; a "
            "scan that ended early is read if the .xml says so (pix_y)"
        )
