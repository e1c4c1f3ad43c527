"""Polar intensity descriptors of diffraction patterns.

Owns the definition of the descriptor (`DescriptorSpec`) and the one compiled kernel behind every
path: measured patterns, simulated images and the polar patterns that refinement and template
matching correlate with. Knows arrays and pixels only; calibration and HyperSpy belong to
`signals`, what is in a pattern to `simulation`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

import numba
import numpy as np

_FASTMATH = {"contract", "reassoc", "nsz"}  # NaN and infinity keep their meaning
_N_BISECTIONS = 12  # the ring median is exact to 2**-12 of the ring's range
_UNSEEN = np.float32(-1e30)  # a blurred pixel that the mask hides
_FLAT = np.float32(1e-3)  # a ring whose spread is below this share of its level holds no signal


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
        object.__setattr__(self, "radial_range", tuple(float(r) for r in self.radial_range))
        if self.n_radial < 2 or self.n_azimuthal < 8:
            raise ValueError(
                f"a descriptor needs at least 2 radial and 8 azimuthal bins, got "
                f"({self.n_radial!r}, {self.n_azimuthal!r})"
            )
        if len(self.radial_range) != 2 or not 0 <= self.radial_range[0] < self.radial_range[1]:
            raise ValueError(
                f"radial_range must be two increasing radii in 1/angstrom, got "
                f"{self.radial_range!r}"
            )
        if not self.blur >= 0:
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
        return cls(**{**fields, "radial_range": tuple(fields["radial_range"])})


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
    """

    size: int = 64
    radius: float = 1.4
    blur: float = 0.02

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


@dataclass(frozen=True)
class PolarSampler:
    """Precomputed sampling of one detector for one or more descriptor specifications.

    Make it once per scan with `make_sampler`; it holds small arrays only and travels with each
    block of patterns.
    """

    specs: tuple[DescriptorSpec | PatternSpec, ...]
    detector_shape: tuple[int, int]
    offsets: tuple[np.ndarray, ...]  # per spec: (2, n_radial, n_azimuthal) float32 column, row
    kernels: tuple[np.ndarray, np.ndarray]  # blur along y and x, float32, odd length
    pixel_weight: np.ndarray  # (ny, nx) float32, 0 where masked
    normalisation: np.ndarray  # (ny, nx) float32, 1 / blurred weight, 0 where nothing is seen


def make_sampler(detector: Detector, *specs: DescriptorSpec | PatternSpec) -> PolarSampler:
    """Precompute the sampling of patterns of one detector.

    Parameters
    ----------
    detector
        Geometry and mask.
    *specs
        One or more specifications; they must share one blur.

    Returns
    -------
    sampler
        Argument of `compute_polar` and `compute_descriptors`.

    Raises
    ------
    ValueError
        If the specifications have different blurs or the mask another shape than the detector.
    """
    blurs = {spec.blur for spec in specs}
    if len(blurs) != 1:
        raise ValueError(f"specifications sampled together must share one blur, got {blurs!r}")
    blur = blurs.pop()
    ny, nx = detector.shape
    weight = np.ones((ny, nx), np.float32)
    if detector.mask is not None:
        if np.shape(detector.mask) != (ny, nx):
            raise ValueError(
                f"mask must have the detector's shape {(ny, nx)}, got {np.shape(detector.mask)}"
            )
        weight[np.asarray(detector.mask, bool)] = 0
    kernels = tuple(_gaussian_kernel(blur / s) for s in detector.scale)
    seen = _blur_once(weight, np.ones_like(weight), np.ones_like(weight), *kernels)
    full = _blur_once(np.ones_like(weight), np.ones_like(weight), np.ones_like(weight), *kernels)
    normalisation = np.zeros_like(weight)
    # Where over half of the blur's weight is masked, the value would be a guess.
    np.divide(1, seen, out=normalisation, where=seen > 0.5 * full)
    offsets = []
    for spec in specs:
        offsets.append(np.tensordot(detector.matrix, spec.positions, 1).astype(np.float32))
    return PolarSampler(specs, (ny, nx), tuple(offsets), kernels, weight, normalisation)


