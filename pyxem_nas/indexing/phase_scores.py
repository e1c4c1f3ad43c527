"""Physical scores: how well a phase in its best orientation explains a pattern.

Owns the scores by which phases are compared where no network knows them all, the probabilities
that follow. Works on plain arrays; where the orientations come from is `phase_choice`'s business,
what the weights are fitted to `training.phase_calibration`'s.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from pyxem_nas.bundles import PhaseJudge, PhaseScores, get_set_judge
from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import Reflections, quaternions_to_matrices
from pyxem_nas.patterns import DescriptorSpec

_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
MAX_SPOTS = 1024
ROD_WIDTH = 0.01  # 1/angstrom, standard deviation of the rocking curve
AMPLITUDE_EXPONENT = 0.4  # spots weigh as the structure factor's modulus squared to this power
_REACH = 0.025  # 1/angstrom from a predicted spot within which a peak is explained
_WEAK = 0.1  # spots below this share of the strongest explain in proportion to their weight
_ABSENT = 0.3  # a spot lower than this share of its expected height is missing
_LEAST_LOG = -12.0  # of a phase network's probability: no network is surer with reason
N_SCORES = 3  # correlation, explained, missing


def score_phase(
    polar: np.ndarray,
    quaternions: np.ndarray,
    reflections: Reflections,
    phase_id: int,
    *,
    spec: DescriptorSpec,
    wavelength: float,
    precession_angle: float,
) -> np.ndarray:
    """Score one phase in given orientations against polar patterns.

    Parameters
    ----------
    polar
        Polar patterns as descriptors of `spec`, shape (n, n_radial, n_azimuthal), float32. Bins of
        -1 are not shown by the detector (`refinement.mark_unseen`) and do not count.
    quaternions
        One orientation for each, shape (n, 4), lab2crystal, scalar first.
    reflections
        From `diffraction.get_reflections`.
    phase_id
        The phase in that table.
    spec
        Grid of `polar`, as fine as `refinement.REFINEMENT_SPEC`.
    wavelength
        Electron wavelength in angstrom.
    precession_angle
        Degrees.

    Returns
    -------
    scores
        Shape (n, 3), each in 0 to 1 or nearly so: `correlation`, the cosine between the spots
        predicted and the pattern's peaks; `explained`, the share of the peaks' intensity within
        0.025 1/angstrom of a predicted spot, less what spots at the same radii but at random
        azimuths would explain; `missing`, the share of the predicted intensity where the pattern
        has no spot. Zero for an empty pattern.

    Notes
    -----
    With c the share explained and r that by chance, `explained` is (c - r) / (1 - r), as Cohen's
    kappa (1960): a phase of many spots explains much by chance, and gains nothing by it. Rings
    beyond the last that the detector shows are left out.
    """
    rows = slice(*reflections.bounds[phase_id : phase_id + 2])
    intensity = reflections.intensities[rows]
    scores = np.zeros((len(polar), N_SCORES))
    run_rows(
        _score_stack,
        len(polar),
        np.ascontiguousarray(polar),
        quaternions_to_matrices(np.asarray(quaternions, np.float64)),
        reflections.vectors[rows],
        (intensity / intensity.max()) ** AMPLITUDE_EXPONENT,
        1 / wavelength,
        math.radians(precession_angle),
        ROD_WIDTH,
        spec.radial_range[0],
        spec.radial_step,
        scores,
    )
    return scores


def judge_phases(
    scores: PhaseScores, judge: PhaseJudge, log_network: np.ndarray | None = None
) -> np.ndarray:
    """Return the probability of each phase and, last, of none of them.

    Parameters
    ----------
    scores
        Of each phase, shapes (n, n_phases).
    judge
        The weights.
    log_network
        Logarithm of the phase network's probabilities, shape (n, n_phases + 1); None without one.

    Returns
    -------
    probability
        Shape (n, n_phases + 1), rows sum to 1.
    """
    n, n_phases = scores.correlation.shape
    utility = np.full((n, n_phases + 1), judge.none)
    utility[:, :-1] = judge.correlation * scores.correlation + judge.explained * scores.explained
    utility[:, :-1] += judge.missing * scores.missing
    if judge.set_utility:
        utility += judge.set_utility * rate_phases(scores)
    if log_network is not None:
        utility += judge.network * np.maximum(log_network, _LEAST_LOG)
    utility -= utility.max(axis=1, keepdims=True)
    probability = np.exp(utility)
    return probability / probability.sum(axis=1, keepdims=True)


def rate_phases(scores: PhaseScores) -> np.ndarray:
    """Return the utilities (n, n_phases + 1) that the shipped judge of phases gives."""
    valid = np.ones(scores.correlation.shape, bool)
    return np.concatenate(get_set_judge("phase_judge").rate(scores, valid), axis=1)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def predict_spots(
    matrix, vectors, amplitude, wavenumber, precession, width, inner, step, last, n_azimuthal, spots
):
    """Fill in spots (weight, ring, turn) in bins; return their number. For compiled code only."""
    per_radian = n_azimuthal / (2 * np.pi)
    n_spots = 0
    for j in range(len(vectors)):
        gx, gy, gz = vectors[j, 0], vectors[j, 1], vectors[j, 2]
        length2 = gx * gx + gy * gy + gz * gz
        z = gx * matrix[0, 2] + gy * matrix[1, 2] + gz * matrix[2, 2]
        reach = 0.002 + 3.5 * (width + np.sqrt(length2) * precession)
        if abs(0.5 * length2 / wavenumber - z) > reach:
            continue
        x = gx * matrix[0, 0] + gy * matrix[1, 0] + gz * matrix[2, 0]
        y = gx * matrix[0, 1] + gy * matrix[1, 1] + gz * matrix[2, 1]
        radius2 = x * x + y * y
        ratio = radius2 / (wavenumber * wavenumber)
        error = 0.5 * wavenumber * ratio * (1 + 0.25 * ratio) - z
        # precession sweeps the error by +- radius * angle; its mean square joins the width
        variance = width * width + 0.5 * radius2 * precession * precession
        exponent = error * error / variance
        ring = (np.sqrt(radius2) - inner) / step - 0.5
        if exponent > 12 or ring < 0 or ring >= last or n_spots == len(spots):
            continue
        turn = np.arctan2(y, x) * per_radian
        if turn < 0:
            turn += n_azimuthal
        if turn >= n_azimuthal:
            turn -= n_azimuthal
        weight = amplitude[j] * np.exp(-0.5 * exponent) * np.sqrt(width / np.sqrt(variance))
        spots[n_spots, 0], spots[n_spots, 1], spots[n_spots, 2] = weight, ring, turn
        n_spots += 1
    return n_spots


@numba.njit(cache=True, error_model="numpy")
def is_peak(polar, r, a):
    """Return whether a polar pattern has a local maximum in a bin. For compiled code only."""
    n_radial, n_azimuthal = polar.shape
    value = polar[r, a]
    if value <= 0 or value < polar[r, a - 1]:
        return False
    if value <= polar[r, a + 1 if a + 1 < n_azimuthal else 0]:
        return False
    for side in (-1, 1):
        ring = r + side
        if 0 <= ring < n_radial:
            for turn in (-1, 0, 1):
                other = polar[ring, (a + turn) % n_azimuthal]
                if other > value or (other == value and side == 1):
                    return False
    return True


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _height(polar, ring, turn):
    """Return a polar pattern's value between bins."""
    r, a = int(ring), int(turn)
    fr, fa = ring - r, turn - a
    following = a + 1 if a + 1 < polar.shape[1] else 0
    low = polar[r, a] + fa * (polar[r, following] - polar[r, a])
    high = polar[r + 1, a] + fa * (polar[r + 1, following] - polar[r + 1, a])
    return max(low + fr * (high - low), 0.0)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _cover(covered, spots, n_spots, strongest, inner, step):
    """Mark the bins near predicted spots, weak ones by less than 1."""
    n_radial, n_azimuthal = covered.shape
    for j in range(n_spots):
        share = min(1.0, spots[j, 0] / (_WEAK * strongest))
        if share == 0:
            continue
        ring, turn = spots[j, 1], spots[j, 2]
        per_length = n_azimuthal / (2 * np.pi * (inner + step * (ring + 0.5)))
        reach = int(_REACH / step) + 1
        middle = int(ring + 0.5)
        for r in range(max(0, middle - reach), min(n_radial, middle + reach + 1)):
            across = (r - ring) * step
            if abs(across) > _REACH:
                continue
            half = np.sqrt(_REACH * _REACH - across * across) * per_length
            for a in range(int(np.ceil(turn - half)), int(np.floor(turn + half)) + 1):
                bin_ = a % n_azimuthal
                covered[r, bin_] = max(covered[r, bin_], share)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _look_at_ring(row, inner, outer, covered):
    """Return sums over the inner bins of a ring, with no branches, so that vectors do it.

    The intensity of its peaks, as `is_peak` has them, and of what of it is covered; the cover of
    the bins that the detector shows, and their number.
    """
    total, explained, cover, n_hidden = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    n = len(row) - 2
    left, here, right = row[:n], row[1 : n + 1], row[2:]
    inner_left, inner_here, inner_right = inner[:n], inner[1 : n + 1], inner[2:]
    outer_left, outer_here, outer_right = outer[:n], outer[1 : n + 1], outer[2:]
    covered = covered[1 : n + 1]
    for a in range(n):
        value = here[a]
        before = max(max(left[a], inner_left[a]), max(inner_here[a], inner_right[a]))
        behind = max(max(right[a], outer_left[a]), max(outer_here[a], outer_right[a]))
        peak = (value > 0) & (value >= before) & (value > behind)
        intensity = value * value if peak else np.float32(0)
        total += intensity
        share = covered[a]  # not within a condition: vectors would be taken apart
        explained += intensity * share
        cover += share if value >= 0 else np.float32(0)
        n_hidden -= min(value, np.float32(0))  # hidden bins hold -1
    return total, explained, cover, n - n_hidden


