"""Crystals in the text formats of other tools: which cell, in which Cartesian frame.

Owns the cell that stands in the header of an .ang or .ctf file, the rotation from the crystal's
frame here to the frame of that cell there, and the numbers by which the formats know its symmetry.
The files themselves belong to `export`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from orix.crystal_map import Phase
from orix.quaternion import Rotation

from pyxem_nas.diffraction import (
    TO_HEXAGONAL,
    laue_operations,
    name_laue_group,
    standard_operations,
)

_CHANNEL_LAUE = "-1 2/m mmm 4/m 4/mmm -3 -3m 6/m 6/mmm m-3 m-3m".split()
_EDAX_CODES = "1 20 22 4 42 3 32 6 62 23 43".split()


@dataclass(frozen=True)
class WrittenCell:
    """A phase as a text format writes it.

    Parameters
    ----------
    lattice
        a, b, c in angstrom, alpha, beta, gamma in degrees.
    rotation
        Takes Cartesian components of a crystal direction in the phase's own frame to those in the
        frame of the format, shape (1,).
    channel_laue
        Number of the Laue group in Channel 5, from 1.
    edax_code
        Code of the Laue group of EDAX.
    """

    lattice: tuple[float, ...]
    rotation: Rotation
    channel_laue: int
    edax_code: str


def get_written_cell(phase: Phase, suffix: Literal[".ang", ".ctf"]) -> WrittenCell:
    """Return the cell of a phase for a text format.

    Parameters
    ----------
    phase
        Phase with a lattice.
    suffix
        The format.

    Returns
    -------
    cell
        The phase's own, of rhombohedral axes the hexagonal one.

    Warns
    -----
    UserWarning
        If the format cannot say where the symmetry axes lie and its readers take them elsewhere:
        monoclinic crystals whose axis is not b, in .ang also trigonal ones whose 2-folds lie
        between the a axes (-31m).
    """
    base = np.asarray(phase.structure.lattice.base, float)  # rows a, b, c
    laue = _name_laue(phase)
    lengths = np.linalg.norm(base, axis=1)
    angles = _angles(base)
    if laue in ("-3", "-3m") and np.ptp(lengths) < 1e-3 and np.ptp(angles) < 0.02:
        base = TO_HEXAGONAL @ base
        lengths, angles = np.linalg.norm(base, axis=1), _angles(base)
    rotation = _channel_frame(base) if suffix == ".ctf" else _orix_frame(base)
    number = _CHANNEL_LAUE.index(laue)
    cell = WrittenCell((*lengths, *angles), rotation, number + 1, _EDAX_CODES[number])
    _warn_of_other_axes(phase, base, laue, suffix)
    return cell


def channel_from_orix(phase: Phase) -> Rotation:
    """Return the rotation from the crystal frame of orix to that of Channel 5.

    Parameters
    ----------
    phase
        Phase with a lattice.

    Returns
    -------
    rotation
        Rotation of shape (1,) that takes the Cartesian components of a crystal direction in orix'
        frame (x along a, z along c*) to those in the Channel frame (x along a*, z along c).
        ``rotation * xmap.rotations`` are lab2crystal rotations in the Channel frame.

    Examples
    --------
    >>> from orix.crystal_map import Phase
    >>> float(channel_from_orix(Phase(point_group="6/mmm")).angle[0].round(4))  # 30 degrees
    0.5236
    >>> float(channel_from_orix(Phase(point_group="m-3m")).angle[0].round(4))
    0.0
    """
    return _channel_frame(np.asarray(phase.structure.lattice.base, dtype=float))


def _channel_frame(base: np.ndarray) -> Rotation:
    """Return the rotation into the frame with x along a* and z along c."""
    z = base[2] / np.linalg.norm(base[2])
    a_star = np.cross(base[1], base[2])
    x = a_star / np.linalg.norm(a_star)
    return Rotation.from_matrix(np.stack([x, np.cross(z, x), z])[np.newaxis])


def _orix_frame(base: np.ndarray) -> Rotation:
    """Return the rotation into the frame with x along a and z along c*."""
    x = base[0] / np.linalg.norm(base[0])
    c_star = np.cross(base[0], base[1])
    z = c_star / np.linalg.norm(c_star)
    return Rotation.from_matrix(np.stack([x, np.cross(z, x), z])[np.newaxis])


def _angles(base: np.ndarray) -> np.ndarray:
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    cosines = [unit[i] @ unit[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    return np.rad2deg(np.arccos(cosines))


def _name_laue(phase: Phase) -> str:
    """Return the name of the phase's Laue group, "-1" where nothing is known of it."""
    if phase.point_group is None and not len(phase.structure):
        return "-1"
    return name_laue_group(laue_operations(phase))


def _warn_of_other_axes(phase: Phase, base: np.ndarray, laue: str, suffix: str) -> None:
    """Warn where a reader of the format would take the symmetry axes elsewhere."""
    if laue == "-1":
        return
    group = laue
    if suffix == ".ctf" and phase.space_group is not None:
        group = int(phase.space_group.number)
    assumed, own = standard_operations(base, group), laue_operations(phase)
    near = np.abs(assumed @ own.T) > 1 - 1e-3
    if not (near.any(axis=0).all() and near.any(axis=1).all()):
        warnings.warn(
            f"phase {phase.name!r}: {suffix} files cannot say that the symmetry axes of {laue} lie "
            "otherwise than in the standard setting, and their readers take them there; the "
            "orientations are right, but disorientations and colours of the reader may not be: "
            "keep the .h5 file too",
            stacklevel=6,
        )
