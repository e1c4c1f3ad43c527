"""Arithmetic of rotations as quaternions.

Unit quaternions, scalar first, lab2crystal as in orix: ``v_crystal = R v_lab``. Plain arrays only;
what an orientation means belongs to `orientation`, which of them are the same to `symmetry`.
"""

from __future__ import annotations

import numpy as np


def multiply_quaternions(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the products of quaternions, shape (..., 4), scalar first; `second` acts first."""
    a, b, c, d = np.moveaxis(np.asarray(first), -1, 0)
    e, f, g, h = np.moveaxis(np.asarray(second), -1, 0)
    return np.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        axis=-1,
    )


def rotate_vectors(quaternions: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return vectors turned by quaternions, broadcast over all but the last axis."""
    scalar = quaternions[..., :1]
    axis = quaternions[..., 1:]
    twice = 2 * np.cross(axis, vectors)
    return vectors + scalar * twice + np.cross(axis, twice)


def quaternions_to_matrices(quaternions: np.ndarray) -> np.ndarray:
    """Return rotation matrices M of shape (..., 3, 3) with ``v_crystal = M v_lab``."""
    return np.stack([rotate_vectors(quaternions, np.eye(3)[k]) for k in range(3)], axis=-1)


def random_quaternions(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n orientations drawn uniformly, shape (n, 4), scalar first."""
    quaternions = rng.standard_normal((n, 4))
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def matrices_to_quaternions(matrices: np.ndarray) -> np.ndarray:
    """Return the quaternions of rotation matrices of shape (..., 3, 3), scalar part at least 0."""
    from scipy.spatial.transform import Rotation

    matrices = np.asarray(matrices, np.float64)
    quaternions = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_quat()[:, [3, 0, 1, 2]]
    # of a half turn, whose scalar part is 0 but for rounding: the first component that is not
    quaternions[np.abs(quaternions) < 1e-12] = 0.0
    leading = quaternions[np.arange(len(quaternions)), (quaternions != 0).argmax(axis=1)]
    quaternions *= np.where(leading < 0, -1.0, 1.0)[:, None]
    return quaternions.reshape(*matrices.shape[:-2], 4)
