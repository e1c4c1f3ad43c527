"""Networks on polar descriptors, in plain Keras.

Owns the layers and the assembly of a network from an `Architecture`. What is searched over belongs
to `training.search_space`, the meaning of the outputs to `diffraction.orientation`. Keras is
imported inside functions: importing this module costs nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np


@dataclass(frozen=True)
class Architecture:
    """Hyperparameters of a network on descriptors.

    Parameters
    ----------
    width
        Number of channels.
    n_blocks
        Number of residual blocks.
    kernel_size
        Width of the azimuthal convolutions.
    dilation
        "exponential": 1, 2, 4, 8, 16 bins in turn; "constant": 1 throughout.
    azimuthal_stride
        Azimuthal bins that the first layer joins to one position.
    normalization
        "none", "batch" or "layer".
    squeeze_excitation
        Scale channels by what the whole pattern holds (Hu et al. 2018, arXiv:1709.01507).
    radial_mixing
        "channels": each ring is a channel from the first layer on; "2d": a two-dimensional
        convolution over radius and azimuth comes before.
    dropout
        Share of channels dropped before the head in training.
    """

    width: int = 96
    n_blocks: int = 5
    kernel_size: int = 3
    dilation: str = "exponential"
    azimuthal_stride: int = 4
    normalization: str = "none"
    squeeze_excitation: bool = False
    radial_mixing: str = "channels"
    dropout: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PatternArchitecture:
    """Hyperparameters of a phase network on Cartesian patterns, the founding paper's input.

    Parameters
    ----------
    width
        Channels of the first block; they double twice.
    n_blocks
        Blocks of convolution, batch normalisation and pooling.
    kernel_size
        Width of the convolutions.
    rotate
        Turn patterns by random angles in training (the paper's augmentation).
    """

    width: int = 16
    n_blocks: int = 4
    kernel_size: int = 3
    rotate: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)


@cache
def circular_convolution_class() -> type:
    """Return the Keras layer `CircularConv1D`, made and registered at the first call."""
    import keras

    @keras.saving.register_keras_serializable(package="pyxem_nas")
    class CircularConv1D(keras.layers.Layer):
        """Convolution along a closed axis: a shift of the input shifts the output.

        A matrix product and shifts, which run faster on a CPU than a dilated convolution and need
        no border. Without strides the product comes first and its parts are shifted and added; with
        strides neighbours are gathered to channels first.

        Input (batch, positions, channels), output (batch, positions / strides, filters).
        """

        def __init__(
            self, filters: int, kernel_size: int, *, dilation: int = 1, strides: int = 1, **kwargs
        ):
            super().__init__(**kwargs)
            self.filters, self.kernel_size = int(filters), int(kernel_size)
            self.dilation, self.strides = int(dilation), int(strides)
            self.dense = keras.layers.Dense(self.filters, kernel_initializer="he_normal")

        def build(self, input_shape):
            self.dense.build((*input_shape[:-1], input_shape[-1] * self.kernel_size))
            super().build(input_shape)

        def call(self, inputs):
            ops, n = keras.ops, self.kernel_size
            shifts = [((n - 1) // 2 - k) * self.dilation for k in range(n)]
            if n == 1 or self.strides > 1:
                taps = [_turn(inputs, s)[:, :: self.strides] for s in shifts]
                return self.dense(ops.concatenate(taps, axis=-1))
            kernel = ops.reshape(self.dense.kernel, (n, -1, self.filters))
            kernel = ops.reshape(ops.transpose(kernel, (1, 0, 2)), (-1, n * self.filters))
            parts = ops.split(ops.matmul(inputs, kernel), n, axis=-1)
            shifted = [_turn(p, s) for p, s in zip(parts, shifts, strict=True)]
            return sum(shifted[1:], shifted[0]) + self.dense.bias

        def compute_output_shape(self, input_shape):
            return (input_shape[0], -(-input_shape[1] // self.strides), self.filters)

        def get_config(self):
            names = ("filters", "kernel_size", "dilation", "strides")
            return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    return CircularConv1D


def _turn(x: keras.KerasTensor, shift: int) -> keras.KerasTensor:
    """Return what `roll` gives along axis 1, in operations that every runtime has."""
    from keras import ops

    shift %= x.shape[1]
    return ops.concatenate([x[:, -shift:], x[:, :-shift]], axis=1) if shift else x


def build_trunk(inputs: keras.KerasTensor, architecture: Architecture) -> keras.KerasTensor:
    """Return features along azimuth, equivariant to turning the pattern.

    Parameters
    ----------
    inputs
        Descriptors, (batch, n_radial, n_azimuthal).
    architecture
        Hyperparameters.

    Returns
    -------
    features
        (batch, n_azimuthal / azimuthal_stride, width).
    """
    import keras

    conv = circular_convolution_class()
    a = architecture
    x = keras.layers.Permute((2, 1))(inputs)
    if a.radial_mixing == "2d":
        x = _mix_radially(x)
    x = conv(a.width, a.azimuthal_stride + 1, strides=a.azimuthal_stride)(x)
    x = keras.layers.Activation("relu")(_normalize(x, a))
    return add_blocks(x, a)


def add_blocks(features: keras.KerasTensor, architecture: Architecture) -> keras.KerasTensor:
    """Return features (batch, positions, width) after the architecture's residual blocks."""
    import keras

    conv, a, x = circular_convolution_class(), architecture, features
    for k in range(a.n_blocks):
        dilation = 2 ** (k % 5) if a.dilation == "exponential" else 1
        y = conv(a.width, a.kernel_size, dilation=dilation)(x)
        y = keras.layers.Activation("relu")(_normalize(y, a))
        y = _normalize(keras.layers.Dense(a.width)(y), a)
        if a.squeeze_excitation:
            squeezed = keras.layers.GlobalAveragePooling1D(keepdims=True)(y)
            squeezed = keras.layers.Dense(a.width // 4, activation="relu")(squeezed)
            gate = keras.layers.Dense(a.width, activation="sigmoid")(squeezed)
            y = keras.layers.Multiply()([y, gate])
        x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    return x


def build_orientation_head(
    features: keras.KerasTensor,
    n_inplane: int,
    n_directions: int,
    dropout: float = 0.0,
    name: str = "cell_logits",
) -> keras.KerasTensor:
    """Return the logits of all orientation cells, (batch, n_inplane * n_directions).

    Raises
    ------
    ValueError
        If `n_inplane` is no multiple of the number of azimuthal positions.
    """
    import keras

    n_positions = features.shape[1]
    if n_inplane % n_positions:
        raise ValueError(
            f"the number of in-plane bins, {n_inplane!r}, must be a multiple of the network's "
            f"{n_positions!r} azimuthal positions; choose another azimuthal_stride"
        )
    if dropout:
        features = keras.layers.SpatialDropout1D(dropout)(features)
    logits = keras.layers.Dense(n_directions * (n_inplane // n_positions))(features)
    return keras.layers.Flatten(name=name)(logits)


def build_phase_head(
    features: keras.KerasTensor, n_classes: int, dropout: float = 0.0, name: str = "phase_logits"
) -> keras.KerasTensor:
    """Return phase logits, (batch, n_classes), from features pooled over azimuth if need be."""
    import keras

    pooled = features
    if len(features.shape) == 3:
        pooled = keras.layers.Concatenate()(
            [
                keras.layers.GlobalAveragePooling1D()(features),
                keras.layers.GlobalMaxPooling1D()(features),
            ]
        )
    x = keras.layers.Dense(128, activation="relu")(pooled)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    return keras.layers.Dense(n_classes, name=name)(x)


def build_euler_head(features: keras.KerasTensor, name: str = "euler_angles") -> keras.KerasTensor:
    """Return Bunge Euler angles in radians, (batch, 3): the founding paper's regression."""
    import keras

    x = keras.layers.Flatten()(features)
    x = keras.layers.Dense(256, activation="relu")(x)
    return keras.layers.Dense(3, name=name)(x)


def build_pattern_trunk(
    inputs: keras.KerasTensor, architecture: PatternArchitecture
) -> keras.KerasTensor:
    """Return a feature vector of Cartesian patterns (batch, ny, nx); they are never mirrored."""
    import keras

    x = keras.layers.Reshape((*inputs.shape[1:], 1))(inputs)
    a = architecture
    if a.rotate:
        x = keras.layers.RandomRotation(0.5, fill_mode="constant")(x)
    for k in range(a.n_blocks):
        x = keras.layers.Conv2D(a.width * 2 ** min(k, 2), a.kernel_size, padding="same")(x)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
        x = keras.layers.MaxPooling2D(2)(x)
    return keras.layers.GlobalAveragePooling2D()(x)


def build_orientation_network(
    architecture: Architecture, descriptor_shape: tuple[int, int], n_inplane: int, n_directions: int
) -> keras.Model:
    """Return a network from descriptors to cell logits, in-plane bin by bin."""
    import keras

    inputs = keras.Input(descriptor_shape, name="descriptor")
    features = build_trunk(inputs, architecture)
    outputs = build_orientation_head(features, n_inplane, n_directions, architecture.dropout)
    return keras.Model(inputs, outputs)


def build_phase_network(
    architecture: Architecture | PatternArchitecture, input_shape: tuple[int, int], n_classes: int
) -> keras.Model:
    """Return a network to phase logits, from descriptors or from Cartesian patterns.

    On descriptors it is invariant to turning the pattern by construction.
    """
    import keras

    inputs = keras.Input(input_shape, name="inputs")
    if isinstance(architecture, PatternArchitecture):
        outputs = build_phase_head(build_pattern_trunk(inputs, architecture), n_classes)
    else:
        features = build_trunk(inputs, architecture)
        outputs = build_phase_head(features, n_classes, architecture.dropout)
    return keras.Model(inputs, outputs)


def _normalize(x: keras.KerasTensor, architecture: Architecture) -> keras.KerasTensor:
    import keras

    if architecture.normalization == "batch":
        return keras.layers.BatchNormalization(momentum=0.95)(x)
    if architecture.normalization == "layer":
        return keras.layers.LayerNormalization()(x)
    return x


def _mix_radially(x: keras.KerasTensor) -> keras.KerasTensor:
    """Convolve over radius and azimuth; (batch, azimuth, radius) in and (.., channels) out."""
    import keras

    n_azimuthal, n_radial = x.shape[1:]
    conv = circular_convolution_class()
    # a ring sees its two neighbours; azimuthal neighbours join in the layers that follow
    y = keras.layers.Reshape((n_azimuthal, n_radial, 1))(x)
    y = keras.layers.Conv2D(6, (1, 5), padding="same", activation="relu")(y)
    y = keras.layers.Reshape((n_azimuthal, n_radial * 6))(y)
    return conv(2 * n_radial, 1)(y)


def measure_rate(model: keras.Model, batch: np.ndarray, n_repeats: int = 4) -> float:
    """Return how many descriptors a second a network takes, batch by batch, compiled."""
    model.predict_on_batch(batch)
    started = time.perf_counter()
    for _ in range(n_repeats):
        model.predict_on_batch(batch)
    return n_repeats * len(batch) / (time.perf_counter() - started)
