"""Calibration of measured patterns: size of a pixel and beam centre.

Owns the reading of a signal's detector axes: scale in 1/angstrom, direct-beam positions. Refuses
what is not calibrated and says how to calibrate. Units are spelled out by `units`, the microscope
is `stated`'s.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from pyxem_nas.patterns.kernel import to_native
from pyxem_nas.patterns.units import HOW_TO_CALIBRATE, to_inverse_angstrom

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal


def get_scale(s: BaseSignal, beam_energy: float | None = None) -> tuple[float, float]:
    """Return the size of a pixel along y and x in 1/angstrom.

    Parameters
    ----------
    s
        Signal whose signal axes are calibrated in an inverse length or in an angle.
    beam_energy
        kV, needed for angles.

    Raises
    ------
    ValueError
        If the axes carry no or another unit, a scale that is no positive number, or an angle
        without a known beam energy.
    """
    axis_x, axis_y = s.axes_manager.signal_axes
    if not (axis_x.is_uniform and axis_y.is_uniform):
        raise ValueError(
            "the diffraction axes are not uniform; a detector has one size of pixel: interpolate "
            f"the patterns, or {HOW_TO_CALIBRATE}"
        )
    scale = tuple(
        axis.scale * to_inverse_angstrom(axis.units, beam_energy) for axis in (axis_y, axis_x)
    )
    if not all(np.isfinite(v) and v > 0 for v in scale):
        raise ValueError(
            f"the detector's scale must be positive, got {scale!r}; {HOW_TO_CALIBRATE}"
        )
    return scale


def get_centers(s: BaseSignal, center: Any, scale: tuple[float, float]) -> np.ndarray:
    """Return the direct-beam position of every pattern.

    Parameters
    ----------
    s
        Signal, eager or lazy.
    center
        None: the calibration's centre, minus offset over scale; where no offset was ever set, as
        "auto". "auto": found in the patterns. An array of shape (2,) or (..., 2): (column, row) in
        pixels.
    scale
        Size of a pixel along y and x in 1/angstrom.

    Returns
    -------
    centers
        Shape (..., 2) over the navigation axes, (column, row) in pixels, float32.

    Raises
    ------
    ValueError
        If `center` has another shape, is not finite, or lies outside the detector.
    """
    nav_shape = s.axes_manager._navigation_shape_in_array
    ny, nx = s.axes_manager._signal_shape_in_array
    axes = s.axes_manager.signal_axes
    if center is None and all(axis.offset == 0 for axis in axes):
        warnings.warn(
            "no beam centre is set (the axes' offsets are 0): it is found in the patterns, as with "
            'center="auto"; set s.calibration.center to choose it',
            stacklevel=4,
        )
        center = "auto"
    if isinstance(center, str):
        if center != "auto":
            raise ValueError(f'center must be None, "auto" or pixels, got {center!r}')
        return find_centers(s, scale)
    if center is None:
        center = [-axis.offset / axis.scale for axis in axes]
    centers = np.asarray(center, np.float64)
    if centers.shape not in ((2,), (*nav_shape, 2)):
        raise ValueError(
            f"center must have shape (2,) or {(*nav_shape, 2)}, got {centers.shape}; give "
            "(column, row) in pixels"
        )
    if not np.isfinite(centers).all():
        raise ValueError("center holds values that are not finite")
    outside = (centers < 0) | (centers > [nx - 1, ny - 1])
    if outside.any():
        raise ValueError(
            f"the beam centre {centers[outside.any(axis=-1)].reshape(-1, 2)[0].tolist()!r} lies "
            f'outside the detector of {nx} x {ny} pixels; pass center=(column, row) or "auto"'
        )
    return np.broadcast_to(centers.astype(np.float32), (*nav_shape, 2)).copy()


def find_centers(s: BaseSignal, scale: tuple[float, float]) -> np.ndarray:
    """Return the direct-beam position of each pattern, found in the patterns.

    The beam is first found in the mean of up to 400 patterns (brightest spot after a Gaussian
    blur), then in each pattern as the centre of mass around it; patterns without a beam keep the
    mean's.

    Returns
    -------
    centers
        Shape (..., 2) over the navigation axes, (column, row) in pixels, float32.
    """
    import dask.array as da
    from skimage.filters import gaussian

    data = s.data if s._lazy else da.from_array(s.data, chunks=_chunks(s.data.shape))
    nav_shape = data.shape[:-2]
    flat_step = tuple(slice(None, None, max(1, int(np.ceil(n / 20)))) for n in nav_shape)
    sample = data[flat_step].reshape(-1, *data.shape[-2:])
    # what the descriptors leave out counts as empty here, too: one NaN would spoil the mean
    sample = da.where((sample > 0) & (sample < 3e38), sample, 0)
    mean = np.asarray(sample.mean(axis=0, dtype=np.float64).compute())
    blurred = gaussian(mean, sigma=0.03 / np.mean(scale))
    row, column = np.unravel_index(np.argmax(blurred), blurred.shape)
    reach = max(2, round(0.12 / np.mean(scale)))

    def locate(block: np.ndarray) -> np.ndarray:
        patterns = to_native(block.reshape(-1, *block.shape[-2:]))
        found = np.empty((len(patterns), 2), np.float32)
        for i, pattern in enumerate(patterns):
            found[i] = beam_position(pattern, column, row, reach)
        return found.reshape(*block.shape[:-2], 2)

    first = beam_position(mean, column, row, reach)
    row, column = round(first[1]), round(first[0])
    if not nav_shape:
        return np.asarray(first, np.float32)
    data = data.rechunk({-1: -1, -2: -1})
    centers = data.map_blocks(
        locate,
        dtype=np.float32,
        chunks=(*data.chunks[:-2], (2,)),
        drop_axis=data.ndim - 1,
        meta=np.empty((0,) * (data.ndim - 1), np.float32),
    )
    return np.asarray(centers.compute())


@numba.njit(cache=True)
def beam_position(pattern, column, row, reach):
    """Return the centre of mass (column, row) of what rises over half the maximum near a pixel."""
    ny, nx = pattern.shape
    highest = 0.0
    for y in range(max(row - reach, 0), min(row + reach + 1, ny)):
        for x in range(max(column - reach, 0), min(column + reach + 1, nx)):
            value = float(pattern[y, x])
            if value > highest and value < 3e38:
                highest = value
    total, sum_x, sum_y = 0.0, 0.0, 0.0
    for y in range(max(row - reach, 0), min(row + reach + 1, ny)):
        for x in range(max(column - reach, 0), min(column + reach + 1, nx)):
            weight = float(pattern[y, x]) - 0.5 * highest
            if weight > 0 and weight < 3e38:
                total += weight
                sum_x += weight * x
                sum_y += weight * y
    if total <= 0:
        return float(column), float(row)
    return sum_x / total, sum_y / total


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks of whole patterns of about 64 MiB."""
    n = max(1, int(2**26 // (8 * shape[-1] * shape[-2])))
    side = max(1, int(n ** (1 / max(len(shape) - 2, 1))))
    return (*(min(side, m) for m in shape[:-2]), *shape[-2:])
