"""Result rows: the answers of a block of patterns, as named arrays and as one table.

Owns how answers are gathered from phases and branches and how rows are taken apart again; which
columns there are belongs to `plan`.
"""

from __future__ import annotations

import numpy as np

from pyxem_nas.indexing.plan import PER_CANDIDATE, PROPERTIES, SECOND, IndexingPlan

NETWORK, TEMPLATE, OTHER, MATCH = 0, 1, 2, 3
#: Scores of the first answer that phases are compared by, as of `RatedCandidates`.
RATED = ("matching", "tolerant", "explained", "spots", "peaks")


def empty_answers(n: int, plan: IndexingPlan) -> dict[str, np.ndarray]:
    """Return the answers of patterns that nobody has looked at: not indexed, probability 0."""
    n_answers = max(plan.n_best, plan.n_candidates)
    quaternions = np.zeros((n, n_answers, 4))
    quaternions[..., 0] = 1
    return {
        "quaternions": quaternions,
        "probability": np.zeros((n, n_answers)),
        "mass": np.zeros((n, n_answers)),
        "correlations": np.zeros((n, n_answers)),
        "correlation": np.zeros(n),
        "reliability": np.full(n, np.nan),
        "twin_reliability": np.full(n, np.nan),
        "phase_reliability": np.full(n, np.nan),
        "indexed_by": np.full(n, NETWORK),
        **{name: np.full(n, np.nan) for name in RATED},
        "n_plausible": np.zeros(n, np.int64),
        "table": np.zeros((n, plan.n_candidates, PER_CANDIDATE)),
    }


def put_answers(
    answers: dict[str, np.ndarray], rows: np.ndarray, part: dict[str, np.ndarray]
) -> None:
    """Put the answers of some rows into their place."""
    for name, values in part.items():
        answers[name][rows] = values


def tabulate(
    tried: list[dict[str, np.ndarray]], shares: np.ndarray, first_phase: int, plan: IndexingPlan
) -> dict[str, np.ndarray]:
    """Return the likeliest candidates of all phases tried as "table", (n, n_candidates, 7).

    `shares` (n, n_tried) are the phases' probabilities. Where there are fewer, rows are zero.
    """
    n_kept = plan.n_candidates
    if not n_kept:
        return {}
    parts = []
    for k, answers in enumerate(tried):
        part = np.empty((*answers["mass"].shape, PER_CANDIDATE))
        part[..., 0] = first_phase + k
        part[..., 1] = shares[:, k, None] * answers["mass"]
        part[..., 2] = answers["correlations"]
        part[..., 3:] = answers["quaternions"]
        parts.append(part)
    table = np.concatenate(parts, axis=1)
    table[table[..., 1] <= 0] = 0
    order = np.argsort(-table[..., 1], axis=1, kind="stable")[:, :n_kept]
    return {"table": np.take_along_axis(table, order[..., None], axis=1)}


def split_rows(rows: np.ndarray, plan: IndexingPlan) -> dict[str, np.ndarray]:
    """Return result rows as named columns, the argument of `crystal_map.make_crystal_map`."""
    columns = {name: rows[:, k] for k, name in enumerate(PROPERTIES)}
    columns["phase_id"] = columns["phase_id"].astype(np.int32)
    for name in ("indexed_by", "n_plausible"):
        columns[name] = columns[name].astype(np.int8)
    first, last = len(PROPERTIES), len(PROPERTIES) + 4 * plan.n_best
    columns["rotations"] = rows[:, first:last].reshape(len(rows), plan.n_best, 4)
    if plan.n_overlaps > 1:
        second = rows[:, -len(SECOND) - 4 :]
        columns |= {name: second[:, k] for k, name in enumerate(SECOND)}
        columns["phase_id_2"] = columns["phase_id_2"].astype(np.int32)
        columns["rotation_2"] = second[:, len(SECOND) :]
    return columns


def split_candidates(rows: np.ndarray, plan: IndexingPlan) -> dict[str, np.ndarray]:
    """Return the candidates in result rows: argument of `regularization.choose_by_neighbours`."""
    start = len(PROPERTIES) + 4 * plan.n_best
    table = rows[:, start : start + PER_CANDIDATE * plan.n_candidates]
    table = table.reshape(len(rows), plan.n_candidates, PER_CANDIDATE)
    return {
        "phase_id": table[..., 0].astype(np.int64),
        "probability": table[..., 1],
        "correlation": table[..., 2],
        "quaternions": table[..., 3:],
    }
