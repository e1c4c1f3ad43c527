"""Training of networks on descriptors that are simulated as they are needed.

Owns the training loop: schedule, checkpoints, resume and progress. What is simulated belongs to
`scans.source`. Where an architecture comes from belongs to `search`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles import join_networks
from pyxem_nas.diffraction import (
    OrientationCells,
    multiply_quaternions,
)
from pyxem_nas.scans import DescriptorSource

if TYPE_CHECKING:
    import keras


_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Parameters
    ----------
    n_samples
        Simulated descriptors in all.
    batch_size
        Descriptors per step.
    learning_rate
        Peak of the schedule: linear warm-up over 2 % of the steps, then cosine decay to zero.
    samples_per_epoch
        Descriptors between two checkpoints.
    seed
        Of data and weights.
    """

    n_samples: int = 600_000
    batch_size: int = 256
    learning_rate: float = 2e-3
    samples_per_epoch: int = 25_600
    seed: int = 0


def train_orientation_network(
    model: keras.Model,
    source: DescriptorSource,
    cells: OrientationCells,
    phase_id: int,
    settings: TrainingSettings,
    *,
    checkpoint: Path | str | None = None,
    report: Any = None,
) -> dict[str, list[float]]:
    """Train a network from descriptors to orientation cells of one phase.

    Parameters
    ----------
    model
        From `bundles.build_orientation_network`; trained in place.
    source
        Simulated descriptors.
    cells
        The target.
    phase_id
        The phase.
    settings
        Amount, schedule and seed.
    checkpoint
        Folder of checkpoints. Training that was interrupted goes on from there.
    report
        Called with one line of text per epoch; None logs it.

    Returns
    -------
    history
        Loss and metrics per epoch.
    """

    def make_batch(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        descriptors, _, quaternions = source.simulate(n, rng, phase_id=phase_id)
        return descriptors, cell_labels(cells, quaternions)

    return _train(model, make_batch, settings, checkpoint, report, top_k=20)


def train_phase_network(
    model: keras.Model,
    source: DescriptorSource,
    settings: TrainingSettings,
    *,
    checkpoint: Path | str | None = None,
    report: Any = None,
) -> dict[str, list[float]]:
    """Train a network from descriptors to phases and "none of these"; as for orientations."""

    def make_batch(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return source.simulate(n, rng)[:2]

    return _train(model, make_batch, settings, checkpoint, report, top_k=1)


def train_shared_networks(
    networks: Mapping[str, keras.Model],
    source: DescriptorSource,
    cells: Mapping[int, OrientationCells],
    settings: TrainingSettings,
    *,
    checkpoint: Path | str | None = None,
    report: Any = None,
) -> dict[str, list[float]]:
    """Train a trunk and its heads together; as for orientations.

    Parameters
    ----------
    networks
        From `bundles.build_shared_networks`; trained in place. Of a trunk that is not trainable the
        heads alone learn.
    source
        Simulated descriptors of all phases and of none of them, each of which teaches the phase
        head and the head of its phase.
    cells
        Targets of the orientation heads.
    settings, checkpoint, report
        As for `train_orientation_network`.
    """
    model = join_networks(networks)
    n_classes = source.n_known + 1

    def make_batch(n: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        descriptors, classes, quaternions = source.simulate(n, rng)
        labels = shared_labels(cells, classes, quaternions)
        return descriptors, {name: labels[name] for name in model.output_names}

    partial = partial_entropy_class()
    losses = {name: partial(1 if name == "phase" else n_classes) for name in model.output_names}
    return _fit(model, make_batch, losses, {}, settings, checkpoint, report)


@cache
def partial_entropy_class() -> type:
    """Return the Keras loss `PartialEntropy`, made and registered at the first call."""
    import keras

    @keras.saving.register_keras_serializable(package="pyxem_nas")
    class PartialEntropy(keras.losses.Loss):
        """Cross-entropy of rows with a label; those without, -1, do not count.

        One row in `n_shares` has one: the mean over all rows, times that, is the mean over those.
        """

        def __init__(self, n_shares: int = 1, name: str = "partial_entropy", **kwargs):
            super().__init__(name=name, **kwargs)
            self.n_shares = n_shares

        def call(self, labels, logits):
            labels = keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32")
            entropy = keras.losses.sparse_categorical_crossentropy(
                keras.ops.maximum(labels, 0), logits, from_logits=True
            )
            return entropy * keras.ops.cast(labels >= 0, entropy.dtype) * self.n_shares

        def get_config(self):
            return {**super().get_config(), "n_shares": self.n_shares}

    return PartialEntropy


def shared_labels(
    cells: Mapping[int, OrientationCells], classes: np.ndarray, quaternions: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the targets of all heads, shape (n,), int32; -1 for a head of another phase."""
    labels = {"phase": classes.astype(np.int32)}
    for k, c in cells.items():
        mine = np.flatnonzero(classes == k)
        labels[f"orientation_{k}"] = np.full(len(classes), -1, np.int32)
        labels[f"orientation_{k}"][mine] = cell_labels(c, quaternions[mine])
    return labels


def cell_labels(cells: OrientationCells, quaternions: np.ndarray) -> np.ndarray:
    """Return the class index of each orientation, in-plane bin first, shape (n,), int32."""
    direction, inplane = cells.encode(quaternions)
    bins = np.round(inplane).astype(np.int32) % cells.n_inplane
    return bins * np.int32(cells.n_directions) + direction


def euler_targets(quaternions: np.ndarray, symmetry: np.ndarray) -> np.ndarray:
    """Return Bunge Euler angles of one variant of each orientation, for the paper's regression.

    Parameters
    ----------
    quaternions
        Orientations, shape (n, 4).
    symmetry
        Proper operations of the crystal as quaternions, shape (n_symmetry, 4). Of the variants the
        one of the least rotation angle is taken: without that one pattern had many targets.

    Returns
    -------
    angles
        Radians, shape (n, 3), float32.
    """
    from orix.quaternion import Rotation

    variants = multiply_quaternions(symmetry[None, :], quaternions[:, None])
    least = np.abs(variants[..., 0]).argmax(axis=1)
    variants = variants[np.arange(len(quaternions)), least]
    return Rotation(variants).to_euler().astype(np.float32)


def _train(model, make_batch, settings, checkpoint, report, *, top_k) -> dict[str, list[float]]:
    import keras

    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    if top_k > 1:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(top_k, name=f"top{top_k}"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return _fit(model, make_batch, loss, metrics, settings, checkpoint, report)


def _fit(model, make_batch, loss, metrics, settings, checkpoint, report) -> dict[str, list[float]]:
    import keras

    n_epochs = max(1, round(settings.n_samples / settings.samples_per_epoch))
    steps_per_epoch = max(1, settings.samples_per_epoch // settings.batch_size)
    n_steps = n_epochs * steps_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(
        0.01 * settings.learning_rate,
        n_steps - n_steps // 50,
        warmup_target=settings.learning_rate,
        warmup_steps=max(1, n_steps // 50),
        alpha=1e-3,
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0),
        loss,
        metrics=metrics,
        jit_compile=True,
    )
    callbacks = [_progress_class()(n_epochs, settings, report or _logger.info)]
    if checkpoint is not None:
        Path(checkpoint).mkdir(parents=True, exist_ok=True)
        # two generations: a kill while one is written leaves the other
        callbacks.append(keras.callbacks.BackupAndRestore(str(checkpoint), double_checkpoint=True))
    stream = _stream_class()(make_batch, settings, steps_per_epoch, _epochs_done(checkpoint))
    history = model.fit(stream, epochs=n_epochs, callbacks=callbacks, verbose=0, shuffle=False)
    return {name: [float(v) for v in values] for name, values in history.history.items()}


def _epochs_done(checkpoint: Path | str | None) -> int:
    """Return where a checkpoint of Keras stands, so that its stream goes on from there."""
    path = Path(checkpoint or ".") / "training_metadata.json"
    if checkpoint is None or not path.exists():
        return 0
    try:
        return int(json.loads(path.read_text())["epoch"])
    except (json.JSONDecodeError, KeyError):  # killed while writing; Keras takes the one before
        return int(json.loads(path.with_name(path.name + ".bkp").read_text())["epoch"])


@cache
def _stream_class() -> type:
    import keras

    class SimulatedStream(keras.utils.PyDataset):
        """Batches that depend on seed, epoch and position only, so that a resumed run repeats."""

        def __init__(self, make_batch, settings, steps_per_epoch, epoch):
            super().__init__(workers=1, use_multiprocessing=False, max_queue_size=4)
            self.make_batch, self.settings = make_batch, settings
            self.steps_per_epoch, self.epoch = steps_per_epoch, epoch

        def __len__(self):
            return self.steps_per_epoch

        def __getitem__(self, index):
            rng = np.random.default_rng((self.settings.seed, self.epoch, index))
            return self.make_batch(self.settings.batch_size, rng)

        def on_epoch_end(self):
            self.epoch += 1

    return SimulatedStream


@cache
def _progress_class() -> type:
    import keras

    class ProgressLine(keras.callbacks.Callback):
        """One readable line per epoch: share done, loss, metrics, samples/s and time left."""

        def __init__(self, n_epochs, settings, report):
            super().__init__()
            self.n_epochs, self.settings, self.report = n_epochs, settings, report

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds = time.perf_counter() - self.started
            left = seconds * (self.n_epochs - epoch - 1)
            values = "  ".join(f"{k} {v:.3f}" for k, v in (logs or {}).items())
            rate = self.settings.samples_per_epoch / seconds
            self.report(
                f"epoch {epoch + 1}/{self.n_epochs}  {values}  {rate:.0f} samples/s  "
                f"{left // 60:.0f} min {left % 60:.0f} s left"
            )

    return ProgressLine
