"""Calibration of measured patterns: size of a pixel and beam centre.

Owns the reading of a signal's detector axes: scale in 1/angstrom, direct-beam positions. Refuses
what is not calibrated and says how to calibrate. Units are spelled out by `units`, the microscope
is `stated`'s, the search for the beam `beam`'s.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.patterns.beam import BeamSearch, search_beam
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


def get_centers(
    s: BaseSignal, center: Any, scale: tuple[float, float], mask: np.ndarray | None = None
) -> np.ndarray:
    """Return the direct-beam positions of `get_beam`, shape (..., 2) over the navigation axes."""
    return get_beam(s, center, scale, mask).centers


def get_beam(
    s: BaseSignal, center: Any, scale: tuple[float, float], mask: np.ndarray | None = None
) -> BeamSearch:
    """Return the direct-beam position of every pattern, and how sure it is.

    Parameters
    ----------
    s
        Signal, eager or lazy.
    center
        None: the calibration's centre, minus offset over scale; where no offset was ever set, as
        "auto". "auto": found in the patterns, with a warning where another place is about as
        likely. An array of shape (2,) or (..., 2): (column, row) in pixels.
    scale
        Size of a pixel along y and x in 1/angstrom.
    mask
        True where a pixel is left out, shape (ny, nx).

    Returns
    -------
    beam
        Positions as they were stated are sure.

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
        beam = search_beam(s, scale, mask)
        _warn_of_open_choice(beam)
        return beam
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
    centers = np.broadcast_to(centers.astype(np.float32), (*nav_shape, 2)).copy()
    return BeamSearch(centers, np.ones(nav_shape, bool), 1.0, np.zeros((0, 3)))


def _warn_of_open_choice(beam: BeamSearch) -> None:
    """Leave the choice to the user where it is open."""
    if not beam.is_open:
        return
    found = np.median(beam.centers.reshape(-1, 2), axis=0)
    others = ", or ".join(
        f"({x:.0f}, {y:.0f}) with {100 * p:.0f} %" for x, y, p in beam.others[:3] if p > 0.03
    )
    others = others or "where no spot is seen"
    warnings.warn(
        f"the direct beam is taken to be at ({found[0]:.1f}, {found[1]:.1f}) (column, row) with "
        f"{100 * beam.probability:.0f} % probability; it may be at {others}. Look at a pattern "
        "and state it, center=(column, row), --center X,Y",
        stacklevel=5,
    )
