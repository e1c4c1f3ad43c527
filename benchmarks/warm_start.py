"""From one phase to a bundle without a search: how long it takes, and how good it is.

    python benchmarks/warm_start.py --phase NbC --directory warm_start

Calls `search_models` with ``max_trials=0`` for a single phase, as a user with a new phase would,
and judges the bundle on the Bloch-wave images of `benchmarks/accuracy.py` (another program's
patterns, seven cameras, the phase known) beside the shipped `steel`, which was trained longer and
is compared with template matching there. Prints a Markdown report and writes it to
``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from bloch import PHASES, draw_images, load_bloch
from cameras import get_cameras
from compare_bundles import METHODS, judge
from report import _percent, _table, describe_run

from pyxem_nas import Acquisition, ModelBundle, example_phases, search_models
from pyxem_nas.bundles.bundle import number_phases
from pyxem_nas.maps.statistics import paired_interval


def make_bundle(options: argparse.Namespace) -> ModelBundle:
    """Return a bundle of one phase; a run that was killed goes on where it was."""
    phases = number_phases([example_phases("steel")[options.phase]])
    return search_models(
        phases, Acquisition(200.0, 0.7), max_trials=0, n_samples=options.n_samples,
        directory=options.directory, seed=options.seed, name=options.phase,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip


def compare(bundle: ModelBundle, options: argparse.Namespace) -> list[dict[str, np.ndarray]]:
    """Return what the new bundle and `steel` get right, pattern by pattern."""
    steel = ModelBundle.load("steel")
    parts: list[list] = [[], []]
    for c, camera in enumerate(get_cameras()):
        patterns = load_bloch(
            options.phase, options.n_test, start=c * options.n_test, folder=options.data
        )
        images = draw_images(patterns, camera, options.seed)
        for found, which in zip(parts, (bundle, steel), strict=True):
            k = which.phase_names.index(options.phase)
            found.append(judge(which, k, images, camera.scale, patterns.rotations))
    return [{key: np.concatenate([p[key] for p in found]) for key in found[0]} for found in parts]


def write_report(bundle, results, options) -> str:
    """Return the table as Markdown."""
    run = describe_run(options)
    machine = run["machine"]
    new, steel = results
    rows = []
    for method in METHODS:
        difference, low, high = (100 * v for v in paired_interval(new[method], steel[method]))
        rows.append([
            f"{method} + refinement", _percent(new[method].mean()), _percent(steel[method].mean()),
            f"{difference:+.1f} ({low:+.1f} to {high:+.1f})",
        ])  # fmt: skip
    head = ["method", "new bundle, < 5 deg / %", "steel, < 5 deg / %", "difference (95 %)"]
    minutes = bundle.provenance["seconds_of_last_run"] / 60
    return (
        f"# A bundle without a search: {options.phase}\n\n{run['date']}, commit {run['commit']}, "
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f} at the end.\n\n"
        f"    {run['command']}\n\nFrom the phase to the bundle, phase network and calibration "
        f"included: {minutes:.0f} minutes, {options.n_samples} patterns. Judged on "
        f"{len(new['phase'])} Bloch-wave images of seven cameras, the phase known, nothing "
        "rejected.\n\n" + _table(head, rows)
    )  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phase", default="NbC", choices=PHASES)
    parser.add_argument("--n-samples", type=int, default=600_000, help="that search_models takes")
    parser.add_argument("--n-test", type=int, default=40, help="images of a camera")
    parser.add_argument("--directory", type=Path, required=True, help="what is done is kept here")
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    parser.add_argument("--seed", type=int, default=0)
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    options = parser.parse_args()
    bundle = make_bundle(options)
    try:
        report = write_report(bundle, compare(bundle, options), options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"warm_start.py: {error}")
    print(report)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"warm_start_{options.phase}.md").write_text(report)


if __name__ == "__main__":
    main()
