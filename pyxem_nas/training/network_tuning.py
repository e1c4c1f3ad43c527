"""The short training of networks on measured and simulated patterns together.

Owns batches, early stopping and how far a network may go from what it knew. Which positions teach,
the scan's camera and what the bundle says afterwards belong to `training.fine_tuning`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles import dump_keras, load_keras
from pyxem_nas.diffraction import OrientationCells, disorientation_angles, laue_operations
from pyxem_nas.scans import DescriptorSource
from pyxem_nas.training.measured import MeasuredPatterns
from pyxem_nas.training.network_training import cell_labels

if TYPE_CHECKING:
    import keras

    from pyxem_nas.bundles import ModelBundle
    from pyxem_nas.patterns import DescriptorSpec, PatternSpec

_N_SIMULATED = 512  # simulations of each kind that tell when to stop
_N_DECIDING = 2048  # and that tell how far to go: half a point of them must be seen
_MAX_FORGOTTEN = 0.005  # share of the simulations right before that may be lost
_PATIENCE = 3  # epochs without improvement
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the way from the old weights to the tuned ones
_BATCH = 256
MIXTURE = {"measured": 0.4, "camera": 0.35, "known": 0.25}
_N_ROWS = {name: round(share * _BATCH) for name, share in MIXTURE.items()}  # of a batch, in order


@dataclass(frozen=True)
class TuningSettings:
    """How long and how fast the networks are trained."""

    epochs: int
    samples_per_epoch: int
    learning_rate: float
    seed: int
    report: Callable[[str], None]


def tune_networks(
    bundle: ModelBundle,
    training: MeasuredPatterns,
    validation: MeasuredPatterns,
    sources: Mapping[str, DescriptorSource],
    settings: TuningSettings,
    min_positions: int,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Tune the networks of a bundle that have at least `min_positions` measured patterns.

    Parameters
    ----------
    bundle
        The bundle; it stays as it is.
    training, validation
        Measured patterns with their phases and orientations, of different grains.
    sources
        Simulators: "camera" as the scan's camera sees, "known" as the bundle was trained.
    settings
        How long and how fast.
    min_positions
        A network with fewer training patterns stays.

    Returns
    -------
    models
        The networks that got better, as .keras files by their names in the bundle.
    figures
        What was found of every network, by phase name, "phases" for the phase network.
    """
    models: dict[str, bytes] = {}
    figures: dict[str, Any] = {}
    for model_name in sorted(bundle.models, key=lambda text: text != "phase"):
        is_phase = model_name == "phase"
        k = None if is_phase else int(model_name.removeprefix("orientation_"))
        mine = np.arange(len(training)) if is_phase else np.flatnonzero(training.phase_id == k)
        title = "phases" if is_phase else bundle.phase_names[k]
        if len(mine) < min_positions:
            settings.report(f"{title}: {len(mine)} positions are too few, the network stays")
            figures[title] = {"kept": "too few positions"}
            continue
        task = TuningTask.make(bundle, training.take(mine), validation, sources, k)
        model = load_keras(bundle.models[model_name])
        changed, figure = _tune(model, task, settings, title)
        figures[title] = figure
        if changed:
            models[model_name] = dump_keras(model)
    return models, figures


