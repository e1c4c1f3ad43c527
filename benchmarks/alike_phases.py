"""Two phases that patterns hardly tell apart, and whether the phase probability says so.

    python benchmarks/alike_phases.py --directory alike

Austenite and copper are both face-centred cubic, their lattice parameters 0.7 % apart, which is
less than the error of a usual calibration. `search_models` makes a bundle of the two without a
search; Bloch-wave patterns of both are drawn through cameras at random, the scale that their owner
believes in up to 1 % wrong, and the phase is asked for. Beside it the same with NbC in the place of
copper, which is easily told. Prints a Markdown report and writes it to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from bloch import draw_images
from compare_bundles import draw_camera
from rejection import make_cubic_phase, simulate_foreign
from report import _percent, _table, describe_run

from pyxem_nas import Acquisition, ModelBundle, example_phases, search_models
from pyxem_nas.bundles.bundle import number_phases
from pyxem_nas.indexing.plan import get_specs
from pyxem_nas.indexing.predictor import get_predictor
from pyxem_nas.maps.statistics import expected_calibration_error
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import Detector

PAIRS = (("austenite", "copper"), ("austenite", "NbC"))


def make_phase(name: str) -> object:
    """Return one of the three phases."""
    if name == "NbC":
        return example_phases("steel")[name]
    element, a = {"austenite": ("Fe", 3.640), "copper": ("Cu", 3.615)}[name]
    return make_cubic_phase(name, 225, a, [(element, 0.0)])


def make_bundle(names: tuple[str, str], options: argparse.Namespace) -> ModelBundle:
    """Return a bundle of two phases; its orientation networks, not asked here, learn little."""
    return search_models(
        number_phases([make_phase(name) for name in names]), Acquisition(200.0, 0.7), max_trials=0,
        n_samples=options.n_samples, directory=options.directory / " ".join(names),
        seed=options.seed, name=" and ".join(names),
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip


def judge(bundle: ModelBundle, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return phase probabilities (n, 3), none of the two last, and the true phases (n,)."""
    rng = np.random.default_rng(options.seed)
    predictor = get_predictor(bundle)
    probability, truth = [], []
    for c in range(options.n_cameras):
        camera = draw_camera(rng, f"random {c}")
        scale = camera.scale * rng.uniform(0.99, 1.01)
        for k, (_, phase) in enumerate(bundle.phase_list):
            patterns = simulate_foreign(phase, options.n, 1000 + 2 * c + k)
            images = draw_images(patterns, camera, 1000 + 2 * c + k)
            detector = Detector(images.data.shape[1:], (scale, scale))
            sampler = make_sampler(detector, *get_specs(bundle))
            descriptors, *_ = compute_descriptors(images.data, images.centers, sampler)
            probability.append(np.exp(predictor._log_network(descriptors)))
            truth.append(np.full(options.n, k))
    return np.concatenate(probability), np.concatenate(truth)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-samples", type=int, default=25_600, help="of orientation networks")
    parser.add_argument("--n", type=int, default=30, help="patterns a phase and camera")
    parser.add_argument("--n-cameras", type=int, default=12)
    parser.add_argument("--directory", type=Path, required=True, help="what is done is kept here")
    parser.add_argument("--seed", type=int, default=0)
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    options = parser.parse_args()
    rows = []
    for names in PAIRS:
        probability, truth = judge(make_bundle(names, options), options)
        answer = probability[:, :-1].argmax(axis=1)
        right = answer == truth
        surest = probability[:, :-1].max(axis=1)
        sure = surest > 0.9
        rows.append([
            " or ".join(names), str(len(truth)), _percent(right.mean()), f"{surest.mean():.2f}",
            f"{expected_calibration_error(surest, right):.3f}", _percent(sure.mean()),
            _percent(1 - right[sure].mean()) if sure.any() else "-",
        ])  # fmt: skip
    run = describe_run(options)
    head = ["phases", "n", "right / %", "mean probability", "ECE", "P > 0.9 / %",
            "of them wrong / %"]  # fmt: skip
    text = (
        f"# Phases that patterns hardly tell apart\n\n{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\nBloch-wave images through {options.n_cameras} cameras at random, "
        "the scale up to 1 % wrong; the phase network's answer, nothing rejected.\n\n"
        + _table(head, rows)
    )
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "alike_phases.md").write_text(text)


if __name__ == "__main__":
    main()
