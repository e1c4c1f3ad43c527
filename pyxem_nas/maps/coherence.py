"""Whether neighbours agree: a test of a map that needs no truth.

Owns `measure_coherence`. Grains as such are `grains`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyxem_nas.diffraction import disorientation_angles, laue_operations, turned_about_beam
from pyxem_nas.maps.crystal_map import NOT_INDEXED, best_rotations

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap

__all__ = ["Coherence", "measure_coherence"]

_N_RANDOM = 20000  # pairs


class Coherence(NamedTuple):
    """How much neighbouring positions of one phase agree, and how much any two do."""

    n_pairs: int
    """Pairs of neighbours of one phase."""
    within: float
    """Share of them whose disorientation is below the angle: that lie inside a grain."""
    inside: float
    """Median disorientation of those, degrees: the precision of the orientations."""
    random_within: float
    """Share of random pairs of one phase whose disorientation is below the angle."""
    random: float
    """Median disorientation of random pairs, degrees."""

    def __str__(self) -> str:
        return (
            f"{100 * self.within:.0f} % of neighbours of one phase agree, median {self.inside:.2f} "
            f"degrees; of random pairs {100 * self.random_within:.0f} %, median of all "
            f"{self.random:.0f} degrees"
        )


def measure_coherence(
    xmap: CrystalMap, *, angle: float = 5.0, forgive_twins: bool = False, seed: int = 0
) -> Coherence:
    """Return how much the orientations of neighbouring positions agree.

    Parameters
    ----------
    xmap
        Map of up to two dimensions.
    angle
        Disorientation in degrees below which neighbours belong to one grain.
    forgive_twins
        Whether an orientation agrees with its 180-degree twin about the beam, too.
    seed
        Of the random pairs.

    Returns
    -------
    coherence
        NaN where there are no pairs. In a map of noise neighbours agree no more than random pairs;
        in a scan of one grain random pairs agree as much as neighbours, which says nothing.
    """
    shape = xmap._original_shape if len(xmap._original_shape) == 2 else (1, xmap.is_in_data.size)
    phase_id = np.full(xmap.is_in_data.size, NOT_INDEXED)
    phase_id[xmap.is_in_data] = xmap.phase_id
    quaternions = np.tile([1.0, 0, 0, 0], (len(phase_id), 1))
    quaternions[xmap.is_in_data] = best_rotations(xmap).data.reshape(-1, 4)
    index = np.arange(len(phase_id)).reshape(shape)
    first = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    second = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    rng = np.random.default_rng(seed)
    any_first, any_second = rng.integers(len(phase_id), size=(2, 4 * _N_RANDOM))
    apart = any_first != any_second
    neighbours, random = [], []
    for i, phase in xmap.phases:
        if i == NOT_INDEXED:
            continue
        operations = laue_operations(phase)
        for pairs, angles in (
            ((first, second), neighbours),
            ((any_first[apart], any_second[apart]), random),
        ):
            a, b = (rows[(phase_id[pairs[0]] == i) & (phase_id[pairs[1]] == i)] for rows in pairs)
            angles.append(_compare(quaternions[a], quaternions[b], operations, forgive_twins))
    near, far = (np.concatenate(parts or [np.zeros(0)]) for parts in (neighbours, random))
    inside = near[near < angle]
    return Coherence(
        len(near),
        float(np.mean(near < angle)) if near.size else np.nan,
        float(np.median(inside)) if inside.size else np.nan,
        float(np.mean(far < angle)) if far.size else np.nan,
        float(np.median(far)) if far.size else np.nan,
    )


def _compare(
    first: np.ndarray, second: np.ndarray, operations: np.ndarray, forgive_twins: bool
) -> np.ndarray:
    """Return the disorientations of pairs in degrees."""
    if not len(first):
        return np.zeros(0)
    angles = disorientation_angles(first, second, operations)
    if forgive_twins:
        twins = disorientation_angles(turned_about_beam(first), second, operations)
        angles = np.minimum(angles, twins)
    return angles
