"""Indexing: one block of patterns -> one block of result rows.

The plan, the candidates of networks and templates, their refinement and judgement, phases, second
crystals, neighbours, networks at run time. Pure functions of arrays; user input was checked by
`signals`, above.
"""

from pyxem_nas.indexing.block import describe_lazily, index_block, predict_lazily
from pyxem_nas.indexing.branches import find_candidates, orient, rate_candidates
from pyxem_nas.indexing.candidates import (
    log_posterior_at,
    select_candidates,
    sum_exponentials,
    with_twins,
)
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.geometry_fit import fit_sample
from pyxem_nas.indexing.judging import (
    compare_with_best,
    get_network_features,
    get_scores,
    judge_candidates,
    log_rest,
    rank_candidates,
)
from pyxem_nas.indexing.match_library import MatchLibrary, get_match_library
from pyxem_nas.indexing.matching import match_descriptors
from pyxem_nas.indexing.phase_choice import score_phases
from pyxem_nas.indexing.phase_scores import judge_phases, rate_phases, score_phase
from pyxem_nas.indexing.plan import (
    Branch,
    IndexingPlan,
    get_specs,
    make_plan,
    resolve_branches,
)
from pyxem_nas.indexing.posterior import (
    NEAR,
    Posterior,
    compute_posterior,
    fold_directions,
    inplane_bins,
    project_candidates,
)
from pyxem_nas.indexing.predictor import KERNEL_LOCK, Predictor, get_predictor
from pyxem_nas.indexing.refinement import (
    RatedCandidates,
    RefinementSettings,
    get_refinement_spec,
    mark_unseen,
    refine_candidates,
)
from pyxem_nas.indexing.regularization import choose_by_neighbours
from pyxem_nas.indexing.result_rows import split_candidates, split_rows
from pyxem_nas.indexing.result_store import check_store, describe_run, keep_blocks, remove_store
from pyxem_nas.indexing.runtime import Precision, choose_precision
from pyxem_nas.indexing.scan_sample import (
    SCORES,
    RefinementPlan,
    ScanPatterns,
    correct_scan,
    refine_block,
    refine_sample,
)
from pyxem_nas.indexing.self_calibration import SelfCalibration, calibrate_scan
from pyxem_nas.indexing.template_drawing import MatchingSettings

__all__ = [
    "find_candidates",
    "orient",
    "rate_candidates",
    "match_descriptors",
    "make_plan",
    "get_match_library",
    "MatchingSettings",
    "MatchLibrary",
    "Described",
    "refine_sample",
    "refine_block",
    "fit_sample",
    "correct_scan",
    "calibrate_scan",
    "SelfCalibration",
    "ScanPatterns",
    "RefinementPlan",
    "SCORES",
    "Branch",
    "IndexingPlan",
    "KERNEL_LOCK",
    "NEAR",
    "Posterior",
    "Precision",
    "Predictor",
    "RatedCandidates",
    "RefinementSettings",
    "check_store",
    "choose_by_neighbours",
    "choose_precision",
    "compare_with_best",
    "compute_posterior",
    "describe_lazily",
    "describe_run",
    "fold_directions",
    "get_network_features",
    "get_predictor",
    "get_refinement_spec",
    "get_scores",
    "get_specs",
    "index_block",
    "inplane_bins",
    "judge_candidates",
    "judge_phases",
    "keep_blocks",
    "log_posterior_at",
    "log_rest",
    "mark_unseen",
    "predict_lazily",
    "project_candidates",
    "rank_candidates",
    "refine_candidates",
    "remove_store",
    "resolve_branches",
    "rate_phases",
    "score_phase",
    "score_phases",
    "select_candidates",
    "split_candidates",
    "split_rows",
    "sum_exponentials",
    "with_twins",
]
