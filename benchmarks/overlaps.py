"""Two crystals in one pattern: how often the second is found, and when it is not there.

    python benchmarks/overlaps.py --bundle steel --n 60
    python benchmarks/overlaps.py --bundle steel --fit

Measured on sums of two dynamical patterns (`benchmarks/bloch.py`), the second with a share of 0 to
50 % of the diffracted electrons, drawn through the benchmark's cameras and indexed with
``n_overlaps=2``. Prints a Markdown table and writes it to ``benchmarks/results``.

``--fit`` fits the weights of `pyxem_nas.overlaps.OverlapJudge` instead, and prints them: on sums
of Bloch-wave patterns of the package's own simulator through random cameras, half of them with a
second crystal of 10 to 50 %, by all three methods.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from bloch import PHASES, BlochPatterns, draw_images, load_bloch
from cameras import Camera, get_cameras
from rejection import simulate_foreign

import pyxem_nas
from pyxem_nas.diffraction import disorientation_angles, laue_operations
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.indexing.block import describe
from pyxem_nas.indexing.overlaps import OverlapJudge
from pyxem_nas.indexing.phase_choice import choose_phases
from pyxem_nas.indexing.plan import get_specs, make_plan
from pyxem_nas.indexing.predictor import get_predictor
from pyxem_nas.indexing.second_crystal import search_second
from pyxem_nas.maps.statistics import expected_calibration_error
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import Detector

SHARES = (0.0, 0.2, 0.3, 0.4, 0.5)
SAME = 5.0  # degrees
N_CAMERAS = 12  # random ones, of the fit


def is_crystal(phase, quaternions, true_phase, true_quaternions, phases) -> np.ndarray:
    """Return whether answers are a crystal: its phase, and within 5 degrees; shape (n,)."""
    same = np.zeros(len(phase), bool)
    for k, known in enumerate(phases):
        rows = (phase == k) & (true_phase == k)
        angle = disorientation_angles(
            quaternions[rows], true_quaternions[rows], laue_operations(known)
        )
        same[rows] = angle < SAME
    return same


# ------------------------------------------------------------------------- measurement


def add_patterns(pairs: list, share: float) -> BlochPatterns:
    """Return sums of two patterns each, by their shares of the diffracted electrons."""
    spots = []
    for pair in pairs:
        parts = []
        for (pattern, i), weight in zip(pair, (1 - share, share), strict=True):
            part = pattern.spots[i].copy()
            diffracted = np.hypot(part[:, 0], part[:, 1]) > 1e-3
            part[:, 2] *= weight / part[diffracted, 2].sum()
            parts.append(part[part[:, 2] > 0])
        spots.append(np.concatenate(parts))
    rotations = np.stack([pattern.rotations[i] for (pattern, i), _ in pairs])
    thickness = np.array([pattern.thickness[i] for (pattern, i), _ in pairs])
    return BlochPatterns("overlap", rotations, spots, thickness, np.full(len(pairs), 0.7))


def measure(bundle, camera, share: float, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return what was found of both crystals in patterns of one camera and share."""
    rng = np.random.default_rng((options.seed, int(100 * share)))
    patterns = [load_bloch(name, folder=options.data) for name in PHASES]
    chosen = rng.integers(0, len(PHASES), (options.n, 2))
    pairs = [
        [(patterns[k], int(rng.integers(len(patterns[k].spots)))) for k in row] for row in chosen
    ]
    images = draw_images(add_patterns(pairs, share), camera, options.seed)
    signal = pyxem_nas_signal(images.data, camera)
    xmap = signal.index_phase_orientation(
        bundle, method="network", center=images.centers, min_confidence=0, n_overlaps=2,
        show_progressbar=False,
    )  # fmt: skip
    phases = bundle.phases
    order = [bundle.phase_names.index(name) for name in PHASES]
    true_phase = np.array(order)[chosen]
    truth = np.array([[p.rotations[i] for p, i in pair] for pair in pairs])
    answers = (
        (np.array(xmap.phase_id), xmap.rotations.data.reshape(-1, 4)),
        (np.array(xmap.prop["phase_id_2"]), np.array(xmap.prop["rotation_2"])),
    )
    # either crystal may have been found first
    match = [
        [is_crystal(*answer, true_phase[:, j], truth[:, j], phases) for j in range(2)]
        for answer in answers
    ]
    both = (match[0][0] & match[1][1]) | (match[0][1] & match[1][0])
    return {
        "first": match[0][0] | (match[0][1] & (share > 0)),
        "second": both & (share > 0),
        "probability": np.array(xmap.prop["probability_2"]),
    }


def pyxem_nas_signal(images: np.ndarray, camera):
    """Return images as a calibrated signal with one navigation axis."""
    from pyxem.signals import ElectronDiffraction2D

    signal = ElectronDiffraction2D(images)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = camera.scale, "$A^{-1}$"
    signal.set_experimental_parameters(beam_energy=200.0, rocking_angle=1000 * np.deg2rad(0.7))
    return signal


