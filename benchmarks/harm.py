"""Where the networks help and where they harm, one axis of specimen and camera at a time.

    python benchmarks/harm.py --bundle steel

Patterns are simulated by Bloch waves of our own, in orientations that nothing was trained on, with
one camera of which one property is changed. Compared on the same patterns, the phase known: refined
matching, the network with refinement, and hybrid, which is both; and what the network says of
itself. Nothing here is from the sets that `accuracy.py` reports.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from report import _table, describe_run

from pyxem_nas import ModelBundle, Randomization
from pyxem_nas.diffraction import (
    SpotLibrary,
    disorientation_angles,
    draw_dynamical_spots,
    get_reflections,
    laue_operations,
)
from pyxem_nas.indexing import (
    Described,
    get_predictor,
    get_refinement_spec,
    get_specs,
    make_plan,
    mark_unseen,
    orient,
)
from pyxem_nas.maps.statistics import paired_interval
from pyxem_nas.patterns import Detector, make_sampler
from pyxem_nas.scans.source import DescriptorSource

METHODS = ("match", "network", "hybrid")
N_ORIENTATIONS, N_THICKNESSES = 400, 6  # of each phase and precession angle
N_PIXELS = 112
SEED = 77
PRECESSION = 0.7  # degrees, where it is not the axis
#: The camera, as ranges of `Randomization`; the scale is that of a detector of 112 pixels.
CAMERA = {
    "dynamical_share": 1.0, "scale": 0.028, "spot_width": 0.036, "scale_error": 0.0,
    "ellipticity": 0.0, "center_error": 0.25, "dose": 3e4, "background": 1.0,
    "background_decay": 0.3, "halo_share": 0.1, "direct_beam": 10.0, "gamma": 0.7,
    "saturation": 0.6, "beam_stop": 0.0, "overlap_share": 0.0, "intensity_jitter": 0.0,
    "spot_loss": 0.0, "weak_cutoff": 1e-4, "max_spots": 300.0,
}  # fmt: skip
AXES = {
    "scale": (0.016, 0.020, 0.024, 0.028, 0.034),
    "precession": (0.0, 0.3, 0.7, 1.0),
    "dose": (300.0, 1e3, 3e3, 1e4, 3e5),
    "thickness": ((100.0, 300.0), (300.0, 500.0), (500.0, 900.0)),
    "spot_width": (0.018, 0.055),
    "gamma": (0.5, 1.0),
    "saturation": (0.3, 2.0),
    "background": (0.1, 4.0),
    "center_error": (0.0, 0.5, 1.0),
    "ellipticity": (0.01, 0.02),
    "scale_error": (-0.01, 0.01),
    "overlap_weight": (0.3, 0.6),
}


def draw_library(bundle: ModelBundle, angle: float, thickness: tuple[float, float]) -> SpotLibrary:
    """Return dynamical spots of all phases at one precession angle."""
    return SpotLibrary(
        [
            draw_dynamical_spots(
                phase, N_ORIENTATIONS, bundle.acquisition,
                np.random.default_rng((SEED, k, round(10 * angle))), thickness=thickness,
                precession_angle=(angle, angle), n_thicknesses=N_THICKNESSES,
            )
            for k, phase in enumerate(bundle.phases)
        ]
    )  # fmt: skip


def simulate(bundle, library, k, angle, ranges, n) -> tuple[Described, np.ndarray, np.ndarray]:
    """Return patterns of a phase as described, their orientations, and the beams' positions."""
    acquisition = dataclasses.replace(bundle.acquisition, precession_angle=angle)
    specs = (bundle.spec, get_refinement_spec(bundle.spec))
    stacks = [
        DescriptorSource(
            get_reflections(bundle.phases), len(bundle.phases), acquisition, spec, ranges, library
        ).simulate(n, np.random.default_rng((SEED, k, 1)), phase_id=k)
        for spec in specs  # the same seed: the same patterns, described twice
    ]
    sampler = make_sampler(Detector((N_PIXELS, N_PIXELS), ranges.scale), *get_specs(bundle))
    centers = np.full((n, 2), 0.5 * (N_PIXELS - 1))
    polar = mark_unseen(stacks[1][0], centers, sampler, specs[1])
    plan = make_plan(bundle, sampler, method="hybrid", acquisition=acquisition).see(centers)
    return Described(stacks[0][0], polar, bundle.spec), stacks[0][2], plan


