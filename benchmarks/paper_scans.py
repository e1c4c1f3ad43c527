"""The pseudo-experimental scans of `paper_study.py`: one microscope, grains, overlap, truth."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accuracy import Batch
from bloch import PHASES, SIZE, BlochPatterns, draw_images, load_bloch
from cameras import Camera
from scipy.spatial import cKDTree

from pyxem_nas import example_phases
from pyxem_nas.diffraction import draw_dynamical_spots
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import DescriptorSpec, Detector, PatternSpec

#: One microscope took all scans; within the ranges of the shipped bundle's training.
CAMERA = Camera(
    "study", 0.024, 1.9, 20_000, 0.8, 0.3, 0.6, 0.6, 1.0, ellipticity=0.02, ellipse_azimuth=35.0
)
ACQUISITION = Acquisition(200, 0.7)
SPECS = (DescriptorSpec(), PatternSpec())
_CHUNK = 1000  # patterns drawn at a time


@dataclass
class Scan:
    """One pseudo-experimental scan with its truth, positions in one row."""

    shape: tuple[int, int]
    images: np.ndarray  # (n, 144, 144), uint8
    centers: np.ndarray  # (n, 2), column and row, as the methods are told
    phase: np.ndarray  # (n,), index into PHASES
    grain: np.ndarray  # (n,)
    rotations: np.ndarray  # (n, 4)
    n_overlaps: int  # positions that two grains share

    def take(self, rows: np.ndarray) -> Batch:
        """Return some positions as the accuracy benchmark's methods take them."""
        nothing = np.zeros(len(rows))
        return Batch(
            CAMERA, ACQUISITION, self.images[rows], self.centers[rows], None, self.phase[rows],
            self.rotations[rows], nothing, nothing.astype(bool),
        )  # fmt: skip


def make_scan(options: argparse.Namespace, number: int, folder: Path) -> Scan:
    """Draw scan `number`, or read it if it was drawn; no two scans share an orientation."""
    key = f"scan_{number}_{options.shape[0]}x{options.shape[1]}_{options.n_grains}_{options.seed}"
    images_path, truth_path = folder / f"{key}.npy", folder / f"{key}.npz"
    if truth_path.exists():  # written last
        with np.load(truth_path) as truth:
            return Scan(tuple(options.shape), np.load(images_path, mmap_mode="r"), **truth)
    rng = np.random.default_rng([options.seed, number])
    ny, nx = options.shape
    n_grains = options.n_grains
    patterns = [get_patterns(name, number, options) for name in PHASES]
    points = np.stack(np.meshgrid(range(ny), range(nx), indexing="ij"), -1).reshape(-1, 2)
    seeds = rng.uniform(0, 1, (len(PHASES) * n_grains, 2)) * [ny, nx]
    distance, nearest = cKDTree(seeds).query(points, k=2)
    # the beam is about as wide as a step: near a boundary two grains give their share
    share = np.clip(0.5 + 0.5 * (distance[:, 1] - distance[:, 0]), 0, 1)
    grain = nearest[:, 0]
    phase, member = np.divmod(nearest, n_grains)
    images = np.lib.format.open_memmap(images_path, "w+", np.uint8, (ny * nx, SIZE, SIZE))
    centers = np.empty((ny * nx, 2))
    rotations = np.empty((ny * nx, 4))
    for start in range(0, ny * nx, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, ny * nx))
        spots = [
            _mix([patterns[phase[i, j]].spots[member[i, j]] for j in (0, 1)], share[i])
            for i in rows
        ]
        rotations[rows] = [patterns[phase[i, 0]].rotations[member[i, 0]] for i in rows]
        nothing = np.zeros(len(rows))
        drawn = draw_images(
            BlochPatterns(f"scan {number}, {start}", rotations[rows], spots, nothing, nothing),
            CAMERA, options.seed,
        )  # fmt: skip
        images[rows], centers[rows] = drawn.data, drawn.centers
    truth = {
        "centers": centers, "phase": phase[:, 0], "grain": grain, "rotations": rotations,
        "n_overlaps": int((share < 1).sum()),
    }  # fmt: skip
    np.savez(truth_path, **truth)
    return Scan((ny, nx), images, **truth)


