"""Grains of a map, and fair choices among their positions.

Owns segmentation by disorientation, the split of grains between training and validation, and draws
that give every phase and every grain its share. Plain arrays; maps belong to `crystal_map`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pyxem_nas.diffraction import disorientation_angles

__all__ = ["balance_grains", "find_medoids", "segment_grains", "split_grains"]


def segment_grains(
    phase_id: np.ndarray,
    quaternions: np.ndarray,
    shape: tuple[int, ...],
    operations: Sequence[np.ndarray],
    *,
    angle: float = 5.0,
) -> np.ndarray:
    """Return the grain of each position: what hangs together by neighbours of like orientation.

    Parameters
    ----------
    phase_id
        Phase of each position, row-major over `shape`, shape (n,), -1 for none.
    quaternions
        Orientations lab2crystal, scalar first, shape (n, 4).
    shape
        Navigation shape: (), (nx,) or (ny, nx).
    operations
        Laue operations of each phase, quaternions of shape (m, 4), see `laue_operations`.
    angle
        Neighbours of one phase whose disorientation in degrees is below belong to one grain.

    Returns
    -------
    grains
        Numbers from 0, shape (n,), -1 where there is no phase.

    Examples
    --------
    >>> phase_id, rotations = np.array([0, 0, -1, 0]), np.tile([1.0, 0, 0, 0], (4, 1))
    >>> segment_grains(phase_id, rotations, (4,), [rotations[:1]]).tolist()
    [0, 0, -1, 1]
    """
    n = len(phase_id)
    index = np.arange(n).reshape(shape if len(shape) == 2 else (1, n))
    first = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    second = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    alike = (phase_id[first] == phase_id[second]) & (phase_id[first] >= 0)
    first, second = first[alike], second[alike]
    joined = np.zeros(len(first), bool)
    for k, group in enumerate(operations):
        rows = np.flatnonzero(phase_id[first] == k)
        between = disorientation_angles(quaternions[first[rows]], quaternions[second[rows]], group)
        joined[rows] = between < angle
    graph = coo_array((joined[joined], (first[joined], second[joined])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    grains = np.full(n, -1)
    inside = phase_id >= 0
    grains[inside] = np.unique(labels[inside], return_inverse=True)[1]
    return grains


def find_medoids(grains: np.ndarray, quaternions: np.ndarray, operations: np.ndarray) -> np.ndarray:
    """Return for each grain of one phase the row that is nearest to the others of the grain.

    Parameters
    ----------
    grains
        Grain of each row, shape (n,).
    quaternions
        Orientations of the rows, shape (n, 4).
    operations
        Laue operations of the phase, quaternions of shape (m, 4).

    Returns
    -------
    medoids
        Rows in the order of ``np.unique(grains)``; the nearest among up to 15 of a grain's rows.
    """
    medoids = []
    for grain in np.unique(grains):
        rows = np.flatnonzero(grains == grain)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 15)).astype(int)]
        first, second = (a.ravel() for a in np.meshgrid(rows, rows, indexing="ij"))
        angles = disorientation_angles(quaternions[first], quaternions[second], operations)
        medoids.append(rows[angles.reshape(len(rows), -1).sum(axis=1).argmin()])
    return np.array(medoids, int)


def split_grains(
    phase_id: np.ndarray,
    grains: np.ndarray,
    quaternions: np.ndarray,
    operations: Sequence[np.ndarray],
    rng: np.random.Generator,
    *,
    share: float = 0.25,
    angle: float = 5.0,
    min_grains: int = 4,
    max_validation: int = 24,
) -> tuple[np.ndarray, np.ndarray]:
    """Split positions between training and validation by grain, never by position.

    Parameters
    ----------
    phase_id, grains, quaternions
        Of n positions, all of them in a grain.
    operations
        Laue operations of each phase, quaternions of shape (m, 4), see `laue_operations`.
    rng
        Source of randomness.
    share
        Share of each phase's grains that validate.
    angle
        A training grain nearer than this in degrees to a validation grain is left out: two grains
        of one orientation show the same pattern.
    min_grains
        A phase with fewer grains has none for validation.
    max_validation
        Grains of a phase that validate, at most.

    Returns
    -------
    training, validation
        Rows of each, sorted; together all or fewer of the n.
    """
    training, validation = [], []
    for k, group in enumerate(operations):
        rows = np.flatnonzero(phase_id == k)
        numbers = np.unique(grains[rows])
        if len(numbers) < min_grains:
            training.append(rows)
            continue
        medoids = rows[find_medoids(grains[rows], quaternions[rows], group)]
        n_held = min(max(1, round(share * len(numbers))), max_validation)
        held = np.zeros(len(numbers), bool)
        held[rng.permutation(len(numbers))[:n_held]] = True
        near = np.zeros(len(numbers), bool)
        for medoid in medoids[held]:
            repeated = np.broadcast_to(quaternions[medoid], (len(medoids), 4))
            near |= disorientation_angles(quaternions[medoids], repeated, group) < angle
        training.append(rows[np.isin(grains[rows], numbers[~held & ~near])])
        validation.append(rows[np.isin(grains[rows], numbers[held])])
    empty = [np.zeros(0, int)]
    return np.sort(np.concatenate(training + empty)), np.sort(np.concatenate(validation + empty))


def balance_grains(
    phase_id: np.ndarray, grains: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw up to n positions, the same number from each phase and, within it, from each grain.

    Parameters
    ----------
    phase_id, grains
        Of the positions to choose from, shapes (m,).
    n
        Number of positions.
    rng
        Source of randomness.

    Returns
    -------
    rows
        Sorted, without repetition. What a phase or a grain lacks goes to the others.

    Examples
    --------
    >>> phase_id, grains = np.zeros(8, int), np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> rows = balance_grains(phase_id, grains, 4, np.random.default_rng(0))
    >>> np.bincount(grains[rows]).tolist()
    [2, 2]
    """
    # the k-th position of each grain in random order: lower ranks first, ties at random
    order = rng.permutation(len(grains))
    rank_in_grain = _ranks(grains, order)
    order = np.lexsort((rng.random(len(grains)), rank_in_grain))
    rank_in_phase = _ranks(phase_id, order)
    return np.sort(np.lexsort((rng.random(len(grains)), rank_in_phase))[:n])


def _ranks(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return how many rows of the same label come before each row in an order."""
    ranks = np.empty(len(labels), int)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        ranks[rows] = np.arange(len(rows))
    return ranks
