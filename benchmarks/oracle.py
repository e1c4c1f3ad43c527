"""How far the judge is from one who knows the simulator and the camera.

    python benchmarks/oracle.py --n-per-phase 12

The candidates of exhaustive matching, refined as always, are judged twice: by the package, and by
an oracle that is told all that the test images were made of (the true centre, the camera's blur,
background, response and noise, Bloch waves) but not the orientation nor the thickness. It turns
and tilts each candidate step by step to where the image is the most likely, at each of eight
thicknesses, and takes the candidate of the highest mean likelihood over these. What it does not
tell, no judge of the same candidates tells. Prints a Markdown report and writes it to
``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numba
import numpy as np
from accuracy import make_signal
from bloch import (
    DATA,
    PHASES,
    _draw_background,
    _respond,
    _stretch,
    draw_images,
    get_beam_stop,
    load_bloch,
)
from cameras import get_cameras
from report import _table, describe_run
from scipy.stats import norm, poisson

from pyxem_nas import Acquisition, ModelBundle
from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    multiply_quaternions,
    simulate_dynamical_spots,
    turned_about_beam,
)
from pyxem_nas.maps import best_rotations

N_CANDIDATES = 5
THICKNESSES = np.linspace(150.0, 700.0, 8)  # angstrom, as the patterns' own
BATCHES = {
    "A, seven cameras": (None, "patterns"),
    "B, dose sweep": (["dose sweep"], "patterns"),
    "C, precession": (None, "precession"),
}
_WITHIN = 5.0  # degrees
_STAGES = (
    (1.0, 1.2, 60), (0.5, 0.3, 40), (0.35, 0.2, 30), (0.25, 0.15, 30), (0.15, 0.1, 30),
    (0.1, 0.07, 20), (0.05, 0.04, 20),
)  # fmt: skip
"""Largest tilt and turn in degrees, number of tilts, of each stage of the oracle's search."""
_OUTLIERS = 1e-4  # of the pixels are as likely to be anything
_LOG_ELECTRONS = np.linspace(-9.0, 12.0, 500)  # where the likelihood is tabled


def tabulate_likelihood(camera) -> np.ndarray:
    """Return the log-likelihood of counts 0 to 255 where so many electrons are expected."""
    table = np.empty((len(_LOG_ELECTRONS), 256))
    edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    for row, expected in zip(table, np.exp(_LOG_ELECTRONS), strict=True):
        if expected < 50:
            electrons = np.arange(int(expected + 12 * np.sqrt(expected) + 12))
            shares = poisson.pmf(electrons, expected)
        else:
            electrons = np.maximum(expected + np.sqrt(expected) * nodes, 0)
            shares = weights / weights.sum()
        means = _respond(electrons, camera)
        below = norm.cdf((edges[:, None] - means) / max(camera.readout, 0.1))
        row[:] = np.diff(below, axis=0) @ shares
    return np.log((1 - _OUTLIERS) * table + _OUTLIERS / 256)


@numba.njit(cache=True)
def rate_images(columns, rows, electrons, sigma, background, covered, image, table, first, step):
    """Return the log-likelihood of an image under each of several sets of heights, (n_sets,)."""
    size = background.shape[0]
    result = np.zeros(electrons.shape[1])
    expected = np.empty_like(background)
    reach = int(np.ceil(4.5 * sigma))
    for k in range(electrons.shape[1]):
        expected[:] = background
        for s in range(len(columns)):
            height = electrons[s, k] / (2 * np.pi * sigma**2)
            if height < 1e-9:
                continue
            i0, j0 = int(round(rows[s])), int(round(columns[s]))
            for i in range(max(0, i0 - reach), min(size, i0 + reach + 1)):
                for j in range(max(0, j0 - reach), min(size, j0 + reach + 1)):
                    square = (i - rows[s]) ** 2 + (j - columns[s]) ** 2
                    expected[i, j] += height * np.exp(-0.5 * square / sigma**2)
        total = 0.0
        for i in range(size):
            for j in range(size):
                if not covered[i, j]:
                    place = (np.log(expected[i, j] + 1e-12) - first) / step
                    place = min(max(place, 0.0), len(table) - 1.001)
                    low = int(place)
                    share = place - low
                    c = image[i, j]
                    total += (1 - share) * table[low, c] + share * table[low + 1, c]
        result[k] = total
    return result


