"""Symmetry of diffraction in the crystal's own axes.

Owns the Laue operations of a phase, found in its atoms by spglib and expressed in the Cartesian
frame of the lattice that the phase has (x along a, z along c*). orix' own groups are those of
standard axes, which monoclinic, some trigonal and rhombohedral lattices do not have: they decide
nothing here; `to_orix` says how to come to them for colours and figures.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.diffraction.quaternions import (
    matrices_to_quaternions,
    multiply_quaternions,
)
from pyxem_nas.diffraction.unit_cell import UnitCell, get_unit_cell

if TYPE_CHECKING:
    import gemmi
    from orix.crystal_map import Phase
    from orix.quaternion import Symmetry

_SAME = 1e-3  # quaternions: 0.1 degrees
# by the highest order of an axis and the number of operations: Laue group, proper group
_GROUPS = {
    (1, 1): ("-1", "1"),
    (2, 2): ("2/m", "2"),
    (2, 4): ("mmm", "222"),
    (3, 3): ("-3", "3"),
    (3, 6): ("-3m", "32"),
    (4, 4): ("4/m", "4"),
    (4, 8): ("4/mmm", "422"),
    (6, 6): ("6/m", "6"),
    (6, 12): ("6/mmm", "622"),
    (3, 12): ("m-3", "23"),
    (4, 24): ("m-3m", "432"),
}


def laue_operations(phase: Phase) -> np.ndarray:
    """Return the proper rotations of a crystal's Laue group in the crystal's own axes.

    Parameters
    ----------
    phase
        Phase with a lattice. Its atoms decide; of a phase without atoms its space group, else its
        point group, taken in the lattice's own base.

    Returns
    -------
    operations
        Unit quaternions of shape (n, 4), float64, scalar first, the identity first; they act on
        vectors of the crystal in the Cartesian frame x along a, z along c*.

    Raises
    ------
    ValueError
        If the phase has neither atoms nor a group, if the atoms cannot be a crystal (two in one
        place), or if the lattice cannot have the group.

    Notes
    -----
    By Friedel's law kinematical intensities have the symmetry of the Laue group: rotations of the
    point group, and its rotoinversions times the inversion.

    References
    ----------
    Togo, A., Shinohara, K. & Tanaka, I. (2024) STAM Methods 4, 2384822,
    doi:10.1080/27660400.2024.2384822: spglib.

    Examples
    --------
    >>> from pyxem_nas import example_phases
    >>> laue_operations(example_phases("steel")["cementite"]).shape
    (4, 4)
    """
    if len(phase.structure):
        try:
            return _operations_of_cell(get_unit_cell(phase)).copy()
        except ValueError as error:
            raise ValueError(f"phase {phase.name!r}: {error}") from error
    base = np.asarray(phase.structure.lattice.base, np.float64)
    if phase.space_group is not None:
        number = int(phase.space_group.number)
        return _operations_of_group(phase.name, base.tobytes(), number).copy()
    if phase.point_group is not None:
        number = _EXAMPLES[phase.point_group.laue.name]
        return _operations_of_group(phase.name, base.tobytes(), number).copy()
    raise ValueError(
        f"phase {phase.name!r} has neither atoms nor a group; read its CIF file with "
        "pyxem_nas.read_phases, or set phase.structure and phase.space_group"
    )


def name_laue_group(operations: np.ndarray) -> str:
    """Return the international name of the Laue group that has these proper rotations.

    Parameters
    ----------
    operations
        Proper rotations of a Laue group, quaternions of shape (n, 4).

    Examples
    --------
    >>> name_laue_group(np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]]))
    '2/m'
    """
    return _GROUPS[_kind(operations)][0]


def name_proper_group(operations: np.ndarray) -> str:
    """Return the international name of a group of proper rotations, shape (n, 4).

    Examples
    --------
    >>> name_proper_group(np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]]))
    '2'
    """
    return _GROUPS[_kind(operations)][1]


def to_orix(phase: Phase) -> tuple[Symmetry, np.ndarray]:
    """Return the Laue group as orix has it and the way to the axes in which orix is right.

    Parameters
    ----------
    phase
        Phase with a lattice.

    Returns
    -------
    laue
        orix' group, its axes along those of its own standard frame.
    turn
        Unit quaternion of shape (4,): ``multiply_quaternions(turn, q)`` of a lab2crystal
        orientation ``q`` is the orientation with respect to that frame, for orix' colours and
        fundamental sectors. The identity where the crystal's axes are orix' own.

    Examples
    --------
    >>> from orix.crystal_map import Phase
    >>> from pyxem_nas.diffraction import rotate_vectors
    >>> laue, turn = to_orix(Phase(space_group=14))  # the 2-fold axis, b, comes to lie along z
    >>> laue.name, rotate_vectors(turn, np.array([0.0, 1.0, 0.0])).round(3).tolist()
    ('2/m', [0.0, 0.0, 1.0])
    """
    from orix.quaternion import symmetry

    operations = laue_operations(phase)
    name = name_laue_group(operations)
    laue = next(group for group in symmetry._groups if group.name == name)
    wanted = np.asarray(laue.data, np.float64).reshape(-1, 4)[~np.ravel(laue.improper)]
    turns = _turns_between(operations, wanted)
    # the shortest; of several the same one always, whatever the last digits are
    return laue, turns[np.lexsort(-turns.round(3).T[::-1])[0]]


# ------------------------------------------------------------------- from atoms

# a space group of each Laue group, for phases that state no more; -3m is -3m1
_EXAMPLES = {
    "-1": 2, "2/m": 10, "mmm": 47, "4/m": 83, "4/mmm": 123, "-3": 147, "-3m": 164, "6/m": 175,
    "6/mmm": 191, "m-3": 200, "m-3m": 221,
}  # fmt: skip


@lru_cache(maxsize=256)
def _operations_of_cell(cell: UnitCell) -> np.ndarray:
    """Return the operations of a crystal's atoms."""
    return _to_quaternions(cell.symmetry.primitive_base, cell.symmetry.rotations)


