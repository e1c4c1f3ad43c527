"""Index dynamical patterns of known phase and orientation by several methods, on the same images.

    python benchmarks/accuracy.py --bundle steel --n-per-phase 70

Prints a Markdown table and writes it, with all figures as JSON, to ``benchmarks/results``. The
methods "template" are the peer, with a blurred and a sharp polar grid: pyxem's matcher on a 1
degree grid over all templates (``frac_keep=1``), background removed, square root of counts.
The others go through ``s.index_phase_orientation``; "phase by physics" is "network + refinement"
with the phase network taken out of the bundle; "match" is without any network. All get the same
images and the same centres.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from bloch import PHASES, SETS, draw_images, load_bloch
from cameras import Camera, get_cameras
from figures import draw_figures
from report import describe_run, write_report
from scores import collect_answers, collect_truth, describe_few_spots, score_all

from pyxem_nas import ModelBundle
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.indexing.template_matching import get_template_library, match_templates
from pyxem_nas.maps.crystal_map import NOT_INDEXED, best_rotations
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import DescriptorSpec, Detector
from pyxem_nas.scans.specimens import example_phases

if TYPE_CHECKING:
    from pyxem.signals import ElectronDiffraction2D

_logger = logging.getLogger("accuracy")

#: What each method asks of ``s.index_phase_orientation``; "template" does not go through it.
METHODS = {
    "template": None,
    "template, sharp": None,
    "package template": {"method": "template", "refine": False},
    "network": {"method": "network", "refine": False},
    "network + refinement": {"method": "network", "refine": True},
    "hybrid": {"method": "hybrid", "refine": True},
    "match": {"method": "match", "refine": True},
    "match, fast": {"method": "match", "refine": False},
    "hybrid, then templates": {"method": "hybrid", "template_threshold": 0.6},
    "phase by physics": {"method": "network", "refine": True},
    "network, float32": {"method": "network", "refine": False, "precision": "float32"},
    "refinement, float32": {"method": "network", "refine": True, "precision": "float32"},
}
PEER_SPEC = DescriptorSpec(n_radial=80, n_azimuthal=360, radial_range=(0.15, 1.8), blur=0.02)
#: The peer's polar grid with and without a blur: which serves it better depends on the phase.
PEER_SPECS = {"template": PEER_SPEC, "template, sharp": dataclasses.replace(PEER_SPEC, blur=0.0)}


@dataclass
class Batch:
    """Images of one camera and one precession angle, all phases."""

    camera: Camera
    acquisition: Acquisition
    images: np.ndarray  # (n, 144, 144), uint8
    centers: np.ndarray  # (n, 2), column and row
    mask: np.ndarray | None  # (144, 144), True is left out
    phase: np.ndarray  # (n,), index into PHASES
    rotations: np.ndarray  # (n, 4)
    thickness: np.ndarray  # (n,), angstrom
    too_few_spots: np.ndarray  # (n,), bool

    def take(self, rows: np.ndarray) -> Batch:
        """Return the batch of some rows."""
        names = ("images", "centers", "phase", "rotations", "thickness", "too_few_spots")
        fields = {name: getattr(self, name)[rows] for name in names}
        return Batch(self.camera, self.acquisition, mask=self.mask, **fields)


@dataclass
class Answers:
    """What one method says of n patterns."""

    phase: np.ndarray  # (n,), index into PHASES, -1 is none; of all phases
    phase_probability: np.ndarray  # (n,)
    quaternions: np.ndarray  # (n, 4); the phase being known
    rejected: np.ndarray  # (n,), bool: no orientation although the phase is known
    orientation_probability: np.ndarray  # (n,); the phase being known
    seconds: float  # of indexing with all phases


# ------------------------------------------------------------------------- images


def make_batches(options: argparse.Namespace) -> list[Batch]:
    """Draw all images."""
    batches = []
    for i, camera in enumerate(get_cameras(options.cameras)):
        columns = []
        for k, phase in enumerate(PHASES):
            # other patterns for each camera, while there are any: intervals assume independence
            patterns = load_bloch(
                phase, options.n_per_phase, start=i * options.n_per_phase, which=options.set,
                folder=options.data, seed=options.seed,
            )  # fmt: skip
            images = draw_images(patterns, camera, options.seed)
            n = len(images.data)
            columns.append(
                (images.data, images.centers, np.full(n, k), patterns.rotations,
                 patterns.thickness, images.too_few_spots, patterns.precession)
            )  # fmt: skip
        *fields, precession = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        mask = images.mask if options.use_mask and images.mask.any() else None
        whole = Batch(camera, Acquisition(), *fields[:2], mask, *fields[2:])
        for angle in np.unique(precession):
            batch = whole.take(np.flatnonzero(precession == angle))
            batch.acquisition = Acquisition(200, round(float(angle), 4))
            batches.append(batch)
    return batches


# ------------------------------------------------------------------------- methods


def match_by_templates(batch: Batch, spec: DescriptorSpec = PEER_SPEC) -> Answers:
    """Index by pyxem's matcher: a full search of all phases, best scalar product first."""
    detector = Detector((144, 144), (batch.camera.scale,) * 2, mask=batch.mask)
    sampler = make_sampler(detector, spec)
    phase_list = example_phases("steel")
    libraries = [get_template_library(phase_list[name], batch.acquisition) for name in PHASES]
    start = time.perf_counter()
    (polar,) = compute_descriptors(batch.images, batch.centers, sampler)
    matches = [match_templates(polar, spec.radii, library) for library in libraries]
    seconds = time.perf_counter() - start
    quaternions = np.stack([q[:, 0] for q, _ in matches])
    scores = np.stack([s[:, 0] for _, s in matches])
    n = len(batch.phase)
    return Answers(
        phase=scores.argmax(axis=0),
        phase_probability=np.full(n, np.nan),
        quaternions=quaternions[batch.phase, np.arange(n)],
        rejected=np.zeros(n, bool),
        orientation_probability=np.full(n, np.nan),
        seconds=seconds,
    )


