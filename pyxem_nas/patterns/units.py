"""The spellings of units that files and people use.

Owns what a unit of the detector is in 1/angstrom and what one of the scan is in another length.
Which axis has which unit belongs to `calibration` and `scan_axes`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from pyxem_nas.diffraction import Acquisition

__all__ = ["HOW_TO_CALIBRATE", "convert_length", "has_unit", "to_inverse_angstrom"]

HOW_TO_CALIBRATE = (
    'calibrate the signal first, e.g. s.calibration(scale=0.0123, units="$A^{-1}$") or '
    "s.calibration.scale, s.calibration.units = ..."
)
_NO_UNIT = {"", "1", "px", "pix", "pixel", "pixels", "<undefined>", "none", "undefined"}
# not re.IGNORECASE where a letter means two things: pint's "a" is a year, its "Mrad" a megaradian
_ANGSTROM = re.compile(r"(?<![A-Za-z])(A|AA|Å|[Åå]ngstr[oö]ms?|(?i:ang(str[oö]ms?)?))(?![A-Za-z])")
_ANGLES = {
    "angle": "rad",  # TopSpin's word
    **dict.fromkeys(("mrad", "mrads", "millirad", "milliradian", "milliradians"), "mrad"),
    **dict.fromkeys(("rad", "rads", "radian", "radians"), "rad"),
    **dict.fromkeys(("urad", "μrad", "µrad", "microradian", "microradians"), "urad"),
    **dict.fromkeys(("deg", "degs", "degree", "degrees", "°"), "deg"),
}


def has_unit(units: Any) -> bool:
    """Return whether an axis has a unit, other than pixels."""
    text = str(units).strip()
    # pint takes "px" for the typographer's, a length
    return text.lower() not in _NO_UNIT and not re.search(r"\b(px|pix|pixels?)\b", text)


def to_inverse_angstrom(units: Any, beam_energy: float | None = None) -> float:
    """Return what one unit of a diffraction axis is in 1/angstrom.

    Parameters
    ----------
    units
        An inverse length in pyxem's spellings, pint's or the field's ("1/Angstrom", "nm⁻¹",
        "cycles/nm"), or an angle ("mRad", TopSpin's "Angle", which is radians).
    beam_energy
        kV, needed for angles.

    Raises
    ------
    ValueError
        If there is no unit, another one, or an angle without a known beam energy.

    Examples
    --------
    >>> to_inverse_angstrom("cycles/nm"), to_inverse_angstrom("1/Ang")
    (0.1, 1.0)
    """
    import pint

    if not has_unit(units):
        raise ValueError(f"the diffraction axes have no unit (found {units!r}); {HOW_TO_CALIBRATE}")
    plain = _spell_out(str(units))
    if plain.lower() in _ANGLES:
        if beam_energy is None:
            raise ValueError(
                "the diffraction axes are in an angle: the beam energy is needed; set "
                "s.set_experimental_parameters(beam_energy=200) or pass acquisition="
            )
        angle = pint.get_application_registry().Quantity(1.0, _ANGLES[plain.lower()])
        return float(angle.to("rad").magnitude) / Acquisition(beam_energy).wavelength
    if re.search(r"rad(ian)?s?\b", plain):
        raise ValueError(
            f"the unit {units!r} counts radians, 2 pi of them in a wave; divide the scale by 2 pi "
            'and set "1/angstrom" or "1/nm"'
        )
    registry = pint.get_application_registry()
    try:
        quantity = registry.Quantity(1.0, plain)
        if quantity.check("1/[length]"):
            return _rounded(quantity.to("1/angstrom").magnitude)
    except Exception as error:  # of bad syntax pint raises whatever Python's parser does
        raise ValueError(f"cannot read the unit {units!r} ({error}); {HOW_TO_CALIBRATE}") from error
    raise ValueError(
        f"the diffraction axes must be in 1/length or mrad, got {units!r}; {HOW_TO_CALIBRATE}"
    )


def convert_length(units: Any, to: Any) -> float | None:
    """Return what one unit of length is in another; None where one of the two is no length.

    Examples
    --------
    >>> convert_length("um", "nm"), convert_length("s", "nm")
    (1000.0, None)
    """
    import pint

    if not (has_unit(units) and has_unit(to)):
        return None
    registry = pint.get_application_registry()
    try:
        length = registry.Quantity(1.0, _spell_out(str(units)))
        return _rounded(length.to(_spell_out(str(to))).magnitude)
    except Exception:  # of bad syntax pint raises whatever Python's parser does
        return None


def _rounded(factor: float) -> float:
    """Return a factor without what pint's floats add: 1/nm is not 0.09999999999999999."""
    return float(f"{factor:.12g}")


def _spell_out(text: str) -> str:
    """Return a unit as pint spells it."""
    # superscripts, the angstrom sign and the micro sign become plain characters
    plain = unicodedata.normalize("NFKC", text).replace("μ", "u")
    plain = re.sub("[\u2212\u2010-\u2013]", "-", plain)
    # pyxem's spellings: "$A^{-1}$", "k_A^-1", r"$\AA^{-1}$", "1/A"
    plain = re.sub(r"\\(rm|mathrm|text)|[${}\[\]\s]", "", plain).removeprefix("k_")
    plain = plain.replace("\\AA", "angstrom").replace("\\mu", "u")
    plain = _ANGSTROM.sub("angstrom", plain)
    plain = re.sub(r"\bmicrons?\b", "um", plain)
    # a wave is no angle here, as in pint, where a cycle is 2 pi
    plain = re.sub(r"\bcyc(les?)?\b", "1", plain)
    plain = re.sub(r"^(/|per|inverse)", "1/", plain)
    return re.sub(r"([A-Za-z])\(?-1\)?$", r"\1^-1", plain)