def write_table(results: dict[float, dict[str, np.ndarray]]) -> str:
    """Return the figures as Markdown."""
    head = ["share of the second / %", "n", "first right / %", "both right / %"]
    head += ["P >= 0.5 / %", "of them right / %", "ECE of the probability"]
    lines = [head, ["---"] * len(head)]
    for share, columns in results.items():
        said = columns["probability"] >= 0.5
        right = columns["second"][said].mean() if said.any() else float("nan")
        lines.append(
            [f"{100 * share:.0f}", str(len(said)), f"{100 * columns['first'].mean():.1f}"]
            + [f"{100 * columns['second'].mean():.1f}", f"{100 * said.mean():.1f}"]
            + ["-" if share == 0 else f"{100 * right:.1f}"]
            + [f"{expected_calibration_error(columns['probability'], columns['second']):.3f}"]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# ------------------------------------------------------------------------- fit


def draw_camera(rng: np.random.Generator, k: int) -> Camera:
    """Return a camera of random properties."""
    log = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))  # noqa: E731
    return Camera(
        f"random {k}", log(0.015, 0.031), rng.uniform(1.0, 2.5), log(1e3, 3e5), log(0.2, 3.0),
        rng.uniform(0.2, 0.5), rng.uniform(0.4, 1.5), rng.uniform(0.5, 1.0), 1.0,
        ellipticity=rng.uniform(0, 0.02), ellipse_azimuth=rng.uniform(0, 180),
    )  # fmt: skip


def simulate_pairs(bundle, n: int, rng: np.random.Generator) -> tuple:
    """Return sums of two Bloch-wave patterns of our own, phases (n, 2) and orientations (n, 2, 4).

    In half of them the second has a share of 0.
    """
    patterns = [simulate_foreign(phase, n, int(rng.integers(2**31))) for phase in bundle.phases]
    phases = rng.integers(0, len(patterns), (n, 2))
    rows = np.stack([rng.permutation(n) for _ in range(2)], axis=1)
    shares = np.where(rng.random(n) < 0.5, 0, rng.uniform(0.1, 0.5, n))
    parts = [
        add_patterns([[(patterns[k], int(i)) for k, i in zip(*pair, strict=True)]], share)
        for *pair, share in zip(phases, rows, shares, strict=True)
    ]
    truth = np.stack(
        [[patterns[k].rotations[i] for k, i in zip(*pair, strict=True)]
         for pair in zip(phases, rows, strict=True)]
    )  # fmt: skip
    whole = BlochPatterns(
        "overlap", truth[:, 0], [part.spots[0] for part in parts], np.zeros(n), np.full(n, 0.7)
    )
    return whole, phases, truth, shares > 0


def fit(bundle, options: argparse.Namespace) -> OverlapJudge:
    """Return the judge of greatest likelihood, for all methods together."""
    predictor, acquisition = get_predictor(bundle), Acquisition(bundle.acquisition.beam_energy, 0.7)
    rng = np.random.default_rng((options.seed, 31))
    features, right, held = [], [], []
    for i in range(N_CAMERAS):
        camera = draw_camera(rng, i)
        patterns, phases, truth, two = simulate_pairs(bundle, options.n, rng)
        images = draw_images(patterns, camera, options.seed)
        sampler = make_sampler(Detector(images.data.shape[1:], (camera.scale,) * 2),
                               *get_specs(bundle))  # fmt: skip
        for method in ("network", "match", "hybrid"):
            plan = make_plan(
                bundle, sampler, method=method, acquisition=acquisition, min_confidence=0
            ).see(images.centers)
            described = describe(images.data, images.centers.astype(np.float32), plan)
            empty = ~described.descriptors.any(axis=(1, 2))
            phase, _, first = choose_phases(predictor, described, plan, empty, False)
            best = first["quaternions"][:, 0]
            rows, second = search_second(predictor, described, plan, phase, best)
            answers = (phase[rows], best[rows]), (second["phase"], second["quaternions"][:, 0])
            match = [
                [is_crystal(*a, phases[rows, j], truth[rows, j], bundle.phases) for j in range(2)]
                for a in answers
            ]
            good = (match[0][0] & match[1][1]) | (match[0][1] & match[1][0])
            kept = ~second["same"]
            right.append((good & two[rows])[kept])
            features.append(OverlapJudge.describe(second)[kept])
            held.append(np.full(kept.sum(), i % 4 == 1))
    x, y, held = (np.concatenate(parts) for parts in (features, right, held))
    weights = _fit_logistic(x[~held], y[~held])
    probability = 1 / (1 + np.exp(-x[held] @ weights))
    said, y_held = probability >= 0.5, y[held]
    print(f"cameras held out: {y_held.mean():.3f} of {len(y_held)} second answers are right; of "
          f"those said to be, {y_held[said].mean():.3f}; of the right ones "
          f"{said[y_held].mean():.3f} are said to be; "
          f"ECE {expected_calibration_error(probability, y_held):.3f}")  # fmt: skip
    return OverlapJudge(*(round(float(w), 2) for w in _fit_logistic(x, y)))


def _fit_logistic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the weights of greatest likelihood."""
    from scipy.optimize import minimize

    def loss(weights: np.ndarray) -> float:
        odds = x @ weights
        prior = np.square(weights).sum() / (2e3 * len(y))
        return float(np.mean(np.logaddexp(0, odds) - y * odds) + prior)

    return minimize(loss, np.zeros(x.shape[1]), method="BFGS").x


def main() -> None:
    """Run the benchmark, or the fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--n", type=int, default=60, help="patterns a camera and share")
    parser.add_argument("--cameras", nargs="+", default=["bright", "elliptic", "dim"])
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", action="store_true", help="fit the weights and print them")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    bundle = pyxem_nas.ModelBundle.load(options.bundle)
    if options.fit:
        print(fit(bundle, options))
        return
    results = {}
    for share in SHARES:
        parts = [measure(bundle, c, share, options) for c in get_cameras(options.cameras)]
        results[share] = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    command = f"python benchmarks/overlaps.py --bundle {options.bundle} --n {options.n}"
    text = f"# Two crystals in one pattern\n\n    {command}\n\n" + write_table(results)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "overlaps.md").write_text(text)
    figures = {s: {n: v.astype(float).mean() for n, v in c.items()} for s, c in results.items()}
    (options.output / "overlaps.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
