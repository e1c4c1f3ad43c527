"""What a user has on disk beside scans: masks and maps.

Owns reading them. The formats belong to orix and, for writing, :mod:`pyxem_nas.maps.export`; scans
are read by :mod:`pyxem_nas.patterns.scan_files`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pyxem_nas.file_reading import reading

if TYPE_CHECKING:
    import numpy as np
    from orix.crystal_map import CrystalMap

__all__ = ["read_map", "read_mask"]


def read_mask(path: Path) -> np.ndarray:
    """Return the boolean image of a .npy file, True = detector pixel left out."""
    import numpy as np

    with reading(path, "as a .npy file"):
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
    with reading(path, "by orix"), warnings.catch_warnings():
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
