"""Architecture search with AutoKeras.

Owns the search itself and its report; the way from phases to a bundle is `bundle_training`'s. The
only module that imports AutoKeras (through `search_space`), inside its functions.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyxem_nas.bundles import Architecture, PatternArchitecture, measure_rate
from pyxem_nas.diffraction import OrientationCells
from pyxem_nas.file_writing import replacing
from pyxem_nas.patterns import PatternSpec
from pyxem_nas.scans import DescriptorSource, Randomization
from pyxem_nas.training.added_value import ADDED, AddedValue, added_value_callback_class
from pyxem_nas.training.network_training import cell_labels, euler_targets, shared_labels

_logger = logging.getLogger(__name__)

Tuner = Literal["greedy", "bayesian", "hyperband", "random"]


@dataclass(frozen=True)
class SearchSettings:
    """Budget of an architecture search.

    Parameters
    ----------
    max_trials
        Networks tried; 0 skips the search.
    epochs
        Passes over the training descriptors per trial at most.
    n_train, n_validation
        Simulated descriptors to train and to judge on, kept in memory.
    tuner
        AutoKeras' tuner.
    seed
        Of data and tuner.
    min_patterns_per_second
        Networks slower than this on the machine of the search are reported, not trained beyond
        the first step and not chosen.
    batch_size
        Descriptors per step; few measured patterns want small batches.
    objective
        What trials are ordered by: "alone", the network's own validation loss, or "with matching",
        how much surer of the truth it makes exhaustive matching (`added_value`), which is what a
        hybrid's network is for.
    """

    max_trials: int = 12
    epochs: int = 4
    n_train: int = 16_384
    n_validation: int = 2_048
    tuner: Tuner = "greedy"
    seed: int = 0
    min_patterns_per_second: float = 0.0
    batch_size: int = 256
    objective: Literal["alone", "with matching"] = "alone"


@dataclass(frozen=True)
class SearchReport:
    """What a search tried and found.

    Parameters
    ----------
    target
        What was searched for, "orientation of NbC" or "phase".
    trials
        One mapping per trial: hyperparameters, validation loss and accuracy, parameters,
        patterns/s and the trial's number, best first; with that objective what it reaches
        together with matching.
    settings
        The budget.
    seconds
        Wall time of the search, all runs of an interrupted one together.
    """

    target: str
    trials: list[dict[str, Any]] = field(repr=False)
    settings: SearchSettings
    seconds: float

    @property
    def architecture(self) -> Architecture:
        """The best architecture found, of a search on descriptors."""
        return Architecture(**self._best(Architecture))

    def get_pattern_architecture(self, rotate: bool) -> PatternArchitecture:
        """Return the best architecture found, of a search on Cartesian patterns."""
        return PatternArchitecture(**{**self._best(PatternArchitecture), "rotate": rotate})

    def _best(self, kind: type) -> dict[str, Any]:
        """Return what AutoKeras' hyperparameters of the best trial say of an architecture."""
        names = {f.name for f in dataclasses.fields(kind)}
        bound = self.settings.min_patterns_per_second
        fast = [trial for trial in self.trials if trial["patterns_per_second"] >= bound]
        if not fast:
            best = max(trial["patterns_per_second"] for trial in self.trials)
            raise ValueError(
                f"no trial reached {bound:g} patterns/s (the fastest {best:.0f}); lower "
                "min_patterns_per_second or allow more trials"
            )
        values = {k.split("/")[-1]: v for k, v in fast[0]["hyperparameters"].items()}
        return {name: value for name, value in values.items() if name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return dataclasses.asdict(self)


def is_search_worker() -> bool:
    """Return whether this process runs trials for a chief, by KerasTuner's KERASTUNER_* variables.

    The chief, whose KERASTUNER_TUNER_ID holds "chief", hands out the trials and does all the rest;
    both share one working directory.
    """
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" not in os.environ.get(
        "KERASTUNER_TUNER_ID", ""
    )


class _TrialsOver(Exception):
    """The chief has no more trials for this worker."""


def _leave_search() -> None:
    raise _TrialsOver


def hold_out_domain(randomization: Randomization) -> tuple[Randomization, Randomization]:
    """Split a randomisation in two simulators: one to train trials on, another to judge them on.

    The first draws kinematical intensities only; the second dynamical ones where the source has a
    library of them, else two-beam intensities, scrambled more: a trial is judged on patterns of a
    kind that it has not seen.
    """
    train = dataclasses.replace(
        randomization, two_beam_share=(0.0, 0.0), dynamical_share=(0.0, 0.0)
    )
    judge = dataclasses.replace(
        randomization,
        two_beam_share=(1.0, 1.0),
        dynamical_share=(1.0, 1.0),
        intensity_jitter=(0.4, 0.9),
    )
    return train, judge


