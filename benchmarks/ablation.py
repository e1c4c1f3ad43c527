"""What each randomisation of the simulator buys: one left out at a time, at equal training.

    python benchmarks/ablation.py --phase NbC

The orientation network of one phase is trained again and again with the same architecture, number
of patterns and seeds; each time one part of the randomisation is taken out. All are judged on the
same Bloch-wave images as `benchmarks/accuracy.py` draws (another program's patterns, other
orientations, seven cameras), by the first answer of the network alone. Training is far shorter than
that of a shipped bundle: differences count, not levels. Prints a Markdown table and writes it to
``benchmarks/results``. With ``--directory`` a run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bloch import PHASES, draw_images, load_bloch
from cameras import get_cameras
from report import _percent, _table, describe_run

from pyxem_nas import Acquisition, Architecture, Randomization, example_phases
from pyxem_nas.bundles.architectures import build_orientation_network
from pyxem_nas.diffraction import (
    SpotLibrary,
    disorientation_angles,
    draw_dynamical_spots,
    laue_operations,
    make_cells,
    turned_about_beam,
)
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.maps.statistics import paired_interval
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import DescriptorSpec, Detector
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training.network_training import (
    TrainingSettings,
    cell_labels,
    train_orientation_network,
)

#: What is left out: fields of the randomisation and what stands in their place.
VARIANTS: dict[str, dict[str, tuple[float, float]]] = {
    "nothing": {},
    "Bloch waves": {"dynamical_share": (0, 0)},
    "two-beam intensities": {"two_beam_share": (0, 0)},
    "Bloch waves and two-beam": {"dynamical_share": (0, 0), "two_beam_share": (0, 0)},
    "jitter and exponent of intensities": {
        "intensity_jitter": (0, 0), "intensity_exponent": (1, 1),
    },
    "loss of spots": {"spot_loss": (0, 0), "weak_cutoff": (1e-4, 1e-4), "max_spots": (300, 300)},
    "rocking width and precession": {
        "rocking_width": (0.01, 0.01), "precession_angle": (0.7, 0.7),
    },
    "second crystal": {"overlap_share": (0, 0)},
    "spot width and scale": {"spot_width": (0.035, 0.035), "scale": (0.024, 0.024)},
    "errors of centre, scale, ellipse": {
        "center_error": (0, 0), "scale_error": (0, 0), "ellipticity": (0, 0),
    },
    "dose": {"dose": (3e5, 3e5)},
    "background": {"background": (0.02, 0.02), "halo_share": (0, 0)},
    "gamma, saturation, beam stop": {
        "gamma": (1, 1), "saturation": (4, 4), "beam_stop": (0, 0),
    },
}  # fmt: skip


def draw_test(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return descriptors and true orientations of Bloch-wave images through every camera."""
    descriptors, rotations = [], []
    for i, camera in enumerate(get_cameras()):
        patterns = load_bloch(
            options.phase, options.n_test, start=i * options.n_test, folder=options.data
        )
        images = draw_images(patterns, camera, options.seed)
        sampler = make_sampler(
            Detector(images.data.shape[1:], (camera.scale,) * 2), DescriptorSpec()
        )
        descriptors.append(compute_descriptors(images.data, images.centers, sampler)[0])
        rotations.append(patterns.rotations)
    return np.concatenate(descriptors), np.concatenate(rotations)


def draw_library(phase, n: int, seed: int) -> SpotLibrary:
    """Return dynamical spots of a phase in n orientations, as the training mixes them in."""
    ranges = Randomization()
    spots = draw_dynamical_spots(
        phase, n, Acquisition(beam_energy=200.0), np.random.default_rng((seed, 13)),
        thickness=ranges.thickness, precession_angle=ranges.precession_angle,
    )  # fmt: skip
    return SpotLibrary([spots])


def train(
    architecture: Architecture,
    randomization: Randomization,
    phase,
    library: SpotLibrary,
    cells,
    seed: int,
    n_samples: int,
    checkpoint: Path,
):
    """Return an orientation network trained on simulations; a training that was killed goes on."""
    import keras

    acquisition = Acquisition(beam_energy=200.0, precession_angle=0.5)
    source = DescriptorSource(
        get_reflections([phase]), 1, acquisition, randomization=randomization, library=library
    )
    keras.utils.set_random_seed(seed)
    model = build_orientation_network(
        architecture, source.spec.shape, cells.n_inplane, cells.n_directions
    )
    settings = TrainingSettings(
        n_samples=n_samples, samples_per_epoch=min(12_800, n_samples), seed=seed
    )
    train_orientation_network(
        model, source, cells, 0, settings, checkpoint=checkpoint, report=lambda _: None
    )
    return model


