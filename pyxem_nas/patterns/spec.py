"""What a pattern is turned into, and what it was recorded on.

Owns the definitions of descriptors (`DescriptorSpec`, `PatternSpec`) and of a calibrated detector
(`Detector`). They are carried out by `kernel`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

_MAX_BINS = 4096  # per axis: what a damaged file may not ask memory for


_MAX_RADIUS = 100.0  # 1/angstrom, far beyond any electron diffraction


@dataclass(frozen=True)
class DescriptorSpec:
    """Definition of a polar intensity descriptor.

    The pattern, blurred to a fixed resolution in reciprocal space, is sampled on a polar grid. From
    the square root of the intensity the azimuthal median of each ring is subtracted, negative
    values are set to zero, and the whole is scaled to unit root mean square. Radii are physical, so
    one definition serves every camera length, binning and detector.

    Parameters
    ----------
    n_radial
        Number of radial bins.
    n_azimuthal
        Number of azimuthal bins. Bin k is centred at ``360 k / n_azimuthal`` degrees,
        counter-clockwise from +x with y pointing up.
    radial_range
        Inner and outer edge of the radial bins in 1/angstrom.
    blur
        Standard deviation in 1/angstrom of the Gaussian that the pattern is convolved with before
        sampling, so that no spot falls between two sampling points.

    Raises
    ------
    ValueError
        If there are fewer than 2 radial or 8 azimuthal bins, the radial range is not increasing
        and positive, or the blur is negative.

    References
    ----------
    Zaefferer, S. and Wu, G. (2008) in Applications of Texture Analysis: polar representation of
    diffraction patterns. Hadjadj, K. et al. (2022) Microsc. Microanal. 28(S1), "Neural
    Architecture Search for Transmission Electron Microscopy": intensity descriptors.

    Examples
    --------
    >>> spec = DescriptorSpec()
    >>> spec.shape
    (40, 180)
    >>> spec.radii[[0, -1]].round(3)
    array([0.171, 1.779])
    """

    n_radial: int = 40
    n_azimuthal: int = 180
    radial_range: tuple[float, float] = (0.15, 1.8)
    blur: float = 0.02

    def __post_init__(self) -> None:
        # `min`: a whole number of hundreds of digits has no float
        radii = tuple(float(min(r, 2 * _MAX_RADIUS)) for r in self.radial_range)
        object.__setattr__(self, "radial_range", radii)
        if not (2 <= self.n_radial <= _MAX_BINS and 8 <= self.n_azimuthal <= _MAX_BINS):
            raise ValueError(
                f"a descriptor needs 2 to {_MAX_BINS} radial and 8 to {_MAX_BINS} azimuthal bins, "
                f"got ({self.n_radial!r}, {self.n_azimuthal!r})"
            )
        if int(self.n_radial) != self.n_radial or int(self.n_azimuthal) != self.n_azimuthal:
            raise ValueError(
                f"numbers of bins must be whole, got ({self.n_radial!r}, {self.n_azimuthal!r})"
            )
        object.__setattr__(self, "n_radial", int(self.n_radial))
        object.__setattr__(self, "n_azimuthal", int(self.n_azimuthal))
        if len(self.radial_range) != 2 or not (
            0 <= self.radial_range[0] < self.radial_range[1] <= _MAX_RADIUS
        ):
            raise ValueError(
                f"radial_range must be two increasing radii in 1/angstrom, got "
                f"{self.radial_range!r}"
            )
        if not 0 <= self.blur <= _MAX_RADIUS:
            raise ValueError(f"blur must be a width in 1/angstrom >= 0, got {self.blur!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one descriptor, ``(n_radial, n_azimuthal)``."""
        return self.n_radial, self.n_azimuthal

    @property
    def radial_step(self) -> float:
        """Width of a radial bin in 1/angstrom."""
        return (self.radial_range[1] - self.radial_range[0]) / self.n_radial

    @property
    def radii(self) -> np.ndarray:
        """Centres of the radial bins in 1/angstrom, shape (n_radial,)."""
        return self.radial_range[0] + self.radial_step * (np.arange(self.n_radial) + 0.5)

    @property
    def azimuths(self) -> np.ndarray:
        """Centres of the azimuthal bins in radians, shape (n_azimuthal,)."""
        return 2 * np.pi * np.arange(self.n_azimuthal) / self.n_azimuthal

    @property
    def positions(self) -> np.ndarray:
        """Sampling points (x, y) in 1/angstrom, y up, shape (2, n_radial, n_azimuthal)."""
        radius, azimuth = np.meshgrid(self.radii, self.azimuths, indexing="ij")
        return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth)])

    @property
    def subtracts_background(self) -> bool:
        """Whether the median of each row of sampling points, a ring, is subtracted."""
        return True

    def to_dict(self) -> dict:
        """Return the fields as plain values for JSON."""
        return {**asdict(self), "radial_range": list(self.radial_range)}

    @classmethod
    def from_dict(cls, fields: dict) -> DescriptorSpec:
        """Return the specification that `to_dict` wrote."""
        return cls(**fields)


