"""The space that AutoKeras searches: blocks and heads of our own.

Owns which hyperparameters are open and between which values; `bundles.architectures` builds what
they describe.
Imports AutoKeras: only `search` imports this module, inside its functions. Nothing here flips a
pattern, which would break handedness, or loads pretrained weights.
"""

from __future__ import annotations

import autokeras as ak
import keras
import numpy as np
import tree
from autokeras.engine import head as head_module

from pyxem_nas.bundles import Architecture, JudgeArchitecture, architectures, build_judge_network
from pyxem_nas.training.network_training import partial_entropy_class


@keras.saving.register_keras_serializable(package="pyxem_nas")
class DescriptorTrunk(ak.Block):
    """Equivariant features of a polar descriptor; the fields of `Architecture` are open."""

    def build(self, hp, inputs=None):
        """Return features (batch, positions, width) for descriptors."""
        architecture = Architecture(
            width=hp.Choice("width", [32, 48, 64, 96, 128], default=64),
            n_blocks=hp.Int("n_blocks", 2, 6, default=5),
            kernel_size=hp.Choice("kernel_size", [3, 5], default=3),
            dilation=hp.Choice("dilation", ["exponential", "constant"], default="exponential"),
            azimuthal_stride=hp.Choice("azimuthal_stride", [2, 4], default=4),
            normalization=hp.Choice("normalization", ["none", "layer", "batch"], default="none"),
            squeeze_excitation=hp.Boolean("squeeze_excitation", default=False),
            radial_mixing=hp.Choice("radial_mixing", ["channels", "2d"], default="channels"),
        )
        return architectures.build_trunk(tree.flatten(inputs)[0], architecture)


