# The public names and where they live: read by type checkers, and by lazy_loader at run time.
from . import (
    bundles,
    diffraction,
    figures,
    indexing,
    live,
    maps,
    patterns,
    refining,
    scans,
    signals,
    training,
)
from .bundles import (
    Architecture,
    BundleError,
    Judge,
    ModelBundle,
    PhaseJudge,
    Thresholds,
    set_default_bundle,
    shipped_bundles,
)
from .diffraction import Acquisition, read_phases
from .figures import (
    Overlay,
    explore,
    plot_map,
    plot_overlay,
    plot_posterior,
    plot_search,
    write_report,
)
from .maps import (
    Evaluation,
    evaluate,
    make_crystal_map,
    plausible_orientations,
    save_map,
    write_mtex_script,
)
from .patterns import CalibrationFit, DescriptorSpec
from .preparation import compile_kernels
from .refining import fit_distortion, refine_orientations
from .scans import Randomization, example_phases, simulate_scan
from .training import MapFrame, fine_tune, search_models

__version__: str
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
    "bundles",
    "compile_kernels",
    "diffraction",
    "evaluate",
    "example_phases",
    "explore",
    "figures",
    "fine_tune",
    "fit_distortion",
    "indexing",
    "live",
    "make_crystal_map",
    "maps",
    "patterns",
    "plausible_orientations",
    "plot_map",
    "plot_overlay",
    "plot_posterior",
    "plot_search",
    "read_phases",
    "refine_orientations",
    "refining",
    "save_map",
    "scans",
    "search_models",
    "set_default_bundle",
    "shipped_bundles",
    "signals",
    "simulate_scan",
    "training",
    "write_mtex_script",
    "write_report",
]