def compute_descriptors(
    patterns: np.ndarray, centers: np.ndarray, sampler: PolarSampler
) -> tuple[np.ndarray, ...]:
    """Compute the descriptors of a stack of patterns, one array per specification.

    Parameters
    ----------
    patterns
        Stack of shape (n, ny, nx), any real dtype, counts. NaN, infinite and negative pixels count
        as empty.
    centers
        Direct-beam position of each pattern, shape (n, 2), as (column, row) in pixels.
    sampler
        From `make_sampler` for this detector.

    Returns
    -------
    descriptors
        For each specification an array of shape (n, n_radial, n_azimuthal), float32, unit root mean
        square; all zero for a pattern without signal.
    """
    outputs = tuple(np.empty((len(patterns), *spec.shape), np.float32) for spec in sampler.specs)
    _describe_stack(
        patterns,
        centers.astype(np.float32),
        sampler.offsets,
        np.array([spec.subtracts_background for spec in sampler.specs]),
        *sampler.kernels,
        sampler.pixel_weight,
        sampler.normalisation,
        outputs,
    )
    return outputs


def _gaussian_kernel(sigma: float) -> np.ndarray:
    """Return a normalised odd-length Gaussian kernel, float32."""
    radius = math.ceil(2 * sigma) if sigma > 0.2 else 0
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (x / max(sigma, 1e-6)) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _add_scaled(out, source, factor):
    for x in range(out.size):
        out[x] += source[x] * factor


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _blur(pattern, weight, normalisation, kernel_y, kernel_x, buffer, blurred):
    """Blur a pattern into `blurred`; pixels where nothing is seen become hugely negative."""
    ny, nx = pattern.shape
    ry, rx = kernel_y.size // 2, kernel_x.size // 2
    row = np.zeros(nx + 2 * rx, np.float32)
    inner = row[rx : rx + nx]
    for y in range(ny):
        source = pattern[y]
        for x in range(nx):
            value = np.float32(source[x])
            # one comparison refuses NaN, infinite and negative pixels
            good = value > 0 and value < np.float32(3e38)
            inner[x] = value * weight[y, x] if good else np.float32(0)
        out = buffer[y]
        out[:] = np.float32(0)
        for t in range(kernel_x.size):
            _add_scaled(out, row[t : t + nx], kernel_x[t])
    for y in range(ny):
        out = blurred[y]
        out[:] = np.float32(0)
        for t in range(kernel_y.size):
            source_row = y + t - ry
            if 0 <= source_row < ny:
                _add_scaled(out, buffer[source_row], kernel_y[t])
        scale = normalisation[y]
        for x in range(nx):
            out[x] = out[x] * scale[x] if scale[x] > 0 else _UNSEEN


