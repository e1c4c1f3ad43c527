"""Measured patterns of known phase and orientation: a scan and a trusted map made one.

Owns which positions of a map are trusted, the frame of its rotations, and the descriptors of the
chosen positions. What they are used for belongs to `training.fine_tuning`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import (
    Acquisition,
    Reflections,
    get_lattice_parameters,
    multiply_quaternions,
)
from pyxem_nas.indexing import get_refinement_spec, refine_candidates
from pyxem_nas.maps import best_rotations
from pyxem_nas.patterns import PolarSampler, compute_descriptors

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap, Phase
    from pyxem.signals import ElectronDiffraction2D

__all__ = [
    "MapFrame",
    "MeasuredPatterns",
    "describe_positions",
    "find_frame",
    "match_phases",
    "read_reliability",
    "score_frames",
]

_BLOCK = 256  # patterns in memory at once
_LATTICE_TOLERANCE = 0.03  # of lattice parameters that are the same phase
_FRAME_STEP = 2.0  # degrees, about half of what a pattern tells apart
_FRAME_PATTERNS = 64
#: Two frames that differ by more than this in degrees are two answers.
_FRAME_APART = 10.0


@dataclass(frozen=True)
class MeasuredPatterns:
    """Descriptors of n positions of a scan with what a map says of them.

    Parameters
    ----------
    descriptors
        Shape (n, n_radial, n_azimuthal), float32.
    polar
        Finer polar patterns for refinement, shape (n, 72, 360), float32; empty where not asked for.
    cartesian
        Cartesian patterns for the phase network (n, size, size), or None where it takes
        descriptors.
    phase_id
        Phase in the bundle, shape (n,).
    quaternions
        Orientations lab2crystal in the frame of the patterns (x right, y up), shape (n, 4).
    grains
        Grain of each position, shape (n,).
    """

    descriptors: np.ndarray = field(repr=False)
    polar: np.ndarray = field(repr=False)
    cartesian: np.ndarray | None = field(repr=False)
    phase_id: np.ndarray
    quaternions: np.ndarray = field(repr=False)
    grains: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.phase_id)

    def take(self, rows: np.ndarray) -> MeasuredPatterns:
        """Return some of the positions."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return MeasuredPatterns(
            **{
                k: v[rows] if v is not None and len(v) == len(self) else v
                for k, v in fields.items()
            }
        )


@dataclass(frozen=True)
class MapFrame:
    """How a map's frame lies to that of the patterns (x right, y up, z towards the viewer).

    The orientation in the frame of the patterns is ``R_map * F``. F turns vectors of the pattern
    by `angle` degrees about the beam, counter-clockwise, and then, with `flipped`, by half a turn
    about x.
    """

    flipped: bool = False
    angle: float = 0.0

    @property
    def quaternion(self) -> np.ndarray:
        """Rotation that acts on vectors of the pattern before the map's, shape (4,)."""
        return frame_quaternions(np.array([self.angle]), self.flipped)[0]


def frame_quaternions(angles: np.ndarray, flipped: bool) -> np.ndarray:
    """Return the quaternions of frames of several angles in degrees, shape (n, 4)."""
    half = np.deg2rad(angles) / 2
    zero = np.zeros_like(half)
    turns = np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)
    return multiply_quaternions(np.array([0.0, 1, 0, 0]), turns) if flipped else turns


# ------------------------------------------------------------------------- what the map says


def match_phases(
    xmap: CrystalMap, bundle: ModelBundle, names: Mapping[str, str] | None = None
) -> np.ndarray:
    """Return the bundle's phase of every position of a map, -1 where it is not indexed.

    Parameters
    ----------
    xmap
        Map, of any phase ids.
    bundle
        Bundle, ids 0 to n - 1.
    names
        Phase names of the map and what the bundle calls them. Phases that it leaves out are found
        by their name, then by their lattice.

    Returns
    -------
    phase_id
        Shape (n,) over all positions, also those not in the data, which are -1.

    Raises
    ------
    ValueError
        If a phase of the map is none of the bundle's.
    """
    found = {}
    for i in np.unique(xmap.phase_id):
        if i >= 0:
            found[int(i)] = _match_phase(xmap.phases[int(i)], bundle, dict(names or {}))
    phase_id = np.full(xmap.is_in_data.size, -1)
    phase_id[xmap.is_in_data] = [found.get(int(i), -1) for i in xmap.phase_id]
    return phase_id