def get_patterns(name: str, number: int, options: argparse.Namespace) -> BlochPatterns:
    """Return the Bloch-wave patterns of the grains of one phase of one scan.

    Those of ``shared/data``, by another program than ours; without that folder our own.
    """
    n = options.n_grains
    try:
        return load_bloch(name, n, start=number * n, folder=options.data, seed=options.seed)
    except FileNotFoundError:
        rng = np.random.default_rng([options.seed, 27, number, PHASES.index(name)])
        angle = (ACQUISITION.precession_angle,) * 2
        drawn = draw_dynamical_spots(
            example_phases("steel")[name], n, ACQUISITION, rng, precession_angle=angle,
            n_thicknesses=1,
        )  # fmt: skip
    spots = []
    for start, stop in zip(drawn.bounds[:-1], drawn.bounds[1:], strict=True):
        xy, intensity = drawn.positions[start:stop], drawn.intensities[start:stop, :1]
        direct = [[0, 0, max(1 - intensity.sum(), 0)]]
        spots.append(np.concatenate([direct, np.column_stack([xy, intensity])]).astype(float))
    return BlochPatterns(
        name, drawn.quaternions, spots, drawn.thickness[:, 0], drawn.precession_angle
    )


def _mix(spots: list[np.ndarray], share: float) -> np.ndarray:
    """Return the spots of two crystals, the first with a share of the diffracted electrons."""
    parts = []
    for rows, weight in zip(spots, (share, 1 - share), strict=True):
        if weight > 0:
            diffracted = np.hypot(rows[:, 0], rows[:, 1]) > 1e-3
            parts.append(rows * [1, 1, weight / rows[diffracted, 2].sum()])
    return np.concatenate(parts)


@dataclass
class Measured:
    """Descriptors and Cartesian patterns of some positions of the scans."""

    descriptors: np.ndarray  # (n, n_radial, n_azimuthal)
    patterns: np.ndarray  # (n, size, size)
    phase: np.ndarray
    grain: np.ndarray  # of all scans, numbered through
    rotations: np.ndarray
    positions: np.ndarray  # in their scan
    seconds: float  # of the descriptors, for each pattern

    def rows_of_phase(self, k: int) -> np.ndarray:
        """Return the rows of a phase."""
        return np.flatnonzero(self.phase == k)


def describe(scans: list[Scan], n: int, rng: np.random.Generator) -> Measured:
    """Compute the inputs of networks for n positions drawn at random from each scan."""
    sampler = make_sampler(Detector((SIZE, SIZE), (CAMERA.scale,) * 2), *SPECS)
    columns, seconds, n_before = [], 0.0, 0
    for scan in scans:
        rows = np.sort(rng.permutation(len(scan.phase))[:n])
        images = scan.images[rows]
        compute_descriptors(images[:8], scan.centers[rows[:8]], sampler)  # compiles
        started = time.perf_counter()
        inputs = compute_descriptors(images, scan.centers[rows], sampler)
        seconds += time.perf_counter() - started
        columns.append((*inputs, scan.phase[rows], n_before + scan.grain[rows],
                        scan.rotations[rows], rows))  # fmt: skip
        n_before += scan.grain.max() + 1
    fields = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    return Measured(*fields, seconds / len(fields[0]))


def split(measured: Measured, by: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to train on and 30 % to validate on, drawn by "position" or by "grain"."""
    held = np.zeros(len(measured.phase), bool)
    if by == "position":
        held[rng.permutation(len(held))[: round(0.3 * len(held))]] = True
    else:
        for k in range(len(PHASES)):
            grains = np.unique(measured.grain[measured.phase == k])
            chosen = rng.permutation(grains)[: max(1, round(0.3 * len(grains)))]
            held |= np.isin(measured.grain, chosen)
    return np.flatnonzero(~held), np.flatnonzero(held)
