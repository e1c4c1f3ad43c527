"""The random specimens and cameras of training: domain randomisation.

Owns the ranges and the drawing from them; what a camera makes of spots is `camera`'s.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Randomization:
    """Ranges from which the specimen and the camera of each simulated pattern are drawn.

    Every field is a pair (lowest, highest), drawn uniformly unless its comment says otherwise.

    References
    ----------
    Tobin, J. et al. (2017), doi:10.1109/IROS.2017.8202133: domain randomisation.
    """

    # specimen
    rocking_width: tuple[float, float] = (0.003, 0.03)  # 1/angstrom, log-uniform
    precession_angle: tuple[float, float] = (0.0, 1.0)  # degrees
    thickness: tuple[float, float] = (100.0, 900.0)  # angstrom, of two-beam patterns
    dynamical_share: tuple[float, float] = (0.5, 0.5)  # share of patterns by Bloch waves, if any
    two_beam_share: tuple[float, float] = (0.4, 0.4)  # share of the others by two-beam intensities
    intensity_exponent: tuple[float, float] = (0.3, 1.0)  # kinematical intensities to this power
    intensity_jitter: tuple[float, float] = (0.0, 0.9)  # sigma of the log-normal factor of a spot
    spot_loss: tuple[float, float] = (0.0, 0.25)  # share of spots that are missing
    weak_cutoff: tuple[float, float] = (1e-4, 3e-2)  # of the strongest spot; log-uniform
    max_spots: tuple[float, float] = (20.0, 300.0)  # the strongest that are kept; log-uniform
    overlap_share: tuple[float, float] = (0.15, 0.15)  # share of patterns with a second crystal
    overlap_weight: tuple[float, float] = (0.0, 0.6)  # its weight, the first one's being 1
    debye_waller: tuple[float, float] = (0.0, 1.0)  # angstrom squared
    # camera
    scale: tuple[float, float] = (0.016, 0.038)  # 1/angstrom per pixel, log-uniform
    spot_width: tuple[float, float] = (0.014, 0.06)  # sigma in 1/angstrom, log-uniform
    scale_error: tuple[float, float] = (-0.01, 0.01)  # relative
    ellipticity: tuple[float, float] = (0.0, 0.02)  # axes' ratio minus 1
    center_error: tuple[float, float] = (0.0, 0.5)  # pixels, radius
    dose: tuple[float, float] = (1.5e3, 3e5)  # diffracted electrons a pattern, log-uniform
    background: tuple[float, float] = (0.02, 4.0)  # electrons, of the dose; log-uniform
    background_decay: tuple[float, float] = (0.15, 0.9)  # 1/angstrom
    halo_share: tuple[float, float] = (0.0, 0.4)  # of the background: an amorphous ring
    direct_beam: tuple[float, float] = (0.5, 100.0)  # electrons, of the dose; log-uniform
    gamma: tuple[float, float] = (0.5, 1.0)  # camera response, half of all patterns have 1
    saturation: tuple[float, float] = (0.3, 4.0)  # full scale over the strongest spot; log-uniform
    beam_stop: tuple[float, float] = (0.0, 0.1)  # share of patterns with a beam stop (probability)

    _LOGARITHMIC = frozenset(
        {
            "rocking_width", "weak_cutoff", "max_spots", "scale", "spot_width", "dose",
            "background", "direct_beam", "saturation",
        }
    )  # fmt: skip

    def to_dict(self) -> dict[str, list[float]]:
        """Return the ranges as plain values for JSON."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_dict(cls, ranges: dict) -> Randomization:
        """Return the randomisation that `to_dict` wrote."""
        return cls(**{name: tuple(values) for name, values in ranges.items()})

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the parameters of n patterns, a structured array of shape (n,)."""
        names = [f.name for f in fields(self)]
        drawn_names = [*names, "azimuth", "two_beam", "dynamical"]
        drawn = np.zeros(n, dtype=[(name, np.float64) for name in drawn_names])
        for name in names:
            low, high = getattr(self, name)
            if name in self._LOGARITHMIC:
                drawn[name] = np.exp(rng.uniform(np.log(low), np.log(high), n))
            else:
                drawn[name] = rng.uniform(low, high, n)
        drawn["azimuth"] = rng.uniform(0, 2 * np.pi, n)
        drawn["two_beam"] = rng.random(n) < drawn["two_beam_share"]
        drawn["dynamical"] = rng.random(n) < drawn["dynamical_share"]
        drawn["gamma"][rng.random(n) < 0.5] = 1.0
        drawn["overlap_weight"][rng.random(n) >= drawn["overlap_share"]] = 0.0
        drawn["beam_stop"] = rng.random(n) < drawn["beam_stop"]
        return drawn
