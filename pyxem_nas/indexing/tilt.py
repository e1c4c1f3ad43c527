"""The last step of an orientation: the tilt that all its spots together vote for.

Owns the correction of refined orientations by a small network that comes with the package. It knows
no crystal and no camera: of each spot it sees excitation error, height and structure factor, and
says by how much the error is to change and how much that counts. Refinement itself, a search for
the highest correlation, is `refinement`'s.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import Reflections
from pyxem_nas.indexing import tilt_kernel
from pyxem_nas.indexing.refinement import REFINEMENT_SPEC, RefinementSettings, tabulate_reflections
from pyxem_nas.patterns import DescriptorSpec

WEIGHTS = Path(__file__).parent / "shipped" / "tilt.npz"
_REACH = 2.2  # of these standard deviations from the Ewald sphere spots are looked at
_WIDTH = 0.02  # 1/angstrom, their standard deviation without precession
_MOST = 1.5  # degrees, of a correction


class TiltFeatures(NamedTuple):
    """What the network sees of the spots of a pattern; all zero where there is no spot."""

    features: np.ndarray
    """Shape (n, n_spots, n_features)."""
    changes: np.ndarray
    """Of each spot's excitation error by a tilt about x and y, 1/angstrom, (n, n_spots, 2)."""


def correct_tilts(
    polar: np.ndarray,
    quaternions: np.ndarray,
    reflections: Reflections,
    phase_id: int,
    *,
    spec: DescriptorSpec = REFINEMENT_SPEC,
    wavelength: float,
    precession_angle: float,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Return refined orientations tilted as their spots vote for.

    Parameters
    ----------
    polar
        Polar patterns as `refine_candidates` takes them, (n, n_radial, n_azimuthal), float32.
    quaternions
        Refined orientations, shape (n, k, 4), lab2crystal, scalar first. All-zero rows stay.
    reflections, phase_id, spec, wavelength, precession_angle
        As of `refine_candidates`.
    rows
        Which of the polar patterns the orientations are of, shape (n,), integer; None: each of its
        own.

    Returns
    -------
    corrected
        Shape (n, k, 4), float64.

    Notes
    -----
    Where correlation is highest is not where the orientation is likeliest: a spot that dynamical
    diffraction makes strong far from its Bragg condition pulls like one that is in it, and the
    rocking curve of refinement is a compromise. So each spot j votes: its excitation error e_j is
    to change by v_j, with weight p_j. The tilt t about x and y is that of weighted least squares,
    ``sum_j p_j (v_j - b_j t)^2`` with b_j the change of e_j by a tilt, drawn to zero where spots
    tell little. Votes and weights are a network's over the set of spots, fitted to Bloch-wave
    patterns of crystals of all systems (``benchmarks/make_tilt.py``); turning about the beam is
    left as it is.
    """
    corrected = np.array(quaternions, np.float64, order="C")
    rows = np.arange(len(corrected)) if rows is None else np.asarray(rows, np.int64)
    seen, changes = _make_room(0)
    _run(
        polar, rows, corrected.copy(), reflections, phase_id, spec, wavelength, precession_angle,
        _get_layers(), corrected, seen, changes,
    )  # fmt: skip
    return corrected


def describe_tilts(
    polar: np.ndarray,
    quaternions: np.ndarray,
    reflections: Reflections,
    phase_id: int,
    *,
    spec: DescriptorSpec = REFINEMENT_SPEC,
    wavelength: float,
    precession_angle: float,
    n_spots: int = tilt_kernel.MAX_SPOTS,
) -> TiltFeatures:
    """Return what the network sees of the first `n_spots` spots, one orientation (n, 4) each.

    The other arguments are `correct_tilts`'.
    """
    quaternions = np.array(quaternions, np.float64, order="C")[:, None]
    seen, changes = _make_room(len(quaternions))
    _run(
        polar, np.arange(len(quaternions)), quaternions, reflections, phase_id, spec, wavelength,
        precession_angle, _make_layers(seen.shape[1]), quaternions, seen, changes,
    )  # fmt: skip
    first = np.argsort(~changes.any(axis=1), axis=1, kind="stable")[:, None, :n_spots]
    return TiltFeatures(
        np.take_along_axis(seen, first, axis=2).transpose(0, 2, 1),
        np.take_along_axis(changes, first, axis=2).transpose(0, 2, 1),
    )


def _run(
    polar, rows, quaternions, reflections, phase_id, spec, wavelength, precession_angle, layers,
    corrected, seen, changes,
) -> None:  # fmt: skip
    """Run the kernel over all rows."""
    settings, precession = RefinementSettings(), math.radians(precession_angle)
    mine = slice(*reflections.bounds[phase_id : phase_id + 2])
    vectors = reflections.vectors[mine]
    table, _ = tabulate_reflections(
        vectors, reflections.intensities[mine], 1 / wavelength, precession, settings, 0.0, 0.0
    )
    length2 = (vectors**2).sum(axis=1)
    reach = _REACH * np.sqrt(_WIDTH**2 + 0.5 * length2 * precession**2)
    run_rows(
        tilt_kernel.tilt,
        len(quaternions),
        np.ascontiguousarray(polar, np.float32),
        rows,
        quaternions,
        table,
        reach.astype(np.float32),
        (
            np.float32(1 / wavelength),
            np.float32(spec.radial_range[0]),
            np.float32(1 / spec.radial_step),
            np.float32(spec.n_azimuthal / (2 * math.pi)),
        ),
        np.float32(1 / settings.saturation),
        np.float32(precession_angle),
        layers,
        math.radians(_MOST),
        corrected,
        seen,
        changes,
    )


@cache
def _get_layers() -> tuple[np.ndarray, ...]:
    """Return the weights of the network, kernel and bias of each layer, and the prior's."""
    with np.load(WEIGHTS, allow_pickle=False) as file:
        return tuple(file[f"arr_{k}"] for k in range(len(file.files)))


def _make_layers(n_features: int, width: int = 1) -> tuple[np.ndarray, ...]:
    """Return layers of zeros."""
    shapes = [
        (n_features, width), (width,), (width, width), (width,), (2 * width, width), (width,),
        (width + n_features, 2), (2,), (1,),
    ]  # fmt: skip
    return tuple(np.zeros(shape, np.float32) for shape in shapes)


def _make_room(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return empty arrays for what is seen of n patterns."""
    n_features = tilt_kernel.N_FEATURES + tilt_kernel.N_SHARED
    return (
        np.zeros((n, n_features, tilt_kernel.MAX_SPOTS), np.float32),
        np.zeros((n, 2, tilt_kernel.MAX_SPOTS), np.float32),
    )
