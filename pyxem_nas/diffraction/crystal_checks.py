"""What every crystal must be like, from a file or made by a user.

Owns the checks of a filled unit cell: what cannot be right raises a ``ValueError`` that says what
was found and what to do, what is doubtful is returned as text. Where they are applied, and to which
file or phase the text belongs, is said by `crystals`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.diffraction.unit_cell import SITE_TOLERANCE, UnitCell

if TYPE_CHECKING:
    from pyxem_nas.diffraction.cif import CifCrystal

_SHORTEST = 0.7  # angstrom between atoms
_LIGHTEST, _HEAVIEST = 0.05, 25.0  # g/cm^3: solid hydrogen has 0.09, osmium 22.6
_DALTON = 1.660539  # g/cm^3 for one dalton in a cubic angstrom


def check_cell(cell: UnitCell, labels: list[str]) -> None:
    """Raise ValueError where a filled cell cannot be right; `labels` name its atoms."""
    for label, share, xyz in zip(labels, cell.occupancy, cell.positions, strict=True):
        if not 0 < share <= 1.0 + 1e-6:
            raise ValueError(f"{label}: an occupancy of {share:g}, which must be in 0 to 1")
        if not np.isfinite(xyz).all():
            raise ValueError(f"{label}: the coordinates {xyz.tolist()!r}, which must be numbers")
    shares = np.zeros(len(cell))
    np.add.at(shares, cell.site_of_atom, cell.occupancy)
    full = int(shares.argmax())
    if shares[full] > 1.05:
        mates = sorted({labels[i] for i in np.flatnonzero(cell.site_of_atom == full)})
        raise ValueError(
            f"{', '.join(mates)}: atoms in one place, {cell.positions[full].round(4).tolist()!r}, "
            f"with an occupancy of {shares[full]:.2f} in all; list each atom once, not what the "
            "operators make of it too"
        )
    distances = cell.distances + np.where(cell.distances < SITE_TOLERANCE, np.inf, 0.0)
    # of a disordered crystal, where one of two near sites is empty
    both = cell.occupancy[:, None] + cell.occupancy > 1.02
    distances[~both] = np.inf
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    if distances[i, j] < _SHORTEST:
        raise ValueError(
            f"{labels[i]} and {labels[j]} are {distances[i, j]:.3f} angstrom apart, nearer than "
            f"the {_SHORTEST} that atoms need; check the coordinates, the cell and the setting of "
            "the space group"
        )
    density = _density(cell)
    if not _LIGHTEST < density < _HEAVIEST:
        raise ValueError(
            f"a density of {density:.3g} g/cm^3, which no crystal has; check the cell and whether "
            "all atoms are listed"
        )


def _density(cell: UnitCell) -> float:
    """Return g/cm^3."""
    import gemmi

    weights = np.array([gemmi.Element(element).weight for element in cell.elements])
    return float((weights * cell.occupancy).sum() * _DALTON / cell.volume)


def check_against(stated: CifCrystal, cell: UnitCell) -> list[str]:
    """Return what of the cell differs from what the file says about it, or refuse it."""
    remarks = []
    counts: dict[str, float] = {}
    for element, share in zip(cell.elements, cell.occupancy, strict=True):
        counts[element] = counts.get(element, 0.0) + float(share)
    formula = dict(stated.composition)
    if formula.get("H") and "H" not in counts:
        del formula["H"]
        remarks.append("its sum formula has hydrogen, its sites have none")
    if formula:
        remarks += _check_composition(formula, counts)
        units = sum(counts.values()) / sum(formula.values())
        if stated.formula_units and abs(units / stated.formula_units - 1) > 0.05:
            remarks.append(
                f"its cell holds {units:.3g} formula units, it states {stated.formula_units:g}"
            )
    if stated.volume and abs(cell.volume / stated.volume - 1) > 0.02:
        raise ValueError(
            f"the volume of its cell is {cell.volume:.2f} cubic angstrom, it states "
            f"{stated.volume:g}; correct the lengths and angles"
        )
    if stated.density and not remarks and abs(_density(cell) / stated.density - 1) > 0.1:
        remarks.append(
            f"its atoms make a density of {_density(cell):.2f} g/cm^3, it states {stated.density:g}"
        )
    return remarks


def _check_composition(formula: dict[str, float], counts: dict[str, float]) -> list[str]:
    """Compare the shares of elements with those of the sum formula."""
    elements = sorted(set(formula) | set(counts))
    shares = [
        np.array([part.get(e, 0.0) for e in elements]) / sum(part.values())
        for part in (formula, counts)
    ]
    worst = int(np.abs(shares[0] - shares[1]).argmax())
    difference = abs(shares[0][worst] - shares[1][worst])
    found = " ".join(f"{element}{round(n, 3):g}" for element, n in sorted(counts.items()))
    wanted = " ".join(f"{element}{round(n, 3):g}" for element, n in sorted(formula.items()))
    text = f"its sites make {found} in the cell, its sum formula is {wanted}"
    missing = [e for e in elements if (e in formula) != (e in counts)]
    if missing or difference > 0.05:
        raise ValueError(
            f"{text}; correct the sites (element {(missing or [elements[worst]])[0]}), their "
            "occupancies or the operators, or the formula (_chemical_formula_sum)"
        )
    return [text] if difference > 0.01 else []


def check_group(cell: UnitCell, number: int, name: str) -> list[str]:
    """Return what is surprising in a cell's symmetry beside its stated group, or refuse it."""
    import gemmi

    found = cell.symmetry
    if found.number == number:
        return []
    stated = gemmi.find_spacegroup_by_number(int(number))
    n_stated = len(stated.operations().sym_ops)
    text = f"its space group is {number} ({name}), its atoms have {found.number} ({found.name})"
    if len(found.rotations) <= n_stated:
        raise ValueError(
            f"{text}; do they fill the cell? fill it with phase.expand_asymmetric_unit(), or read "
            "the CIF file with pyxem_nas.read_phases"
        )
    return [f"{text}; orientations are told up to the symmetry of the atoms"]