def make_signal(batch: Batch) -> ElectronDiffraction2D:
    """Return the images as a calibrated signal with one navigation axis."""
    from pyxem.signals import ElectronDiffraction2D

    signal = ElectronDiffraction2D(batch.images)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = batch.camera.scale, "$A^{-1}$"
    signal.set_experimental_parameters(
        beam_energy=batch.acquisition.beam_energy,
        rocking_angle=float(1000 * np.deg2rad(batch.acquisition.precession_angle)),
    )
    return signal


def index_by_package(batch: Batch, bundle: ModelBundle, names: list[str], arguments: dict) -> dict:
    """Index a batch by the package, rejection off; the only place that calls the signal method.

    Returns
    -------
    columns
        `phase` (n,), names, "" is none; `quaternions` (n, 4); the two probabilities (n,).
    """
    xmap = make_signal(batch).index_phase_orientation(
        bundle, phases=names, center=batch.centers, mask=batch.mask, min_confidence=0,
        show_progressbar=False, **arguments,
    )  # fmt: skip
    known = {int(i): phase.name for i, phase in xmap.phases if i != NOT_INDEXED}
    phase = np.array([known.get(int(i), "") for i in xmap.phase_id])
    columns = {"phase": phase, "quaternions": best_rotations(xmap).data.reshape(-1, 4)}
    for name in ("phase_probability", "orientation_probability"):
        columns[name] = np.asarray(xmap.prop[name], float)
    return columns


def match_by_package(batch: Batch, bundle: ModelBundle, arguments: dict) -> Answers:
    """Index with all phases for the phase, and with each pattern's phase for the orientation."""
    start = time.perf_counter()
    every = index_by_package(batch, bundle, list(PHASES), arguments)
    seconds = time.perf_counter() - start
    n = len(batch.phase)
    known = {
        "quaternions": np.zeros((n, 4)),
        "orientation_probability": np.full(n, np.nan),
        "phase": np.full(n, "", dtype=object),
    }
    for k, name in enumerate(PHASES):
        rows = np.flatnonzero(batch.phase == k)
        if rows.size:
            columns = index_by_package(batch.take(rows), bundle, [name], arguments)
            for key, values in known.items():
                values[rows] = columns[key]
    return Answers(
        phase=np.array([PHASES.index(p) if p in PHASES else -1 for p in every["phase"]]),
        phase_probability=every["phase_probability"],
        quaternions=known["quaternions"],
        rejected=known["phase"] == "",
        orientation_probability=known["orientation_probability"],
        seconds=seconds,
    )


