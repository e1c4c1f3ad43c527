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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accuracy import METHODS, PEER_SPECS, Answers, Batch, match_by_package, match_by_templates
from bloch import PHASES, SIZE, BlochPatterns, draw_images, load_bloch
from cameras import Camera
from report import _percent, _table, describe_run
from scipy.spatial import cKDTree

from pyxem_nas import Architecture, ModelBundle, example_phases, fine_tune
from pyxem_nas.crystal_map import make_crystal_map
from pyxem_nas.descriptors import (
    DescriptorSpec,
    Detector,
    PatternSpec,
    compute_descriptors,
    make_sampler,
)
from pyxem_nas.dynamical import draw_dynamical_spots
from pyxem_nas.evaluation import disorientation_angles, paired_interval
from pyxem_nas.network_tuning import jitter_intensities, turn_descriptors
from pyxem_nas.networks import (
    PatternArchitecture,
    build_euler_head,
    build_orientation_network,
    build_phase_network,
    build_trunk,
)
from pyxem_nas.orientation import laue_proper_group, make_cells, multiply_quaternions
from pyxem_nas.search import SearchSettings, search_phase_architecture
from pyxem_nas.simulation import Acquisition, get_reflections
from pyxem_nas.training import (
    DescriptorSource,
    TrainingSettings,
    _train,
    cell_labels,
    euler_targets,
)

if TYPE_CHECKING:
    import keras

_logger = logging.getLogger("paper_study")

#: One microscope took all scans; within the ranges of the shipped bundle's training.
CAMERA = Camera(
    "study", 0.024, 1.9, 20_000, 0.8, 0.3, 0.6, 0.6, 1.0, ellipticity=0.02, ellipse_azimuth=35.0
)
ACQUISITION = Acquisition(200, 0.7)
SPECS = (DescriptorSpec(), PatternSpec())
_CHUNK = 1000  # patterns drawn at a time
_BATCH = 32  # of the few measured patterns


# ------------------------------------------------------------------------- scans


@dataclass
class Scan:
    """One pseudo-experimental scan with its truth, positions in one row."""

    shape: tuple[int, int]
    images: np.ndarray  # (n, 144, 144), uint8
    centers: np.ndarray  # (n, 2), column and row, as the methods are told
    phase: np.ndarray  # (n,), index into PHASES
    grain: np.ndarray  # (n,)
    rotations: np.ndarray  # (n, 4)
    n_overlaps: int  # positions that two grains share

    def take(self, rows: np.ndarray) -> Batch:
        """Return some positions as the accuracy benchmark's methods take them."""
        nothing = np.zeros(len(rows))
        return Batch(
            CAMERA, ACQUISITION, self.images[rows], self.centers[rows], None, self.phase[rows],
            self.rotations[rows], nothing, nothing.astype(bool),
        )  # fmt: skip


