"""Angles between orientations: up to symmetry, and up to the 180-degree ambiguity.

Owns the disorientation angle and the half turn about the beam that patterns of the zero-order Laue
zone cannot tell. Plain arrays only.
"""

from __future__ import annotations

import numpy as np

from pyxem_nas.diffraction.quaternions import multiply_quaternions


def disorientation_angles(
    quaternions_a: np.ndarray, quaternions_b: np.ndarray, operations: np.ndarray
) -> np.ndarray:
    """Return the smallest rotation angle between orientations of one phase, pair by pair.

    Parameters
    ----------
    quaternions_a, quaternions_b
        Unit quaternions lab2crystal, scalar first, shapes (n, 4).
    operations
        Proper rotations that leave the crystal as it is, unit quaternions of shape (m, 4), as of
        `laue_operations`: they act on the crystal, from the left.

    Returns
    -------
    angles
        Disorientation angles in degrees, shape (n,).

    Examples
    --------
    >>> import numpy as np
    >>> from orix.crystal_map import Phase
    >>> from pyxem_nas.diffraction import laue_operations
    >>> a, b = np.array([[1.0, 0, 0, 0]]), np.array([[0.0, 0, 0, 1]])  # 180 degrees about z
    >>> for space_group in (1, 16):  # triclinic, orthorhombic
    ...     operations = laue_operations(Phase(space_group=space_group))
    ...     print(disorientation_angles(a, b, operations).tolist())
    [180.0]
    [0.0]
    """
    a = np.asarray(quaternions_a, dtype=float).reshape(-1, 4)
    b = np.asarray(quaternions_b, dtype=float).reshape(-1, 4)
    misorientation = multiply_quaternions(a, b * np.array([1.0, -1.0, -1.0, -1.0]))
    cosine = np.zeros(len(misorientation))
    # cos(angle / 2) is the scalar part of operation * a * conjugate(b); one pass per operation
    # keeps the memory at n numbers
    for operation in operations * np.array([1.0, -1.0, -1.0, -1.0]):
        np.maximum(cosine, np.abs(misorientation @ operation), out=cosine)
    return np.rad2deg(2 * np.arccos(np.minimum(cosine, 1.0)))


def turned_about_beam(quaternions: np.ndarray) -> np.ndarray:
    """Return the orientations whose zero-order-Laue-zone pattern is turned by 180 degrees.

    Parameters
    ----------
    quaternions
        Unit quaternions lab2crystal, scalar first, shape (n, 4).

    Returns
    -------
    turned
        Quaternions of R * Rz(180 degrees), where the turn about the beam acts first, on vectors
        of the laboratory; shape (n, 4).

    Examples
    --------
    >>> import numpy as np
    >>> turned_about_beam(np.array([[1.0, 0, 0, 0]])).tolist()
    [[0.0, 0.0, 0.0, 1.0]]
    """
    q = np.asarray(quaternions, dtype=float).reshape(-1, 4)
    return multiply_quaternions(q, np.array([[0.0, 0.0, 0.0, 1.0]]))