def run_method(name: str, batches: list[Batch], bundle: ModelBundle) -> list[Answers]:
    """Return the answers to every batch, after a warm-up that is not timed."""
    few = batches[0].take(np.arange(0, len(batches[0].phase), 7)[:4])
    chosen = bundle
    if name == "phase by physics":
        models = {key: m for key, m in bundle.models.items() if key != "phase"}
        chosen = dataclasses.replace(bundle, models=models, pattern_spec=None)
    if name.startswith("match"):
        chosen = ModelBundle.from_phases(bundle.phase_list, bundle.acquisition)
    index = (
        (lambda batch: match_by_templates(batch, PEER_SPECS[name]))
        if METHODS[name] is None
        else lambda batch: match_by_package(batch, chosen, METHODS[name])
    )
    index(few)
    answers = []
    for batch in batches:
        answers.append(index(batch))
        rate = len(batch.phase) / answers[-1].seconds
        _logger.info("%s, camera %r: %.1f patterns/s", name, batch.camera.name, rate)
    return answers


# ------------------------------------------------------------------------- command line


def save_results(
    folder: Path, stem: str, report: str, results: dict, truth: dict, found: dict
) -> None:
    """Write the report, its pictures, the figures and the patterns one by one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.md").write_text(report)
    (folder / f"{stem}.json").write_text(json.dumps(_without_nan(results), indent=1) + "\n")
    for name, figure in draw_figures(truth, found).items():
        figure.savefig(folder / f"{stem}_{name}.png", dpi=110)
    columns = dict(truth)
    for method, values in found.items():
        columns |= {f"{method}: {name}": column for name, column in values.items()}
    np.savez_compressed(folder / f"{stem}_patterns.npz", **columns)


def _without_nan(value: object) -> object:
    """Return nested values with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel", help="name or path of a bundle")
    parser.add_argument("--n-per-phase", type=int, default=70, help="patterns a phase and camera")
    parser.add_argument("--cameras", nargs="+", help="names from cameras.py, or dose sweep")
    default = ["template", "template, sharp", "network", "network + refinement", "match", "hybrid"]
    default += ["phase by physics"]
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=default)
    parser.add_argument("--set", choices=list(SETS), default="patterns", help="which Bloch waves")
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="of the files written; default: of the set")
    parser.add_argument("--use-mask", action="store_true", help="tell the methods the beam stop")
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    options = parse_options(arguments)
    logging.basicConfig(format="%(message)s")
    _logger.setLevel(logging.INFO)
    try:
        batches = make_batches(options)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"accuracy.py: {error}")
    truth = collect_truth(batches)
    few = truth["too_few_spots"][truth["phase"] == PHASES.index("ferrite")].mean()
    n = len(truth["phase"])
    _logger.info("%d images; of ferrite's, %.1f %% show too few spots", n, 100 * few)
    bundle = ModelBundle.load(options.bundle)
    found, seconds = {}, {}
    for name in options.methods:
        answers = run_method(name, batches, bundle)
        found[name] = collect_answers(answers, truth)
        seconds[name] = sum(a.seconds for a in answers)
    scores, few_spots = score_all(truth, found, seconds), describe_few_spots(truth, found)
    run = describe_run(options)
    report = write_report(run, scores, few_spots)
    print(report)
    cameras = [asdict(camera) for camera in get_cameras(options.cameras)]
    results = {"run": run, "cameras": cameras, "scores": scores, "few_spots": few_spots}
    stem = "accuracy" if options.set == "patterns" else f"accuracy_{options.set}"
    stem = options.name or stem
    save_results(options.output, stem, report, results, truth, found)


if __name__ == "__main__":
    main()
