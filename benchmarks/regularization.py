"""What neighbours do for a map: twin errors, other errors, and whether boundaries move.

    python benchmarks/regularization.py --bundle steel --n-scans 8

Simulated scans of grains (`pyxem_nas.simulate_scan`) are indexed with and without
``regularize=True``. Prints a Markdown table and writes it to ``benchmarks/results``. A position has
*crossed* if it is given the orientation of another grain than its own that it did not have before;
such positions must lie beside that grain, else a boundary has moved by more than one position.

Some grains give the twin at most of their positions: a strong reflection is strong, or weak, at all
of them alike. No neighbour can know better there, so twins are counted apart in those grains and
elsewhere. *By grain* is another way, an upper bound for what any neighbours can do: every position
takes the answer, right or twin, that most positions of its true grain have.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import pyxem_nas
from pyxem_nas.diffraction import disorientation_angles, laue_operations, turned_about_beam
from pyxem_nas.maps.crystal_map import best_rotations

SAME = 5.0  # degrees


def compare_with_truth(xmap, truth, phases: list) -> dict[str, np.ndarray]:
    """Return for each position whether it is right, a twin, or of another grain, and where."""
    found, true = best_rotations(xmap).data.reshape(-1, 4), truth.rotations.data.reshape(-1, 4)
    grain = truth.prop["grain"]
    indexed = (xmap.phase_id >= 0) & (truth.phase_id >= 0)
    right, twin = np.zeros(len(found), bool), np.zeros(len(found), bool)
    for k, phase in enumerate(phases):
        rows = indexed & (xmap.phase_id == k) & (truth.phase_id == k)
        group = laue_operations(phase)
        right[rows] = disorientation_angles(found[rows], true[rows], group) < SAME
        turned = disorientation_angles(turned_about_beam(found[rows]), true[rows], group) < SAME
        twin[rows] = turned & ~right[rows]
    return {
        "indexed": indexed,
        "right": right,
        "twin": twin,
        "elsewhere": _find_other_grain(xmap, truth, phases, grain, right),
    }


def _find_other_grain(xmap, truth, phases, grain, right) -> np.ndarray:
    """Return the other grain whose orientation a position was given, -1 for none."""
    found, true = best_rotations(xmap).data.reshape(-1, 4), truth.rotations.data.reshape(-1, 4)
    other = np.full(len(found), -1)
    for g in np.unique(grain[grain >= 0]):
        one = np.flatnonzero(grain == g)[0]
        k = int(truth.phase_id[one])
        rows = np.flatnonzero((xmap.phase_id == k) & ~right & (grain != g) & (grain >= 0))
        if len(rows):
            reference = np.broadcast_to(true[one], (len(rows), 4))
            angle = disorientation_angles(found[rows], reference, laue_operations(phases[k]))
            other[rows[angle < SAME]] = g
    return other


def find_misled(columns: dict, grain: np.ndarray) -> np.ndarray:
    """Return true for the positions of grains that have more twins than right answers."""
    misled = np.zeros(len(grain), bool)
    for g in np.unique(grain[grain >= 0]):
        rows = grain == g
        misled[rows] = columns["twin"][rows].sum() > columns["right"][rows].sum()
    return misled


def measure_crossing(before: dict, after: dict, grain: np.ndarray, shape: tuple) -> dict[str, int]:
    """Return how many positions crossed into another grain, and how many of them not beside it."""
    crossed = (after["elsewhere"] >= 0) & (after["elsewhere"] != before["elsewhere"])
    padded = np.pad(grain.reshape(shape), 1, constant_values=-1)
    ny, nx = shape
    beside = np.zeros(grain.size, bool)
    for dy in range(3):
        for dx in range(3):
            beside |= padded[dy : dy + ny, dx : dx + nx].ravel() == after["elsewhere"]
    return {"crossed": int(crossed.sum()), "crossed_far": int((crossed & ~beside).sum())}


def run_scan(bundle, options: argparse.Namespace, seed: int) -> dict[str, int]:
    """Index one scan both ways; return counts."""
    shape = (options.size, options.size)
    signal, truth = pyxem_nas.simulate_scan(
        bundle.phase_list, shape, bundle.acquisition, seed=seed, n_grains=options.n_grains,
        n_electrons=options.n_electrons,
    )  # fmt: skip
    phases = bundle.phases
    maps = [
        signal.index_phase_orientation(
            bundle, method=options.method, regularize=regularize, min_confidence=0,
            show_progressbar=False,
        )
        for regularize in (False, True)
    ]  # fmt: skip
    before, after = (compare_with_truth(xmap, truth, phases) for xmap in maps)
    grain = truth.prop["grain"]
    misled = find_misled(before, grain)
    either = before["right"] | before["twin"]
    counts = {"positions": int(before["indexed"].sum())}
    for name, columns in (("before", before), ("after", after)):
        counts[f"twin {name}"] = int(columns["twin"].sum())
        counts[f"elsewhere {name}"] = int((columns["twin"] & ~misled).sum())
        counts[f"wrong {name}"] = int((columns["indexed"] & ~columns["right"]).sum())
    counts["twin by grain"] = int((either & misled).sum())
    counts["spoilt"] = int((before["right"] & ~after["right"]).sum())
    counts["changed"] = int(maps[1].prop["regularized"].sum())
    return counts | measure_crossing(before, after, grain, shape)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--method", default="network", choices=["network", "hybrid"])
    parser.add_argument("--n-scans", type=int, default=8)
    parser.add_argument("--size", type=int, default=40, help="positions along each side")
    parser.add_argument("--n-grains", type=int, default=24)
    parser.add_argument("--n-electrons", type=float, default=1e4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    bundle = pyxem_nas.ModelBundle.load(options.bundle)
    scans = [run_scan(bundle, options, options.seed + k) for k in range(options.n_scans)]
    total = {name: sum(scan[name] for scan in scans) for name in scans[0]}
    lines = ["| scan | " + " | ".join(total) + " |", "| --- |" + " --- |" * len(total)]
    for name, counts in [*((str(k), scan) for k, scan in enumerate(scans)), ("all", total)]:
        lines.append(f"| {name} | " + " | ".join(str(v) for v in counts.values()) + " |")
    command = f"python benchmarks/regularization.py --bundle {options.bundle} "
    command += f"--method {options.method} --n-scans {options.n_scans} --size {options.size} "
    command += f"--n-grains {options.n_grains} --n-electrons {options.n_electrons:g}"
    notes = (
        "*Elsewhere*: not in grains that mostly give the twin. *By grain*: every position takes "
        "what most of its true grain say, right or twin."
    )
    text = f"# Neighbour-aware choice on simulated scans\n\n    {command}\n\n{notes}\n\n"
    text += "\n".join(lines) + "\n"
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "regularization.md").write_text(text)
    (options.output / "regularization.json").write_text(json.dumps(scans, indent=1) + "\n")


if __name__ == "__main__":
    main()