@dataclass(frozen=True)
class PatternSpec:
    """Definition of a Cartesian pattern that a network takes: the founding paper's input.

    The square root of the blurred pattern on a square grid centred on the beam, at unit root mean
    square. Like descriptors it is physical, so one network serves every camera.

    Parameters
    ----------
    size
        Number of rows and columns.
    radius
        Half the width of the grid in 1/angstrom.
    blur
        As in `DescriptorSpec`.

    Raises
    ------
    ValueError
        If the size is below 2 or not whole, or a length is not positive.
    """

    size: int = 64
    radius: float = 1.4
    blur: float = 0.02

    def __post_init__(self) -> None:
        if not (2 <= self.size <= _MAX_BINS and int(self.size) == self.size):
            raise ValueError(f"size must be a whole number of 2 to {_MAX_BINS}, got {self.size!r}")
        object.__setattr__(self, "size", int(self.size))
        if not (0 < self.radius <= _MAX_RADIUS and 0 <= self.blur <= _MAX_RADIUS):
            raise ValueError(
                f"radius and blur must be positive, in 1/angstrom, got {self.radius!r} and "
                f"{self.blur!r}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one pattern, ``(size, size)``."""
        return self.size, self.size

    @property
    def positions(self) -> np.ndarray:
        """Sampling points (x, y) in 1/angstrom, y up, row 0 at the top, shape (2, size, size)."""
        line = self.radius * (2 * np.arange(self.size) + 1 - self.size) / self.size
        return np.stack(np.meshgrid(line, -line))

    @property
    def subtracts_background(self) -> bool:
        """No background is subtracted."""
        return False

    def to_dict(self) -> dict:
        """Return the fields as plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Detector:
    """Geometry of a calibrated diffraction detector, all that the kernel must know of it.

    Parameters
    ----------
    shape
        ``(ny, nx)`` in pixels, row 0 at the top.
    scale
        Size of a pixel in 1/angstrom, along y and x.
    distortion
        Matrix of shape (2, 2) that takes a true position (x, y) in 1/angstrom, y up, to the
        position at which the detector shows it. None is the identity.
    flip
        Axis along which the camera mirrors patterns: "x", "y" or None. The descriptor is that of
        the pattern mirrored back.
    mask
        True where a pixel is left out (beam stop, dead pixels), shape ``shape``.
    """

    shape: tuple[int, int]
    scale: tuple[float, float]
    distortion: np.ndarray | None = None
    flip: str | None = None
    mask: np.ndarray | None = field(default=None, repr=False)

    @property
    def matrix(self) -> np.ndarray:
        """Matrix (2, 2) from true (x, y) in 1/angstrom, y up, to (column, row) pixel offsets."""
        to_pixels = np.diag([1.0 / self.scale[1], -1.0 / self.scale[0]])
        if self.flip == "x":
            to_pixels[0, 0] *= -1
        elif self.flip == "y":
            to_pixels[1, 1] *= -1
        distortion = np.eye(2) if self.distortion is None else np.asarray(self.distortion)
        return to_pixels @ distortion
