"""Phase and orientation maps from scanning electron diffraction, inside HyperSpy and pyxem.

Importing this package gives `ElectronDiffraction2D` the methods `get_polar_descriptors` and
`index_phase_orientation`. It imports neither TensorFlow nor Keras.
"""

from importlib.metadata import version as _version

from pyxem_nas.bundles import (
    Architecture,
    BundleError,
    Judge,
    ModelBundle,
    PhaseJudge,
    Thresholds,
    set_default_bundle,
    shipped_bundles,
)
from pyxem_nas.diffraction import Acquisition, read_phases
from pyxem_nas.figures import (
    Overlay,
    plot_map,
    plot_overlay,
    plot_posterior,
    plot_search,
    write_report,
)
from pyxem_nas.maps import Evaluation, evaluate, make_crystal_map, save_map, write_mtex_script
from pyxem_nas.patterns import CalibrationFit, DescriptorSpec
from pyxem_nas.refining import fit_distortion, refine_orientations
from pyxem_nas.scans import Randomization, example_phases, simulate_scan
from pyxem_nas.signals import attach_methods as _attach_methods
from pyxem_nas.training import MapFrame, fine_tune, search_models

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
    "read_phases",
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
