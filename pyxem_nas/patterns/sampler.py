"""Where a detector is sampled: the part of a descriptor that is the same for all its patterns.

Owns `PolarSampler` and the weights of the blur; the compiled loops are `blur`'s and `kernel`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pyxem_nas.patterns.blur import blur_pattern
from pyxem_nas.patterns.spec import DescriptorSpec, Detector, PatternSpec


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

    def without(self, k: int) -> PolarSampler:
        """Return the sampler of all specifications but the k-th."""
        kept = [i for i in range(len(self.specs)) if i != k]
        return replace(
            self,
            specs=tuple(self.specs[i] for i in kept),
            offsets=tuple(self.offsets[i] for i in kept),
        )


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
    ones = np.ones_like(weight)
    seen = _blur_once(weight, ones, ones, *kernels)
    full = seen if detector.mask is None else _blur_once(ones, ones, ones, *kernels)
    normalisation = np.zeros_like(weight)
    # Where over half of the blur's weight is masked, the value would be a guess.
    np.divide(1, seen, out=normalisation, where=seen > 0.5 * full)
    offsets = []
    for spec in specs:
        offsets.append(np.tensordot(detector.matrix, spec.positions, 1).astype(np.float32))
    return PolarSampler(specs, (ny, nx), tuple(offsets), kernels, weight, normalisation)


def _gaussian_kernel(sigma: float) -> np.ndarray:
    """Return a normalised odd-length Gaussian kernel, float32."""
    radius = math.ceil(2 * sigma) if sigma > 0.2 else 0
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (x / max(sigma, 1e-6)) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


def _blur_once(pattern, weight, normalisation, kernel_y, kernel_x) -> np.ndarray:
    blurred = np.empty_like(weight)
    blur_pattern(pattern, weight, normalisation, kernel_y, kernel_x, blurred, blurred)
    return blurred
