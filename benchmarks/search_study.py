"""Does the search pay: 30 trials, what they found against the hand-made network, how many it takes.

    python benchmarks/search_study.py --directory search_study

AutoKeras searches the orientation network of one phase; trials learn from kinematical simulations
and are judged on dynamical ones. The best of the search, the hand-made prototype that the project
began with and the architecture that bundles get without a search are then trained alike, longer,
from two seeds each, and judged on the Bloch-wave images of `benchmarks/accuracy.py` (another
program's patterns, seven cameras), by the network's first answer; the default, which learns faster,
also from as many times more patterns. Prints a Markdown report and
writes it with the trials (JSON) and a figure to ``benchmarks/results``. A run that was killed goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from ablation import draw_library, draw_test, judge, train
from bloch import PHASES
from matplotlib.figure import Figure
from report import _percent, _table, describe_run

from pyxem_nas import Acquisition, Architecture, Randomization, example_phases
from pyxem_nas.bundles.architectures import build_orientation_network, measure_rate
from pyxem_nas.diffraction import SpotLibrary, make_cells
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.maps.statistics import paired_interval
from pyxem_nas.patterns.spec import DescriptorSpec
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training.network_makers import default_architecture
from pyxem_nas.training.search import SearchReport, SearchSettings, search_orientation_architecture

#: About 350,000 parameters, five residual blocks of growing dilation: made by hand before any
#: search.
PROTOTYPE = Architecture(width=118)


_BATCH = 256


def search(options: argparse.Namespace, library: SpotLibrary, phase, cells) -> SearchReport:
    """Run the search, or what is left of it."""
    source = DescriptorSource(get_reflections([phase]), 1, Acquisition(200.0, 0.5), library=library)
    settings = SearchSettings(
        max_trials=options.trials, epochs=options.epochs, n_train=options.n_train,
        tuner=options.tuner, seed=options.seed, min_patterns_per_second=options.min_rate,
    )  # fmt: skip
    return search_orientation_architecture(
        source, cells, 0, settings, options.directory / "search", name=options.phase,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip


def get_candidates(
    report: SearchReport, options: argparse.Namespace
) -> dict[str, tuple[Architecture, int]]:
    """Return what is trained longer, by the names of the report: architecture, patterns."""
    n, more = options.n_samples, round(options.longer * options.n_samples)
    return {
        "hand-made prototype": (PROTOTYPE, n),
        "default, not searched": (default_architecture(), n),
        "best of the search": (report.architecture, n),
        f"default, {more} patterns": (default_architecture(), more),
    }


def confirm(candidates, options, library, phase, cells) -> dict[str, list[dict]]:
    """Train every candidate from every seed and judge it; finished ones are read again."""

    def make_key(architecture: Architecture, n_samples: int, seed: int) -> str:
        return json.dumps([architecture.to_dict(), seed, n_samples, options.n_test])

    descriptors, rotations = draw_test(options)
    kept = options.directory / "confirmed.json"
    done = json.loads(kept.read_text()) if kept.exists() else {}
    for name, (architecture, n_samples) in candidates.items():
        for seed in options.seeds:
            key = make_key(architecture, n_samples, seed)
            if key not in done:
                checkpoint = options.directory / "training" / f"{name} {seed}"
                model = train(
                    architecture, Randomization(), phase, library, cells, seed, n_samples,
                    checkpoint,
                )  # fmt: skip
                answers = judge(model, descriptors, rotations, cells, phase)
                answers["rate"] = measure_rate(model, descriptors[:256])
                answers["n_parameters"] = int(model.count_params())
                done[key] = answers
                part = kept.with_suffix(".part")
                part.write_text(json.dumps(done))
                part.replace(kept)
            share = np.mean(np.array(done[key]["angle"]) < 5)
            print(f"{name}, seed {seed}: {share:.3f} within 5 deg", file=sys.stderr, flush=True)
    return {
        name: [done[make_key(*trained, seed)] for seed in options.seeds]
        for name, trained in candidates.items()
    }


def measure_learning(architecture: Architecture, cells) -> float:
    """Return the patterns per second of a network that learns, without their simulation."""
    import keras

    shape = DescriptorSpec().shape
    model = build_orientation_network(architecture, shape, cells.n_inplane, cells.n_directions)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-4), loss, jit_compile=True)
    batch = (
        np.random.default_rng(0).random((_BATCH, *shape), np.float32),
        np.zeros(_BATCH, np.int32),
    )
    model.train_on_batch(*batch)
    started = time.perf_counter()
    for _ in range(6):
        model.train_on_batch(*batch)
    return 6 * _BATCH / (time.perf_counter() - started)


def write_report(report: SearchReport, candidates, confirmed, cells, options) -> str:
    """Return the tables as Markdown."""
    run = describe_run(options)
    machine = run["machine"]
    order = sorted(report.trials, key=lambda trial: trial["trial"])
    losses = np.array([trial["validation_loss"] for trial in order])
    reached = np.minimum.accumulate(losses)
    enough = 1 + int(np.argmax(reached <= reached[-1] + 0.05))
    rows = []
    reference = np.concatenate([part["angle"] for part in confirmed["hand-made prototype"]])
    for name, parts in confirmed.items():
        angle, either, loss = (
            np.concatenate([part[column] for part in parts])
            for column in ("angle", "either", "loss")
        )
        difference, low, high = (100 * v for v in paired_interval(angle < 5, reference < 5))
        seeds = " / ".join(_percent(float(np.mean(np.array(p["angle"]) < 5))) for p in parts)
        rows.append([
            name, f"{parts[0]['n_parameters']:,}", f"{np.mean([p['rate'] for p in parts]):.0f}",
            f"{measure_learning(candidates[name][0], cells):.0f}",
            seeds, f"{difference:+.1f} ({low:+.1f} to {high:+.1f})" if rows else "-",
            _percent(float((either < 5).mean())), f"{loss.mean():.2f}",
        ])  # fmt: skip
    head = ["network", "parameters", "patterns/s", "learns from patterns/s",
            "< 5 deg, each seed / %", "minus prototype (95 %)", "or twin / %", "loss"]  # fmt: skip
    trials = [
        [str(t["trial"]), f"{t['validation_loss']:.3f}", _percent(t["validation_accuracy"]),
         f"{t['n_parameters']:,}", f"{t['patterns_per_second']:.0f}", _describe(t)]
        for t in report.trials
    ]  # fmt: skip
    columns = ["trial", "loss", "right cell / %", "parameters", "patterns/s", "hyperparameters"]
    return (
        f"# Does the search pay: orientation of {options.phase}\n\n{run['date']}, commit "
        f"{run['commit']}, {machine['cpu']}, {machine['cores']} cores.\n\n    {run['command']}\n\n"
        f"{len(order)} trials in {report.seconds / 60:.0f} min of at most {options.epochs} x "
        f"{options.n_train} patterns; networks below {options.min_rate:g} patterns/s are given up "
        f"after a step. Trial {enough} of {len(order)} was the first within 0.05 nats of the best "
        "found.\n\n"
        f"Trained alike, {options.n_samples} patterns, seeds {options.seeds}; the last row with as "
        "many times more as the default learns faster than the best of the search. Judged on "
        f"{len(reference) // len(options.seeds)} Bloch-wave images of seven cameras, first answer, "
        "nothing refined. The interval is over images, both seeds pooled; rates are of float32 by "
        "XLA, one batch of 256.\n\n" + _table(head, rows)
        + "\n![trials](search_study.png)\n\n## Trials, best first\n\n" + _table(columns, trials)
    )  # fmt: skip


def _describe(trial: dict) -> str:
    """Return the hyperparameters of a trial."""
    values = {k.split("/")[-1]: v for k, v in trial["hyperparameters"].items()}
    short = {
        "width": "width", "n_blocks": "blocks", "kernel_size": "kernel", "dilation": "dilation",
        "azimuthal_stride": "stride", "normalization": "norm", "squeeze_excitation": "SE",
        "radial_mixing": "mixing", "dropout": "dropout", "optimizer": "optimizer",
        "learning_rate": "rate",
    }  # fmt: skip
    return ", ".join(f"{text} {values[name]}" for name, text in short.items() if name in values)


def draw(report: SearchReport) -> Figure:
    """Return the trials as points, accuracy against speed, and the best loss as trials go on."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    order = sorted(report.trials, key=lambda trial: trial["trial"])
    rates = [trial["patterns_per_second"] for trial in order]
    right_cell = [100 * trial["validation_accuracy"] for trial in order]
    numbers = np.arange(1, len(order) + 1)
    points = left.scatter(rates, right_cell, c=numbers, cmap="viridis", s=28)
    best = report.trials[0]
    left.scatter(
        best["patterns_per_second"], 100 * best["validation_accuracy"], 140, facecolors="none",
        edgecolors="#D55E00", label="best",
    )  # fmt: skip
    left.set(xscale="log", xlabel="patterns/s, network alone", ylabel="right cell / %",
             title="every trial")  # fmt: skip
    left.legend()
    figure.colorbar(points, ax=left, label="trial")
    losses = np.array([trial["validation_loss"] for trial in order])
    right.plot(numbers, losses, "o", ms=4, color="0.6", label="trial")
    right.step(numbers, np.minimum.accumulate(losses), where="post", color="#0072B2",
               label="best so far")  # fmt: skip
    right.set(xlabel="trials", ylabel="validation loss / nats", title="how many are enough")
    right.legend()
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return figure


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phase", default="NbC", choices=PHASES)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--n-train", type=int, default=16_384)
    parser.add_argument("--tuner", default="greedy")
    parser.add_argument("--min-rate", type=float, default=400.0, help="patterns per second")
    parser.add_argument("--n-samples", type=int, default=51_200, help="of the longer trainings")
    parser.add_argument("--longer", type=float, default=3.5, help="patterns of the default, times")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--n-test", type=int, default=70, help="images of a camera")
    parser.add_argument("--n-dynamical", type=int, default=3000, help="Bloch-wave orientations")
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    parser.add_argument("--directory", type=Path, required=True, help="what is done is kept here")
    parser.add_argument("--seed", type=int, default=0, help="of search and images")
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    phase = example_phases("steel")[options.phase]
    cells = make_cells(phase)
    library = draw_library(phase, options.n_dynamical, options.seed)
    report = search(options, library, phase, cells)
    candidates = get_candidates(report, options)
    try:
        confirmed = confirm(candidates, options, library, phase, cells)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"search_study.py: {error}")
    text = write_report(report, candidates, confirmed, cells, options)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "search_study.md").write_text(text)
    (options.output / "search_study.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    draw(report).savefig(options.output / "search_study.png", dpi=110)


if __name__ == "__main__":
    main()