def _match_phase(phase: Phase, bundle: ModelBundle, names: dict[str, str]) -> int:
    wanted = names.get(phase.name, phase.name)
    for k, name in enumerate(bundle.phase_names):
        if name.lower() == wanted.lower():
            return k
    lattice = np.array(get_lattice_parameters(phase))
    alike = []
    for k, known in enumerate(bundle.phases):
        ratio = lattice / np.array(get_lattice_parameters(known))
        same_laue = phase.point_group is None or (
            phase.point_group.laue.name == known.point_group.laue.name
        )
        if np.all(np.abs(ratio - 1) < _LATTICE_TOLERANCE) and same_laue:
            alike.append(k)
    if len(alike) != 1 or phase.name in names:
        raise ValueError(
            f"the map's phase {wanted!r} is none of the bundle's, {bundle.phase_names!r}; name it "
            f"with phase_names={{{phase.name!r}: ...}} or leave its positions out with "
            "navigation_mask"
        )
    return alike[0]


def read_reliability(xmap: CrystalMap) -> tuple[np.ndarray, np.ndarray]:
    """Return reliability (0 to 100) and confidence (0 to 1) of every position of a map.

    Read are the reliability of our maps and of ASTAR's (``rel``), the confidence index of .ang
    (a hundredth of a reliability, as `save_map` and ASTAR write it), and the product of our
    phase and orientation probability.

    Parameters
    ----------
    xmap
        Map.

    Returns
    -------
    reliability, confidence
        Shapes (n,) over all positions, NaN where the map does not tell.
    """
    prop = xmap.prop
    n = int(xmap.is_in_data.sum())
    reliability = np.full(n, np.nan)
    for name, factor in (("reliability", 1.0), ("rel", 100.0), ("ci", 100.0)):
        if name in prop:
            reliability = factor * np.asarray(prop[name], float).reshape(n)
            break
    confidence = np.full(n, np.nan)
    if "phase_probability" in prop and "orientation_probability" in prop:
        phase = np.asarray(prop["phase_probability"], float)
        # a bundle of one phase has no probability of it
        confidence = np.nan_to_num(phase, nan=1.0) * np.asarray(
            prop["orientation_probability"], float
        )
    whole = np.full((2, xmap.is_in_data.size), np.nan)
    whole[:, xmap.is_in_data] = reliability, confidence
    return whole[0], whole[1]


def read_quaternions(xmap: CrystalMap, scan_rotation: float) -> np.ndarray:
    """Return the map's best orientations at all positions, turned back by the scan rotation."""
    quaternions = np.tile([1.0, 0, 0, 0], (xmap.is_in_data.size, 1))
    quaternions[xmap.is_in_data] = best_rotations(xmap).data.reshape(-1, 4)
    half = np.deg2rad(scan_rotation) / 2
    turn = np.array([np.cos(half), 0, 0, np.sin(half)])
    return multiply_quaternions(quaternions, turn)


# ------------------------------------------------------------------------- what the scan shows


