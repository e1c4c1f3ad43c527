"""The camera of a scan, found from patterns of known orientation.

Owns the choice, among random cameras of the simulator, of those whose images look like the
measured ones. The simulator itself belongs to `camera`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyxem_nas.scans import DescriptorSource, Randomization, simulate_descriptors
from pyxem_nas.training.measured import MeasuredPatterns

__all__ = ["FittedCamera", "fit_camera"]

#: What is of the camera, not of the specimen: the fit decides these.
_FIELDS = (
    "scale", "spot_width", "scale_error", "ellipticity", "center_error", "dose", "background",
    "background_decay", "halo_share", "direct_beam", "gamma", "saturation",
)  # fmt: skip
_N_PATTERNS = 320
_N_CAMERAS = 24  # tried for each pattern in each round
_N_ROUNDS = 3  # each begins with the cameras that the one before kept
_SHARE_KEPT = 0.12
_JITTER = {"scale_error": 0.002, "ellipticity": 0.003}  # of kept cameras, between rounds
_IMAGE_WIDTH = 112  # pixels of the simulator's images


@dataclass(frozen=True)
class FittedCamera:
    """Specimens of a `Randomization` seen by cameras that look like a scan's; drawn as there.

    Parameters
    ----------
    specimen
        What is not the camera's.
    cameras
        Parameters of accepted cameras, a structured array of shape (m,).
    """

    specimen: Randomization
    cameras: np.ndarray = field(repr=False)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the parameters of n patterns, as `Randomization.draw`."""
        drawn = self.specimen.draw(n, rng)
        chosen = self.cameras[rng.integers(len(self.cameras), size=n)]
        for name in _FIELDS:
            if name in drawn.dtype.names:
                drawn[name] = chosen[name]
        return drawn

    def describe(self) -> dict[str, Any]:
        """Return median and quartiles of what was found, for the provenance."""
        names = [name for name in _FIELDS if name in self.cameras.dtype.names]
        return {
            name: [float(v) for v in np.quantile(self.cameras[name], (0.25, 0.5, 0.75)).round(5)]
            for name in names
        }


def fit_camera(
    measured: MeasuredPatterns,
    source: DescriptorSource,
    *,
    field_of_view: float,
    precession_angle: float,
    rng: np.random.Generator,
) -> FittedCamera:
    """Find cameras of the simulator whose images look like measured patterns.

    Parameters
    ----------
    measured
        Patterns with their orientations; up to 320 are looked at.
    source
        The simulator and its randomisation.
    field_of_view
        Width of the detector in 1/angstrom.
    precession_angle
        Of the scan, degrees.
    rng
        Source of randomness.

    Returns
    -------
    camera
        Draws cameras from the accepted ones.

    Notes
    -----
    Approximate Bayesian computation by rejection (Beaumont et al. 2002): each pattern is simulated
    at its orientation through 24 cameras of a prior wider than that of the training (scale errors
    of up to 5 %, ellipticities of up to 6 %), and the cameras of the 12 % of simulations that
    overlap most with the measured descriptor, by the measure of each pattern's own mean and spread,
    are kept. Two more rounds begin with the cameras kept, slightly changed.

    References
    ----------
    Beaumont, M. A. et al. (2002) Genetics 162, 2025, doi:10.1093/genetics/162.4.2025.
    """
    rows = np.sort(rng.permutation(len(measured))[:_N_PATTERNS])
    prior = _widen(source.randomization, field_of_view, precession_angle)
    kept = parameters = prior.draw(len(rows) * _N_CAMERAS, rng)
    for k in range(_N_ROUNDS):
        if k:
            parameters = FittedCamera(prior, kept).draw(len(parameters), rng)
            for name, spread in _JITTER.items():
                parameters[name] += spread * rng.standard_normal(len(parameters))
        overlap = _overlap(measured, rows, parameters, source, rng)
        kept = parameters[overlap >= np.quantile(overlap, 1 - _SHARE_KEPT)]
    angles = (max(0.0, precession_angle - 0.05), precession_angle + 0.05)
    specimen = dataclasses.replace(source.randomization, precession_angle=angles)
    return FittedCamera(specimen, kept)


def _overlap(
    measured: MeasuredPatterns,
    rows: np.ndarray,
    parameters: np.ndarray,
    source: DescriptorSource,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return how well each camera shows its pattern, by that pattern's own mean and spread."""
    repeated = np.repeat(rows, _N_CAMERAS)
    quaternions = np.stack([measured.quaternions[repeated]] * 2, axis=1)
    phases = np.stack([measured.phase_id[repeated], np.full(len(repeated), -1)], axis=1)
    overlap = np.empty(len(repeated))
    for start in range(0, len(repeated), 4096):
        part = slice(start, start + 4096)
        simulated = simulate_descriptors(
            source.reflections,
            phases[part],
            quaternions[part],
            parameters[part],
            source.spec,
            rng,
            wavelength=source.acquisition.wavelength,
        )
        real = measured.descriptors[repeated[part]]
        overlap[part] = np.einsum("nij,nij->n", simulated, real) / real[0].size
    of_pattern = overlap.reshape(len(rows), _N_CAMERAS)
    spread = of_pattern.std(axis=1, keepdims=True)
    return (
        (of_pattern - of_pattern.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-6)
    ).ravel()


def _widen(
    randomization: Randomization, field_of_view: float, precession_angle: float
) -> Randomization:
    """Return the prior of cameras: wider than in training, seen by an ideal specimen."""
    scale = float(np.clip(field_of_view / _IMAGE_WIDTH, 0.012, 0.04))
    low, high = randomization.spot_width
    return dataclasses.replace(
        randomization,
        precession_angle=(precession_angle, precession_angle),
        # what blurs the comparison of cameras and is the specimen's
        intensity_jitter=(0.0, 0.2),
        spot_loss=(0.0, 0.0),
        overlap_share=(0.0, 0.0),
        scale=(0.85 * scale, 1.15 * scale),
        scale_error=(-0.05, 0.05),
        ellipticity=(0.0, 0.06),
        spot_width=(0.7 * low, 1.6 * high),
        gamma=(0.3, 1.0),
        beam_stop=(0.0, 0.0),
    )