def judge(bundle: ModelBundle, axis: str, value, n: int, libraries: dict) -> dict:
    """Return what is right by each method, (n_phases, n), and the network's mean probability."""
    angle = value if axis == "precession" else PRECESSION
    thickness = value if axis == "thickness" else (100.0, 900.0)
    if (angle, thickness) not in libraries:
        libraries[angle, thickness] = draw_library(bundle, angle, thickness)
    fields = {name: (v, v) for name, v in CAMERA.items()} | {"precession_angle": (angle, angle)}
    if axis == "overlap_weight":
        fields["overlap_share"] = (1.0, 1.0)
    if axis not in ("precession", "thickness"):
        fields[axis] = (value, value)
    ranges = Randomization(**fields)
    right = {name: [] for name in (*METHODS, "said")}
    for k, phase in enumerate(bundle.phases):
        described, truth, plan = simulate(bundle, libraries[angle, thickness], k, angle, ranges, n)
        for method in METHODS:
            chosen = dataclasses.replace(plan, branches=(method,) * len(bundle.phases))
            answers = orient(get_predictor(bundle), k, described, chosen)
            found = answers["quaternions"][:, 0]
            right[method].append(disorientation_angles(found, truth, laue_operations(phase)) <= 5)
            if method == "network":
                right["said"].append(answers["probability"][:, 0])
    return {name: np.stack(parts) for name, parts in right.items()}


def describe(axis: str, value, found: dict, names: list[str]) -> list[str]:
    """Return a row of the table."""
    told = "base" if axis == "base" else f"{axis} {value}"
    cells = [told]
    for k in range(len(names)):
        difference, low, high = (
            100 * v for v in paired_interval(found["hybrid"][k], found["match"][k])
        )
        share = 100 * found["match"][k].mean()
        cells.append(f"{share:.1f}, {difference:+.1f} ({low:+.1f} to {high:+.1f})")
    network = 100 * found["network"].mean(axis=1)
    said = 100 * found["said"].mean(axis=1)
    cells.append(", ".join(f"{a:.0f} ({b:.0f})" for a, b in zip(network, said, strict=True)))
    return cells


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--n", type=int, default=600, help="patterns a phase and setting")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    bundle, libraries, rows = ModelBundle.load(options.bundle), {}, []
    settings = [("base", None), *((axis, v) for axis, values in AXES.items() for v in values)]
    for axis, value in settings:
        chosen = ("gamma", CAMERA["gamma"]) if axis == "base" else (axis, value)
        found = judge(bundle, *chosen, options.n, libraries)
        rows.append(describe(axis, value, found, bundle.phase_names))
        print(*rows[-1], sep=" | ", flush=True)
    run = describe_run(options)
    head = ["camera", *(f"{name}: match, hybrid - match" for name in bundle.phase_names)]
    head.append("network, refined (what it says of itself)")
    text = (
        f"# Where the networks help and harm\n\n{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\n{options.n} patterns a phase and camera, dynamical, of our own "
        f"simulation; base: {', '.join(f'{k} {v:g}' for k, v in CAMERA.items() if v)}, precession "
        f"{PRECESSION:g} degrees. Within 5 degrees, %, the phase known, and the difference in "
        "points with its 95 % interval. Rows share orientations and noise.\n\n" + _table(head, rows)
    )
    (options.output / "harm.md").write_text(text)


if __name__ == "__main__":
    main()