def describe_positions(
    s: ElectronDiffraction2D,
    rows: np.ndarray,
    centers: np.ndarray,
    sampler: PolarSampler,
) -> tuple[np.ndarray, ...]:
    """Return the descriptors of some positions of a scan, one array per spec of the sampler.

    Parameters
    ----------
    s
        Scan, eager or lazy; read in blocks.
    rows
        Flat numbers of the positions.
    centers
        Direct-beam positions of the whole scan, shape (..., 2).
    sampler
        Sampling of the detector.

    Returns
    -------
    descriptors
        Arrays of shape (len(rows), ...), float32.
    """
    nav_shape = s.data.shape[:-2]
    flat_centers = np.ascontiguousarray(centers, np.float32).reshape(-1, 2)
    parts = [tuple(np.empty((0, *spec.shape), np.float32) for spec in sampler.specs)]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        patterns = np.ascontiguousarray(_pick(s, np.unravel_index(block, nav_shape or (1,))))
        patterns = patterns.astype(patterns.dtype.newbyteorder("="), copy=False)
        parts.append(compute_descriptors(patterns, flat_centers[block], sampler))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _pick(s: ElectronDiffraction2D, index: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the patterns of an eager or lazy signal at a list of positions."""
    data = s.data if s.data.ndim > 2 else s.data[None]
    return data.vindex[index].compute() if s._lazy else data[index]


# ------------------------------------------------------------------------- frames


def score_frames(
    measured: MeasuredPatterns,
    frames: np.ndarray,
    bundle: ModelBundle,
    reflections: Reflections,
    acquisition: Acquisition,
) -> np.ndarray:
    """Return how well a map's orientations fit the patterns in several frames.

    Parameters
    ----------
    measured
        Patterns with `polar` and the orientations of the map.
    frames
        Quaternions of shape (m, 4) that act before the map's.
    bundle
        Phases and spec.
    reflections
        Of the bundle's phases.
    acquisition
        Beam energy and precession.

    Returns
    -------
    scores
        Mean correlation of the patterns with the spots of their orientation, shape (m,).
    """
    total = np.zeros(len(frames))
    for k in np.unique(measured.phase_id):
        rows = np.flatnonzero(measured.phase_id == k)
        turned = multiply_quaternions(measured.quaternions[rows][:, None], frames[None])
        rated = refine_candidates(
            measured.polar[rows],
            turned,
            reflections,
            int(k),
            spec=get_refinement_spec(bundle.spec),
            wavelength=acquisition.wavelength,
            precession_angle=acquisition.precession_angle,
            refine=False,
        )
        total += rated.correlation.sum(axis=0)
    return total / max(len(measured), 1)


def find_frame(
    measured: MeasuredPatterns,
    bundle: ModelBundle,
    reflections: Reflections,
    acquisition: Acquisition,
) -> tuple[MapFrame, float, float]:
    """Return the frame in which a map's orientations fit the patterns best.

    Every frame that keeps the beam along z is a turn about it, with or without half a turn about x;
    a mirrored frame is one of these, because patterns do not tell a crystal from its inverse.

    Parameters
    ----------
    measured, bundle, reflections, acquisition
        As for `score_frames`; up to 64 patterns are looked at.

    Returns
    -------
    frame
        To 0.25 degrees.
    score
        Its mean correlation.
    runner_up
        That of the best frame more than 10 degrees from it: where it is as good, the patterns do
        not tell the frame.
    """
    rows = np.linspace(0, len(measured) - 1, min(len(measured), _FRAME_PATTERNS)).astype(int)
    measured = measured.take(np.unique(rows))
    angles = np.arange(0, 360, _FRAME_STEP)
    scores = np.stack(
        [
            score_frames(
                measured, frame_quaternions(angles, flipped), bundle, reflections, acquisition
            )
            for flipped in (False, True)
        ]
    )
    flipped, best = np.unravel_index(scores.argmax(), scores.shape)
    near = np.abs((angles - angles[best] + 180) % 360 - 180) <= _FRAME_APART
    others = scores.copy()
    others[flipped, near] = -1
    fine = angles[best] + np.arange(-_FRAME_STEP, _FRAME_STEP + 0.1, 0.25)
    fine_scores = score_frames(
        measured, frame_quaternions(fine, bool(flipped)), bundle, reflections, acquisition
    )
    k = int(fine_scores.argmax())
    # among equals the simplest: a frame that is nearly the map's own is the map's own
    frame = MapFrame(bool(flipped), float(fine[k] % 360))
    return frame, float(fine_scores[k]), float(others.max())
