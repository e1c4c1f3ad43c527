"""Two crystals in one pattern: what is left when the first one's spots are taken out.

Owns the removal of an orientation's spots from polar patterns and the probability that what then
explains the rest is a second crystal. The search for it is `block`'s, with the same branches as for
the first.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import Reflections, quaternions_to_matrices
from pyxem_nas.indexing.phase_scores import AMPLITUDE_EXPONENT, MAX_SPOTS, ROD_WIDTH, predict_spots
from pyxem_nas.patterns import DescriptorSpec

_REACH = 0.03  # 1/angstrom from a predicted spot within which a peak is the first crystal's
_FAINTEST = 0.01  # of the strongest predicted weight: fainter spots own no peak


@dataclass(frozen=True)
class OverlapJudge:
    """Weights of the probability that the second answer is a crystal that is there.

    The logarithm of its odds is the weighted sum of the second answer's physical scores in what
    the first left over (`phase_scores.score_phase`), of what the judges of phases and of
    candidates say of it there, and of the logarithm of the share of the pattern's power that was
    left. Fitted by ``benchmarks/overlaps.py --fit`` on simulations with and without a second
    crystal.
    """

    correlation: float = 1.36
    explained: float = 0.37
    missing: float = -1.86
    phase: float = 0.2
    orientation: float = 4.76
    left: float = 0.42
    constant: float = -4.03

    def get_probability(self, second: dict[str, np.ndarray]) -> np.ndarray:
        """Return the probability of second answers, shape (n,).

        Parameters
        ----------
        second
            What `second_crystal.search_second` returns.
        """
        return 1 / (1 + np.exp(-(self.describe(second) @ astuple(self))))

    @staticmethod
    def describe(second: dict[str, np.ndarray]) -> np.ndarray:
        """Return what each weight is of, shape (n, 7).

        Phase probabilities count by the logarithm of their odds. An orientation probability that
        is not calibrated, NaN, counts as one half.
        """
        phase = np.clip(second["phase_probability"], 1e-3, 1 - 1e-3)
        return np.column_stack(
            [
                second["scores"],
                np.log(phase / (1 - phase)),
                np.nan_to_num(second["probability"][:, 0], nan=0.5),
                np.log(np.maximum(second["left"], 1e-3)),
                np.ones(len(phase)),
            ]
        )


def take_out_spots(
    polar: np.ndarray,
    quaternions: np.ndarray,
    reflections: Reflections,
    phase_id: int,
    *,
    spec: DescriptorSpec,
    wavelength: float,
    precession_angle: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Take the spots of one crystal out of polar patterns.

    Parameters
    ----------
    polar
        Descriptors of `spec`, shape (n, n_radial, n_azimuthal), float32; -1 where the detector
        shows nothing, which stays.
    quaternions
        The crystal's orientation in each, shape (n, 4), lab2crystal, scalar first.
    reflections
        From `diffraction.get_reflections`.
    phase_id
        The crystal's phase in that table.
    spec
        Grid of `polar`.
    wavelength
        Electron wavelength in angstrom.
    precession_angle
        Degrees.

    Returns
    -------
    rest
        The same shape, unit root mean square again, zero where nothing was left.
    left
        Share of each pattern's power (sum of squares) that was left, shape (n,).

    Notes
    -----
    Every bin belongs to the local maximum that steepest ascent from it leads to. All bins of a
    maximum within 0.03 1/angstrom, or 0.8 bins, of a predicted spot are set to zero: whole spots
    go, however wide they are. A spot of the other crystal at the same place goes with them.
    """
    rows = slice(*reflections.bounds[phase_id : phase_id + 2])
    intensity = reflections.intensities[rows]
    polar = np.ascontiguousarray(polar, np.float32)
    rest, left = np.zeros_like(polar), np.zeros(len(polar))
    run_rows(
        _take_out,
        len(polar),
        polar,
        quaternions_to_matrices(np.asarray(quaternions, np.float64)),
        reflections.vectors[rows],
        (intensity / intensity.max()) ** AMPLITUDE_EXPONENT,
        1 / wavelength,
        math.radians(precession_angle),
        ROD_WIDTH,
        spec.radial_range[0],
        spec.radial_step,
        max(_REACH, 0.8 * spec.radial_step),
        rest,
        left,
    )
    return rest, left


@numba.njit(cache=True)
def _find_summits(pattern, summit):
    """Fill in the flat index of the local maximum that each bin belongs to, -1 for empty bins."""
    n_radial, n_azimuthal = pattern.shape
    for r in range(n_radial):
        for a in range(n_azimuthal):
            best = pattern[r, a]
            target = r * n_azimuthal + a
            if best <= 0:
                summit[target] = -1
                continue
            here = target
            for ring in range(max(r - 1, 0), min(r + 2, n_radial)):
                for turn in range(a - 1, a + 2):
                    other = ring * n_azimuthal + turn % n_azimuthal
                    value = pattern[ring, turn % n_azimuthal]
                    # on a plateau, towards the lower index: no bin can be its own ancestor
                    if value > best or (value == best and other < target):
                        best, target = value, other
            summit[here] = target
    for here in range(summit.size):
        top = here
        if summit[here] < 0:
            continue
        while summit[top] != top:
            top = summit[top]
        summit[here] = top


@numba.njit(cache=True)
def _mark_near(marked, ring, turn, inner, step, reach):
    """Mark the bins within a distance of a spot."""
    n_radial, n_azimuthal = marked.shape
    per_length = n_azimuthal / (2 * np.pi * (inner + step * (ring + 0.5)))
    middle = int(ring + 0.5)
    n_rings = int(reach / step) + 1
    for r in range(max(0, middle - n_rings), min(n_radial, middle + n_rings + 1)):
        across = (r - ring) * step
        if abs(across) > reach:
            continue
        half = max(np.sqrt(reach * reach - across * across) * per_length, 0.8)
        for a in range(int(np.ceil(turn - half)), int(np.floor(turn + half)) + 1):
            marked[r, a % n_azimuthal] = True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _take_out(
    start, stop, polar, matrices, vectors, amplitude, wavenumber, precession, width, inner, step,
    reach, rest, left,
):  # fmt: skip
    _, n_radial, n_azimuthal = polar.shape
    for i in range(start, stop):
        spots = np.empty((MAX_SPOTS, 3))
        n_spots = predict_spots(
            matrices[i], vectors, amplitude, wavenumber, precession, width, inner, step, n_radial,
            n_azimuthal, spots,
        )  # fmt: skip
        strongest = 0.0
        for j in range(n_spots):
            strongest = max(strongest, spots[j, 0])
        marked = np.zeros((n_radial, n_azimuthal), np.bool_)
        for j in range(n_spots):
            if spots[j, 0] > _FAINTEST * strongest:
                _mark_near(marked, spots[j, 1], spots[j, 2], inner, step, reach)
        summit = np.empty(n_radial * n_azimuthal, np.int32)
        _find_summits(polar[i], summit)
        flat = polar[i].ravel()
        owned = marked.ravel()
        kept, power = 0.0, 0.0
        for k in range(flat.size):
            value = max(np.float64(flat[k]), 0.0)  # -1: not shown by the detector
            power += value * value
            if summit[k] >= 0 and not owned[summit[k]]:
                kept += value * value
        if kept <= 0:
            continue
        left[i] = kept / power
        scale = np.float32(np.sqrt(flat.size / kept))
        out = rest[i].ravel()
        for k in range(flat.size):
            if summit[k] >= 0 and not owned[summit[k]]:
                out[k] = scale * flat[k]
            elif flat[k] < 0:
                out[k] = flat[k]