def make_scan(options: argparse.Namespace, number: int, folder: Path) -> Scan:
    """Draw scan `number`, or read it if it was drawn; no two scans share an orientation."""
    key = f"scan_{number}_{options.shape[0]}x{options.shape[1]}_{options.n_grains}_{options.seed}"
    images_path, truth_path = folder / f"{key}.npy", folder / f"{key}.npz"
    if truth_path.exists():  # written last
        with np.load(truth_path) as truth:
            return Scan(tuple(options.shape), np.load(images_path, mmap_mode="r"), **truth)
    rng = np.random.default_rng([options.seed, number])
    ny, nx = options.shape
    n_grains = options.n_grains
    patterns = [get_patterns(name, number, options) for name in PHASES]
    points = np.stack(np.meshgrid(range(ny), range(nx), indexing="ij"), -1).reshape(-1, 2)
    seeds = rng.uniform(0, 1, (len(PHASES) * n_grains, 2)) * [ny, nx]
    distance, nearest = cKDTree(seeds).query(points, k=2)
    # the beam is about as wide as a step: near a boundary two grains give their share
    share = np.clip(0.5 + 0.5 * (distance[:, 1] - distance[:, 0]), 0, 1)
    grain = nearest[:, 0]
    phase, member = np.divmod(nearest, n_grains)
    images = np.lib.format.open_memmap(images_path, "w+", np.uint8, (ny * nx, SIZE, SIZE))
    centers = np.empty((ny * nx, 2))
    rotations = np.empty((ny * nx, 4))
    for start in range(0, ny * nx, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, ny * nx))
        spots = [
            _mix([patterns[phase[i, j]].spots[member[i, j]] for j in (0, 1)], share[i])
            for i in rows
        ]
        rotations[rows] = [patterns[phase[i, 0]].rotations[member[i, 0]] for i in rows]
        nothing = np.zeros(len(rows))
        drawn = draw_images(
            BlochPatterns(f"scan {number}, {start}", rotations[rows], spots, nothing, nothing),
            CAMERA, options.seed,
        )  # fmt: skip
        images[rows], centers[rows] = drawn.data, drawn.centers
    truth = {
        "centers": centers, "phase": phase[:, 0], "grain": grain, "rotations": rotations,
        "n_overlaps": int((share < 1).sum()),
    }  # fmt: skip
    np.savez(truth_path, **truth)
    return Scan((ny, nx), images, **truth)


def get_patterns(name: str, number: int, options: argparse.Namespace) -> BlochPatterns:
    """Return the Bloch-wave patterns of the grains of one phase of one scan.

    Those of ``shared/data``, by another program than ours; without that folder our own.
    """
    n = options.n_grains
    try:
        return load_bloch(name, n, start=number * n, folder=options.data, seed=options.seed)
    except FileNotFoundError:
        rng = np.random.default_rng([options.seed, 27, number, PHASES.index(name)])
        angle = (ACQUISITION.precession_angle,) * 2
        drawn = draw_dynamical_spots(
            example_phases("steel")[name], n, ACQUISITION, rng, precession_angle=angle,
            n_thicknesses=1,
        )  # fmt: skip
    spots = []
    for start, stop in zip(drawn.bounds[:-1], drawn.bounds[1:], strict=True):
        xy, intensity = drawn.positions[start:stop], drawn.intensities[start:stop, :1]
        direct = [[0, 0, max(1 - intensity.sum(), 0)]]
        spots.append(np.concatenate([direct, np.column_stack([xy, intensity])]).astype(float))
    return BlochPatterns(
        name, drawn.quaternions, spots, drawn.thickness[:, 0], drawn.precession_angle
    )


def _mix(spots: list[np.ndarray], share: float) -> np.ndarray:
    """Return the spots of two crystals, the first with a share of the diffracted electrons."""
    parts = []
    for rows, weight in zip(spots, (share, 1 - share), strict=True):
        if weight > 0:
            diffracted = np.hypot(rows[:, 0], rows[:, 1]) > 1e-3
            parts.append(rows * [1, 1, weight / rows[diffracted, 2].sum()])
    return np.concatenate(parts)


@dataclass
class Measured:
    """Descriptors and Cartesian patterns of some positions of the scans."""

    descriptors: np.ndarray  # (n, n_radial, n_azimuthal)
    patterns: np.ndarray  # (n, size, size)
    phase: np.ndarray
    grain: np.ndarray  # of all scans, numbered through
    rotations: np.ndarray
    positions: np.ndarray  # in their scan
    seconds: float  # of the descriptors, for each pattern

    def rows_of_phase(self, k: int) -> np.ndarray:
        """Return the rows of a phase."""
        return np.flatnonzero(self.phase == k)


