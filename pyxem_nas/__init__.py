"""Phase and orientation maps from scanning electron diffraction, inside HyperSpy and pyxem.

Importing this package gives `ElectronDiffraction2D` the methods `get_polar_descriptors` and
`index_phase_orientation`. It imports neither TensorFlow nor Keras.
"""

from importlib.metadata import version as _version

from pyxem_nas.adaptation import fine_tune
from pyxem_nas.bundle import ModelBundle, shipped_bundles
from pyxem_nas.bundle_training import search_models
from pyxem_nas.camera import Randomization
from pyxem_nas.configuration import set_default_bundle
from pyxem_nas.crystal_map import make_crystal_map
from pyxem_nas.datasets import example_phases, simulate_scan
from pyxem_nas.descriptors import DescriptorSpec
from pyxem_nas.distortion import CalibrationFit
from pyxem_nas.distortion_fit import fit_distortion
from pyxem_nas.evaluation import Evaluation, evaluate
from pyxem_nas.judges import Judge, PhaseJudge, Thresholds
from pyxem_nas.map_export import save_map, write_mtex_script
from pyxem_nas.map_refinement import refine_orientations
from pyxem_nas.measured import MapFrame
from pyxem_nas.network_files import BundleError
from pyxem_nas.networks import Architecture
from pyxem_nas.overlay import Overlay, plot_overlay
from pyxem_nas.plotting import plot_map
from pyxem_nas.posterior_figure import plot_posterior
from pyxem_nas.report import write_report
from pyxem_nas.search_figure import plot_search
from pyxem_nas.signals import attach_methods as _attach_methods
from pyxem_nas.simulation import Acquisition

__version__ = _version("pyxem-nas")
__all__ = [
    "Acquisition",
    "Architecture",
    "BundleError",
    "CalibrationFit",
    "DescriptorSpec",
    "Evaluation",
    "Judge",
    "MapFrame",
    "ModelBundle",
    "Overlay",
    "PhaseJudge",
    "Randomization",
    "Thresholds",
    "evaluate",
    "example_phases",
    "fine_tune",
    "fit_distortion",
    "make_crystal_map",
    "plot_map",
    "plot_overlay",
    "plot_posterior",
    "plot_search",
    "refine_orientations",
    "save_map",
    "search_models",
    "set_default_bundle",
    "shipped_bundles",
    "simulate_scan",
    "write_mtex_script",
    "write_report",
]

_attach_methods()
