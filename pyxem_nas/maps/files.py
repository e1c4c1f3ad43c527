"""What a user has on disk: scans, masks and maps.

Owns reading them with one kind of error, a ``ValueError`` or ``FileNotFoundError`` that names the
file, whatever the reader behind stumbled upon. The formats belong to HyperSpy, orix and, for
writing, :mod:`pyxem_nas.maps.export`.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["read_map", "read_mask", "read_scan"]

_MAX_PROMISE = 100  # times a block file's size, by its header


def read_scan(path: Path, *, lazy: bool = True) -> ElectronDiffraction2D:
    """Return the one scan in a file of any format that HyperSpy reads.

    Parameters
    ----------
    path
        The file.
    lazy
        Whether to read the patterns when they are needed, piece by piece.

    Returns
    -------
    scan
        Diffraction patterns.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it cannot be read or does not hold exactly one scan of diffraction patterns.
    """
    import hyperspy.api as hs
    from pyxem.signals import ElectronDiffraction2D

    with _reading(path, "by HyperSpy"), _silenced("hyperspy.io"):  # what it logs is raised, too
        if path.suffix.lower() == ".blo":
            _check_blockfile(path)
        loaded = hs.load(
            str(path),
            lazy=lazy,
            signal_type="electron_diffraction",
            escape_square_brackets=True,  # else taken for a pattern of several names
        )
    signals = loaded if isinstance(loaded, list) else [loaded]
    scans = [signal for signal in signals if isinstance(signal, ElectronDiffraction2D)]
    if len(scans) != 1:
        raise ValueError(
            f"{str(path)!r} holds {len(scans)} scans of diffraction patterns in {signals!r}; "
            "save the one to index to a file of its own"
        )
    return scans[0]


def _check_blockfile(path: Path) -> None:
    """Raise ValueError where a .blo file's header promises far more than the file can hold.

    A scan that ended early is no fault, but of a damaged header HyperSpy would list, for hours, the
    pieces of billions of patterns.
    """
    with path.open("rb") as file:
        header = file.read(28)
    if len(header) < 28:
        raise ValueError("it is no block file: its header is cut off")
    side, _, nx, ny = struct.unpack("<4H", header[20:])
    promised, size = nx * ny * (side**2 + 6), path.stat().st_size
    if promised > _MAX_PROMISE * size:
        raise ValueError(
            f"its header promises {ny} x {nx} patterns of {side} x {side} pixels, "
            f"{promised:,} bytes; the file has {size:,}"
        )


def read_mask(path: Path) -> np.ndarray:
    """Return the boolean image of a .npy file, True = detector pixel left out."""
    import numpy as np

    with _reading(path, "as a .npy file"):
        mask = np.load(path, allow_pickle=False)
    return mask.astype(bool)


def read_map(path: Path | str) -> CrystalMap:
    """Return the map of a .h5, .ang or .ctf file, in orix' crystal frame whatever the format.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    xmap
        Its map.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If orix cannot read it.

    Notes
    -----
    In a .ctf file x lies along a*, in orix along a, and orix 0.15 reads the angles as they are;
    here they are converted. See :func:`pyxem_nas.maps.export.channel_from_orix`.
    """
    from orix import io

    from pyxem_nas.maps.export import channel_from_orix

    path = Path(path)
    with _reading(path, "by orix"), warnings.catch_warnings():
        # the 4 pi of a position not indexed in .ang
        warnings.filterwarnings("ignore", message="Angles are quite high")
        xmap = io.load(path)
    if path.suffix.lower() == ".ctf":
        for i in xmap.phases_in_data.ids:
            rows = xmap.phase_id == i
            turned = ~channel_from_orix(xmap.phases[i]) * xmap.rotations[rows]
            # CrystalMap has no setter for its rotations
            xmap._rotations[xmap.is_in_data & (xmap._phase_id == i)] = turned
    return xmap


@contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Keep a logger quiet."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _reading(path: Path, how: str) -> Iterator[None]:
    """Turn whatever a reader raises into an error that names the file."""
    if not path.exists():
        raise FileNotFoundError(f"{str(path)!r} does not exist")
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} cannot be read {how}: {type(error).__name__}: {error}"
        ) from error
