"""Orientation cells: the target of the orientation networks.

Owns the division of orientation space into cells (beam direction in the crystal x in-plane angle)
and the way between a rotation and its cell. The only module that knows the networks' target.
Quaternions are scalar first, unit, lab2crystal as in orix: ``v_crystal = R v_lab``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numba
import numpy as np
from scipy.spatial import cKDTree

from pyxem_nas.diffraction.quaternions import multiply_quaternions, rotate_vectors
from pyxem_nas.diffraction.symmetry import laue_operations, name_proper_group

if TYPE_CHECKING:
    from orix.crystal_map import Phase


@dataclass(frozen=True)
class OrientationCells:
    """Cells of orientation space under one proper point group.

    A cell is a beam direction in the crystal, one of a nearly uniform set over the sector of the
    group, together with an in-plane bin. In-plane bin k is centred at the angle
    ``360 k / n_inplane`` degrees by which the pattern of the direction's reference orientation is
    turned counter-clockwise; turning a sample about the beam rolls the bins and leaves the
    directions.

    Parameters
    ----------
    group
        International name of the proper point group.
    directions
        Beam directions in the crystal frame, unit vectors of shape (n_directions, 3).
    n_inplane
        Number of in-plane bins over 360 degrees.
    symmetry
        Operations of the group as quaternions of shape (n_operations, 4), scalar first.

    See Also
    --------
    make_cells
    """

    group: str
    directions: np.ndarray = field(repr=False)
    n_inplane: int
    symmetry: np.ndarray = field(repr=False)

    @property
    def n_directions(self) -> int:
        """Number of beam directions."""
        return len(self.directions)

    @property
    def n_cells(self) -> int:
        """Number of cells, directions times in-plane bins."""
        return self.n_directions * self.n_inplane

    @cached_property
    def references(self) -> np.ndarray:
        """Reference orientation of each direction, quaternions of shape (n_directions, 4)."""
        return _shortest_rotation_from_z(self.directions)

    @cached_property
    def radius(self) -> float:
        """Largest distance in degrees from a direction of the sector to its nearest cell."""
        sphere = fibonacci_sphere(20_000)
        turned = rotate_vectors(self.symmetry[:, None], sphere[None])
        nearest = np.max(
            [np.max(turned[k] @ self.directions.T, axis=1) for k in range(len(turned))], axis=0
        )
        return float(np.rad2deg(np.arccos(np.clip(nearest.min(), -1, 1))))

    def encode(self, quaternions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cell of each orientation.

        Parameters
        ----------
        quaternions
            Orientations of shape (n, 4), lab2crystal, scalar first.

        Returns
        -------
        direction
            Index of the beam direction, shape (n,), int32.
        inplane
            In-plane angle in bins, shape (n,), float64 in [0, n_inplane); round it (modulo
            ``n_inplane``) for the bin.
        """
        return _encode(
            np.ascontiguousarray(quaternions, np.float64),
            self.symmetry,
            self.directions,
            self.references,
            self.n_inplane,
        )

    def decode(self, direction: np.ndarray, inplane: np.ndarray) -> np.ndarray:
        """Return the orientation at the centre of each cell.

        Parameters
        ----------
        direction
            Index of the beam direction, any shape.
        inplane
            In-plane angle in bins (whole or not), same shape.

        Returns
        -------
        quaternions
            Array of shape (..., 4), lab2crystal, scalar first.
        """
        half_angle = -np.pi * np.asarray(inplane, np.float64) / self.n_inplane
        about_beam = np.zeros((*half_angle.shape, 4))
        about_beam[..., 0] = np.cos(half_angle)
        about_beam[..., 3] = np.sin(half_angle)
        return multiply_quaternions(self.references[direction], about_beam)