def search_orientation_architecture(
    source: DescriptorSource,
    cells: OrientationCells,
    phase_id: int,
    settings: SearchSettings,
    directory: Path | str,
    *,
    name: str = "phase",
    target: Literal["cells", "euler"] = "cells",
    added: AddedValue | None = None,
    report: Callable[[str], None] = _logger.info,
) -> SearchReport:
    """Search the network that tells the orientation of one phase.

    Parameters
    ----------
    source
        Simulated descriptors.
    cells
        Target.
    phase_id
        The phase.
    settings
        Budget.
    directory
        Where AutoKeras keeps its trials; a search that was stopped goes on from there.
    name
        Name of the phase for report and project.
    target
        "cells", a distribution over orientation space, or "euler", regression of Bunge's angles:
        the founding paper's second stage. Angles jump where orientations do not and know no
        symmetry, so bundles hold no such network; it is the baseline to compare with.
    added
        What the objective "with matching" is measured on.
    report
        Called with lines of progress.

    Returns
    -------
    report
        All trials, the best first. None in a worker of a chief, who has the report.
    """
    from pyxem_nas.training.search_space import DescriptorTrunk, EulerHead, OrientationHead

    def label(_: np.ndarray, quaternions: np.ndarray) -> np.ndarray:
        if target == "euler":
            return euler_targets(quaternions, cells.symmetry)
        return cell_labels(cells, quaternions)[:, None]

    head = OrientationHead(cells.n_inplane, cells.n_directions, name="cell_logits")
    if target == "euler":
        head = EulerHead(name="euler_angles")
    title = f"{'Euler angles' if target == 'euler' else 'orientation'} of {name}"
    data = _search_data(source, settings, label, phase_id)
    trunk = DescriptorTrunk(name="trunk")
    values = None if added is None else {"cell_logits": added}
    return search_on_arrays(title, trunk, head, data, settings, Path(directory), report, values)


def search_phase_architecture(
    source: DescriptorSource,
    settings: SearchSettings,
    directory: Path | str,
    *,
    rotate: bool = True,
    measured: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None,
    report: Callable[[str], None] = _logger.info,
) -> SearchReport:
    """Search the phase classifier; as `search_orientation_architecture`.

    On descriptors, or on Cartesian patterns if that is what `source.spec` describes; then, with
    `rotate`, they are turned by random angles in training. `measured` holds patterns and phases to
    train on, patterns and phases to validate on: the founding paper's way, instead of simulations.
    """
    from pyxem_nas.training.search_space import DescriptorTrunk, PatternTrunk, PhaseHead

    def label(classes: np.ndarray, _: np.ndarray) -> np.ndarray:
        return classes.astype(np.int32)[:, None]

    head = PhaseHead(source.n_known + 1, name="phase_logits")
    if measured is None:
        data = _search_data(source, settings, label, None)
    else:
        x, y, x_validation, y_validation = measured
        data = x, label(y, y), x_validation, label(y_validation, y_validation)
    trunk = DescriptorTrunk(name="trunk")
    if isinstance(source.spec, PatternSpec):
        trunk = PatternTrunk(rotate, name="trunk")
    return search_on_arrays("phase", trunk, head, data, settings, Path(directory), report)


def search_shared_architecture(
    source: DescriptorSource,
    cells: Mapping[int, OrientationCells],
    settings: SearchSettings,
    directory: Path | str,
    *,
    added: Mapping[str, AddedValue] | None = None,
    report: Callable[[str], None] = _logger.info,
) -> SearchReport:
    """Search the trunk that phase head and orientation heads share, all of them trained at once.

    The loss of a trial is the sum of the heads'; else as `search_orientation_architecture`. What it
    adds to matching, by `added` of each orientation head, is the sum over phases.
    """
    from pyxem_nas.training.search_space import DescriptorTrunk, OrientationHead, PhaseHead

    n_classes = source.n_known + 1
    heads = {"phase": PhaseHead(n_classes, name="phase")}
    for k, c in cells.items():
        name = f"orientation_{k}"
        heads[name] = OrientationHead(c.n_inplane, c.n_directions, n_classes, name=name)

    def label(classes: np.ndarray, quaternions: np.ndarray) -> list[np.ndarray]:
        labels = shared_labels(cells, classes, quaternions)
        return [labels[name][:, None] for name in heads]

    data = _search_data(source, settings, label, None)
    trunk = DescriptorTrunk(name="trunk")
    of_all = list(heads.values())
    return search_on_arrays(
        "shared trunk", trunk, of_all, data, settings, Path(directory), report, added
    )


