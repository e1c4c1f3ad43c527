"""Two objectives of an architecture search, at equal budget: right alone, or helpful to matching.

    python benchmarks/search_objective.py --phase ferrite --directory search_objective

Searches the orientation network of one phase twice, by its own validation loss and by what it adds
to exhaustive matching (`training.added_value`), and shows both for the trials of both. Prints a
Markdown report and writes it to ``benchmarks/results``. Searches that were stopped go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
from report import _table, describe_run

from pyxem_nas import Acquisition, ModelBundle, Randomization, example_phases
from pyxem_nas.bundles import number_phases
from pyxem_nas.diffraction import make_cells
from pyxem_nas.scans.source import make_source
from pyxem_nas.training.added_value import draw_added_value
from pyxem_nas.training.search import (
    SearchSettings,
    hold_out_domain,
    search_orientation_architecture,
)

OBJECTIVES = ("alone", "with matching")


def search(options: argparse.Namespace) -> tuple[dict, float]:
    """Return the report of each objective, and what matching reaches without a network."""
    phases = number_phases([example_phases("steel")[options.phase]])
    bundle = ModelBundle.from_phases(phases, Acquisition(200.0, 0.5))
    source = make_source(bundle, options.seed)
    ranges = Randomization(precession_angle=(0.0, 1.0), dose=(500.0, 3e5))
    source = dataclasses.replace(source, randomization=ranges)
    cells = make_cells(bundle.phases[0])
    held_out = dataclasses.replace(source, randomization=hold_out_domain(ranges)[1])
    added = draw_added_value(bundle, held_out, 0, cells, n=options.n_added, seed=options.seed)
    reports = {}
    for objective in OBJECTIVES:
        settings = SearchSettings(
            options.trials, options.epochs, options.n_train, tuner=options.tuner,
            seed=options.seed, objective=objective,
        )  # fmt: skip
        reports[objective] = search_orientation_architecture(
            source, cells, 0, settings, options.directory / objective.replace(" ", "_"),
            name=options.phase, added=added,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
    return reports, added.measure_matching()


def write_report(reports: dict, alone: float, options: argparse.Namespace) -> str:
    """Return the tables as Markdown."""
    run = describe_run(options)
    machine = run["machine"]
    text = (
        f"# What a search looks for: {options.phase}\n\n{run['date']}, commit {run['commit']}, "
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f} at the end.\n\n"
        f"    {run['command']}\n\nMatching alone: {alone:.3f} (mean of minus the log-probability "
        f"of the truth, {options.n_added} patterns of another simulator). Best first.\n"
    )
    head = ["trial", "width", "blocks", "kernel", "stride", "dilation", "normalization",
            "loss alone", "with matching", "patterns/s"]  # fmt: skip
    names = ("width", "n_blocks", "kernel_size", "azimuthal_stride", "dilation", "normalization")
    for objective, report in reports.items():
        rows = []
        for trial in report.trials:
            values = {k.split("/")[-1]: v for k, v in trial["hyperparameters"].items()}
            rows.append([
                str(trial["trial"]), *(str(values[name]) for name in names),
                f"{trial['validation_loss']:.3f}", f"{trial['with_matching']:.3f}",
                f"{trial['patterns_per_second']:.0f}",
            ])  # fmt: skip
        minutes = report.seconds / 60
        text += f"\n## Objective: {objective}, {minutes:.0f} minutes\n\n" + _table(head, rows)
    both = [trial for report in reports.values() for trial in report.trials]
    losses, helps = (
        np.array([trial[name] for trial in both]) for name in ("validation_loss", "with_matching")
    )
    ranks = [values.argsort().argsort() for values in (losses, helps)]
    text += f"\nRank correlation of both over all trials: {np.corrcoef(*ranks)[0, 1]:.2f}.\n"
    return text


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phase", default="ferrite")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--n-train", type=int, default=16_384)
    parser.add_argument("--n-added", type=int, default=1024, help="patterns that matching has seen")
    parser.add_argument("--tuner", default="greedy", help="AutoKeras' tuner")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, required=True, help="what is done is kept here")
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    options = parser.parse_args()
    report = write_report(*search(options), options)
    print(report)
    (options.output / f"search_objective_{options.phase}.md").write_text(report)


if __name__ == "__main__":
    main()