def make_cells(
    phase: Phase, *, spacing: float | None = None, n_inplane: int = 90
) -> OrientationCells:
    """Divide the orientation space of a phase into cells.

    Parameters
    ----------
    phase
        Phase with atoms, or with a space group or point group. The proper rotations of its Laue
        group, in its own axes, are used: diffraction spots, by Friedel's law, tell no more.
    spacing
        Distance between neighbouring beam directions in degrees. None is 3 degrees for groups of
        12 or more operations and 3.5 for the others.
    n_inplane
        Number of in-plane bins.

    Returns
    -------
    cells
        The same for the same arguments.

    Notes
    -----
    The directions are a Fibonacci lattice over the group's sector, relaxed under the group's
    symmetry (Lloyd's algorithm), so that no cell is repeated by an operation of the group and none
    is cut by the sector's edge.

    Examples
    --------
    >>> from orix.crystal_map import Phase
    >>> make_cells(Phase(point_group="m-3m"), spacing=5)
    OrientationCells(group='432', n_inplane=90)
    """
    symmetry = laue_operations(phase)
    if spacing is None:
        spacing = 3.0 if len(symmetry) >= 12 else 3.5
    sphere_area = 4 * np.pi * np.rad2deg(1) ** 2
    n_directions = max(1, round(sphere_area / len(symmetry) / (np.sqrt(3) / 2 * spacing**2)))
    sector = _points_in_sector(symmetry, 24 * n_directions)
    directions = sector[:: max(1, len(sector) // n_directions)][:n_directions].copy()
    for _ in range(15):
        directions = _relax(directions, sector, symmetry)
    return OrientationCells(name_proper_group(symmetry), directions, n_inplane, symmetry)


def fibonacci_sphere(n: int) -> np.ndarray:
    """Return n nearly uniform unit vectors, shape (n, 3)."""
    index = np.arange(n) + 0.5
    z = 1 - 2 * index / n
    azimuth = np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)


def _points_in_sector(symmetry: np.ndarray, n: int) -> np.ndarray:
    """Return about n uniform directions of one sector, the part nearest to a general direction."""
    sphere = fibonacci_sphere(n * len(symmetry))
    general = np.array([0.31, 0.22, 0.92]) / np.linalg.norm([0.31, 0.22, 0.92])
    images = rotate_vectors(symmetry, general)
    return sphere[(sphere @ images.T).max(axis=1) <= sphere @ general + 1e-12]


def _relax(directions: np.ndarray, sector: np.ndarray, symmetry: np.ndarray) -> np.ndarray:
    """Move each direction to the centre of the sector points nearest to it under symmetry."""
    inverse = symmetry * [1, -1, -1, -1]
    images = rotate_vectors(inverse[:, None], directions[None]).reshape(-1, 3)
    operation, owner = np.divmod(cKDTree(images).query(sector)[1], len(directions))
    nearest_image = rotate_vectors(symmetry[operation], sector)
    sums = np.zeros_like(directions)
    np.add.at(sums, owner, nearest_image)
    norm = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(norm > 0, sums / np.maximum(norm, 1e-12), directions)


def _shortest_rotation_from_z(directions: np.ndarray) -> np.ndarray:
    """Return quaternions that turn +z onto each direction by the shortest way."""
    x, y, z = directions.T
    quaternions = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)
    quaternions[z < -1 + 1e-12] = (0, 1, 0, 0)
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


@numba.njit(cache=True, error_model="numpy")
def _encode(quaternions, symmetry, directions, references, n_inplane):
    """Return the nearest direction and the in-plane angle in bins of each orientation.

    Of the equivalent orientations the one with the beam nearest to the middle of the sector is
    looked at first. The next is nearer to no direction than to the sector's rim, so that most can
    be left out.
    """
    n, n_operations = len(quaternions), len(symmetry)
    nearest = np.empty(n, np.int32)
    inplane = np.empty(n, np.float64)
    middle = np.zeros(3)
    for j in range(len(directions)):
        middle += directions[j]
    middle /= max(np.sqrt((middle**2).sum()), 1e-12)
    reach = np.arccos(max(min((directions @ middle).min(), 1.0), -1.0)) + 1e-9
    turned = np.empty((n_operations, 4))
    beams = np.empty((n_operations, 3))
    angles = np.empty(n_operations)
    for i in range(n):
        e, f, g, h = quaternions[i]
        for k in range(n_operations):
            a, b, c, d = symmetry[k]
            w = a * e - b * f - c * g - d * h
            x = a * f + b * e + c * h - d * g
            y = a * g - b * h + c * e + d * f
            z = a * h + b * g - c * f + d * e
            turned[k, 0], turned[k, 1], turned[k, 2], turned[k, 3] = w, x, y, z
            # the beam, +z of the lab, in the crystal
            bx, by, bz = 2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)
            beams[k, 0], beams[k, 1], beams[k, 2] = bx, by, bz
            cosine = bx * middle[0] + by * middle[1] + bz * middle[2]
            angles[k] = np.arccos(max(min(cosine, 1.0), -1.0))
        best, best_operation = -2.0, 0
        for _ in range(n_operations):
            k = np.argmin(angles)
            if angles[k] > reach and np.cos(angles[k] - reach) < best:
                break
            angles[k] = np.inf
            bx, by, bz = beams[k]
            for j in range(len(directions)):
                cosine = bx * directions[j, 0] + by * directions[j, 1] + bz * directions[j, 2]
                if cosine > best:
                    best, nearest[i], best_operation = cosine, j, k
        w, x, y, z = turned[best_operation]
        p, q, r, s = references[nearest[i]]
        # conjugate of the reference times the orientation; its twist about z is the in-plane angle
        twist_w = p * w + q * x + r * y + s * z
        twist_z = p * z - q * y + r * x - s * w
        angle = -2 * np.arctan2(twist_z, twist_w)
        inplane[i] = (angle / (2 * np.pi) * n_inplane) % n_inplane
    return nearest, inplane