def judge(model, descriptors, rotations, cells, phase) -> dict[str, list[float]]:
    """Return angle and angle to the nearer of truth and twin, and the truth's loss, per pattern."""
    logits = model.predict(descriptors, batch_size=128, verbose=0).astype(float)
    bins, direction = np.divmod(logits.argmax(axis=1), cells.n_directions)
    answers, group = cells.decode(direction, bins), laue_operations(phase)
    angle = disorientation_angles(answers, rotations, group)
    twin = disorientation_angles(turned_about_beam(answers), rotations, group)
    highest = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]
    truth = logits[np.arange(len(logits)), cell_labels(cells, rotations)]
    columns = {"angle": angle, "either": np.minimum(angle, twin), "loss": total - truth}
    return {key: values.tolist() for key, values in columns.items()}


def run(options: argparse.Namespace) -> dict[str, dict[str, np.ndarray]]:
    """Train and judge every variant; finished ones are read from the directory."""
    phase = example_phases("steel")[options.phase]
    cells = make_cells(phase)
    descriptors, rotations = draw_test(options)
    library = draw_library(phase, options.n_dynamical, options.seed)
    results = {}
    with tempfile.TemporaryDirectory(prefix="ablation-") as temporary:
        folder = Path(options.directory or temporary)
        for name in options.variants:
            asked = [options.phase, options.n_samples, options.width, options.n_test, options.seed]
            key = hashlib.sha256(json.dumps([name, VARIANTS[name], *asked]).encode()).hexdigest()
            kept = folder / key[:16]
            kept.mkdir(parents=True, exist_ok=True)
            if not (kept / "done.json").exists():
                started = time.perf_counter()
                model = train(
                    Architecture(width=options.width),
                    dataclasses.replace(Randomization(), **VARIANTS[name]),
                    phase, library, cells, options.seed, options.n_samples,
                    kept / "training",
                )  # fmt: skip
                answers = judge(model, descriptors, rotations, cells, phase)
                answers["seconds"] = [time.perf_counter() - started]
                (kept / "done.part").write_text(json.dumps(answers))
                (kept / "done.part").replace(kept / "done.json")
            answers = json.loads((kept / "done.json").read_text())
            results[name] = {column: np.array(values) for column, values in answers.items()}
            share = (results[name]["angle"] < 5).mean()
            print(f"{name}: {share:.3f} within 5 degrees", file=sys.stderr, flush=True)
    return results


def write_report(results: dict[str, dict[str, np.ndarray]], options: argparse.Namespace) -> str:
    """Return the table as Markdown."""
    info = describe_run(options)
    machine, whole = info["machine"], results["nothing"]
    rows = []
    for name, part in results.items():  # "nothing" minus itself is 0 and shows as such
        row = [name]
        for column in ("angle", "either"):
            row.append(_percent(float((part[column] < 5).mean())))
            limits = paired_interval(part[column] < 5, whole[column] < 5)
            difference, low, high = (100 * value for value in limits)
            row.append(f"{difference:+.1f} ({low:+.1f} to {high:+.1f})")
        change = part["loss"] - whole["loss"]
        error = change.std() / np.sqrt(len(change))
        row += [f"{part['loss'].mean():.2f}", f"{change.mean():+.2f} ± {error:.2f}"]
        rows.append(row)
    head = ["left out", "< 5 deg / %", "minus nothing (95 %)", "or twin / %",
            "minus nothing (95 %)", "loss", "minus nothing"]  # fmt: skip
    return (
        f"# What each randomisation buys: {options.phase}\n\n{info['date']}, commit "
        f"{info['commit']}, {machine['cpu']}, {machine['cores']} cores.\n\n"
        f"    {info['command']}\n\n"
        f"One orientation network a row, width {options.width}, {options.n_samples} simulated "
        f"patterns, the same seeds; {len(whole['angle'])} Bloch-wave images of seven cameras; the "
        "network's first answer, nothing refined. *Loss*: cross-entropy of the true cell, nats, "
        "with the standard error of the difference. One seed: the spread between seeds is not in "
        "the intervals.\n\n" + _table(head, rows)
    )


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phase", default="NbC", choices=PHASES)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--n-samples", type=int, default=51_200, help="simulations of a training")
    parser.add_argument("--n-test", type=int, default=70, help="images of a camera")
    parser.add_argument("--n-dynamical", type=int, default=3000, help="Bloch-wave orientations")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    parser.add_argument("--directory", type=Path, help="where finished trainings are kept")
    parser.add_argument("--seed", type=int, default=0)
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    parser.add_argument("--name", help="of the file written; default: ablation_ and the phase")
    options = parser.parse_args(arguments)
    if "nothing" not in options.variants:
        options.variants = ["nothing", *options.variants]
    return options


def main(arguments: list[str] | None = None) -> None:
    """Run the ablation."""
    options = parse_options(arguments)
    try:
        results = run(options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"ablation.py: {error}")
    report = write_report(results, options)
    print(report)
    options.output.mkdir(parents=True, exist_ok=True)
    name = options.name or f"ablation_{options.phase}"
    (options.output / f"{name}.md").write_text(report)


if __name__ == "__main__":
    main()