def tilt(quaternions: np.ndarray, radius: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n orientations about each, within `radius` degrees, the first untouched."""
    half = 0.5 * np.deg2rad(radius) * np.sqrt(np.arange(n) / (n - 1))
    azimuth = np.arange(n) * 2.39996 + rng.uniform(0, 2 * np.pi)  # the golden angle
    axes = [np.sin(half) * np.cos(azimuth), np.sin(half) * np.sin(azimuth), 0 * half]
    turns = np.stack([np.cos(half), *axes], axis=1)
    return multiply_quaternions(
        np.repeat(quaternions, n, axis=0), np.tile(turns, (len(quaternions), 1))
    )


class Oracle:
    """What is known of one camera, phase and precession."""

    def __init__(self, camera, phase, acquisition: Acquisition) -> None:
        self.camera, self.phase, self.acquisition = camera, phase, acquisition
        self.table = tabulate_likelihood(camera)

    def rate(self, image, center, quaternions, thickness, turns=(0.0,)) -> np.ndarray:
        """Return the log-likelihood of an image, shape (n, n_turns, n_thicknesses).

        Of n orientations, their patterns turned about the beam by so many degrees.
        """
        n = len(quaternions)
        spots = simulate_dynamical_spots(
            self.phase, quaternions, self.acquisition, thickness=np.tile(thickness, (n, 1)),
            precession_angle=np.full(n, self.acquisition.precession_angle),
            reciprocal_radius=1.75,
        )  # fmt: skip
        background = _draw_background(self.camera, center)
        covered = get_beam_stop(self.camera).copy()
        rows, columns = np.indices(covered.shape)
        covered |= np.hypot(columns - center[0], rows - center[1]) * self.camera.scale < 0.15
        step = _LOG_ELECTRONS[1] - _LOG_ELECTRONS[0]
        result = np.empty((n, len(turns), len(thickness)))
        for i in range(n):
            part = slice(spots.bounds[i], spots.bounds[i + 1])
            places = spots.positions[part].astype(float)
            diffracted = np.hypot(*places.T) > 1e-3
            places, heights = places[diffracted], spots.intensities[part][diffracted].astype(float)
            electrons = heights * self.camera.dose / np.maximum(heights.sum(axis=0), 1e-12)
            for t, turn in enumerate(np.deg2rad(turns)):
                turned = places @ np.array(
                    [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
                )
                offsets = _stretch(turned, self.camera) / self.camera.scale * [1, -1]
                result[i, t] = rate_images(
                    *(center + offsets).T, electrons, self.camera.spot_sigma, background, covered,
                    image, self.table, _LOG_ELECTRONS[0], step,
                )  # fmt: skip
        return result

    def judge(self, image, center, candidates, rng) -> np.ndarray:
        """Return the log-likelihood of each candidate at its best tilt: mean over thicknesses."""
        n = len(candidates)
        best = candidates
        for radius, reach, n_tilts in _STAGES:
            turns = np.linspace(-reach, reach, 9)
            rated = self.rate(image, center, best, THICKNESSES, turns).max(axis=2)
            half = -0.5 * np.deg2rad(turns[rated.argmax(axis=1)])
            turned = np.stack([np.cos(half), 0 * half, 0 * half, np.sin(half)], axis=1)
            near = tilt(multiply_quaternions(best, turned), radius, n_tilts, rng)
            rated = self.rate(image, center, near, THICKNESSES)[:, 0].reshape(n, n_tilts, -1)
            best = near.reshape(n, n_tilts, 4)[np.arange(n), rated.max(axis=2).argmax(axis=1)]
        rated = rated.max(axis=1)
        shift = rated.max(axis=1)
        return np.log(np.exp(rated - shift[:, None]).mean(axis=1)) + shift


def measure_batch(which, camera, name, n, start, options, bundle) -> list[dict]:
    """Return what is found of the patterns of one phase through one camera."""
    patterns = load_bloch(name, n, start=start, which=which, folder=options.data, seed=options.seed)
    images = draw_images(patterns, camera, options.seed)
    phase = bundle.phase_list[name]
    symmetry = laue_operations(phase)
    rng = np.random.default_rng(options.seed)
    results = []
    for angle in np.unique(patterns.precession):
        acquisition = Acquisition(200, round(float(angle), 4))
        rows = np.flatnonzero(patterns.precession == angle)
        batch = argparse.Namespace(images=images.data[rows], camera=camera, acquisition=acquisition)
        xmap = make_signal(batch).index_phase_orientation(
            bundle, phases=[name], center=images.centers[rows],
            mask=images.mask if images.mask.any() else None, min_confidence=0, method="match",
            n_best=N_CANDIDATES, show_progressbar=False,
        )  # fmt: skip
        rotations = xmap.rotations.data.reshape(len(rows), -1, 4)
        first = best_rotations(xmap).data.reshape(-1, 4)
        oracle = Oracle(camera, phase, acquisition)
        for k, i in enumerate(rows):
            truth = patterns.rotations[i : i + 1]
            candidates = rotations[k]
            truths = np.repeat(truth, len(candidates), axis=0)
            angles = disorientation_angles(candidates, truths, symmetry)
            likelihoods = oracle.judge(images.data[i], images.true_centers[i], candidates, rng)
            found = {"judge": first[k], "oracle": candidates[likelihoods.argmax()]}
            result = {"phase": name, "present": angles.min()}
            for who, quaternion in found.items():
                pair = np.stack([quaternion, turned_about_beam(quaternion[None])[0]])
                result[who], twin = disorientation_angles(pair, np.repeat(truth, 2, 0), symmetry)
                result[f"{who}, twin"] = min(result[who], twin)
            results.append(result)
    return results


def write_report(found: dict[str, list[dict]], options: argparse.Namespace) -> str:
    """Return the table as Markdown."""
    run = describe_run(options)
    head = ["set", "phase", "n", "judge / %", "oracle / %", "judge, or twin / %",
            "oracle, or twin / %", "among the candidates / %"]  # fmt: skip
    keys = ("judge", "oracle", "judge, twin", "oracle, twin", "present")
    rows = []
    for name, results in found.items():
        for phase in (*PHASES, "all"):
            part = [r for r in results if phase in ("all", r["phase"])]
            shares = [f"{100 * np.mean([r[key] <= _WITHIN for r in part]):.1f}" for key in keys]
            rows.append([name, phase, str(len(part)), *shares])
    return (
        "# What an oracle tells of matching's candidates\n\n"
        f"{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\nWithin {_WITHIN:g} degrees, the phase known, no networks; the "
        f"{N_CANDIDATES} likeliest candidates of each pattern.\n\n" + _table(head, rows)
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-per-phase", type=int, default=12, help="patterns a phase and camera")
    parser.add_argument("--sets", nargs="+", choices="ABC", default=["A", "B", "C"])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the Bloch-wave files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    steel = ModelBundle.load("steel")
    bundle = ModelBundle.from_phases(steel.phase_list, steel.acquisition)
    found: dict[str, list[dict]] = {}
    for name, (cameras, which) in BATCHES.items():
        if name[0] not in options.sets:
            continue
        results = found.setdefault(name, [])
        for c, camera in enumerate(get_cameras(cameras)):
            started = time.perf_counter()
            for phase in PHASES:
                n = options.n_per_phase
                results += measure_batch(which, camera, phase, n, c * n, options, bundle)
            seconds = time.perf_counter() - started
            print(f"{name}, {camera.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    report = write_report(found, options)
    print(report)
    (Path(__file__).parent / "results" / "oracle.md").write_text(report)


if __name__ == "__main__":
    main()
