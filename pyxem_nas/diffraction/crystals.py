"""Crystals: from CIF files, and phases that users make, to checked phases.

Owns the one way in for crystals, `read_phases` and `check_phase`: what cannot be right is refused,
what is doubtful warns, and a crystal whose file hides its symmetry becomes the conventional cell.
Reading the file belongs to `cif`, symmetry in the crystal's own axes to `symmetry`.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.diffraction.cif import CifCrystal, metric_of, read_cif
from pyxem_nas.diffraction.crystal_checks import check_against, check_cell, check_group
from pyxem_nas.diffraction.unit_cell import (
    SITE_TOLERANCE,
    SYMMETRY_TOLERANCE,
    UnitCell,
    get_unit_cell,
)

if TYPE_CHECKING:
    import gemmi
    from orix.crystal_map import Phase, PhaseList

_logger = logging.getLogger(__name__)
_RHOMBOHEDRAL = (146, 148, 155, 160, 161, 166, 167)
#: Rows: hexagonal axes a, b, c by rhombohedral ones, obverse setting.
TO_HEXAGONAL = np.array([[1.0, -1, 0], [0, 1, -1], [1, 1, 1]])
_MOVED = 0.01  # angstrom: a special position that moved farther is told aloud


def read_phases(*paths: Path | str) -> PhaseList:
    """Return the checked phases of CIF files, named after the files.

    Parameters
    ----------
    *paths
        One CIF file per phase.

    Returns
    -------
    phase_list
        Phases in the order of the files, IDs from 0, with all atoms of their unit cells. The
        crystal's Cartesian frame is orix' for that cell: x along a, z along c*.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If no file is given or two have one name; if a file cannot be read, holds several crystals,
        or states none that can be right: a site of no known element, a coordinate that is no
        number, an occupancy beyond 0 to 1, atoms nearer than 0.7 angstrom, a composition other
        than its sum formula, a density that no crystal has, operators that do not fit the cell, or
        no operators and no name or Hall symbol that states one setting. The message names the file
        and the site or line, what was found and what to do.

    Warns
    -----
    UserWarning
        If what is read is right but not as the file writes it (rhombohedral axes become hexagonal
        ones, a cell of less symmetry than its atoms have becomes the conventional cell, a special
        position moved by more than 0.01 angstrom), or doubtful.

    See Also
    --------
    ModelBundle.from_phases, search_models : where phases that you make pass the same checks.

    Notes
    -----
    The file's operators count, else the setting that its Hall symbol or name states. Elements are
    taken from type symbols, else from labels, without charge and isotope. Atoms in special
    positions are merged within 0.1 angstrom.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> lines = ["data_ferrite", *(f"_cell_length_{axis} 2.8665" for axis in "abc")]
    >>> lines += ["_space_group_name_H-M_alt 'I m -3 m'", "loop_", "_atom_site_label"]
    >>> lines += [*(f"_atom_site_fract_{axis}" for axis in "xyz"), "Fe1 0 0 0"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ferrite.cif"
    ...     _ = path.write_text(chr(10).join(lines))
    ...     phase = read_phases(path)[0]
    >>> phase.name, phase.space_group.short_name, len(phase.structure)
    ('ferrite', 'Im-3m', 2)
    """
    from orix.crystal_map import PhaseList

    files = [Path(path) for path in paths]
    if not files:
        raise ValueError("read_phases needs at least one CIF file, got none")
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        raise ValueError(f"phases are named after their files, two have one name: {names!r}")
    phases = []
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"{str(file)!r} does not exist")
        try:
            phase, remarks = _read_phase(file)
        except ValueError as error:
            raise ValueError(f"{str(file)!r}: {error}") from error
        for remark in remarks:
            warnings.warn(f"{str(file)!r}: {remark}", stacklevel=2)
        phases.append(phase)
    return PhaseList(phases)


def check_phase(phase: Phase) -> None:
    """Raise unless a phase's atoms can be a crystal, and are those of its space group.

    Parameters
    ----------
    phase
        Phase that a user made.

    Raises
    ------
    ValueError
        If it has no atoms or no space group, its atoms fail a check of `read_phases`, or have less
        symmetry than its space group, as an asymmetric unit alone has.

    Warns
    -----
    UserWarning
        If the atoms have more symmetry than the space group.

    Examples
    --------
    >>> from pyxem_nas import example_phases
    >>> check_phase(example_phases("steel")["NbC"])
    """
    where = f"phase {phase.name!r}"
    if len(phase.structure) == 0:
        raise ValueError(
            f"{where} has no atoms; read its CIF file with pyxem_nas.read_phases, or set its "
            "structure's atoms"
        )
    if phase.space_group is None:
        raise ValueError(f"{where} has no space group; set phase.space_group")
    cell = get_unit_cell(phase)
    labels = [f"atom {i} ({element})" for i, element in enumerate(cell.elements)]
    try:
        check_cell(cell, labels)
        remarks = check_group(cell, phase.space_group.number, phase.space_group.short_name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for remark in remarks:
        warnings.warn(f"{where}: {remark}", stacklevel=3)


# -------------------------------------------------------------------- from a file


def _read_phase(path: Path) -> tuple[Phase, list[str]]:
    """Return the phase of a CIF file, and what has to be said about it."""
    stated = read_cif(path)
    operations, remarks = _choose_operations(stated)
    cell, owners, moved = _fill_cell(stated, operations)
    if moved > _MOVED:
        remarks.append(
            f"atoms in special positions were up to {moved:.3f} angstrom from them and are merged"
        )
    elif moved > 1e-6:
        _logger.info("%s: special positions merged within %.4f angstrom", path, moved)
    check_cell(cell, owners)
    remarks += check_against(stated, cell)
    cell, number, conversions = _take_conventional(stated, cell, operations)
    return cell.to_phase(path.stem, number), remarks + conversions


def _choose_operations(stated: CifCrystal) -> tuple[gemmi.GroupOps, list[str]]:
    """Return the operators to fill the cell with: the file's, else those of the stated setting."""
    import gemmi

    listed, setting = stated.operators, stated.stated
    if listed is None and setting is None:
        raise ValueError(
            f"it lists no operators, and {stated.why_not}; add the operators "
            "(_space_group_symop_operation_xyz) or a name that states the setting"
        )
    if listed is None:
        _check_metric(stated, setting.operations(), f"the setting {setting.xhm()!r}")
        return setting.operations(), []
    if setting is None:
        _check_metric(stated, listed, "the list of operators")
        return listed, []
    own = gemmi.find_spacegroup_by_ops(listed)
    alone = len(list(listed)) == 1 and setting.number > 2
    if alone and not _has_number(stated, listed, setting.number):
        _check_metric(stated, setting.operations(), f"the setting {setting.xhm()!r}")
        return setting.operations(), [
            f"its list of operators holds 'x,y,z' alone beside the name {setting.xhm()!r}, whose "
            "symmetry its atoms have not by themselves; the name is taken"
        ]
    _check_metric(stated, listed, "the list of operators")
    if own is not None and own.number != setting.number and not alone:
        return listed, [
            f"its operators are those of {own.xhm()!r}, its name says {setting.xhm()!r}; the "
            "operators are taken"
        ]
    return listed, []


def _has_number(stated: CifCrystal, operations: gemmi.GroupOps, number: int) -> bool:
    """Return whether the atoms as listed have the symmetry of a space group by themselves."""
    try:
        return _fill_cell(stated, operations)[0].symmetry.number == number
    except ValueError:
        return False


def _check_metric(stated: CifCrystal, operations: gemmi.GroupOps, which: str) -> None:
    """Raise ValueError where an operator does not leave the lattice as it is."""
    lengths, angles = stated.lattice[:3], stated.lattice[3:]
    metric = metric_of(stated.lattice)
    positive = lengths.min() > 0.5 and lengths.max() < 500 and angles.min() > 5
    if not positive or angles.max() > 175 or np.linalg.eigvalsh(metric).min() <= 1e-3:
        raise ValueError(
            f"no crystal has the cell {stated.lattice.tolist()!r} (angstrom and degrees); correct "
            "_cell_length_a to _cell_angle_gamma"
        )
    kept = _images_of_metric(metric, operations)
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    if (np.abs(kept - metric) / scale).max() > 0.02:
        raise ValueError(
            f"{which} does not fit the cell {stated.lattice.tolist()!r} (angstrom and degrees): an "
            "operator changes lengths or angles; correct one of them"
        )


def _images_of_metric(metric: np.ndarray, operations: gemmi.GroupOps) -> np.ndarray:
    rotations = np.array([op.rot for op in operations.sym_ops], float) / 24
    return np.einsum("nji,jk,nkl->nil", rotations, metric, rotations)


def _fill_cell(stated: CifCrystal, operations: gemmi.GroupOps) -> tuple[UnitCell, list[str], float]:
    """Return the filled cell, the label of each atom, and the farthest move of a special position.

    The lattice is the mean of its images under the operators, so that it has their symmetry to the
    last digit.
    """
    base = _base_of(_images_of_metric(metric_of(stated.lattice), operations).mean(axis=0))
    rotations = np.array([op.rot for op in operations], float) / 24
    shifts = np.array([op.tran for op in operations], float) / 24
    rows, owners, farthest = [], [], 0.0
    for i, xyz in enumerate(stated.positions):
        between = rotations @ xyz + shifts - xyz
        between -= np.rint(between)
        near = np.linalg.norm(between @ base, axis=1) < SITE_TOLERANCE
        special = xyz + between[near].mean(axis=0)
        farthest = max(farthest, float(np.linalg.norm((special - xyz) @ base)))
        images = (rotations @ special + shifts) % 1.0
        alone = UnitCell(base, ("X",) * len(images), images, *np.ones((2, len(images))))
        first = np.unique(alone.site_of_atom)
        rows += [(i, image) for image in images[first]]
        owners += [stated.labels[i]] * len(first)
    index = [i for i, _ in rows]
    cell = UnitCell(
        base,
        tuple(stated.elements[i] for i in index),
        np.array([image for _, image in rows]),
        stated.occupancy[index],
        stated.displacement[index],
    )
    return cell, owners, farthest


def _base_of(metric: np.ndarray) -> np.ndarray:
    """Return rows a, b, c with x along a and z along c* of a metric tensor."""
    # c* is the last axis to be freed: the Cholesky factor of the metric has a along x
    return np.linalg.cholesky(metric)


# ------------------------------------------------------------- conventional cells


def _take_conventional(
    stated: CifCrystal, cell: UnitCell, operations: gemmi.GroupOps
) -> tuple[UnitCell, int, list[str]]:
    """Return the cell to use, the number of its space group, and what was done to it."""
    import gemmi

    lengths, angles = stated.lattice[:3], stated.lattice[3:]
    own = gemmi.find_spacegroup_by_ops(operations)
    axes = np.ptp(lengths) < 1e-3 * lengths.max() and np.ptp(angles) < 0.02
    if axes and own is not None and own.ext == "R" and cell.symmetry.number in _RHOMBOHEDRAL:
        hexagonal = _to_hexagonal(cell)
        a, c = np.linalg.norm(hexagonal.base, axis=1)[[0, 2]]
        remark = (
            f"its rhombohedral axes are turned into hexagonal ones (obverse), a = {a:.4f}, c = "
            f"{c:.4f} angstrom; indices and the crystal's frame are those of the hexagonal cell"
        )
        return hexagonal, cell.symmetry.number, [remark]
    tolerance = SYMMETRY_TOLERANCE
    if len(list(operations)) == 1:  # the symmetry is hidden behind the digits of the coordinates
        tolerance = float(np.clip(2 * stated.rounding, tolerance, 0.05))
    found = cell.find_symmetry(tolerance)
    listed = {tuple(np.ravel(op.rot)) for op in operations.sym_ops}
    # with the inversion, which patterns have whatever the crystal
    listed |= {tuple(-np.array(rotation)) for rotation in listed}
    n_found = len(np.unique(np.concatenate([found.rotations, -found.rotations]), axis=0))
    if n_found <= len(listed):
        return cell, found.number, []
    conventional = cell.take_conventional(tolerance)
    lengths = " ".join(f"{v:.4f}" for v in np.linalg.norm(conventional.base, axis=1))
    group = own.xhm() if own is not None else f"{len(list(operations))} operators"
    remark = (
        f"its cell is written in {group}, its atoms have the symmetry of {found.name} "
        f"({found.number}): it becomes the conventional cell, a, b, c = {lengths} angstrom, along "
        "whose axes the crystal's frame lies now"
    )
    return conventional, found.number, [remark]


def _to_hexagonal(cell: UnitCell) -> UnitCell:
    """Return the hexagonal cell, three times as large, of a cell on rhombohedral axes."""
    turned = cell.positions @ np.linalg.inv(TO_HEXAGONAL)
    centring = np.array([[0, 0, 0], [2 / 3, 1 / 3, 1 / 3], [1 / 3, 2 / 3, 2 / 3]])
    base = TO_HEXAGONAL @ cell.base
    return UnitCell(
        _base_of(base @ base.T),
        cell.elements * 3,
        (turned + centring[:, None]).reshape(-1, 3) % 1.0,
        np.tile(cell.occupancy, 3),
        np.tile(cell.displacement, 3),
    )
