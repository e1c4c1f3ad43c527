"""Maps: result rows -> orix' CrystalMap, its files, its comparison with a reference.

Owns what an id means, how positions are ordered, what a file of another program holds, and grains.
Nothing here draws.
"""

from pyxem_nas.maps.coherence import Coherence, measure_coherence
from pyxem_nas.maps.crystal_map import (
    NOT_INDEXED,
    all_positions,
    best_rotations,
    get_geometry,
    make_crystal_map,
)
from pyxem_nas.maps.evaluation import Evaluation, evaluate
from pyxem_nas.maps.export import check_map_unit, save_map
from pyxem_nas.maps.files import (
    read_map,
    read_mask,
)
from pyxem_nas.maps.grains import balance_grains, segment_grains, split_grains
from pyxem_nas.maps.mtex_script import write_mtex_script
from pyxem_nas.maps.plausible import plausible_orientations

__all__ = [
    "Coherence",
    "Evaluation",
    "NOT_INDEXED",
    "all_positions",
    "balance_grains",
    "best_rotations",
    "check_map_unit",
    "evaluate",
    "get_geometry",
    "make_crystal_map",
    "measure_coherence",
    "plausible_orientations",
    "read_map",
    "read_mask",
    "save_map",
    "segment_grains",
    "split_grains",
    "write_mtex_script",
]
