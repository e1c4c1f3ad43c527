"""What a scan's file states of the microscope.

Owns the places where HyperSpy, pyxem and the readers of formats keep beam energy, precession and
scan rotation, their units, and the doubts about them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.diffraction import Acquisition

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

__all__ = ["choose_scan_rotation", "get_acquisition", "get_beam_energy", "get_precession"]

_TEM = "Acquisition_instrument.TEM"
_LEAST_PRECESSION = 2.0  # mrad, 0.11 degrees: nobody precesses by less


def get_beam_energy(s: BaseSignal) -> float | None:
    """Return the beam energy in kV that a signal's metadata state, None where they do not.

    Raises
    ------
    ValueError
        If what they state is no number.
    """
    stated = s.metadata.get_item(f"{_TEM}.beam_energy")
    if stated is not None and not isinstance(stated, bool):
        energy = _to_number(stated, "beam energy", "kV", "beam_energy=200")
        if energy:  # a .blo file has 0 where nobody filled it in
            return energy
    volts = _read_topspin(s, "HardwareSettings.GunHighVoltage")
    return volts / 1000 if volts else None


def get_precession(s: BaseSignal) -> float | None:
    """Return the precession angle in degrees that a signal's metadata state, else None.

    Raises
    ------
    ValueError
        If what they state is no number.
    """
    stated = s.metadata.get_item(f"{_TEM}.rocking_angle")
    if stated is not None:
        angle = _to_number(stated, "precession (rocking angle)", "mrad", "rocking_angle=12.2")
        if 0 < angle < _LEAST_PRECESSION:
            warnings.warn(
                f"the scan states a precession of {angle:g} mrad, {np.rad2deg(angle / 1000):.2g} "
                f"degrees; HyperSpy and pyxem count it in mrad: if {angle:g} degrees are meant, "
                f"set rocking_angle={1000 * np.deg2rad(angle):.4g}",
                stacklevel=4,
            )
        return float(np.rad2deg(angle / 1000))
    is_on = s.original_metadata.get_item("ProcedureData.IsPrecessionEnabled")
    radians = _read_topspin(s, "HardwareSettings.PrecessionHardwarePrecessionAngle")
    if str(is_on) == "False":
        return 0.0
    return None if radians is None else float(np.rad2deg(radians))


def get_acquisition(s: BaseSignal, fallback: Acquisition) -> Acquisition:
    """Return the acquisition that a signal's metadata tell, else that of the bundle.

    Raises
    ------
    ValueError
        If the metadata state something that is no number or cannot be.
    """
    energy, precession = get_beam_energy(s), get_precession(s)
    return Acquisition(
        beam_energy=fallback.beam_energy if energy is None else energy,
        precession_angle=fallback.precession_angle if precession is None else precession,
    )


def choose_scan_rotation(s: BaseSignal, stated: float | None) -> float:
    """Return the scan rotation in degrees to use: what the user states, else none.

    A rotation that only the file states is warned of and not used: no format says in which sense
    it counts, and a map that is turned the wrong way looks perfect.

    Raises
    ------
    ValueError
        If what the user states is no finite number.
    """
    if stated is not None:
        rotation = _to_number(stated, "scan rotation", "degrees", "scan_rotation=25")
        if not np.isfinite(rotation):
            raise ValueError(f"scan_rotation must be an angle in degrees, got {stated!r}")
        return rotation
    found = _find_rotation(s)
    if found:
        warnings.warn(
            f"the file states a scan rotation of {found:g} degrees, not in which sense: the map is "
            f"not turned. Pass scan_rotation={found:g} or {-found:g} (--scan-rotation; "
            "docs/frames.md says how to tell), or 0 to leave it so",
            stacklevel=3,
        )
    return 0.0


def _find_rotation(s: BaseSignal) -> float | None:
    """Return the rotation in degrees that pyxem, a block file or TopSpin states."""
    for key in ("scan_rotation", "rotation"):
        found = s.metadata.get_item(f"{_TEM}.{key}")
        if isinstance(found, int | float | np.number) and np.isfinite(found) and found:
            return float(found)
    radians = _read_topspin(s, "ProcedureData.DiffractionToStemRotation")
    return float(np.rad2deg(radians)) if radians else None


def _read_topspin(s: BaseSignal, key: str) -> float | None:
    """Return a number of an .app5 file, whose reader keeps some of them as text."""
    try:
        value = float(s.original_metadata.get_item(key))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _to_number(value: Any, what: str, unit: str, example: str) -> float:
    """Return a number, refusing a text."""
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"the {what} must be a number in {unit}, got {value!r}; set it without its unit, e.g. "
            f"s.set_experimental_parameters({example})"
        ) from None
