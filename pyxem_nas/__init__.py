"""Phase and orientation maps from scanning electron diffraction, inside HyperSpy and pyxem.

Importing this package gives `ElectronDiffraction2D` the methods `get_polar_descriptors` and
`index_phase_orientation`. It imports neither TensorFlow nor Keras.
"""

from importlib.metadata import version as _version

from pyxem_nas.bundle import BundleError, Judge, ModelBundle, Thresholds, shipped_bundles
from pyxem_nas.bundle_training import search_models
from pyxem_nas.camera import Randomization
from pyxem_nas.configuration import set_default_bundle
from pyxem_nas.crystal_map import make_crystal_map
from pyxem_nas.datasets import example_phases, simulate_scan
from pyxem_nas.descriptors import DescriptorSpec
from pyxem_nas.evaluation import Evaluation, evaluate
from pyxem_nas.map_export import save_map, write_mtex_script
from pyxem_nas.networks import Architecture
from pyxem_nas.plotting import plot_map
from pyxem_nas.signals import attach_methods as _attach_methods
from pyxem_nas.simulation import Acquisition

__version__ = _version("pyxem-nas")
__all__ = [
    "Acquisition",
    "Architecture",
    "BundleError",
    "DescriptorSpec",
    "Evaluation",
    "Judge",
    "ModelBundle",
    "Randomization",
    "Thresholds",
    "evaluate",
    "example_phases",
    "make_crystal_map",
    "plot_map",
    "save_map",
    "search_models",
    "set_default_bundle",
    "shipped_bundles",
    "simulate_scan",
    "write_mtex_script",
]

_attach_methods()