def describe(scans: list[Scan], n: int, rng: np.random.Generator) -> Measured:
    """Compute the inputs of networks for n positions drawn at random from each scan."""
    sampler = make_sampler(Detector((SIZE, SIZE), (CAMERA.scale,) * 2), *SPECS)
    columns, seconds, n_before = [], 0.0, 0
    for scan in scans:
        rows = np.sort(rng.permutation(len(scan.phase))[:n])
        images = scan.images[rows]
        compute_descriptors(images[:8], scan.centers[rows[:8]], sampler)  # compiles
        started = time.perf_counter()
        inputs = compute_descriptors(images, scan.centers[rows], sampler)
        seconds += time.perf_counter() - started
        columns.append((*inputs, scan.phase[rows], n_before + scan.grain[rows],
                        scan.rotations[rows], rows))  # fmt: skip
        n_before += scan.grain.max() + 1
    fields = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    return Measured(*fields, seconds / len(fields[0]))


def split(measured: Measured, by: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to train on and 30 % to validate on, drawn by "position" or by "grain"."""
    held = np.zeros(len(measured.phase), bool)
    if by == "position":
        held[rng.permutation(len(held))[: round(0.3 * len(held))]] = True
    else:
        for k in range(len(PHASES)):
            grains = np.unique(measured.grain[measured.phase == k])
            chosen = rng.permutation(grains)[: max(1, round(0.3 * len(grains)))]
            held |= np.isin(measured.grain, chosen)
    return np.flatnonzero(~held), np.flatnonzero(held)


# ------------------------------------------------------------------------- phase networks


#: Row of the table: what the network takes, and whether it is turned at random in training.
PHASE_NETWORKS = {
    "Cartesian patterns": ("patterns", False),
    "Cartesian patterns, random rotations": ("patterns", True),
    "descriptors": ("descriptors", False),
}


def study_phases(
    learn: Measured, test: Measured, options: argparse.Namespace, folder: Path
) -> dict[str, dict[str, Any]]:
    """Search and train the phase networks on measured patterns; return a row for each."""
    rows = {}
    for title, (inputs, rotate) in PHASE_NETWORKS.items():
        architecture = _find_architecture(title, inputs, rotate, learn, options, folder)
        for by in ("position", "grain"):
            training, held = split(learn, by, np.random.default_rng([options.seed, 21]))
            x = getattr(learn, inputs)
            model = _train_phase(architecture, x[training], learn.phase[training], options)
            answers, seconds = _run(model, getattr(test, inputs))
            validation = _run(model, x[held])[0].argmax(axis=1) == learn.phase[held]
            phase = answers.argmax(axis=1)
            rows[f"phase network, {title}, validated by {by}"] = {
                "validation": float(validation.mean()),
                "phase": float((phase == test.phase).mean()),
                "patterns_per_second": 1 / (seconds + test.seconds),
                "architecture": architecture.to_dict(),
                "n_phase": len(phase),
                "answers": phase,
            }
            _logger.info("%s by %s: validation %.3f, test %.3f", title, by, validation.mean(),
                         (phase == test.phase).mean())  # fmt: skip
    return rows


def _find_architecture(title, inputs, rotate, learn, options, folder):
    """Return the architecture that AutoKeras finds on the measured patterns, as the paper does."""
    spec = SPECS[0] if inputs == "descriptors" else SPECS[1]
    if not options.trials:
        return Architecture(width=32) if spec is SPECS[0] else PatternArchitecture(rotate=rotate)
    x = getattr(learn, inputs)
    training, held = split(learn, "position", np.random.default_rng([options.seed, 22]))
    phases = [phase for _, phase in example_phases("steel")]
    # its phases are all there is: nothing stands for none of these
    source = DescriptorSource(get_reflections(phases), len(PHASES) - 1, ACQUISITION, spec)
    report = search_phase_architecture(
        source,
        SearchSettings(options.trials, 2, seed=options.seed, batch_size=_BATCH),
        folder / title.replace(" ", "_").replace(",", ""),
        rotate=rotate,
        measured=(x[training], learn.phase[training], x[held], learn.phase[held]),
        report=_logger.info,
    )
    if inputs == "descriptors":
        return report.architecture
    return report.get_pattern_architecture(rotate)


def _train_phase(architecture, x, y, options) -> keras.Model:
    import keras

    keras.utils.set_random_seed(options.seed)
    model = build_phase_network(architecture, x.shape[1:], len(PHASES))
    settings = TrainingSettings(
        n_samples=options.epochs * len(x), samples_per_epoch=len(x), seed=options.seed,
        batch_size=_BATCH, learning_rate=1e-3,
    )  # fmt: skip

    def make_batch(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = rng.integers(0, len(x), n)
        return x[rows], y[rows].astype(np.int32)

    _train(model, make_batch, settings, None, _logger.debug, top_k=1)
    return model


def _run(model: keras.Model, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a network's outputs and its seconds for a pattern, compiled before."""
    batch = 128
    whole = np.concatenate([inputs, inputs[: -len(inputs) % batch]])
    model.predict(whole[:batch], batch_size=batch, verbose=0)
    started = time.perf_counter()
    outputs = model.predict(whole, batch_size=batch, verbose=0)
    return outputs[: len(inputs)], (time.perf_counter() - started) / len(whole)


# ------------------------------------------------------------------------- orientation networks


def study_orientations(
    learn: Measured, test: Measured, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Train Euler angles and cells alike, on simulations, then on measured patterns."""
    columns: dict[str, list] = {}
    training, held = split(learn, "grain", np.random.default_rng([options.seed, 23]))
    phase_list = example_phases("steel")
    phases = [phase_list[name] for name in PHASES]
    source = DescriptorSource(get_reflections(phases), len(PHASES), ACQUISITION, SPECS[0])
    for k, phase in enumerate(phases):
        cells, group = make_cells(phase), laue_proper_group(phase)
        for target in ("Euler angles", "cells"):
            model = _build(target, cells, options.seed + k)

            def judge(rows: np.ndarray, of: Measured, model=model, target=target, cells=cells,
                      group=group) -> tuple[np.ndarray, float]:  # fmt: skip
                outputs, seconds = _run(model, of.descriptors[rows])
                answers = _decode(target, outputs, cells)
                return disorientation_angles(answers, of.rotations[rows], group), seconds

            mine = [rows[learn.phase[rows] == k] for rows in (training, held)]
            wanted = test.rows_of_phase(k)
            _train_simulated(model, target, source, cells, k, options)
            for tuned in (False, True):
                if tuned:
                    _tune_measured(model, target, source, cells, k, learn, mine[0], options)
                angles, seconds = judge(wanted, test)
                name = f"{target}, {options.n_samples} simulations{', tuned' if tuned else ''}"
                columns.setdefault(name, []).append(
                    (wanted, angles, judge(mine[1], learn)[0], seconds)
                )
                _logger.info("%s of %s: %.3f within 5 deg", name, phase.name, (angles < 5).mean())
    rows = {}
    for name, parts in columns.items():
        angle = np.empty(len(test.phase))
        for wanted, angles, _, _ in parts:
            angle[wanted] = angles
        validation = np.concatenate([v for _, _, v, _ in parts])
        seconds = np.mean([s for _, _, _, s in parts])
        rows[f"orientation network, {name}"] = {
            "validation": float((validation < 5).mean()),
            "angle": angle,
            "patterns_per_second": 1 / (seconds + test.seconds),
        }
    return rows


def _build(target: str, cells, seed: int) -> keras.Model:
    import keras

    keras.utils.set_random_seed(seed)
    architecture, shape = Architecture(width=64), SPECS[0].shape
    if target == "cells":
        return build_orientation_network(architecture, shape, cells.n_inplane, cells.n_directions)
    inputs = keras.Input(shape)
    return keras.Model(inputs, build_euler_head(build_trunk(inputs, architecture)))


def _decode(target: str, outputs: np.ndarray, cells) -> np.ndarray:
    """Return the orientation that a network's output means, shape (n, 4)."""
    from orix.quaternion import Rotation

    if target == "Euler angles":
        angles = np.rad2deg(np.asarray(outputs, float))
        return Rotation.from_euler(angles, degrees=True).data.reshape(-1, 4)
    bins, direction = np.divmod(outputs.argmax(axis=1), cells.n_directions)
    return cells.decode(direction, bins)


def _label(target: str, quaternions: np.ndarray, cells) -> np.ndarray:
    if target == "Euler angles":
        return euler_targets(quaternions, cells.symmetry)
    return cell_labels(cells, quaternions)


def _train_simulated(model, target, source, cells, k, options) -> None:
    settings = TrainingSettings(
        n_samples=options.n_samples,
        samples_per_epoch=min(12_800, options.n_samples),
        seed=options.seed,
    )

    def make_batch(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        descriptors, _, quaternions = source.simulate(n, rng, phase_id=k)
        return descriptors, _label(target, quaternions, cells)

    _fit(model, target, make_batch, settings)


def _tune_measured(model, target, source, cells, k, learn, rows, options) -> None:
    """Tune on measured descriptors, turned at random, half and half with simulations."""
    settings = TrainingSettings(
        n_samples=options.n_tuning,
        samples_per_epoch=min(4096, options.n_tuning),
        learning_rate=4e-4,
        seed=options.seed + 1,
    )
    n_azimuthal = SPECS[0].shape[1]
    sizes = np.bincount(learn.grain[rows])
    weight = 1 / np.sqrt(sizes[learn.grain[rows]])

    def make_batch(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        chosen = rows[rng.choice(len(rows), n // 2, p=weight / weight.sum())]
        steps = rng.integers(0, n_azimuthal, len(chosen))
        half = np.pi * steps / n_azimuthal
        nothing = np.zeros(len(chosen))
        # a pattern that turns counter-clockwise: the crystal sees the laboratory turn the other way
        turn = np.stack([np.cos(half), nothing, nothing, -np.sin(half)], axis=1)
        turned = turn_descriptors(learn.descriptors[chosen], steps)
        measured = jitter_intensities(turned, rng)
        descriptors, _, quaternions = source.simulate(n - len(chosen), rng, phase_id=k)
        truth = np.concatenate([multiply_quaternions(learn.rotations[chosen], turn), quaternions])
        return np.concatenate([measured, descriptors]), _label(target, truth, cells)

    _fit(model, target, make_batch, settings)


def _fit(model, target: str, make_batch: Callable, settings: TrainingSettings) -> None:
    """Train with the package's own loop; regression has another loss."""
    if target == "cells":
        _train(model, make_batch, settings, None, _logger.debug, top_k=20)
        return
    import keras

    n_steps = max(1, settings.n_samples // settings.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.01 * settings.learning_rate, n_steps, warmup_target=settings.learning_rate,
        warmup_steps=max(1, n_steps // 50),
    )  # fmt: skip
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0)
    model.compile(optimizer, "mse", jit_compile=True)
    rng = np.random.default_rng(settings.seed)
    for _ in range(n_steps):
        model.train_on_batch(*make_batch(settings.batch_size, rng))


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
        group = laue_proper_group(phase_list[name])
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
    asked = {k: str(v) for k, v in vars(options).items() if k not in ("parts", "output")}
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
    (options.output / "paper_study.md").write_text(report)
    figures = {
        name: {key: v for key, v in row.items() if not isinstance(v, np.ndarray)}
        for name, row in rows.items()
    }
    whole = json.dumps({"run": info, "rows": figures}, indent=1)
    (options.output / "paper_study.json").write_text(whole + "\n")
    figure = draw_figure(rows, scan, test.positions)
    figure.savefig(options.output / "paper_study.png", dpi=110)


if __name__ == "__main__":
    main()
