"""Phases in the header of a bundle file, and back.

Owns how a crystal is written so that it is the same crystal when read, and how the atoms of older
schemas, which were written in a base that was not, are turned back. The header itself belongs to
`header`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles.network_files import BundleError
from pyxem_nas.diffraction import (
    OrientationCells,
    UnitCell,
    get_lattice_parameters,
    get_unit_cell,
    laue_operations,
    list_reciprocal_lattice,
    name_proper_group,
    structure_factors,
)

if TYPE_CHECKING:
    from orix.crystal_map import Phase

#: From this schema on atoms have the coordinates of the lattice that is written with them.
FIRST_SOUND_SCHEMA = 4
_WAY_OUT = "make it again from the CIF files, with search_models or ModelBundle.from_phases"
_N_TURNS = 4  # times that an older bundle may have been loaded and saved again


def phase_to_dict(phase: Phase) -> dict[str, Any]:
    """Return a phase for JSON: its lattice, and its atoms with their coordinates in that lattice.

    An atom is [element, x, y, z, occupancy, isotropic B in angstrom squared].
    """
    if phase.space_group is None:
        raise ValueError(f"phase {phase.name!r} has no space group; set phase.space_group")
    cell = get_unit_cell(phase)
    rows = np.column_stack([cell.positions, cell.occupancy, cell.displacement]).round(9)
    return {
        "name": phase.name,
        "space_group": int(phase.space_group.number),
        "color": phase.color,
        "lattice": [round(value, 9) for value in get_lattice_parameters(phase)],
        "atoms": [[e, *row] for e, row in zip(cell.elements, rows.tolist(), strict=True)],
    }


def phase_from_dict(fields: dict[str, Any], version: int) -> Phase:
    """Return the phase that a header of some schema holds.

    Raises
    ------
    BundleError
        If the lattice is none, or the atoms of an older schema cannot be turned back.
    """
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    lattice = [float(v) for v in fields["lattice"]]
    if len(lattice) != 6 or not all(0 < v <= 500 for v in lattice):
        raise BundleError(f"no lattice: {lattice!r}")
    structure = Structure(lattice=Lattice(*lattice))
    for element, x, y, z, occupancy, *displacement in fields["atoms"]:
        b = float(displacement[0]) if displacement else 0.0
        xyz = [float(v) for v in (x, y, z)]
        atom = Atom(element, xyz, occupancy=occupancy, Uisoequiv=b / (8 * np.pi**2))
        structure.append(atom, copy=False)
    phase = Phase(
        name=fields["name"],
        space_group=fields["space_group"],
        structure=structure,
        color=fields["color"],
    )
    if version < FIRST_SOUND_SCHEMA and len(structure):
        return _turn_back(phase)
    return phase


def cells_from_dict(fields: dict[str, Any], phase: Phase, version: int) -> OrientationCells:
    """Return the orientation cells of a phase.

    Raises
    ------
    BundleError
        If they are none, or belong to symmetry axes that the crystal has not.
    """
    symmetry = laue_operations(phase)
    directions = np.array(fields["directions"], np.float64).reshape(-1, 3)
    # `not` with `<=`: NaN is refused, too
    if not np.all(np.abs(np.linalg.norm(directions, axis=1) - 1) <= 1e-3) or not len(directions):
        raise BundleError("the directions of orientation cells must be unit vectors")
    if not 1 <= fields["n_inplane"] <= 3600:
        raise BundleError(f"n_inplane must be 1 to 3600, got {fields['n_inplane']!r}")
    if version < FIRST_SOUND_SCHEMA:
        _check_axes(phase, symmetry)
    return OrientationCells(
        name_proper_group(symmetry), directions, int(fields["n_inplane"]), symmetry
    )


def _turn_back(phase: Phase) -> Phase:
    """Return the phase whose atoms an older schema wrote in a lattice that is not written.

    It wrote the coordinates that `Phase` gave them when it turned the lattice from diffpy's
    standard axes, once more each time the bundle was loaded and saved.
    """
    lattice = phase.structure.lattice
    turn = lattice.base @ np.linalg.inv(lattice.stdbase)
    if np.allclose(turn, np.eye(3), atol=1e-6):
        return phase
    cell = get_unit_cell(phase)
    crystals = []
    for k in range(1, _N_TURNS + 1):
        positions = cell.positions @ np.linalg.matrix_power(turn, k)
        crystal = UnitCell(
            cell.base, cell.elements, positions, cell.occupancy, cell.displacement
        )  # fmt: skip
        if _has_group(crystal, phase) and not any(_same(crystal, other) for other in crystals):
            crystals.append(crystal)
    if len(crystals) != 1:
        raise BundleError(
            f"phase {phase.name!r}: bundles of schemas before {FIRST_SOUND_SCHEMA} do not say in "
            "which axes the atoms of an oblique cell are given, and its symmetry does not tell; "
            + _WAY_OUT
        )
    warnings.warn(
        f"the atoms of phase {phase.name!r} were turned back from how an older version wrote "
        "them; its networks, if any, learned dynamical patterns of misplaced atoms: better "
        + _WAY_OUT,
        stacklevel=2,
    )
    return crystals[0].to_phase(phase.name, int(phase.space_group.number), phase.color)


def _has_group(cell: UnitCell, phase: Phase) -> bool:
    try:
        return cell.symmetry.number == int(phase.space_group.number)
    except ValueError:
        return False


def _same(a: UnitCell, b: UnitCell) -> bool:
    """Return whether two cells diffract alike: the same crystal, perhaps from another origin."""
    hkl, vectors = list_reciprocal_lattice(a.base, 0.8)
    length = np.linalg.norm(vectors, axis=1)
    first, second = (np.abs(structure_factors(cell, hkl, length)) for cell in (a, b))
    return bool(np.abs(first - second).max() < 0.01 * first.max())


def _check_axes(phase: Phase, symmetry: np.ndarray) -> None:
    """Raise BundleError where older cells, of orix' groups, are not those of the crystal."""
    group = phase.point_group.laue.proper_subgroup.data.reshape(-1, 4)
    near = np.abs(group @ symmetry.T) > 1 - 1e-4
    if len(group) != len(symmetry) or not near.any(axis=1).all():
        raise BundleError(
            f"the orientation network of phase {phase.name!r} was trained by an older version for "
            f"symmetry axes that the crystal has not; {_WAY_OUT}"
        )
