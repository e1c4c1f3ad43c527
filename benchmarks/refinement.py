"""Refine orientations of dynamical patterns: medians before and after, and patterns a second.

    python benchmarks/refinement.py --bundle steel --n-per-phase 70

Starts are the truth turned by normal deviates of 0.8 degrees about each axis, and the network's
candidates with the phase known. Whole maps go through `refine_orientations`, with and without the
fit of the distortion; the speed is that of `refine_candidates` on polar patterns, best of several
repeats by the clock, and by the processor time of all threads, which other work on the machine
disturbs less. Prints Markdown and writes it to ``benchmarks/results/refinement.md``.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accuracy import Batch, make_batches, make_signal
from bloch import PHASES, SETS
from orix.crystal_map import CrystalMap, PhaseList
from orix.quaternion import Rotation
from report import describe_run

from pyxem_nas import CalibrationFit, ModelBundle, fit_distortion, refine_orientations
from pyxem_nas.diffraction import disorientation_angles, laue_operations, multiply_quaternions
from pyxem_nas.indexing.candidates import select_candidates
from pyxem_nas.indexing.plan import get_specs
from pyxem_nas.indexing.predictor import get_predictor
from pyxem_nas.indexing.refinement import refine_candidates
from pyxem_nas.maps.crystal_map import best_rotations
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import Detector

SPREAD = 0.8  # degrees about each axis


@dataclass
class Result:
    """Angles in degrees of one camera's patterns, all of shape (n,)."""

    batch: Batch
    fit: CalibrationFit
    start: np.ndarray
    refined: np.ndarray
    fitted: np.ndarray
    network: np.ndarray  # the network's first candidate
    network_refined: np.ndarray
    network_fitted: np.ndarray
    candidates: np.ndarray  # (n, k, 4)
    polar: np.ndarray


# ------------------------------------------------------------------------- accuracy


