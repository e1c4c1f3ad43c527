"""The judge of candidates of any crystal: a small network over the set of a pattern's candidates.

Owns `SetJudge`, its arithmetic in plain NumPy and the same in Keras, in which it is searched and
fitted (`training.judge_search`). It sees scores alone, no crystal and no camera: one set of
weights, shipped with the package, serves all phases, with networks or without.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

_SHIPPED = Path(__file__).parent / "shipped" / "judge.npz"
N_FEATURES = 6
_NEVER = -1e9  # utility of a candidate that is none


@dataclass(frozen=True)
class JudgeArchitecture:
    """Hyperparameters of a judge.

    Parameters
    ----------
    width
        Numbers by which a candidate is described inside.
    depth
        Layers that see one candidate alone. 0 with `pooling` "none" is a conditional logit, but
        for "none of them".
    pooling
        What a candidate learns of the others: "none", "mean and maximum" of their descriptions, or
        "attention" to them, too.
    """

    width: int = 16
    depth: int = 2
    pooling: str = "mean and maximum"


@dataclass(frozen=True, eq=False)
class SetJudge:
    """Utilities of a pattern's candidates and of "none of them".

    Parameters
    ----------
    architecture
        Of the network.
    weights
        Kernels and biases, layer by layer, as Keras has them.
    provenance
        What it was fitted to.
    """

    architecture: JudgeArchitecture
    weights: tuple[np.ndarray, ...] = field(repr=False)
    provenance: dict = field(default_factory=dict, repr=False)

    def rate(
        self, narrow: np.ndarray, tolerant: np.ndarray, matching: np.ndarray, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the utility of each candidate (n, k) and of "none of them" (n, 1).

        Parameters
        ----------
        narrow, tolerant
            Correlations of the refined candidates (`indexing.refine_candidates`), shape (n, k).
        matching
            Scores of exhaustive matching at the grid, shape (n, k).
        valid
            False where a row has fewer candidates, shape (n, k).

        Notes
        -----
        The softmax of both is the probability of each to be within 5 degrees of the truth. The
        order of the candidates does not matter.
        """
        return self.rate_features(make_features(narrow, tolerant, matching, valid), valid)

    def rate_features(
        self, features: np.ndarray, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the same for the features of candidates (n, k, 6), from `make_features`."""
        waiting = iter(self.weights)

        def dense(x: np.ndarray) -> np.ndarray:
            return x @ next(waiting) + next(waiting)

        shown = valid[..., None].astype(np.float32)
        hidden = features
        for _ in range(self.architecture.depth):
            hidden = np.maximum(dense(hidden), 0)
        if self.architecture.pooling == "attention":
            query, key, value = dense(hidden), dense(hidden), dense(hidden)
            likeness = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(query.shape[-1]))
            likeness = np.where(valid[:, None], likeness, np.float32(_NEVER))
            likeness = np.exp(likeness - likeness.max(axis=2, keepdims=True))
            hidden = hidden + likeness / likeness.sum(axis=2, keepdims=True) @ value
        mean = (hidden * shown).sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
        pooled = np.concatenate([mean, (hidden * shown).max(axis=1)], axis=1)
        if self.architecture.pooling != "none":
            around = np.broadcast_to(pooled[:, None], (*hidden.shape[:2], pooled.shape[1]))
            hidden = np.maximum(dense(np.concatenate([hidden, around], axis=2)), 0)
        utility = dense(np.concatenate([hidden, features], axis=2))[..., 0]
        none = np.maximum(dense(pooled), 0)
        none = dense(none)
        return np.where(valid, utility, _NEVER), none

    def save(self, path: Path | str) -> None:
        """Write the judge to an .npz file."""
        about = {"architecture": asdict(self.architecture), "provenance": self.provenance}
        np.savez_compressed(path, *self.weights, about=json.dumps(about))

    @classmethod
    def load(cls, path: Path | str) -> SetJudge:
        """Return the judge of a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            weights = tuple(file[f"arr_{k}"] for k in range(len(file.files) - 1))
        return cls(JudgeArchitecture(**about["architecture"]), weights, about["provenance"])


@cache
def get_set_judge() -> SetJudge:
    """Return the judge that comes with the package."""
    return SetJudge.load(_SHIPPED)


def make_features(
    narrow: np.ndarray, tolerant: np.ndarray, matching: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Return what a judge sees of candidates: scores over the best and as they are, (n, k, 6)."""
    columns = []
    for score in (matching, narrow, tolerant):
        best = np.where(valid, score, 0).max(axis=1, keepdims=True)
        columns.append(5 * (score / np.maximum(best, 1e-6) - 1))
    columns += [4 * (score - 0.5) for score in (matching, narrow, tolerant)]
    return np.where(valid[..., None], np.stack(columns, axis=-1), 0).astype(np.float32)


def build_judge_network(
    inputs: keras.KerasTensor, architecture: JudgeArchitecture
) -> keras.KerasTensor:
    """Return the utilities (batch, k + 1) for features with validity as the last of them.

    The same arithmetic as `SetJudge.rate`, its layers in the same order.
    """
    from keras import layers, ops

    numbers = count()

    def dense(width: int, activation: str | None = None) -> keras.layers.Dense:
        # named, as a model's own order of layers is another
        return layers.Dense(width, activation=activation, name=f"judge_{next(numbers)}")

    features, shown = inputs[..., :N_FEATURES], inputs[..., N_FEATURES:]
    absent = (1 - shown) * _NEVER
    a, hidden = architecture, features
    for _ in range(a.depth):
        hidden = dense(a.width, "relu")(hidden)
    if a.pooling == "attention":
        width = hidden.shape[-1]
        query, key, value = (dense(width)(hidden) for _ in range(3))
        likeness = ops.matmul(query, ops.transpose(key, (0, 2, 1))) / width**0.5
        likeness = ops.softmax(likeness + ops.transpose(absent, (0, 2, 1)), axis=-1)
        hidden = hidden + ops.matmul(likeness, value)
    n_shown = ops.maximum(ops.sum(shown, axis=1), 1)
    mean = ops.sum(hidden * shown, axis=1) / n_shown
    pooled = ops.concatenate([mean, ops.max(hidden * shown, axis=1)], axis=-1)
    if a.pooling != "none":
        around = ops.repeat(ops.expand_dims(pooled, 1), inputs.shape[1], axis=1)
        hidden = dense(a.width, "relu")(ops.concatenate([hidden, around], axis=-1))
    utility = dense(1)(ops.concatenate([hidden, features], axis=-1)) + absent
    none = dense(a.width, "relu")(pooled)
    return ops.concatenate([utility[..., 0], dense(1)(none)], axis=-1)


def read_weights(model: keras.Model) -> tuple[np.ndarray, ...]:
    """Return the weights of a network with `build_judge_network`'s layers, in their order."""
    names = [layer.name for layer in model.layers if layer.name.startswith("judge_")]
    names.sort(key=lambda name: int(name.removeprefix("judge_")))
    return tuple(np.asarray(w) for name in names for w in model.get_layer(name).get_weights())