# ------------------------------------------------------------ from groups alone


def standard_operations(base: np.ndarray, group: int | str) -> np.ndarray:
    """Return what a program that knows no atoms takes for a crystal's Laue operations.

    Parameters
    ----------
    base
        Rows a, b, c of the lattice, angstrom, shape (3, 3).
    group
        Number of the space group, or name of the Laue group, in the standard setting: b is the
        axis of monoclinic groups, the 2-folds of -3m lie along a.

    Returns
    -------
    operations
        Quaternions of shape (n, 4), in the frame of the base.
    """
    import gemmi

    number = _EXAMPLES[group] if isinstance(group, str) else group
    return _to_quaternions(base, _rotations_of(gemmi.find_spacegroup_by_number(number)))


def _rotations_of(setting: gemmi.SpaceGroup) -> np.ndarray:
    return np.array([op.rot for op in setting.operations().sym_ops]) // 24  # gemmi's unit


@lru_cache(maxsize=256)
def _operations_of_group(name: str, base: bytes, number: int) -> np.ndarray:
    """Return the operations of a space group's Laue group in the first setting that fits."""
    import gemmi

    lattice = np.frombuffer(base).reshape(3, 3)
    metric = lattice @ lattice.T
    for setting in gemmi.spacegroup_table():
        if setting.number == number:
            rotations = _rotations_of(setting)
            kept = np.einsum("nji,jk,nkl->nil", rotations, metric, rotations)
            if np.abs(kept - metric).max() < 0.02 * np.trace(metric):
                return _to_quaternions(lattice, rotations)
    raise ValueError(
        f"phase {name!r} is of space group {number}, which its lattice cannot have: a, b, c = "
        f"{np.sqrt(np.diag(metric)).round(4).tolist()!r} angstrom; set phase.structure, or read "
        "the phase's CIF file with pyxem_nas.read_phases"
    )


def _to_quaternions(lattice: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Return the different proper parts of rotations in a base (rows a, b, c) as quaternions."""
    matrices = lattice.T @ rotations @ np.linalg.inv(lattice.T)
    matrices = matrices * np.sign(np.linalg.det(matrices))[:, None, None]
    left, _, right = np.linalg.svd(matrices)  # a measured lattice is orthogonal to some digits only
    quaternions = matrices_to_quaternions(left @ right)
    order = np.lexsort(np.round(-quaternions.T[::-1], 6))
    kept: list[np.ndarray] = []
    for q in quaternions[order]:
        if all(abs(q @ other) < 1 - _SAME**2 for other in kept):
            kept.append(q)
    operations = np.array(kept)
    return operations


def _kind(operations: np.ndarray) -> tuple[int, int]:
    """Return the highest order of an axis, and the number of operations."""
    angle = 2 * np.arccos(np.clip(np.abs(operations[:, 0]), 0, 1))
    orders = np.rint(2 * np.pi / angle[angle > 1e-3]).astype(int)
    return int(orders.max(initial=1)), len(operations)


def _turns_between(operations: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return rotations that take a group's axes onto those of the same group in another frame."""
    if len(operations) == 1:
        return np.array([[1.0, 0, 0, 0]])
    frames = [_frames(group) for group in (operations, wanted)]
    turns = np.einsum("aij,bkj->abik", frames[1], frames[0][:1]).reshape(-1, 3, 3)
    turns = matrices_to_quaternions(turns)
    inverse = turns * [1, -1, -1, -1]
    images = multiply_quaternions(
        multiply_quaternions(turns[:, None], operations), inverse[:, None]
    )
    same = np.abs(np.einsum("tni,mi->tnm", images, wanted)).max(axis=-1) > 1 - _SAME
    return turns[same.all(axis=-1)]


def _frames(operations: np.ndarray) -> np.ndarray:
    """Return frames along a group's axes, columns x, y, z: all choices that the group leaves."""
    sign = np.where(operations[:, :1] < 0, -1.0, 1.0)
    angle = 2 * np.arccos(np.clip(np.abs(operations[:, 0]), 0, 1))
    turning = angle > 1e-3
    axes = (operations * sign)[turning, 1:]
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    order = np.rint(2 * np.pi / angle[turning]).astype(int)
    axes = np.concatenate([axes, -axes])
    order = np.tile(order, 2)
    # 3-folds of cubic groups are no axis of a frame: its 4-folds or 2-folds are
    cubic = _kind(operations) in ((3, 12), (4, 24))
    highest = 2 if _kind(operations) == (3, 12) else order.max()
    principal = np.unique(axes[order == highest].round(6), axis=0)
    others = principal if cubic else np.unique(axes[order == 2].round(6), axis=0)
    frames = []
    for z in principal:
        across = [x for x in others if abs(x @ z) < 1e-3]
        if not across:  # one axis only: as near as can be to the crystal's own x, else its z
            free = np.array([[1.0, 0, 0], [0, 0, 1.0]])
            flat = free - np.outer(free @ z, z)
            across = [flat[np.linalg.norm(flat, axis=1).argmax()]]
        for x in across:
            x = x / np.linalg.norm(x)
            z = z / np.linalg.norm(z)
            frames.append(np.stack([x, np.cross(z, x), z], axis=1))
    return np.array(frames)