def perturb(quaternions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return orientations turned by random small rotations."""
    half = np.deg2rad(SPREAD) / 2 * rng.standard_normal((len(quaternions), 3))
    small = np.concatenate([np.ones((len(half), 1)), half], axis=1)
    return multiply_quaternions(quaternions, small / np.linalg.norm(small, axis=1, keepdims=True))


def make_map(batch: Batch, quaternions: np.ndarray, bundle: ModelBundle) -> CrystalMap:
    """Return a map of one row of a batch's patterns."""
    by_name = {phase.name: phase for phase in bundle.phases}
    phases = PhaseList([by_name[name] for name in PHASES], ids=list(range(len(PHASES))))
    return CrystalMap(
        Rotation(quaternions), batch.phase, x=np.arange(len(quaternions)), phase_list=phases
    )


def measure(batch: Batch, quaternions: np.ndarray, bundle: ModelBundle) -> np.ndarray:
    """Return the disorientations from the truth."""
    angles = np.empty(len(quaternions))
    for k, name in enumerate(PHASES):
        rows = batch.phase == k
        group = laue_operations(bundle.phases[bundle.phase_names.index(name)])
        angles[rows] = disorientation_angles(quaternions[rows], batch.rotations[rows], group)
    return angles


def propose(batch: Batch, bundle: ModelBundle) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's candidates (n, k, 4), the phase being known, and polar patterns."""
    predictor = get_predictor(bundle)
    detector = Detector((144, 144), (batch.camera.scale,) * 2, mask=batch.mask)
    sampler = make_sampler(detector, *get_specs(bundle)[:2])
    descriptors, polar = compute_descriptors(batch.images, batch.centers, sampler)
    parts: dict[int, np.ndarray] = {}
    for k, name in enumerate(PHASES):
        phase_id = bundle.phase_names.index(name)
        rows = np.flatnonzero(batch.phase == k)
        logits, norms = predictor.run(f"orientation_{phase_id}", descriptors[rows])
        found, _ = select_candidates(logits, norms, bundle.cells[phase_id])
        parts |= dict(zip(rows.tolist(), found, strict=True))
    return np.stack([parts[i] for i in range(len(batch.phase))]), polar


def run_batch(batch: Batch, bundle: ModelBundle, rng: np.random.Generator) -> Result:
    """Refine one camera's patterns from both starts, with and without the fit."""
    signal = make_signal(batch)
    options = {
        "center": batch.centers,
        "mask": batch.mask,
        "acquisition": batch.acquisition,
    }
    candidates, polar = propose(batch, bundle)
    angles = []
    fit = None
    for start in (perturb(batch.rotations, rng), candidates[:, 0]):
        xmap = make_map(batch, start, bundle)
        plain = refine_orientations(signal, xmap, bundle, show_progressbar=False, **options)
        fit = fit or fit_distortion(signal, xmap, bundle, **options)
        better = refine_orientations(
            signal, xmap, bundle, distortion=fit.distortion, show_progressbar=False, **options
        )
        maps = (xmap, plain, better)
        angles += [measure(batch, best_rotations(m).data.reshape(-1, 4), bundle) for m in maps]
    return Result(batch, fit, *angles, candidates, polar)


# ------------------------------------------------------------------------- speed


def time_refinement(
    polar: np.ndarray, starts: np.ndarray, phase_id: int, bundle: ModelBundle, n_repeats: int
) -> tuple[float, float]:
    """Return the shortest seconds by the clock, and of processor time, that a call took."""
    predictor = get_predictor(bundle)
    clock, processor = [], []
    for repeat in range(n_repeats + 1):
        before = time.perf_counter(), time.process_time()
        refine_candidates(
            polar[: 8 if repeat == 0 else None], starts[: 8 if repeat == 0 else None],
            predictor.reflections, phase_id, spec=get_specs(bundle)[1],
            wavelength=bundle.acquisition.wavelength, precession_angle=0.7,
        )  # fmt: skip
        if repeat:
            clock.append(time.perf_counter() - before[0])
            processor.append(time.process_time() - before[1])
    return min(clock), min(processor)


def write_speed(results: list[Result], bundle: ModelBundle, n_repeats: int) -> str:
    """Return the table of speeds."""
    lines = [
        "| phase | candidates a pattern | patterns/s, clock | patterns/s of two busy cores |",
        "| --- | --- | --- | --- |",
    ]
    for k, name in enumerate(PHASES):
        rows = [np.flatnonzero(r.batch.phase == k) for r in results]
        polar = np.concatenate([r.polar[i] for r, i in zip(results, rows, strict=True)])
        found = np.concatenate([r.candidates[i] for r, i in zip(results, rows, strict=True)])
        # enough patterns for a time that can be taken
        copies = -(-1000 // len(polar))
        polar, found = np.tile(polar, (copies, 1, 1)), np.tile(found, (copies, 1, 1))
        for starts in (found[:, :1], found):
            seconds = time_refinement(
                polar, starts, bundle.phase_names.index(name), bundle, n_repeats
            )
            clock, processor = (len(polar) / s for s in seconds)
            mean = starts.any(axis=-1).sum(axis=1).mean()
            lines.append(f"| {name} | {mean:.1f} | {clock:.0f} | {2 * processor:.0f} |")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------- report


def _median(angles: np.ndarray) -> str:
    return f"{np.median(angles):.2f}" if len(angles) else "-"


def write_phases(results: list[Result]) -> str:
    """Return the table of medians by phase."""
    head = ["phase", "n", "start", "refined", "with fit", "network", "refined", "with fit"]
    lines = [head, ["---"] * len(head)]
    phase = np.concatenate([r.batch.phase for r in results])
    names = ("start", "refined", "fitted", "network", "network_refined", "network_fitted")
    columns = {name: np.concatenate([getattr(r, name) for r in results]) for name in names}
    for k, name in [*enumerate(PHASES), (None, "all")]:
        rows = np.full(len(phase), True) if k is None else phase == k
        found = rows & (columns["network"] < 5)
        line = [name, str(rows.sum())]
        line += [_median(columns[c][rows]) for c in names[:3]]
        lines.append(line + [_median(columns[c][found]) for c in names[3:]])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_cameras(results: list[Result]) -> str:
    """Return the table of medians and fits by camera."""
    head = ["camera", *(f"{name}: refined, with fit" for name in PHASES)]
    head += ["scale / %", "ellipticity / % (true)", "long axis / deg (true)"]
    head += ["centre / pixels", "correlation"]
    lines = [head, ["---"] * len(head)]
    for r in results:
        camera, fit = r.batch.camera, r.fit
        line = [camera.name]
        for k in range(len(PHASES)):
            rows = r.batch.phase == k
            line.append(f"{_median(r.refined[rows])}, {_median(r.fitted[rows])}")
        axis = f"{camera.ellipse_azimuth:.0f}" if camera.ellipticity else "-"
        line += [
            f"{100 * (fit.scale_factor - 1):+.2f}",
            f"{100 * fit.ellipticity:.2f} ({100 * camera.ellipticity:.0f})",
            f"{fit.azimuth:.0f} ({axis})",
            f"{fit.center_shift[0]:+.2f}, {fit.center_shift[1]:+.2f}",
            f"{fit.correlation_before:.3f} to {fit.correlation_after:.3f}",
        ]
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_report(run: dict, results: list[Result], speed: str) -> str:
    """Return the whole report as Markdown."""
    machine = run["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    text = f"# Refinement on dynamical patterns\n\n{run['date']}, commit {run['commit']}, "
    text += f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f} at the end. "
    text += f"{versions}.\n\n    {run['command']}\n\n"
    text += "Median disorientation in degrees. *start* is the truth turned by about "
    text += f"{SPREAD} degrees about each axis; *network* the network's best cell, of patterns "
    text += "for which that is within 5 degrees. *with fit*: scale and ellipticity fitted to each "
    text += "camera's patterns from the first start. Rod width and intensity exponent were "
    text += "chosen by simulations (refinement_settings.md).\n\n"
    text += write_phases(results) + "\n" + write_cameras(results)
    text += "\nThe scale is right on average in every camera; centres are off by up to half a "
    text += "pixel, each pattern its own way.\n\n"
    text += "Speed of the refinement alone, all cameras' patterns. Best of the repeats: by the "
    text += "clock, which other work on the machine slows down, and what two cores would do by "
    text += f"the processor time.\n\n{speed}"
    return text


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel", help="name or path of a bundle")
    parser.add_argument("--n-per-phase", type=int, default=70, help="patterns a phase and camera")
    parser.add_argument("--cameras", nargs="+", help="names from cameras.py; default: all")
    parser.add_argument("--set", choices=list(SETS), default="patterns", help="which Bloch waves")
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5, help="of each timing")
    parser.add_argument("--use-mask", action="store_true", help="tell the beam stop")
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    options = parse_options(arguments)
    try:
        batches = make_batches(options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"refinement.py: {error}")
    bundle = ModelBundle.load(options.bundle)
    rng = np.random.default_rng(options.seed)
    results = [run_batch(batch, bundle, rng) for batch in batches]
    speed = write_speed(results, bundle, options.repeats)
    report = write_report(describe_run(options), results, speed)
    print(report)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "refinement.md").write_text(report)


if __name__ == "__main__":
    main()