def _blur_once(pattern, weight, normalisation, kernel_y, kernel_x) -> np.ndarray:
    buffer, blurred = np.empty_like(weight), np.empty_like(weight)
    _blur(pattern, weight, normalisation, kernel_y, kernel_x, buffer, blurred)
    return blurred


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _sample_ring(blurred, center_x, center_y, dx, dy, work, ring):
    """Sample the square root of one ring by bilinear interpolation; -1 marks an unseen bin."""
    ny, nx = blurred.shape
    flat = blurred.ravel()
    index, fraction_x, fraction_y = work
    # Three loops, so that all but the gather itself runs on vector registers.
    for a in range(ring.size):
        x = center_x + dx[a]
        y = center_y + dy[a]
        inside = (x >= 0) & (y >= 0) & (x <= np.float32(nx - 1)) & (y <= np.float32(ny - 1))
        x = min(max(x, np.float32(0)), np.float32(nx - 1.001))
        y = min(max(y, np.float32(0)), np.float32(ny - 1.001))
        x0 = np.int32(x)
        y0 = np.int32(y)
        fraction_x[a] = x - np.float32(x0)
        fraction_y[a] = y - np.float32(y0)
        index[a] = (y0 * np.int32(nx) + x0) if inside else np.int32(-1)
    for a in range(ring.size):
        if index[a] < 0:
            ring[a] = np.float32(-1.0)
            continue
        i = np.uint64(index[a])
        v00, v01 = flat[i], flat[i + np.uint64(1)]
        v10, v11 = flat[i + np.uint64(nx)], flat[i + np.uint64(nx + 1)]
        top = v00 + fraction_x[a] * (v01 - v00)
        bottom = v10 + fraction_x[a] * (v11 - v10)
        ring[a] = top + fraction_y[a] * (bottom - top)
    for a in range(ring.size):
        value = ring[a]
        # rounding may take an empty bin just below zero; only an unseen pixel takes it below -1
        ring[a] = np.sqrt(max(value, np.float32(0))) if value > np.float32(-0.5) else np.float32(-1)


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _ring_median(ring):
    """Return (median, maximum) of the seen bins of a ring, by bisection; median -1 if unseen."""
    n_seen = np.int32(0)
    low = np.float32(3e38)
    high = np.float32(0)
    for a in range(ring.size):
        value = ring[a]
        seen = value >= 0
        n_seen += np.int32(seen)
        low = min(low, value if seen else np.float32(3e38))
        high = max(high, value)
    maximum = high
    if 4 * n_seen < ring.size:
        return np.float32(-1), maximum
    half = np.float32(ring.size - n_seen + (n_seen + 1) // 2)
    for _ in range(_N_BISECTIONS):
        middle = np.float32(0.5) * (low + high)
        below = np.float32(0)
        for a in range(ring.size):
            below += np.float32(1) if ring[a] <= middle else np.float32(0)
        if below >= half:
            high = middle
        else:
            low = middle
    return np.float32(0.5) * (low + high), maximum


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _describe(blurred, center_x, center_y, offsets, subtract, descriptor):
    """Fill one descriptor from a blurred pattern."""
    ring = np.empty(descriptor.shape[1], np.float32)
    work = (np.empty(ring.size, np.int32), np.empty_like(ring), np.empty_like(ring))
    n_radial, n_azimuthal = descriptor.shape
    power = np.float32(0)
    level = np.float32(0)
    for r in range(n_radial):
        _sample_ring(blurred, center_x, center_y, offsets[0, r], offsets[1, r], work, ring)
        median, maximum = _ring_median(ring)
        out = descriptor[r]
        if not subtract:
            median = np.float32(0)
        elif maximum - median < _FLAT * maximum:
            median = np.float32(-1)
        if median < 0:
            for a in range(n_azimuthal):
                out[a] = np.float32(0)
            continue
        ring_power = np.float32(0)
        for a in range(n_azimuthal):
            value = max(ring[a] - median, np.float32(0))
            out[a] = value
            ring_power += value * value
        power += ring_power
        level = max(level, maximum)
    rms = np.sqrt(power / np.float32(n_radial * n_azimuthal))
    scale = np.float32(1) / rms if rms > np.float32(1e-6) * level else np.float32(0)
    for r in range(n_radial):
        for a in range(n_azimuthal):
            descriptor[r, a] *= scale


@numba.njit(cache=True, parallel=True, fastmath=_FASTMATH)
def _describe_stack(
    patterns, centers, offsets, subtract, kernel_y, kernel_x, weight, normalisation, outputs
):
    """Fill the descriptors of all specifications; each pattern is blurred once."""
    for i in numba.prange(len(patterns)):
        buffer = np.empty(weight.shape, np.float32)
        blurred = np.empty(weight.shape, np.float32)
        _blur(patterns[i], weight, normalisation, kernel_y, kernel_x, buffer, blurred)
        for k in range(len(offsets)):
            _describe(blurred, centers[i, 0], centers[i, 1], offsets[k], subtract[k], outputs[k][i])
