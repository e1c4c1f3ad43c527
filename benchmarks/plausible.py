"""Whether the sets of plausible orientations keep their promise: the right one in 9 of 10 patterns.

    python benchmarks/plausible.py --bundle steel

The images of `accuracy.py`, the phase known, indexed with and without networks. One is covered
where one of its `n_plausible` first orientations is within 5 degrees of the truth. By phase, by
camera, and by quarter of difficulty, which is the probability of the first answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from accuracy import make_batches, make_signal
from bloch import PHASES
from report import _table, describe_run

from pyxem_nas import ModelBundle, plausible_orientations
from pyxem_nas.diffraction import disorientation_angles, laue_operations

METHODS = ("match", "hybrid")
N_BEST = 12
SETS = {
    "A, seven cameras": {"n_per_phase": 40, "cameras": None, "set": "patterns"},
    "B, dose sweep": {"n_per_phase": 20, "cameras": ["dose sweep"], "set": "patterns"},
    "C, precession": {"n_per_phase": 12, "cameras": None, "set": "precession"},
}


def index(batch, bundle: ModelBundle, method: str) -> dict[str, np.ndarray]:
    """Return of each pattern whether it is covered, the size of its set, and how sure it is."""
    columns = {"covered": np.zeros(len(batch.phase), bool)}
    columns |= {"size": np.zeros(len(batch.phase)), "sure": np.zeros(len(batch.phase))}
    for k, name in enumerate(PHASES):
        rows = np.flatnonzero(batch.phase == k)
        if not rows.size:
            continue
        part = batch.take(rows)
        xmap = make_signal(part).index_phase_orientation(
            bundle, phases=[name], center=part.centers, mask=part.mask, min_confidence=0,
            method=method, n_best=N_BEST, show_progressbar=False,
        )  # fmt: skip
        rotations, plausible = plausible_orientations(xmap)
        symmetry = laue_operations(bundle.phase_list[name])
        angles = np.stack(
            [disorientation_angles(q, part.rotations, symmetry)
             for q in rotations.data.transpose(1, 0, 2)], axis=1,
        )  # fmt: skip
        columns["covered"][rows] = ((angles <= 5) & plausible).any(axis=1)
        columns["size"][rows] = plausible.sum(axis=1)
        columns["sure"][rows] = xmap.prop["orientation_probability"]
    return columns


def measure(options: argparse.Namespace, bundles: dict[str, ModelBundle]) -> list[list[str]]:
    """Return the rows of the table."""
    rows = []
    for name, fields in SETS.items():
        batches = make_batches(
            argparse.Namespace(data=options.data, seed=0, use_mask=False, **fields)
        )
        phase = np.concatenate([batch.phase for batch in batches])
        camera = np.concatenate([[batch.camera.name] * len(batch.phase) for batch in batches])
        for method, bundle in bundles.items():
            parts = [index(batch, bundle, method) for batch in batches]
            found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            groups = {"all": np.ones(len(phase), bool)}
            groups |= {p: phase == k for k, p in enumerate(PHASES)}
            groups |= {c: camera == c for c in dict.fromkeys(camera)}
            quarter = np.argsort(np.argsort(found["sure"])) * 4 // len(phase)
            groups |= {f"quarter {q + 1} of difficulty": quarter == 3 - q for q in range(4)}
            for group, there in groups.items():
                covered, size = found["covered"][there], found["size"][there]
                rows.append(
                    [name, method, group, str(there.sum()), f"{100 * covered.mean():.1f}",
                     f"{size.mean():.2f}", f"{100 * (size == 1).mean():.0f}"]
                )  # fmt: skip
                print(*rows[-1], sep=" | ", flush=True)
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    bundle = ModelBundle.load(options.bundle)
    without = ModelBundle.from_phases(bundle.phase_list, bundle.acquisition)
    rows = measure(options, dict(zip(METHODS, (without, bundle), strict=True)))
    run = describe_run(options)
    head = ["set", "method", "patterns", "n", "covered / %", "mean size", "one will do / %"]
    text = (
        f"# Coverage of the plausible orientations\n\n{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\nThe promise is 90 %. Quarter 1 are the patterns with the surest "
        "first answers, by far more than 90 % right: their sets, which hold one orientation at "
        "least, cannot be smaller.\n\n" + _table(head, rows)
    )
    (options.output / "plausible.md").write_text(text)


if __name__ == "__main__":
    main()
