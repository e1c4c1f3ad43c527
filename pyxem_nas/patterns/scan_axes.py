"""The scan's own axes: steps of one unit, refused where a map cannot have them.

Owns what the navigation axes of a signal mean for a map. Those of the detector belong to
`calibration`, the unit that a map's file can take to `maps.export`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyxem_nas.patterns.units import convert_length, has_unit

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

_SPELLINGS = {
    1e-6: ("pm",), 1e-4: ("angstrom", "Å", "A"), 1e-3: ("nm",), 1.0: ("um", "µm", "μm"),
    1e3: ("mm",), 1e6: ("m",),
}  # fmt: skip

__all__ = ["ScanAxes", "check_navigation_mask", "get_scan_axes"]


class ScanAxes(NamedTuple):
    """What a map must know of the scan.

    Parameters
    ----------
    shape
        Number of positions along each axis, the slow one first: (), (nx,) or (ny, nx).
    step
        Distance of neighbours along each axis, in `unit`.
    unit
        Of `step`; "px" where the scan has none.
    """

    shape: tuple[int, ...]
    step: tuple[float, ...]
    unit: str


def get_scan_axes(s: BaseSignal) -> ScanAxes:
    """Return shape, steps and unit of a scan; two units of length become one, that of x.

    Parameters
    ----------
    s
        Signal with up to two navigation axes.

    Raises
    ------
    ValueError
        If there are more axes, one is not uniform, a step is not positive, or two axes have units
        that cannot be compared.
    """
    axes = s.axes_manager.navigation_axes[::-1]
    if len(axes) > 2:
        raise ValueError(
            f"the scan has {len(axes)} navigation axes; index it frame by frame, e.g. "
            "[s.inav[:, :, k].index_phase_orientation(...) for k in ...]"
        )
    steps = []
    for k, axis in enumerate(axes):
        name = (
            f"{str(axis.name)!r} of the scan, s.axes_manager.navigation_axes[{len(axes) - 1 - k}]"
        )
        if not axis.is_uniform:
            raise ValueError(
                f"axis {name}, is not uniform; a map has one step: interpolate the scan, "
                "s.interpolate_on_axis(...), or use axis.convert_to_uniform_axis()"
            )
        # a single position has no neighbour: its step says nothing
        step = float(axis.scale) if axis.size > 1 else abs(float(axis.scale)) or 1.0
        if not (np.isfinite(step) and step > 0):
            raise ValueError(
                f"axis {name}, has a step of {axis.scale!r}; a map needs a positive one: set the "
                "axis' scale, and where it counts backwards turn the scan round (s.inav[::-1])"
            )
        steps.append(step)
    unit, factors = _one_unit([axis.units for axis in axes])
    return ScanAxes(
        shape=s.axes_manager._navigation_shape_in_array,
        step=tuple(step * factor for step, factor in zip(steps, factors, strict=True)),
        unit=unit,
    )


def _one_unit(units: list) -> tuple[str, list[float]]:
    """Return the unit of the last axis, and what those of all axes are in it."""
    if not units:
        return "px", []
    if not any(has_unit(unit) for unit in units):
        return "px", [1.0] * len(units)
    unit = str(units[-1])
    factors = [1.0 if str(u) == unit else convert_length(u, unit) for u in units]
    if None in factors:
        raise ValueError(
            f"the scan's axes are in {', '.join(repr(str(u)) for u in units)}, which do not "
            "compare; set the units of s.axes_manager.navigation_axes to one length"
        )
    length = convert_length(unit, "um")
    if length in _SPELLINGS and unit not in _SPELLINGS[length]:
        unit = _SPELLINGS[length][0]  # that other programs know
    if length is None:
        warnings.warn(
            f"the scan's unit {unit!r} is no length: its map can be saved as .h5, not as .ang or "
            ".ctf; set the units of s.axes_manager.navigation_axes",
            stacklevel=4,
        )
    return unit, factors


def check_navigation_mask(mask: np.ndarray | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a mask has the scan's shape and leaves a position."""
    if mask is None:
        return
    if np.shape(mask) != shape:
        raise ValueError(
            f"navigation_mask must have the scan's shape {shape}, got {np.shape(mask)}"
        )
    if np.all(mask):
        raise ValueError(
            "navigation_mask leaves out every position; True marks those to be left out"
        )
