"""Which of two bundles is better, on images that no result is judged on.

    git show b9409b5:pyxem_nas/bundles/steel.nas > before.nas
    python benchmarks/compare_bundles.py before.nas steel

Bloch-wave patterns of our own, other orientations than those of the training, through cameras drawn
at random (scale 0.015 to 0.03 1/angstrom, 300 to 200,000 diffracted electrons, and so on). Choose
bundles, judges and settings here: the patterns of `shared/data`, which `accuracy.py` reports, stay
unseen. Prints a Markdown table and writes it to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from bloch import draw_images
from cameras import Camera
from rejection import simulate_foreign
from report import _percent, _table, describe_run

from pyxem_nas import Acquisition, ModelBundle
from pyxem_nas.diffraction import disorientation_angles, laue_operations
from pyxem_nas.indexing.branches import orient
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.plan import get_specs, make_plan
from pyxem_nas.indexing.predictor import get_predictor
from pyxem_nas.maps.statistics import expected_calibration_error, paired_interval
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import Detector

ACQUISITION = Acquisition(200.0, 0.7)
METHODS = ("network", "hybrid")  # both refined
_FEW = 5000  # diffracted electrons a pattern


def draw_camera(rng: np.random.Generator, name: str) -> Camera:
    """Return a camera at random."""
    return Camera(
        name,
        scale=rng.uniform(0.015, 0.03),
        spot_sigma=rng.uniform(1, 2.5),
        dose=float(np.exp(rng.uniform(np.log(300), np.log(2e5)))),
        background=rng.uniform(0.2, 1.2),
        background_decay=rng.uniform(0.25, 0.5),
        saturation=rng.uniform(0.4, 0.8),
        gamma=rng.uniform(0.5, 1),
        readout=1.0,
        ellipticity=rng.uniform(0, 0.02),
        ellipse_azimuth=rng.uniform(0, 180),
    )


def judge(bundle: ModelBundle, k: int, images, scale: float, truth) -> dict[str, np.ndarray]:
    """Return, pattern by pattern, what a bundle gets right and how sure it is."""
    sampler = make_sampler(Detector(images.data.shape[1:], (scale,) * 2), *get_specs(bundle))
    descriptors, polar, *cartesian = compute_descriptors(images.data, images.centers, sampler)
    predictor = get_predictor(bundle)
    told = predictor.log_phase_probability((*cartesian, descriptors)[0])
    phases, _ = predictor.classify(told, len(descriptors), reject=False)
    columns = {"phase": phases == k}
    group = laue_operations(bundle.phases[k])
    for method in METHODS:
        plan = make_plan(bundle, sampler, method=method, acquisition=ACQUISITION)
        answers = orient(predictor, k, Described(descriptors, polar, bundle.spec), plan)
        angle = disorientation_angles(answers["quaternions"][:, 0], truth, group)
        columns[method] = angle < 5
        columns[f"{method}, P"] = answers["probability"][:, 0]
    return columns


def run(options: argparse.Namespace) -> dict[str, list[dict[str, np.ndarray]]]:
    """Return by phase what each of the two bundles gets right, and the dose of each pattern."""
    bundles = [ModelBundle.load(name) for name in options.bundles]
    names = bundles[0].phase_names
    parts: dict[str, list[list]] = {name: [[], []] for name in names}
    rng = np.random.default_rng(options.seed)
    for c in range(options.n_cameras):
        camera = draw_camera(rng, f"random {c}")
        for k, name in enumerate(names):
            seed = 100_000 * (1 + options.seed) + len(names) * c + k
            patterns = simulate_foreign(bundles[0].phases[k], options.n, seed)
            images = draw_images(patterns, camera, seed)
            for found, bundle in zip(parts[name], bundles, strict=True):
                columns = judge(bundle, k, images, camera.scale, patterns.rotations)
                found.append(columns | {"dose": np.full(options.n, camera.dose)})
    return {
        name: [
            {key: np.concatenate([part[key] for part in found]) for key in found[0]}
            for found in both
        ]
        for name, both in parts.items()
    }


def write_report(results: dict[str, list[dict[str, np.ndarray]]], info: dict) -> str:
    """Return the table as Markdown."""
    rows = []
    for name, (before, after) in results.items():
        few = before["dose"] < _FEW
        for what in ("phase", *METHODS):
            difference, low, high = (
                100 * value for value in paired_interval(after[what], before[what])
            )
            row = [name, what if what == "phase" else f"{what} + refinement, < 5 deg"]
            for part in (before, after):
                row += [_percent(part[what].mean()), _percent(part[what][few].mean())]
            row.append(f"{difference:+.1f} ({low:+.1f} to {high:+.1f})")
            for part in (before, after):
                error = np.nan
                if what != "phase":
                    error = expected_calibration_error(part[f"{what}, P"], part[what])
                row.append("-" if np.isnan(error) else f"{error:.3f}")
            rows.append(row)
    head = ["phase", "right", "first / %", f"under {_FEW} electrons / %", "second / %",
            f"under {_FEW} electrons / %", "second minus first (95 %)", "ECE, first",
            "ECE, second"]  # fmt: skip
    n = len(next(iter(results.values()))[0]["dose"])
    return (
        f"# Two bundles on images that nothing is judged on\n\n{info['date']}, commit "
        f"{info['commit']}.\n\n    {info['command']}\n\n{n} Bloch-wave images a phase through "
        "cameras drawn at random; orientations with the phase known.\n\n" + _table(head, rows)
    )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs=2, help="names or paths, the one before first")
    parser.add_argument("--n", type=int, default=30, help="patterns a phase and camera")
    parser.add_argument("--n-cameras", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    parser.add_argument("--name", default="compare_bundles", help="of the file written there")
    options = parser.parse_args()
    report = write_report(run(options), describe_run(options))
    print(report)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"{options.name}.md").write_text(report)


if __name__ == "__main__":
    main()
