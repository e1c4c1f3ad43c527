"""Bundles: what a .nas file holds, and the shipped ones.

`ModelBundle` with its phases, networks, judges and thresholds; the file, its schema and its checks;
which networks can be in one. How a bundle is made belongs to `training`, what it is used for to
`indexing`.
"""

from pyxem_nas.bundles.architectures import (
    Architecture,
    PatternArchitecture,
    build_orientation_network,
    build_phase_network,
    measure_rate,
)
from pyxem_nas.bundles.bundle import ModelBundle, number_phases, shipped_bundles
from pyxem_nas.bundles.configuration import get_default_bundle, set_default_bundle
from pyxem_nas.bundles.judges import (
    DEFAULT_JUDGES,
    DEFAULT_PHASE_JUDGE,
    MEAN_REACH,
    Judge,
    PhaseJudge,
    Thresholds,
)
from pyxem_nas.bundles.network_files import BundleError, dump_keras, load_keras
from pyxem_nas.bundles.set_judge import (
    CandidateScores,
    JudgeArchitecture,
    PhaseScores,
    SetJudge,
    build_judge_network,
    get_set_judge,
    make_features,
    make_network_features,
    read_weights,
)
from pyxem_nas.bundles.shared_trunk import (
    TRUNK,
    build_orientation_head_network,
    build_phase_head_network,
    build_shared_networks,
    join_files,
    join_networks,
    load_whole,
)
from pyxem_nas.bundles.stored_phases import phase_to_dict

__all__ = [
    "Architecture",
    "BundleError",
    "CandidateScores",
    "DEFAULT_JUDGES",
    "DEFAULT_PHASE_JUDGE",
    "Judge",
    "JudgeArchitecture",
    "MEAN_REACH",
    "ModelBundle",
    "PatternArchitecture",
    "PhaseJudge",
    "PhaseScores",
    "SetJudge",
    "TRUNK",
    "Thresholds",
    "build_judge_network",
    "build_orientation_head_network",
    "build_orientation_network",
    "build_phase_head_network",
    "build_phase_network",
    "build_shared_networks",
    "dump_keras",
    "get_default_bundle",
    "get_set_judge",
    "join_files",
    "join_networks",
    "load_keras",
    "load_whole",
    "make_features",
    "make_network_features",
    "measure_rate",
    "number_phases",
    "phase_to_dict",
    "read_weights",
    "set_default_bundle",
    "shipped_bundles",
]
