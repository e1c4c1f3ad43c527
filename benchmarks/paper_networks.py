"""The networks of `paper_study.py` that learn from scratch: phases, and orientations.

Phase networks learn from measured patterns, as the founding paper's; orientation networks from
simulations, by Euler angles or by cells, and are tuned on measured patterns.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bloch import PHASES
from paper_scans import ACQUISITION, SPECS, Measured, split

from pyxem_nas import Architecture, example_phases
from pyxem_nas.bundles.architectures import (
    PatternArchitecture,
    build_euler_head,
    build_orientation_network,
    build_phase_network,
    build_trunk,
)
from pyxem_nas.diffraction import (
    disorientation_angles,
    laue_operations,
    make_cells,
    multiply_quaternions,
)
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training.network_training import TrainingSettings, _train, cell_labels, euler_targets
from pyxem_nas.training.network_tuning import jitter_intensities, turn_descriptors
from pyxem_nas.training.search import SearchSettings, search_phase_architecture

if TYPE_CHECKING:
    import keras

_logger = logging.getLogger("paper_study")
_BATCH = 32  # of the few measured patterns


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
        cells, group = make_cells(phase), laue_operations(phase)
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