@dataclass(frozen=True)
class TuningTask:
    """What one network learns: measured rows with their targets, and simulators."""

    inputs: np.ndarray
    direction: np.ndarray  # cell of the beam direction, or the phase
    inplane: np.ndarray  # in bins; 0 for the phase
    weights: np.ndarray  # probability of each row to be drawn
    cells: OrientationCells | None  # None: the phase
    group: np.ndarray | None
    phase_id: int | None
    sources: Mapping[str, DescriptorSource]
    turns: bool  # descriptors can be turned, Cartesian patterns not
    held: tuple[np.ndarray, ...]  # measured inputs, labels, orientations and weights

    @classmethod
    def make(cls, bundle, training, validation, sources, k) -> TuningTask:
        """Return the task of the phase network (k None) or of one orientation network."""
        if k is None:
            spec: DescriptorSpec | PatternSpec = bundle.pattern_spec or bundle.spec
            sources = {n: dataclasses.replace(s, spec=spec) for n, s in sources.items()}
            use = "descriptors" if bundle.pattern_spec is None else "cartesian"
            cells = group = None
            direction, inplane = training.phase_id, np.zeros(len(training))
            held, labels = validation, validation.phase_id
        else:
            use, cells, group = "descriptors", bundle.cells[k], laue_operations(bundle.phases[k])
            direction, inplane = cells.encode(training.quaternions)
            held = validation.take(np.flatnonzero(validation.phase_id == k))
            labels = cell_labels(cells, held.quaternions)
        return cls(
            getattr(training, use), direction, inplane, get_row_weights(training), cells, group, k,
            sources, use == "descriptors",
            (getattr(held, use), labels, held.quaternions, get_row_weights(held)),
        )  # fmt: skip

    def make_batch(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and labels of one batch, measured and simulated."""
        n_measured = _N_ROWS["measured"]
        rows = rng.choice(len(self.inputs), n_measured, p=self.weights)
        inputs, inplane = self.inputs[rows], self.inplane[rows]
        if self.turns:
            n_azimuthal = inputs.shape[-1]
            steps = rng.integers(0, n_azimuthal, n_measured)
            inputs = turn_descriptors(inputs, steps)
            if self.cells is not None:
                inplane = inplane + steps * (self.cells.n_inplane / n_azimuthal)
        parts = [(jitter_intensities(inputs, rng), self._label(self.direction[rows], inplane))]
        for name in ("camera", "known"):
            parts.append(self.simulate(name, _N_ROWS[name], rng)[:2])
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def simulate(
        self, name: str, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inputs, labels and orientations of simulations."""
        inputs, classes, quaternions = self.sources[name].simulate(n, rng, phase_id=self.phase_id)
        labels = classes if self.cells is None else cell_labels(self.cells, quaternions)
        return inputs, labels.astype(np.int32), quaternions

    def _label(self, direction: np.ndarray, inplane: np.ndarray) -> np.ndarray:
        if self.cells is None:
            return direction.astype(np.int32)
        bins = np.round(inplane).astype(np.int32) % self.cells.n_inplane
        return bins * np.int32(self.cells.n_directions) + direction.astype(np.int32)


def turn_descriptors(descriptors: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return descriptors (n, n_radial, n_azimuthal) turned by whole azimuthal bins (n,)."""
    n_azimuthal = descriptors.shape[-1]
    columns = (np.arange(n_azimuthal) - steps[:, None]) % n_azimuthal
    return np.take_along_axis(descriptors, columns[:, None], axis=2)


def jitter_intensities(inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return descriptors or patterns with slightly other contrast and radial decay, unit RMS."""
    n, n_rows = inputs.shape[:2]
    power = np.exp(0.12 * rng.standard_normal((n, 1, 1))).astype(np.float32)
    # from -1 at the first ring to 1 at the last; for Cartesian rows it does next to nothing
    slope = 0.15 * rng.standard_normal((n, 1, 1)) * np.linspace(-1, 1, n_rows)[:, None]
    changed = inputs**power * np.exp(slope).astype(np.float32)
    rms = np.sqrt(np.mean(changed**2, axis=(1, 2), keepdims=True))
    return (changed / np.maximum(rms, 1e-6)).astype(np.float32)


def get_row_weights(measured: MeasuredPatterns) -> np.ndarray:
    """Return the probability of each row: phases alike, grains by the root of their size."""
    weights = np.zeros(len(measured))
    for k in np.unique(measured.phase_id):
        mine = np.flatnonzero(measured.phase_id == k)
        _, inverse, size = np.unique(measured.grains[mine], return_inverse=True, return_counts=True)
        weights[mine] = 1 / np.sqrt(size[inverse])
        weights[mine] /= weights[mine].sum()
    return weights / max(weights.sum(), 1e-12)


def _tune(
    model: keras.Model, task: TuningTask, settings: TuningSettings, title: str
) -> tuple[bool, dict[str, Any]]:
    """Train a network in place, keep its best weights; return whether it changed, and figures."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    n_steps = max(1, settings.samples_per_epoch // _BATCH)
    n_warmup = max(1, n_steps // 2)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.1 * settings.learning_rate,
        max(1, n_steps * settings.epochs - n_warmup),
        warmup_target=settings.learning_rate,
        warmup_steps=n_warmup,
        alpha=0.05,
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    teacher = keras.Model.from_config(model.get_config())
    teacher.set_weights(model.get_weights())
    sets = _validation_sets(task, settings.seed, _N_SIMULATED)
    start = model.get_weights()
    before = best = _validate(model, task, sets)
    weights, best_epoch = start, 0
    settings.report(f"{title}: {_say(before)}")
    for epoch in range(1, settings.epochs + 1):
        network = 0 if task.phase_id is None else 1 + task.phase_id
        rng = np.random.default_rng((settings.seed, 41, network, epoch))
        for _ in range(n_steps):
            inputs, labels = task.make_batch(rng)
            model.train_on_batch(inputs, _make_targets(labels, inputs, teacher))
        figures = _validate(model, task, sets)
        settings.report(f"{title}, epoch {epoch}/{settings.epochs}: {_say(figures)}")
        if _objective(figures) < _objective(best):
            best, weights, best_epoch = figures, model.get_weights(), epoch
        elif epoch - best_epoch >= _PATIENCE:
            break
    share, after = 0.0, before
    if best_epoch:
        sets = _validation_sets(task, settings.seed + 1, _N_DECIDING)
        model.set_weights(start)
        before = _validate(model, task, sets)
        share, after = _go_part_of_the_way(model, task, sets, start, weights, before)
        settings.report(f"{title}: {100 * share:.0f} % of the way is kept, {_say(after)}")
    figure = {"before": before, "after": after, "best_epoch": best_epoch, "share_kept": share}
    return share > 0, figure


def _make_targets(labels: np.ndarray, inputs: np.ndarray, teacher: keras.Model) -> np.ndarray:
    """Return what the network should say of a batch, (n, n_classes).

    Of what the bundle was trained on, the last rows, that is what it said before (Li and Hoiem
    2018, doi:10.1109/TPAMI.2017.2773081): it has nothing to unlearn there but what the rest needs.
    """
    n_known = _N_ROWS["known"]
    logits = teacher.predict_on_batch(inputs[-n_known:])
    known = np.exp(logits - logits.max(axis=1, keepdims=True))
    targets = np.zeros((len(labels), logits.shape[1]), np.float32)
    targets[np.arange(len(labels)), labels] = 1
    targets[-n_known:] = known / known.sum(axis=1, keepdims=True)
    return targets


def _go_part_of_the_way(
    model, task, sets, start, end, before
) -> tuple[float, dict[str, dict[str, float]]]:
    """Set the best weights between those before and after tuning; return the share and figures.

    Between the two lie networks that learnt most of the new and forgot little of the old (Wortsman
    et al. 2022, arXiv:2109.01903). One that forgot too much is not taken.
    """
    share, best = 0.0, before
    least = before["known"]["right"] - _MAX_FORGOTTEN
    others = {name: part for name, part in sets.items() if name != "known"}
    for tried in _SHARES:
        model.set_weights(_mix(start, end, tried))
        figures = _validate(model, task, {"known": sets["known"]})
        if figures["known"]["right"] < least:
            continue
        figures |= _validate(model, task, others)
        if _objective(figures) < _objective(best):
            share, best = tried, figures
    model.set_weights(_mix(start, end, share))
    return share, best


def _mix(start: list[np.ndarray], end: list[np.ndarray], share: float) -> list[np.ndarray]:
    """Return the weights a share of the way from the start to the end."""
    return [a + np.float32(share) * (b - a) for a, b in zip(start, end, strict=True)]


def _validation_sets(task: TuningTask, seed: int, n: int) -> dict[str, tuple[np.ndarray, ...]]:
    """Return inputs, labels, orientations and weights of what a network is judged on."""
    sets = {}
    if len(task.held[0]):
        sets["grains"] = task.held
    for name in ("camera", "known"):
        simulated = task.simulate(name, n, np.random.default_rng((seed, 51)))
        sets[name] = (*simulated, np.full(n, 1 / n))
    return sets


def _objective(figures: Mapping[str, Mapping[str, float]]) -> float:
    """Return the loss that early stopping minimises: the scan's camera, and all others."""
    of_scan = [figures[name]["loss"] for name in ("grains", "camera") if name in figures]
    return 0.7 * float(np.mean(of_scan)) + 0.3 * figures["known"]["loss"]


def _validate(model, task, sets) -> dict[str, dict[str, float]]:
    """Return loss and share of right answers on each set; within 5 degrees is right."""
    figures = {}
    for name, (inputs, labels, quaternions, weights) in sets.items():
        loss, right = np.empty(len(inputs)), np.empty(len(inputs), bool)
        for start in range(0, len(inputs), _BATCH):
            part = slice(start, start + _BATCH)
            logits = _run(model, inputs[part])
            highest = logits.max(axis=1)
            norm = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
            label = labels[part]
            loss[part] = norm - logits[np.arange(len(label)), label]
            answer = logits.argmax(axis=1)
            if task.cells is None:
                right[part] = answer == label
            else:
                bins, direction = np.divmod(answer, task.cells.n_directions)
                decoded = task.cells.decode(direction, bins)
                right[part] = disorientation_angles(decoded, quaternions[part], task.group) < 5
        figures[name] = {"loss": float(loss @ weights), "right": float(right @ weights)}
    return figures


def _run(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Return logits; batches of one size, because XLA compiles for each."""
    n = len(inputs)
    if n < _BATCH:
        inputs = np.concatenate([inputs, np.zeros((_BATCH - n, *inputs.shape[1:]), np.float32)])
    return model.predict_on_batch(inputs)[:n]


def _say(figures: Mapping[str, Mapping[str, float]]) -> str:
    names = {"grains": "validation grains", "camera": "scan's camera", "known": "simulations"}
    return ", ".join(
        f"{names[name]} {100 * values['right']:.1f} % right (loss {values['loss']:.3f})"
        for name, values in figures.items()
    )
