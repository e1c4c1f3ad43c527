"""Dynamical patterns of known orientation, drawn as a camera gives them.

Reads the Bloch-wave spots of ``shared/data`` and draws images of them with NumPy alone: nothing of
the package's own renderer, which its networks were trained through, is used here. Images have y
up, as pictures are shown: row 0, at the top, is the largest y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
from cameras import Camera

SIZE = 144  # pixels
PHASES = ("ferrite", "NbC", "cementite")
SETS = {"patterns": "bloch_patterns.npz", "precession": "bloch_precession.npz", "diffsims": None}
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

_VISIBLE_RADIUS = (0.15, 1.8)  # 1/angstrom
_VISIBLE_RATIO = 4.0  # least signal to noise of a spot that counts as visible
_VISIBLE_COUNTS = 2.0  # its least height in counts, over the camera's readout noise
_DIRECT = 1e-3  # 1/angstrom: a spot nearer than this to the origin is the direct beam


@dataclass(frozen=True)
class BlochPatterns:
    """Spots of n patterns of one phase."""

    phase: str
    rotations: np.ndarray
    """Quaternions lab2crystal, scalar first, shape (n, 4)."""
    spots: list[np.ndarray]
    """Per pattern x, y in 1/angstrom (y up) and intensity, shape (n_spots, 3)."""
    thickness: np.ndarray
    """Angstrom, shape (n,)."""
    precession: np.ndarray
    """Degrees, shape (n,)."""


@dataclass(frozen=True)
class Images:
    """Images of n patterns through one camera."""

    data: np.ndarray
    """Counts, shape (n, 144, 144), uint8."""
    centers: np.ndarray
    """Direct beam as the methods are told, (column, row) in pixels, shape (n, 2)."""
    true_centers: np.ndarray
    """Where it is."""
    too_few_spots: np.ndarray
    """True where fewer than three visible spots lie off one line, shape (n,)."""
    mask: np.ndarray
    """True where the beam stop covers a pixel, shape (144, 144)."""


def load_bloch(
    phase: str,
    n: int | None = None,
    *,
    start: int = 0,
    which: str = "patterns",
    folder: Path | None = None,
    seed: int = 0,
) -> BlochPatterns:
    """Load the patterns of a phase, or n of them chosen at random.

    `start` tells where in the random order to begin (it goes on from the front at its end), so
    that several calls can take patterns that no other took.

    Raises
    ------
    FileNotFoundError
        If the file is not in the folder.
    ValueError
        If more patterns are asked for than there are.
    """
    if SETS[which] is None:
        return _simulate_with_diffsims(phase, 50 if n is None else n, start, seed)
    path = (DATA if folder is None else Path(folder)) / SETS[which]
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not here; give the folder that holds {SETS[which]} with --data"
        )
    with np.load(path, allow_pickle=False) as file:
        rotations, n_spots = file[f"{phase}_rotation"], file[f"{phase}_n_spots"]
        spots = np.split(file[f"{phase}_spots"].astype(float), np.cumsum(n_spots)[:-1])
        thickness = file[f"{phase}_thickness"].astype(float)
        precession = np.full(len(rotations), 0.7)
        if f"{phase}_precession" in file:
            precession = file[f"{phase}_precession"].astype(float)
    n = len(rotations) if n is None else n
    if n > len(rotations):
        raise ValueError(f"{path.name} has {len(rotations)} patterns of {phase}, {n} asked for")
    rng = np.random.default_rng([seed, crc32(phase.encode())])
    order = rng.permutation(len(rotations))
    rows = np.sort(order[(start + np.arange(n)) % len(order)])
    return BlochPatterns(
        phase, rotations[rows], [spots[i] for i in rows], thickness[rows], precession[rows]
    )


def _simulate_with_diffsims(phase: str, n: int, start: int, seed: int) -> BlochPatterns:
    """Return kinematical patterns of diffsims, precession 0.7 degrees."""
    from diffsims.generators.simulation_generator import SimulationGenerator
    from orix.quaternion import Rotation

    from pyxem_nas.scans.specimens import example_phases

    rng = np.random.default_rng([seed, start, crc32(phase.encode())])
    quaternions = rng.standard_normal((n, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    simulation = SimulationGenerator(200, precession_angle=0.7).calculate_diffraction2d(
        example_phases("steel")[phase],
        Rotation(quaternions),
        reciprocal_radius=1.75,
        max_excitation_error=0.01,
        with_direct_beam=False,
    )
    spots = []
    for vectors in simulation.coordinates if n > 1 else [simulation.coordinates]:
        xyz = vectors.data.reshape(-1, 3)
        intensity = np.asarray(vectors.intensity, float)
        intensity /= max(intensity.sum(), 1e-9)
        direct = [[0.0, 0.0, 1.0]]
        spots.append(np.concatenate([direct, np.column_stack([xyz[:, :2], intensity])]))
    return BlochPatterns(phase, quaternions, spots, np.full(n, np.nan), np.full(n, 0.7))


def draw_images(patterns: BlochPatterns, camera: Camera, seed: int) -> Images:
    """Draw the patterns of a phase; the same seed gives the same bytes."""
    key = crc32(f"{patterns.phase} {camera.name}".encode())
    rng = np.random.default_rng([seed, key])
    n = len(patterns.spots)
    true_centers = 0.5 * (SIZE - 1) + _in_disc(n, camera.center_offset, rng)
    centers = true_centers + _in_disc(n, camera.center_error, rng)
    data = np.empty((n, SIZE, SIZE), np.uint8)
    too_few = np.empty(n, bool)
    for i, spots in enumerate(patterns.spots):
        expected, visible = _draw(spots, camera, true_centers[i])
        data[i] = _expose(expected, camera, rng)
        too_few[i] = not _span_a_triangle(visible)
    return Images(data, centers, true_centers, too_few, get_beam_stop(camera))


@cache
def get_beam_stop(camera: Camera) -> np.ndarray:
    """Return the pixels behind the beam stop, boolean, shape (144, 144)."""
    middle = 0.5 * (SIZE - 1)
    rows, columns = np.indices((SIZE, SIZE))
    angle = np.deg2rad(camera.beam_stop_azimuth)
    x, y = columns - middle, middle - rows
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    # the bar ends a little behind the direct beam
    return (2 * np.abs(across) < camera.beam_stop) & (along > -camera.beam_stop)


def _in_disc(n: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return n points drawn uniformly from a disc, shape (n, 2)."""
    r, angle = radius * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)


