"""The founding paper's experiment on dynamical patterns: two scans to learn from, one to judge.

    python benchmarks/paper_study.py                 # three scans of 100 x 100
    python benchmarks/paper_study.py --full          # 500 x 500

Three scans of a steel (ferrite, NbC, cementite) as one microscope would give them: Bloch-wave
patterns, a camera with noise, background, blur, gamma and distortion, grains, overlap at their
boundaries. The third scan's grains have orientations that the first two do not. Claims of Hadjadj
et al. (Microsc. Microanal. 2022), a row each:

- phase networks that learn from measured Cartesian patterns, without and with random rotations,
  validated on a random 30 % of the positions or on grains of their own; the same on descriptors,
  where the network cannot tell a rotation;
- orientation networks that learn from simulations: regression of Euler angles (the paper's second
  stage) and, with as much training, orientation cells (ours), each tuned on the measured scans;
- the shipped bundle, before and after `fine_tune`; with refinement; the hybrid; template matching.

Prints a Markdown report, writes it, the figures as JSON and a picture to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import logging
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import METHODS, PEER_SPECS, Answers, Batch, match_by_package, match_by_templates
from bloch import PHASES, SIZE
from paper_networks import study_orientations, study_phases
from paper_scans import ACQUISITION, CAMERA, Measured, Scan, describe, make_scan
from report import _percent, _table, describe_run

from pyxem_nas import ModelBundle, example_phases, fine_tune
from pyxem_nas.diffraction import disorientation_angles, laue_operations, multiply_quaternions
from pyxem_nas.maps.crystal_map import make_crystal_map
from pyxem_nas.maps.statistics import paired_interval

_logger = logging.getLogger("paper_study")


# ------------------------------------------------------------------------- whole systems


def study_systems(
    scans: list[Scan], rows: np.ndarray, few: np.ndarray, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Index the test scan with template matching and with bundles, before and after tuning."""
    test = scans[2]
    results = {}
    for name, spec in PEER_SPECS.items():
        match_by_templates(test.take(few[:4]), spec)
        results[f"pyxem, {name}"] = _judge(
            match_by_templates(test.take(few), spec), test.take(few), few
        )
    bundle = ModelBundle.load(options.bundle)
    signal, xmap, centers = _both_scans(scans[:2], bundle, options)
    started = time.perf_counter()
    tuned = fine_tune(
        bundle, signal, xmap, center=centers, n_positions=options.n_learn, seed=options.seed,
        epochs=options.epochs, report=_logger.info,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    batch = test.take(rows)
    for when, chosen in (("", bundle), (", tuned", tuned)):
        for name in ("network", "network + refinement", "hybrid"):
            match_by_package(batch.take(np.arange(4)), chosen, METHODS[name])
            answers = match_by_package(batch, chosen, METHODS[name])
            results[f"{bundle.name} bundle, {name}{when}"] = _judge(answers, batch, rows)
            if when:
                results[f"{bundle.name} bundle, {name}{when}"]["seconds_of_tuning"] = seconds
    return results


def _both_scans(scans: list[Scan], bundle: ModelBundle, options: argparse.Namespace):
    """Return the signal of two scans, one under the other, and the map that is trusted.

    The map is the truth with half a degree of noise, as a good template matching gives it.
    """
    from pyxem.signals import ElectronDiffraction2D

    ny, nx = scans[0].shape
    images = np.concatenate([scan.images.reshape(ny, nx, SIZE, SIZE) for scan in scans])
    signal = ElectronDiffraction2D(images)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = CAMERA.scale, "$A^{-1}$"
    signal.set_experimental_parameters(
        beam_energy=ACQUISITION.beam_energy,
        rocking_angle=float(1000 * np.deg2rad(ACQUISITION.precession_angle)),
    )
    centers = np.concatenate([scan.centers.reshape(ny, nx, 2) for scan in scans])
    rotations = np.concatenate([scan.rotations for scan in scans])
    rng = np.random.default_rng([options.seed, 24])
    noise = np.column_stack(
        [np.ones(len(rotations)), rng.normal(0, np.deg2rad(0.15), (len(rotations), 3))]
    )
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    ids = np.array([bundle.phase_names.index(name) for name in PHASES])
    columns = {
        "phase_id": ids[np.concatenate([scan.phase for scan in scans])],
        "rotations": multiply_quaternions(rotations, noise)[:, None],
    }
    xmap = make_crystal_map(columns, bundle.phase_list, shape=images.shape[:2], step=(1.0, 1.0))
    return signal, xmap, centers


def _judge(answers: Answers, batch: Batch, rows: np.ndarray) -> dict[str, Any]:
    angle = np.full(len(batch.phase), 180.0)
    phase_list = example_phases("steel")
    for k, name in enumerate(PHASES):
        mine = np.flatnonzero(batch.phase == k)
        group = laue_operations(phase_list[name])
        angle[mine] = disorientation_angles(answers.quaternions[mine], batch.rotations[mine], group)
    return {
        "phase": float((answers.phase == batch.phase).mean()),
        "angle": angle,
        "patterns_per_second": len(angle) / answers.seconds,
        "right_phase": answers.phase == batch.phase,
        "rows": rows,
    }


# ------------------------------------------------------------------------- report


def run(options: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], Scan, Measured]:
    """Make the scans, do everything; return the rows of the table, the test scan and its inputs."""
    rng = np.random.default_rng([options.seed, 25])
    with tempfile.TemporaryDirectory(prefix="paper-study-") as name:
        folder = Path(options.directory or name)
        folder.mkdir(parents=True, exist_ok=True)
        scans = [make_scan(options, number, folder) for number in range(3)]
        _logger.info("three scans of %s, %d positions of the third hold two grains",
                     scans[2].shape, scans[2].n_overlaps)  # fmt: skip
        learn = describe(scans[:2], options.n_learn // 2, rng)
        test = describe(scans[2:], options.n_test, np.random.default_rng([options.seed, 26]))
        chosen = np.sort(rng.permutation(len(scans[2].phase))[: options.n_systems])
        few = np.sort(rng.permutation(chosen)[: options.n_peer])
        studies = {
            "phases": lambda: study_phases(learn, test, options, folder),
            "orientations": lambda: study_orientations(learn, test, options),
            "systems": lambda: study_systems(scans, chosen, few, options),
        }
        rows = {}
        for part in options.parts:
            rows |= _keep(folder / f"{part}.pkl", studies[part], options)
    return rows, scans[2], test


def _keep(path: Path, study: Callable[[], dict], options: argparse.Namespace) -> dict:
    """Return a part's rows; those of a run with the same options are read, not made again."""
    asked = {k: str(v) for k, v in vars(options).items() if k not in ("parts", "output", "name")}
    if path.exists():
        kept = pickle.loads(path.read_bytes())  # noqa: S301, our own file
        if kept["options"] == asked:
            return kept["rows"]
    rows = study()
    partial = path.with_suffix(".part")
    partial.write_bytes(pickle.dumps({"options": asked, "rows": rows}))
    partial.replace(path)
    return rows


def add_shares(rows: dict[str, dict[str, Any]], truth: np.ndarray) -> None:
    """Add what the table shows of the angles; `truth` is the phase of the networks' positions."""
    for row in rows.values():
        if "angle" not in row:
            continue
        angle = row["angle"]
        row |= {
            "n": len(angle),
            "within 2 deg": float((angle < 2).mean()),
            "within 5 deg": float((angle < 5).mean()),
            "median deg": float(np.median(angle)),
        }
        if len(truth) == len(angle):
            row["by phase"] = {
                name: float((angle[truth == k] < 5).mean()) for k, name in enumerate(PHASES)
            }


def compare_with_peer(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return lines that compare systems with template matching on the same positions."""
    lines = []
    peer = rows.get("pyxem, template")
    for name, row in rows.items():
        if peer is None or "right_phase" not in row or name.startswith("pyxem"):
            continue
        same = np.isin(row["rows"], peer["rows"])
        parts = []
        for what, mine, theirs in (
            ("phase right", row["right_phase"][same], peer["right_phase"]),
            ("within 5 deg", row["angle"][same] < 5, peer["angle"] < 5),
        ):
            difference, low, high = paired_interval(mine, theirs)
            parts.append(f"{what} {100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
        lines.append(f"- {name}: {', '.join(parts)}")
    return lines


def write_report(rows: dict[str, dict[str, Any]], info: dict, test: Scan) -> str:
    """Return the table as Markdown."""
    machine = info["machine"]
    head = ["method", "positions", "validation / %", "phase right / %", "< 2 deg / %",
            "< 5 deg / %", "median / deg", "patterns/s"]  # fmt: skip
    nan = float("nan")
    table = [
        [
            name,
            str(row.get("n", row.get("n_phase", ""))),
            _percent(row.get("validation", nan)),
            _percent(row.get("phase", nan)),
            _percent(row.get("within 2 deg", nan)),
            _percent(row.get("within 5 deg", nan)),
            f"{row['median deg']:.2f}" if "median deg" in row else "-",
            f"{row['patterns_per_second']:.0f}",
        ]
        for name, row in rows.items()
    ]
    versions = ", ".join(f"{k} {v}" for k, v in info["versions"].items())
    lines = [
        "# The founding paper's experiment on dynamical patterns", "",
        f"{info['date']}, commit {info['commit']}, {machine['cpu']}, {machine['cores']} cores, "
        f"load {machine['load']:.1f} at the end. {versions}.", "",
        f"    {info['command']}", "",
        f"Three scans of {test.shape[0]} x {test.shape[1]}; two to learn from, the third, with "
        f"other orientations, to judge ({test.n_overlaps} of its positions hold two grains). "
        "Validation is on the first two; for orientation networks on grains that they were not "
        "tuned on. Orientations with the phase known. Networks alone: descriptor and network, "
        "phase or orientation; the others: raw pattern to map, all phases.", "",
        _table(head, table),
    ]  # fmt: skip
    compared = compare_with_peer(rows)
    if compared:
        lines += ["Minus template matching on the same positions, points (95 %):", "", *compared]
    return "\n".join(lines).rstrip() + "\n"


def draw_figure(rows: dict[str, dict[str, Any]], scan: Scan, positions: np.ndarray):
    """Return a figure: phase maps of the test scan, and how often orientations are right."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    colors = ["#0072B2", "#E69F00", "#009E73"]
    maps = {"truth": scan.phase}
    for name, row in rows.items():
        if "answers" in row and name.endswith("by position"):
            answers = np.full(len(scan.phase), -1)
            answers[positions] = row["answers"]
            title = name.removeprefix("phase network, ").removesuffix(", validated by position")
            wrong = f"{100 * (1 - row['phase']):.1f} % wrong"
            maps[f"{title}\n{wrong}"] = answers
    bars = {name: row["within 5 deg"] for name, row in rows.items() if "within 5 deg" in row}
    figure = plt.figure(figsize=(11, 3.2 + 0.32 * len(bars)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[3.2, 0.32 * max(len(bars), 1)])
    for axes, (title, values) in zip(
        np.atleast_1d(upper.subplots(1, len(maps))), maps.items(), strict=True
    ):
        image = np.ma.masked_less(values.reshape(scan.shape), 0)
        axes.imshow(image, cmap=ListedColormap(colors), vmin=-0.5, vmax=2.5, interpolation="none")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in colors]
    upper.legend(handles, PHASES, loc="outside lower center", ncols=3, frameon=False)
    if bars:
        axes = lower.subplots()
        axes.barh(list(bars), [100 * value for value in bars.values()], color="#777777")
        for k, value in enumerate(bars.values()):
            axes.text(100 * value + 0.5, k, f"{100 * value:.1f}", va="center", fontsize=8)
        axes.invert_yaxis()
        axes.set(xlabel="orientations within 5 degrees / %", xlim=(0, 105))
        axes.tick_params(axis="y", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=2, default=(100, 100), help="of each scan")
    parser.add_argument("--full", action="store_true", help="scans of 500 x 500, as the paper's")
    parser.add_argument("--n-grains", type=int, default=60, help="of each phase in a scan")
    parser.add_argument("--n-learn", type=int, default=6000, help="positions learnt from")
    parser.add_argument("--n-test", type=int, default=10_000, help="positions judging networks")
    parser.add_argument("--n-systems", type=int, default=1500, help="positions judging bundles")
    parser.add_argument("--n-peer", type=int, default=240, help="positions for template matching")
    parser.add_argument("--trials", type=int, default=3, help="of each architecture search")
    parser.add_argument("--epochs", type=int, default=8, help="of networks on measured patterns")
    parser.add_argument("--n-samples", type=int, default=76_800, help="simulations, orientations")
    parser.add_argument("--n-tuning", type=int, default=16_384, help="descriptors of tuning")
    parser.add_argument("--bundle", default="steel", help="name or path of a bundle")
    every = ["phases", "orientations", "systems"]
    parser.add_argument("--parts", nargs="+", choices=every, default=every)
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    parser.add_argument("--directory", type=Path, help="where scans and searches are kept")
    parser.add_argument("--seed", type=int, default=0)
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    parser.add_argument("--name", default="paper_study", help="of the files written there")
    options = parser.parse_args(arguments)
    options.shape = (500, 500) if options.full else tuple(options.shape)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Run the study."""
    options = parse_options(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    _logger.setLevel(logging.INFO)
    try:
        rows, scan, test = run(options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"paper_study.py: {error}")
    add_shares(rows, test.phase)
    info = describe_run(options)
    report = write_report(rows, info, scan)
    print(report)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"{options.name}.md").write_text(report)
    figures = {
        name: {key: v for key, v in row.items() if not isinstance(v, np.ndarray)}
        for name, row in rows.items()
    }
    whole = json.dumps({"run": info, "rows": figures}, indent=1)
    (options.output / f"{options.name}.json").write_text(whole + "\n")
    figure = draw_figure(rows, scan, test.positions)
    figure.savefig(options.output / f"{options.name}.png", dpi=110)


if __name__ == "__main__":
    main()