def _search_data(source, settings, label, phase_id) -> tuple[np.ndarray, ...]:
    """Return training and validation arrays from two simulators."""
    arrays = []
    parts = (settings.n_train, settings.n_validation)
    for k, randomization in enumerate(hold_out_domain(source.randomization)):
        rng = np.random.default_rng((settings.seed, 977, k))
        simulator = dataclasses.replace(source, randomization=randomization)
        descriptors, classes, quaternions = simulator.simulate(parts[k], rng, phase_id=phase_id)
        arrays += [descriptors, label(classes, quaternions)]
    return tuple(arrays)


@contextmanager
def _whole_files() -> Iterator[None]:
    """Let KerasTuner replace its project's files as a whole while the block runs.

    It writes into them: a search killed at that moment left an empty file and could not resume.
    """
    from keras_tuner.src.engine.stateful import Stateful

    write = Stateful.save

    def save(self: Stateful, fname: str) -> None:
        with replacing(Path(fname)) as temporary:
            write(self, str(temporary))

    Stateful.save = save
    try:
        yield
    finally:
        Stateful.save = write


@_whole_files()
def search_on_arrays(
    target, trunk, head, data, settings, directory, report, added=None
) -> SearchReport | None:
    """Search a block and its head, or heads, on arrays: inputs and targets to learn, to judge."""
    import autokeras as ak
    import keras
    import keras_tuner

    from pyxem_nas.training.search_space import StopSlow

    x, y, x_validation, y_validation = data
    with_matching = settings.objective == "with matching" and added is not None
    inputs = ak.Input(name="inputs")
    features = trunk(inputs)
    model = ak.AutoModel(
        inputs=inputs,
        outputs=[h(features) for h in head] if isinstance(head, list) else head(features),
        project_name=target.replace(" ", "_"),
        directory=str(directory),
        max_trials=settings.max_trials,
        objective=keras_tuner.Objective(ADDED, "min") if with_matching else "val_loss",
        tuner=settings.tuner,
        seed=settings.seed,
        overwrite=False,
    )
    # without a stopping rule of ours AutoKeras trains the winner again in silence
    callbacks = [keras.callbacks.EarlyStopping(patience=2)]
    if added is not None:
        callbacks.insert(0, added_value_callback_class()(added))
    if settings.min_patterns_per_second > 0:
        callbacks.append(StopSlow(settings.min_patterns_per_second, x[:256]))
    started = time.perf_counter()
    report(f"searching {target}: {settings.max_trials} trials in {directory}")
    if is_search_worker():
        # after the last trial AutoKeras asks the chief for the best, but the chief may be gone
        model.tuner.on_search_end = _leave_search
    try:
        model.fit(
            x,
            y,
            validation_data=(x_validation, y_validation),
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            callbacks=callbacks,
            verbose=0,
        )
    except _TrialsOver:
        return None
    seconds = _add_seconds(Path(model.tuner.project_dir), time.perf_counter() - started)
    trials = [_describe_trial(model.tuner, trial, x[:256]) for trial in _completed(model.tuner)]
    for trial in trials:
        report(
            f"  trial {trial['trial']}: loss {trial['validation_loss']:.3f}, "
            f"{trial['n_parameters']} parameters, {trial['patterns_per_second']:.0f} patterns/s"
            + (f", {trial['with_matching']:.3f} with matching" if "with_matching" in trial else "")
        )
    return SearchReport(target, trials, settings, seconds)


def _completed(tuner: Any) -> list[Any]:
    trials = [t for t in tuner.oracle.trials.values() if t.status == "COMPLETED"]
    return sorted(trials, key=lambda trial: trial.score)


def _describe_trial(tuner: Any, trial: Any, batch: np.ndarray) -> dict[str, Any]:
    """Return a trial's hyperparameters and scores, with its speed measured now."""
    model = tuner._try_build(trial.hyperparameters)
    metrics = trial.metrics.metrics
    best = trial.metrics.get_best_value
    described = {
        "trial": int(trial.trial_id),
        "hyperparameters": dict(trial.hyperparameters.values),
        "validation_loss": float(best("val_loss")),
        "validation_accuracy": float(best("val_accuracy")) if "val_accuracy" in metrics else None,
        "n_parameters": int(model.count_params()),
        "patterns_per_second": measure_rate(model, batch),
    }
    return described | ({"with_matching": float(best(ADDED))} if ADDED in metrics else {})


def _add_seconds(project: Path, seconds: float) -> float:
    """Add to the time that earlier runs of this search took and return the sum."""
    path = project / "seconds.json"
    if path.exists():
        seconds += json.loads(path.read_text())
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(seconds))
    return seconds
