"""One trunk for all tasks: a network from descriptors to features, and small heads on those.

Owns how trunk and heads are parts of one network in training and networks of their own in a bundle,
where a pattern passes the trunk once, whatever is asked of it. The layers are `architectures`'.
Keras is imported inside functions: importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyxem_nas.bundles.architectures import (
    Architecture,
    add_blocks,
    build_orientation_head,
    build_phase_head,
    build_trunk,
)
from pyxem_nas.bundles.network_files import dump_keras, load_keras

if TYPE_CHECKING:
    import keras

    from pyxem_nas.bundles.bundle import ModelBundle
    from pyxem_nas.diffraction import OrientationCells

TRUNK = "trunk"  # its name in a bundle


def build_shared_networks(
    architecture: Architecture,
    descriptor_shape: tuple[int, int],
    cells: Mapping[int, OrientationCells],
    n_classes: int,
) -> dict[str, keras.Model]:
    """Return trunk and heads by the names that they have in a bundle.

    Parameters
    ----------
    architecture
        Of the trunk.
    descriptor_shape
        ``(n_radial, n_azimuthal)``.
    cells
        Orientation cells of each phase that gets a head, by the phase's number.
    n_classes
        Of the phase head, "none of these" among them; 0: there is none.
    """
    import keras

    inputs = keras.Input(descriptor_shape, name="descriptor")
    networks = {TRUNK: keras.Model(inputs, build_trunk(inputs, architecture), name=TRUNK)}
    shape = networks[TRUNK].output_shape[1:]
    for k, c in cells.items():
        networks[f"orientation_{k}"] = build_orientation_head_network(shape, c, f"orientation_{k}")
    if n_classes:
        networks["phase"] = build_phase_head_network(shape, n_classes, architecture.dropout)
    return networks


def build_orientation_head_network(
    feature_shape: Sequence[int], cells: OrientationCells, name: str, *, n_blocks: int = 0
) -> keras.Model:
    """Return a network from features (n_positions, width) to the cell logits of one phase.

    With residual blocks of its own it can learn what the trunk was not trained to see.
    """
    import keras

    inputs = features = keras.Input(tuple(feature_shape), name="features")
    if n_blocks:
        features = add_blocks(features, Architecture(width=feature_shape[-1], n_blocks=n_blocks))
    logits = build_orientation_head(features, cells.n_inplane, cells.n_directions)
    return keras.Model(inputs, logits, name=name)


def build_phase_head_network(
    feature_shape: Sequence[int], n_classes: int, dropout: float = 0.0
) -> keras.Model:
    """Return a network from features (n_positions, width) to phase logits."""
    import keras

    features = keras.Input(tuple(feature_shape), name="features")
    return keras.Model(features, build_phase_head(features, n_classes, dropout), name="phase")


def join_networks(networks: Mapping[str, keras.Model]) -> keras.Model:
    """Return one network of trunk and heads, with an output a head, which shares their weights."""
    import keras

    trunk = networks[TRUNK]
    inputs = keras.Input(trunk.input_shape[1:], name="inputs")
    features = trunk(inputs)
    outputs = {name: head(features) for name, head in networks.items() if name != TRUNK}
    return keras.Model(inputs, outputs)


def join_files(trunk: bytes, head: bytes) -> bytes:
    """Return the .keras file of a whole network, from descriptors to the head's logits."""
    return dump_keras(_join(trunk, head))


def load_whole(bundle: ModelBundle, name: str) -> keras.Model:
    """Return a network of a bundle by its name, its trunk and all: from descriptors to logits."""
    content = bundle.models[name]
    return _join(bundle.models[TRUNK], content) if bundle.is_head(name) else load_keras(content)


def _join(trunk: bytes, head: bytes) -> keras.Model:
    import keras

    trunk_network, head_network = load_keras(trunk), load_keras(head)
    inputs = keras.Input(trunk_network.input_shape[1:], name="descriptor")
    return keras.Model(inputs, head_network(trunk_network(inputs)))
