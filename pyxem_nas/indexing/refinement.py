"""Refinement of orientations by direct search on the kinematical correlation score.

Owns the score of an orientation against a polar pattern and its maximisation in continuous
orientation space. Works on candidates from anywhere: network, template matching, another program.
Plain arrays only; whole crystal maps and the calibration of a scan belong to `map_refinement`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import Reflections
from pyxem_nas.indexing import refinement_kernel, spot_lists
from pyxem_nas.patterns import DescriptorSpec, PolarSampler

#: Polar pattern that refinement correlates with: finer than the networks' descriptor.
REFINEMENT_SPEC = DescriptorSpec(n_radial=72, n_azimuthal=360)


def get_refinement_spec(spec: DescriptorSpec) -> DescriptorSpec:
    """Return the finer polar pattern that goes with a descriptor: same radii, same blur."""
    return replace(REFINEMENT_SPEC, radial_range=spec.radial_range, blur=spec.blur)


@dataclass(frozen=True)
class RefinementSettings:
    """How orientations are refined.

    Parameters
    ----------
    rod_width
        Standard deviation of the rocking curve in 1/angstrom. Gaussian: without tails, reflections
        that are not excited do not count.
    initial_step
        Twice the spacing of the first grid in degrees; it reaches 1.5 times as far.
    final_step
        Step at which the search stops, in degrees.
    intensity_exponent
        Spots are weighed by the structure factor's modulus squared to this power.
    saturation
        A height h of the pattern, whose root mean square is 1, counts as ``h / (1 + h /
        saturation)``: of dynamical patterns the strongest spots say no more of the tilt than
        others. Infinite: as it is.

    Notes
    -----
    These are the settings that refine simulated Bloch-wave patterns of eleven other crystals best
    (``benchmarks/refinement_settings.py``).
    """

    rod_width: float = 0.014
    initial_step: float = 1.2
    final_step: float = 0.05
    intensity_exponent: float = 0.2
    saturation: float = 12.0


#: Rod width of the tolerant correlation in 1/angstrom, near twice that of refinement.
TOLERANT_ROD_WIDTH = 0.026


class RatedCandidates(NamedTuple):
    """Refined candidates and how well they match, see `refine_candidates`."""

    quaternions: np.ndarray
    """Shape (n, k, 4)."""
    correlation: np.ndarray
    """Shape (n, k), in 0 to 1."""
    tolerant: np.ndarray
    """The same with a broad rocking curve, shape (n, k), in 0 to 1."""
    matching: np.ndarray | None = None
    """Score of exhaustive matching at the grid, shape (n, k); None: there was none."""
    spots: np.ndarray | None = None
    """Number of spots of that rocking curve that the detector shows, shape (n, k); spots of unequal
    weight w count as ``sum(w^2)^2 / sum(w^4)`` equal ones."""
    explained: np.ndarray | None = None
    """Root of the share of the peaks' power that is found at these spots, (n, k), in 0 to 1."""
    peaks: np.ndarray | None = None
    """Number of the pattern's peaks, counted like spots, for each candidate, shape (n, k)."""


