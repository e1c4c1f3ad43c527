"""Spellings of units, against arithmetic by hand."""

import numpy as np
import pytest

from pyxem_nas.patterns import convert_length, to_inverse_angstrom

ANGSTROM = [
    "$A^{-1}$", r"$\AA^{-1}$", "k_A^-1", "1/A", "1/Å", "1 / Å", "A^-1", "A-1", "Å⁻¹", "Å\u22121",
    "1/angstrom", "1/Angstrom", "1/ANGSTROM", "1/ang", "1/Ang", "angstrom^-1", "ångström^-1",
    "1/angstroms", "cycles/angstrom", "cycle/Å",
    "1/AA", "inverse angstrom", "Ang^-1",
]  # fmt: skip
NANOMETRE = [
    "1/nm", "nm^-1", "nm-1", "nm\u22121", "nm⁻¹", "nm**-1", "nm$^{-1}$", "nm^{-1}", "(1/nm)",
    "[1/nm]", r"$\mathrm{nm}^{-1}$", "cycles/nm", "cycle / nm", "1/nanometer",
    "cyc/nm", "/nm", "per nm", "nm^(-1)",
]  # fmt: skip


@pytest.mark.parametrize("unit", ANGSTROM)
def test_spellings_of_one_over_angstrom(unit):
    assert to_inverse_angstrom(unit) == 1


@pytest.mark.parametrize("unit", NANOMETRE)
def test_spellings_of_one_over_nanometre(unit):
    assert to_inverse_angstrom(unit) == 0.1


@pytest.mark.parametrize(
    ("unit", "radians"),
    [("mrad", 1e-3), ("mRad", 1e-3), ("mrads", 1e-3), ("rad", 1), ("Angle", 1), ("µrad", 1e-6),
     ("deg", np.pi / 180), ("°", np.pi / 180), ("milliradians", 1e-3), ("millirad", 1e-3)],
)  # fmt: skip
def test_spellings_of_angles(unit, radians):
    # de Broglie, with SI constants: 2.5079 pm at 200 kV
    h, m, e, c = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19, 299792458.0
    momentum = np.sqrt(2 * m * e * 2e5 * (1 + e * 2e5 / (2 * m * c**2)))
    expected = radians / (h / momentum * 1e10)
    assert to_inverse_angstrom(unit, 200) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="beam energy is needed"):
        to_inverse_angstrom(unit)


@pytest.mark.parametrize(
    "unit", ["", "px", "1/px", "nm", "s", "eV", "furlong", "1/s", "1/a", "foo(", "1/", "None", None]
)
def test_what_is_no_reciprocal_unit_is_refused(unit):
    with pytest.raises(ValueError, match="calibrate the signal first"):
        to_inverse_angstrom(unit, 200)


@pytest.mark.parametrize("unit", ["rad/nm", "radian/angstrom", "radians / nm"])
def test_an_angular_wave_number_is_refused(unit):
    with pytest.raises(ValueError, match="2 pi"):
        to_inverse_angstrom(unit, 200)


@pytest.mark.parametrize(
    ("unit", "nanometres"),
    [("um", 1000), ("µm", 1000), ("μm", 1000), ("micron", 1000), ("Å", 0.1), ("A", 0.1),
     ("angstrom", 0.1), ("m", 1e9), ("mm", 1e6), ("pm", 1e-3), ("nanometer", 1),
     ("s", None), ("px", None), ("", None), ("1/nm", None)],
)  # fmt: skip
def test_lengths_are_converted(unit, nanometres):
    assert convert_length(unit, "nm") == nanometres