@keras.saving.register_keras_serializable(package="pyxem_nas")
class PatternTrunk(ak.Block):
    """Convolutions on Cartesian patterns, the founding paper's input.

    Parameters
    ----------
    rotate
        Turn patterns at random in training (the paper's augmentation).
    """

    def __init__(self, rotate: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.rotate = rotate

    def get_config(self):
        """Return the configuration for AutoKeras' project files."""
        return {**super().get_config(), "rotate": self.rotate}

    def build(self, hp, inputs=None):
        """Return a feature vector (batch, width) for patterns."""
        architecture = architectures.PatternArchitecture(
            width=hp.Choice("width", [16, 24, 32], default=16),
            n_blocks=hp.Int("n_blocks", 3, 5, default=4),
            kernel_size=hp.Choice("kernel_size", [3, 5], default=3),
            rotate=self.rotate,
        )
        return architectures.build_pattern_trunk(tree.flatten(inputs)[0], architecture)


class StopSlow(keras.callbacks.Callback):
    """Give up a network that is slower than asked for: its training ends with the first step.

    Parameters
    ----------
    bound
        Least number of patterns per second.
    batch
        Patterns to measure with.
    """

    def __init__(self, bound: float, batch: np.ndarray):
        super().__init__()
        self.bound, self.batch = bound, batch

    def on_train_begin(self, logs=None):
        """Measure the network."""
        if architectures.measure_rate(self.model, self.batch) < self.bound:
            self.model.stop_training = True


class _FixedHead(head_module.Head):
    """A head whose targets need no analysis: AutoKeras' own heads fail with Keras 3.15."""

    def get_adapter(self):
        """Pass targets through as NumPy arrays."""
        return ak.RegressionHead(name=self.name).get_adapter()

    def get_analyser(self):
        """Read shape and type of the targets only."""
        return ak.RegressionHead(name=self.name).get_analyser()

    def get_hyper_preprocessors(self):
        """Leave targets as they are."""
        return []


@keras.saving.register_keras_serializable(package="pyxem_nas")
class OrientationHead(_FixedHead):
    """Logits over all orientation cells; the target is the cell's index.

    Of several heads on one trunk each has a label in one row of `n_shares`, -1 in the others.
    """

    def __init__(self, n_inplane: int = 90, n_directions: int = 1, n_shares: int = 1, **kwargs):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        super().__init__(
            loss=loss if n_shares == 1 else partial_entropy_class()(n_shares),
            metrics=["accuracy"] if n_shares == 1 else [],
            **{k: v for k, v in kwargs.items() if k not in ("loss", "metrics")},
        )
        self.n_inplane, self.n_directions, self.n_shares = n_inplane, n_directions, n_shares

    def get_config(self):
        """Return the configuration for AutoKeras' project files."""
        return {
            **super().get_config(),
            "n_inplane": self.n_inplane,
            "n_directions": self.n_directions,
            "n_shares": self.n_shares,
        }

    def build(self, hp, inputs=None):
        """Return cell logits for features."""
        features = tree.flatten(inputs)[0]
        dropout = hp.Choice("dropout", [0.0, 0.1], default=0.0)
        return architectures.build_orientation_head(
            features, self.n_inplane, self.n_directions, dropout, name=self.name
        )


@keras.saving.register_keras_serializable(package="pyxem_nas")
class PhaseHead(_FixedHead):
    """Logits over phases and "none of these"; the target is the class index."""

    def __init__(self, n_classes: int = 2, **kwargs):
        super().__init__(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            **{k: v for k, v in kwargs.items() if k not in ("loss", "metrics")},
        )
        self.n_classes = n_classes

    def get_config(self):
        """Return the configuration for AutoKeras' project files."""
        return {**super().get_config(), "n_classes": self.n_classes}

    def build(self, hp, inputs=None):
        """Return phase logits for features."""
        dropout = hp.Choice("dropout", [0.0, 0.25], default=0.0)
        return architectures.build_phase_head(
            tree.flatten(inputs)[0], self.n_classes, dropout, name=self.name
        )


@keras.saving.register_keras_serializable(package="pyxem_nas")
class EulerHead(_FixedHead):
    """Bunge Euler angles in radians by regression: the paper's second stage, as a baseline."""

    def __init__(self, **kwargs):
        super().__init__(
            loss=keras.losses.MeanSquaredError(),
            metrics=["mean_absolute_error"],
            **{k: v for k, v in kwargs.items() if k not in ("loss", "metrics")},
        )

    def build(self, hp, inputs=None):
        """Return Euler angles for features."""
        return architectures.build_euler_head(tree.flatten(inputs)[0], name=self.name)


@keras.saving.register_keras_serializable(package="pyxem_nas")
class CandidateSet(ak.Block):
    """Utilities of a set of candidates; the fields of `JudgeArchitecture` are open."""

    def build(self, hp, inputs=None):
        """Return utilities (batch, k + 1) for the features of candidates (batch, k, 7)."""
        architecture = JudgeArchitecture(
            width=hp.Choice("width", [8, 16, 32], default=16),
            depth=hp.Int("depth", 0, 3, default=2),
            pooling=hp.Choice(
                "pooling", ["none", "mean and maximum", "attention"], default="mean and maximum"
            ),
        )
        return build_judge_network(tree.flatten(inputs)[0], architecture)


@keras.saving.register_keras_serializable(package="pyxem_nas")
def surprise(right, utilities):
    """Return minus the logarithm of the probability that the right candidates have together."""
    ops = keras.ops
    hit = ops.logsumexp(ops.where(right > 0, utilities, -1e9), axis=1)
    return ops.logsumexp(utilities, axis=1) - hit


@keras.saving.register_keras_serializable(package="pyxem_nas")
class JudgeHead(_FixedHead):
    """Utilities as they are; the target says which candidates are right, or that none is."""

    def __init__(self, **kwargs):
        super().__init__(
            loss=surprise, **{k: v for k, v in kwargs.items() if k not in ("loss", "metrics")}
        )

    def build(self, hp, inputs=None):
        """Return the utilities."""
        return keras.layers.Identity(name=self.name)(tree.flatten(inputs)[0])