@numba.njit(cache=True, error_model="numpy")
def _explain(pattern, last, covered, edge):
    """Return the intensity of a pattern's peaks, of what is covered, and of what by chance.

    `covered` is that of each bin, `edge` a ring of zeros.
    """
    n_radial, n_azimuthal = pattern.shape
    total, explained, by_chance = 0.0, 0.0, 0.0
    for r in range(last + 1):
        inner = pattern[r - 1] if r > 0 else edge
        outer = pattern[r + 1] if r + 1 < n_radial else edge
        found, known, cover, n_seen = _look_at_ring(pattern[r], inner, outer, covered[r])
        for a in (0, n_azimuthal - 1):
            value = pattern[r, a]
            if value >= 0:
                cover += covered[r, a]
                n_seen += 1
            if is_peak(pattern, r, a):
                found += value * value
                known += value * value * covered[r, a]
        total += found
        explained += known
        by_chance += found * cover / max(n_seen, 1)
    return total, explained, by_chance


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH, error_model="numpy")
def _score_stack(
    start, stop, polar, matrices, vectors, amplitude, wavenumber, precession, width, inner, step,
    scores,
):  # fmt: skip
    _, n_radial, n_azimuthal = polar.shape
    edge = np.zeros(n_azimuthal, np.float32)
    covered = np.empty((n_radial, n_azimuthal), np.float32)
    spots, heights = np.empty((MAX_SPOTS, 3)), np.empty(MAX_SPOTS)
    for i in range(start, stop):
        pattern = polar[i]
        last = 0  # ring: what lies beyond, the detector does not show
        for r in range(n_radial - 1, 0, -1):
            if pattern[r].max() > 0:
                last = r
                break
        n_spots = predict_spots(
            matrices[i], vectors, amplitude, wavenumber, precession, width, inner, step, last,
            n_azimuthal, spots,
        )  # fmt: skip
        if n_spots == 0:
            continue
        power, product, strongest = 0.0, 0.0, 0.0
        for j in range(n_spots):
            if pattern[int(spots[j, 1] + 0.5), int(spots[j, 2] + 0.5) % n_azimuthal] < 0:
                spots[j, 0] = 0.0  # where the detector shows nothing
            heights[j] = _height(pattern, spots[j, 1], spots[j, 2])
            power += spots[j, 0] ** 2
            product += spots[j, 0] * heights[j]
            strongest = max(strongest, spots[j, 0])
        if power == 0:
            continue
        absent = 0.0
        for j in range(n_spots):
            if heights[j] <= _ABSENT * product / power * spots[j, 0]:
                absent += spots[j, 0] ** 2
        covered[:] = 0
        _cover(covered, spots, n_spots, strongest, inner, step)
        total, explained, by_chance = _explain(pattern, last, covered, edge)
        if total > 0:
            scores[i, 0] = product / np.sqrt(power * total)
            scores[i, 1] = (explained - by_chance) / (total - by_chance + 1e-12)
            scores[i, 2] = absent / power
