"""Dynamical spots, kept and drawn from.

Owns the spots of many orientations as one table, its bytes, and draws from several phases' tables
for the patterns of a batch. How spots are computed belongs to `dynamical`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, fields

import numpy as np

from pyxem_nas.diffraction.quaternions import multiply_quaternions


@dataclass(frozen=True)
class DynamicalSpots:
    """Spots of one phase in many orientations, each at several thicknesses.

    Parameters
    ----------
    quaternions
        Orientations of shape (n, 4), lab2crystal, scalar first.
    precession_angle
        Degrees, shape (n,).
    thickness
        Thicknesses in angstrom, shape (n, n_thicknesses).
    positions
        x to the right and y up in 1/angstrom, shape (n_spots, 2), float32; the direct beam is left
        out.
    intensities
        Shares of the incident beam, shape (n_spots, n_thicknesses), float32.
    bounds
        Orientation i owns spots ``bounds[i]:bounds[i + 1]``.
    """

    quaternions: np.ndarray = field(repr=False)
    precession_angle: np.ndarray = field(repr=False)
    thickness: np.ndarray = field(repr=False)
    positions: np.ndarray = field(repr=False)
    intensities: np.ndarray = field(repr=False)
    bounds: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.quaternions)

    def to_bytes(self) -> bytes:
        """Return the content of an .npz file."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> DynamicalSpots:
        """Return what `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return cls(**{f.name: file[f.name] for f in fields(cls)})


@dataclass(frozen=True)
class DynamicalDraw:
    """Which spots of a library each pattern of a batch takes.

    Parameters
    ----------
    positions, intensities
        All spots of the library, as in `DynamicalSpots`.
    rows
        First and last-but-one row and thickness of both crystals of each pattern, shape
        (n, 2, 3); the first is -1 where a crystal is left to kinematical theory.
    turns
        Angles by which the spots are turned about the beam, radians, shape (n, 2).
    """

    positions: np.ndarray = field(repr=False)
    intensities: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)
    turns: np.ndarray = field(repr=False)

    @classmethod
    def nothing(cls, n: int) -> DynamicalDraw:
        """Return the draw that leaves n patterns to kinematical theory."""
        return cls(
            np.zeros((0, 2), np.float32),
            np.zeros((0, 1), np.float32),
            np.full((n, 2, 3), -1, np.int64),
            np.zeros((n, 2)),
        )


class SpotLibrary:
    """Dynamical spots of several phases, to draw from.

    Parameters
    ----------
    phases
        Spots of each phase, None for one that has none; all with the same number of thicknesses.

    Raises
    ------
    ValueError
        If the phases differ in the number of thicknesses.
    """

    def __init__(self, phases: list[DynamicalSpots | None]) -> None:
        known = [spots for spots in phases if spots is not None]
        if len({spots.intensities.shape[1] for spots in known}) > 1:
            raise ValueError("all phases of a library need the same number of thicknesses")
        self.phases = list(phases)
        self.positions = np.concatenate([spots.positions for spots in known])
        self.intensities = np.concatenate([spots.intensities for spots in known])
        sizes = [0 if spots is None else len(spots.positions) for spots in phases]
        self._first = np.concatenate([[0], np.cumsum(sizes)])

    def draw(
        self,
        phase_id: np.ndarray,
        quaternions: np.ndarray,
        wanted: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[DynamicalDraw, np.ndarray]:
        """Draw orientations of the library for crystals of a batch, turned about the beam.

        Parameters
        ----------
        phase_id
            Phases of both crystals, shape (n, 2).
        quaternions
            Their orientations, shape (n, 2, 4).
        wanted
            Which patterns shall be dynamical where their phase is in the library, shape (n,).
        rng
            Source of randomness.

        Returns
        -------
        draw
            What `scans.simulate_descriptors` takes.
        quaternions
            The orientations, replaced by those drawn.
        """
        n = len(phase_id)
        draw = DynamicalDraw(
            self.positions, self.intensities, np.full((n, 2, 3), -1, np.int64), np.zeros((n, 2))
        )
        quaternions = quaternions.copy()
        uniform = rng.random((n, 2, 2))
        draw.turns[:] = rng.uniform(0, 2 * np.pi, (n, 2))
        for k, spots in enumerate(self.phases):
            if spots is None:
                continue
            i, crystal = np.nonzero((phase_id == k) & (np.asarray(wanted)[:, None] > 0))
            entry = (uniform[i, crystal, 0] * len(spots)).astype(np.int64)
            column = (uniform[i, crystal, 1] * spots.intensities.shape[1]).astype(np.int64)
            first = self._first[k] + spots.bounds[entry]
            last = self._first[k] + spots.bounds[entry + 1]
            draw.rows[i, crystal] = np.stack([first, last, column], axis=1)
            # a turn of the pattern by a is a rotation of the crystal's lab frame by -a
            half = -0.5 * draw.turns[i, crystal]
            turn = np.stack([np.cos(half), 0 * half, 0 * half, np.sin(half)], axis=1)
            quaternions[i, crystal] = multiply_quaternions(spots.quaternions[entry], turn)
        return draw, quaternions