def refine_candidates(
    polar: np.ndarray,
    quaternions: np.ndarray,
    reflections: Reflections,
    phase_id: int,
    *,
    spec: DescriptorSpec = REFINEMENT_SPEC,
    wavelength: float,
    precession_angle: float,
    settings: RefinementSettings | None = None,
    refine: bool = True,
) -> RatedCandidates:
    """Refine candidate orientations against polar patterns, and rate them.

    Parameters
    ----------
    polar
        Polar patterns as descriptors of `spec`, shape (n, n_radial, n_azimuthal), float32. Bins of
        -1 are not shown by the detector (`mark_unseen`): spots there count neither for nor against.
    quaternions
        Candidates of shape (n, k, 4), lab2crystal, scalar first. All-zero rows are skipped.
    reflections
        From `diffraction.get_reflections`.
    phase_id
        Phase of all rows.
    spec
        Grid of `polar`.
    wavelength
        Electron wavelength in angstrom.
    precession_angle
        Degrees.
    settings
        None: the defaults.
    refine
        Without, only the score of the candidates as they are.

    Returns
    -------
    rated
        Refined candidates in the same order, and the scores of each.

    Notes
    -----
    The score is the cosine between two lists of spot heights: of the template's spots, weighed by
    structure factor and rocking curve, the pattern's value at each; and the pattern's own peaks
    (local maxima). Values count as `RefinementSettings.saturation` says. It does not depend on the
    spots' width.

    Tilting the crystal changes which spots are excited and hardly moves them; turning it about the
    beam moves them and leaves their excitation. So both are searched in turn, on a list of the
    reflections near the Ewald sphere: first a grid of tilts and turns, 1.5 times `initial_step` to
    each side, then steps that halve until `final_step`. The answer never scores lower than its
    start.

    The tolerant score is that of the refined orientation with the rod width `TOLERANT_ROD_WIDTH`.
    Dynamical diffraction excites reflections further from their Bragg condition than the narrow
    rocking curve allows that finds an orientation best: among orientations that are far apart the
    broad one tells better which is right.
    """
    settings = settings or RefinementSettings()
    rows = slice(*reflections.bounds[phase_id : phase_id + 2])
    first_step = 0.5 * math.radians(settings.initial_step) if refine else 0.0
    broadening = max(TOLERANT_ROD_WIDTH**2 - settings.rod_width**2, 0.0)
    table, reaches = tabulate_reflections(
        reflections.vectors[rows], reflections.intensities[rows], 1 / wavelength,
        math.radians(precession_angle), settings, first_step, broadening,
    )  # fmt: skip
    quaternions = np.ascontiguousarray(quaternions, np.float64)
    shape = quaternions.shape[:2]
    correlation, tolerant, spots, explained, peaks = (np.zeros(shape) for _ in range(5))
    rated = RatedCandidates(
        quaternions.copy(), correlation, tolerant, spots=spots, explained=explained, peaks=peaks
    )
    run_rows(
        refinement_kernel.refine,
        len(quaternions),
        np.ascontiguousarray(polar, np.float32),
        quaternions,
        table,
        reaches,
        (
            np.float32(1 / wavelength),
            np.float32(spec.radial_range[0]),
            np.float32(1 / spec.radial_step),
            np.float32(spec.n_azimuthal / (2 * math.pi)),
        ),
        first_step,
        math.radians(settings.final_step),
        np.float32(broadening),
        np.float32(1 / settings.saturation),
        rated.quaternions,
        correlation,
        tolerant,
        spots,
        explained,
        peaks,
    )
    return rated


def mark_unseen(
    polar: np.ndarray, centers: np.ndarray, sampler: PolarSampler, spec: DescriptorSpec
) -> np.ndarray:
    """Set the bins of polar patterns that the detector does not show to -1, in place.

    Parameters
    ----------
    polar
        Polar patterns of shape (n, n_radial, n_azimuthal), float32, C-contiguous.
    centers
        Direct-beam positions (column, row) in pixels, shape (n, 2).
    sampler
        What they were made with.
    spec
        Which of the sampler's specifications they are.

    Returns
    -------
    polar
        The same array, for `refine_candidates`: a spot beyond the detector's edge or behind the
        beam stop is then no evidence against an orientation.
    """
    offsets = sampler.offsets[sampler.specs.index(spec)]
    reaches = np.ascontiguousarray(np.abs(offsets).max(axis=2))
    centers = np.asarray(centers, np.float32)
    arguments = polar, centers, offsets, reaches, sampler.normalisation
    run_rows(spot_lists.mark, len(polar), *arguments)
    return polar


def tabulate_reflections(
    vectors: np.ndarray,
    intensities: np.ndarray,
    wavenumber: float,
    precession: float,
    settings: RefinementSettings,
    first_step: float,
    broadening: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the search must know of each reflection, float32.

    Returns
    -------
    table
        Shape (6, n), n a multiple of 16: x, y, z, half the squared length over the wavenumber,
        amplitude times the share that precession leaves, half the inverse variance of the rocking
        curve; 0 beyond the reflections.
    reaches
        Shape (3, n): distance from the Ewald sphere below which a reflection is listed, for the
        coarse search, the fine search and the two scores.
    """
    length2 = (vectors**2).sum(axis=1)
    # precession sweeps the error by +- radius * angle; its mean square joins the width
    variance = settings.rod_width**2 + 0.5 * length2 * precession**2
    amplitude = (intensities / intensities.max()) ** settings.intensity_exponent
    amplitude = amplitude * np.sqrt(settings.rod_width / np.sqrt(variance))
    table = np.vstack([vectors.T, length2 / (2 * wavenumber), amplitude, 0.5 / variance])
    travel = first_step * np.array([[refinement_kernel.N_TILTS + 0.5], [2.0], [0.0]])
    reaches = 3.5 * np.sqrt(variance) + 1e-3 + np.sqrt(length2) * travel
    reaches[2] = 3.5 * np.sqrt(variance + broadening) + 1e-3
    rest = -len(vectors) % spot_lists.LANES
    table = np.pad(table, ((0, 0), (0, rest)))
    reaches = np.pad(reaches, ((0, 0), (0, rest)), constant_values=-1)  # never listed
    return np.ascontiguousarray(table, np.float32), np.ascontiguousarray(reaches, np.float32)
