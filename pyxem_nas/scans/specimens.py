"""Example specimens: the phases of the shipped bundles, and phases made of a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffpy.structure import Atom, Lattice, Structure
from orix.crystal_map import Phase, PhaseList

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["example_phases", "make_phase"]

# space group, a, b, c in angstrom, atoms of the asymmetric unit (cementite: AMCSD 0019114)
_CRYSTALS = {
    "ferrite": (229, (2.8665,) * 3, [("Fe", (0, 0, 0))]),
    "NbC": (225, (4.4702,) * 3, [("Nb", (0, 0, 0)), ("C", (0.5, 0.5, 0.5))]),
    "cementite": (
        62,
        (5.081, 6.755, 4.515),
        [
            ("Fe", (0.1845, 0.0584, 0.333)),
            ("Fe", (0.0347, 0.25, 0.8373)),
            ("C", (0.8974, 0.25, 0.4502)),
        ],
    ),
    "silver": (225, (4.08,) * 3, [("Ag", (0, 0, 0))]),
}
_EXAMPLES = {"steel": ("ferrite", "NbC", "cementite"), "silver": ("silver",)}
_COLORS = ("tab:blue", "tab:orange", "tab:green")


def make_phase(
    name: str,
    space_group: int,
    lattice: Sequence[float],
    atoms: Sequence[tuple[str, Sequence[float]]],
) -> Phase:
    """Make a phase with all atoms of its unit cell.

    Parameters
    ----------
    name
        Name of the phase.
    space_group
        Number of the space group in the International Tables, standard setting.
    lattice
        a, b, c in angstrom, followed by alpha, beta, gamma in degrees where they are not 90.
    atoms
        Element and fractional coordinates of each atom of the asymmetric unit.

    Returns
    -------
    phase
        With the asymmetric unit expanded.

    Examples
    --------
    >>> phase = make_phase("NaCl", 225, (5.64,) * 3, [("Na", (0, 0, 0)), ("Cl", (0.5, 0.5, 0.5))])
    >>> len(phase.structure), phase.point_group.name
    (8, 'm-3m')
    """
    angles = tuple(lattice[3:]) or (90.0, 90.0, 90.0)
    structure = Structure([Atom(*atom) for atom in atoms], Lattice(*lattice[:3], *angles))
    return Phase(name, space_group=space_group, structure=structure).expand_asymmetric_unit()


def example_phases(name: str = "steel") -> PhaseList:
    """Return the phases of a specimen that the package has a bundle for.

    Parameters
    ----------
    name
        "steel" (ferrite, NbC, cementite, in this order) or "silver".

    Returns
    -------
    phase_list
        Phases with the IDs 0 to n - 1 and all atoms of their unit cells.

    Raises
    ------
    ValueError
        If there is no such specimen.

    References
    ----------
    Wood, I. G. et al. (2004) J. Appl. Cryst. 37, 82, doi:10.1107/S0021889803024695: cementite.

    Examples
    --------
    >>> example_phases("steel").names
    ['ferrite', 'NbC', 'cementite']
    """
    if name not in _EXAMPLES:
        raise ValueError(f"there are example phases for {sorted(_EXAMPLES)!r}, got {name!r}")
    phases = [make_phase(phase, *_CRYSTALS[phase]) for phase in _EXAMPLES[name]]
    for phase, color in zip(phases, _COLORS, strict=False):
        phase.color = color  # PhaseList leaves phases with one colour for all
    return PhaseList(phases)