def _draw(spots: np.ndarray, camera: Camera, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected electrons of each pixel, and visible spots' offsets from the beam.

    Offsets in pixels, (column, row), shape (n_visible, 2).
    """
    radius = np.hypot(spots[:, 0], spots[:, 1])
    diffracted = radius > _DIRECT
    electrons = spots[:, 2] * camera.dose / spots[diffracted, 2].sum()
    offsets = _stretch(spots[:, :2], camera) / camera.scale * [1, -1]
    column, row = (center + offsets).T
    pixel = np.arange(SIZE)[:, None]
    profile_x = np.exp(-0.5 * ((pixel - column) / camera.spot_sigma) ** 2)
    profile_y = np.exp(-0.5 * ((pixel - row) / camera.spot_sigma) ** 2)
    area = 2 * np.pi * camera.spot_sigma**2
    background = _draw_background(camera, center)
    covered = get_beam_stop(camera)
    expected = (profile_y * (electrons / area)) @ profile_x.T + background
    expected[covered] = 0

    inside = (column > 1) & (column < SIZE - 2) & (row > 1) & (row < SIZE - 2)
    nearest = tuple(np.rint(axis).astype(int).clip(0, SIZE - 1) for axis in (row, column))
    # within 1.5 sigma, where two thirds of a spot lie
    signal, noise = 0.675 * electrons, background[nearest] * 2.25 / 2 * area
    ratio = signal / np.sqrt(np.maximum(signal + noise, 1e-9))
    contrast = _respond(background[nearest] + electrons / area, camera)
    contrast -= _respond(background[nearest], camera)
    visible = diffracted & inside & ~covered[nearest]
    visible &= (ratio > _VISIBLE_RATIO) & (contrast > _VISIBLE_COUNTS * camera.readout)
    visible &= (radius > _VISIBLE_RADIUS[0]) & (radius < _VISIBLE_RADIUS[1])
    return expected, offsets[visible]


def _stretch(vectors: np.ndarray, camera: Camera) -> np.ndarray:
    """Return vectors (n, 2) stretched along the camera's longer axis and shrunk across it."""
    angle = np.deg2rad(camera.ellipse_azimuth)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    ratio = np.sqrt(1 + camera.ellipticity)
    return vectors @ (axes.T @ np.diag([ratio, 1 / ratio]) @ axes)


def _draw_background(camera: Camera, center: np.ndarray) -> np.ndarray:
    """Return the smooth background: an exponential decay and a faint amorphous ring."""
    rows, columns = np.indices((SIZE, SIZE))
    radius = np.hypot(columns - center[0], rows - center[1]) * camera.scale
    shape = np.exp(-radius / camera.background_decay)
    shape += 0.1 * np.exp(-0.5 * ((radius - 0.45) / 0.06) ** 2)
    return camera.background * camera.dose * shape / shape.sum()


def _expose(expected: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Return the counts of a camera, uint8."""
    counts = _respond(rng.poisson(expected), camera)
    counts += camera.readout * rng.standard_normal(counts.shape)
    return np.clip(np.rint(counts), 0, 255).astype(np.uint8)


def _respond(electrons: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the counts that electrons in a pixel give, 0 to 255."""
    full_scale = camera.saturation * 0.1 * camera.dose / (2 * np.pi * camera.spot_sigma**2)
    return 255 * np.minimum(electrons / max(full_scale, 1.0), 1) ** camera.gamma


def _span_a_triangle(points: np.ndarray, height: float = 3.0) -> bool:
    """Return whether three points lie off one line, by `height` pixels or more."""
    if len(points) < 3:
        return False
    return bool(np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] > height)
