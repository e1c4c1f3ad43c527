"""Files that a command leaves: maps, and a picture beside the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyxem_nas.file_writing import replacing

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap


def write_maps(paths: Sequence[Path], xmap: CrystalMap, *, overwrite: bool) -> list[Path]:
    """Write a map to files, and a picture beside the first of them; return all paths.

    Parameters
    ----------
    paths
        Files; their suffixes decide the formats.
    xmap
        The map.
    overwrite
        Whether to replace files that exist.
    """
    import matplotlib.pyplot as plt

    from pyxem_nas.figures import plot_map
    from pyxem_nas.maps import save_map

    for path in paths:
        save_map(path, xmap, overwrite=overwrite)
    picture = paths[0].with_suffix(".png")
    figure = plot_map(xmap)
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=200)
    plt.close(figure)
    return [*paths, picture]
