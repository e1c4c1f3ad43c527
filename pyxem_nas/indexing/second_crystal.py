"""A second crystal in the same pattern: the search in what the first leaves over.

Owns the search and the columns that it adds to result rows. The taking out of spots and the
probability that a second crystal is there are `overlaps`'.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyxem_nas.diffraction import disorientation_angles
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.overlaps import OverlapJudge, take_out_spots
from pyxem_nas.indexing.phase_choice import get_grid, try_all
from pyxem_nas.indexing.phase_scores import N_SCORES, score_phase
from pyxem_nas.indexing.plan import SECOND, IndexingPlan
from pyxem_nas.indexing.predictor import Predictor

_SAME = 5.0  # degrees: nearer to the first, a second crystal is the first


def find_second(
    predictor: Predictor,
    described: Described,
    plan: IndexingPlan,
    phase: np.ndarray,
    first: np.ndarray,
    reject: bool,
) -> np.ndarray:
    """Return columns of a second crystal: phase, probability, correlation and quaternion.

    Arguments as for `search_second`; with `reject`, those that are rather not there are left out.
    """
    columns = np.zeros((len(phase), len(SECOND) + 4))
    columns[:, 0], columns[:, len(SECOND)] = -1, 1
    rows, second = search_second(predictor, described, plan, phase, first)
    if not len(rows):
        return columns
    probability = OverlapJudge().get_probability(second)
    probability[second["same"]] = 0
    kept = probability >= (0.5 if reject else 0.0)
    found = [second["phase"], probability, second["correlation"], second["quaternions"][:, 0]]
    columns[rows[kept]] = np.column_stack(found)[kept]
    return columns


def search_second(
    predictor: Predictor,
    described: Described,
    plan: IndexingPlan,
    phase: np.ndarray,
    first: np.ndarray,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return what best explains the rest of patterns whose first crystal is taken out.

    Parameters
    ----------
    predictor, described
        As for `block.index_described`.
    plan
        What to do. pyxem's matcher is no last resort here: what is mostly noise would take the
        time of the whole scan.
    phase, first
        Phase (n,), -1 for not indexed, and orientation (n, 4) of the first crystal.

    Returns
    -------
    rows
        Rows in which something was left.
    second
        For each of them the answers as of `branches.orient`, "phase", "scores" (`score_phase`),
        "left", the share of power left, and "same", true where it is the first crystal again.
    """
    plan = replace(plan, n_best=1, template_threshold=0.0, regularize=False, refine=True)
    rest, left = _take_out_first(predictor, described, plan, phase, first)
    rows = np.flatnonzero((left > 0) & rest.descriptors.any(axis=(1, 2)))
    if not len(rows):
        return rows, {}
    rest = rest.take(rows)
    second = try_all(predictor, rest, plan, reject=False)
    best, first = second["quaternions"][:, 0], first[rows]
    second["scores"] = np.zeros((len(rows), N_SCORES))
    second["left"] = left[rows]
    second["same"] = np.zeros(len(rows), bool)
    for k in range(len(predictor.bundle.phases)):
        mine = np.flatnonzero(second["phase"] == k)
        if len(mine):
            second["scores"][mine] = score_phase(
                rest.polar[mine], best[mine], predictor.reflections, k, **get_grid(plan)
            )
            angle = disorientation_angles(best[mine], first[mine], predictor.symmetry[k])
            second["same"][mine] = (phase[rows[mine]] == k) & (angle < _SAME)
    return rows, second


def _take_out_first(predictor, described, plan, phase, first) -> tuple[Described, np.ndarray]:
    """Return the patterns without their first crystal's spots, and the share of power left."""
    rest, polar = np.zeros_like(described.descriptors), np.zeros_like(described.polar)
    left = np.zeros(len(phase))
    grid = get_grid(plan)
    coarse = grid | {"spec": plan.sampler.specs[0]}
    for k in range(len(predictor.bundle.phases)):
        mine = np.flatnonzero(phase == k)
        if len(mine):
            crystal = first[mine], predictor.reflections, k
            polar[mine], left[mine] = take_out_spots(described.polar[mine], *crystal, **grid)
            rest[mine], _ = take_out_spots(described.descriptors[mine], *crystal, **coarse)
    return Described(rest, polar, described.spec, described.cartesian, described.trunk), left
