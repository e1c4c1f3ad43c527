"""The judges of any crystal: small networks over the set of a pattern's candidates, or of phases.

Owns `SetJudge`, its arithmetic in plain NumPy and the same in Keras, in which it is searched and
fitted (`training.judge_search`), and what it looks at. It sees scores alone, no crystal and no
camera: one set of weights, shipped with the package, serves all phases, with networks or without.
There are two: which of a phase's candidates is right, and which phase.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import keras

_SHIPPED = Path(__file__).parent / "shipped"
_NEVER = -1e9  # utility of a candidate that is none
MEAN_REACH = 1.4  # 1/angstrom
N_NETWORK_FEATURES = 18  # of `make_network_features`


class CandidateScores(NamedTuple):
    """What a judge looks at, of each candidate, shapes (n, k); see `indexing.RatedCandidates`."""

    narrow: np.ndarray
    """Correlation of the refined candidate."""
    tolerant: np.ndarray
    """The same with a broad rocking curve."""
    matching: np.ndarray
    """Score of exhaustive matching at the grid."""
    spots: np.ndarray
    """Number of spots that the candidate predicts: few of them are easily matched by chance."""
    explained: np.ndarray
    """Root of the share of the peaks' power that is found there."""
    peaks: np.ndarray
    """Number of the pattern's peaks, the same for all its candidates."""


class PhaseScores(NamedTuple):
    """What a judge looks at, of each phase in its best orientation, shapes (n, n_phases)."""

    correlation: np.ndarray
    """These three from `indexing.score_phase`."""
    explained: np.ndarray
    missing: np.ndarray
    matching: np.ndarray
    """This and the next five as of `CandidateScores`, of the best candidate."""
    narrow: np.ndarray
    tolerant: np.ndarray
    share: np.ndarray
    spots: np.ndarray
    peaks: np.ndarray
    reflections: np.ndarray
    """Logarithm of the number of reflections that the phase has: many fit anything."""


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
    """Utilities of a pattern's candidates, or of phases, and of "none of them".

    Parameters
    ----------
    architecture
        Of the network.
    weights
        Kernels and biases, layer by layer, as Keras has them.
    provenance
        What it was fitted to.
    plausible
        What `count_plausible` goes by: shares of the first answer that part patterns by
        difficulty, and the share that each part wants, shape (2, n_parts); None: not known.
    """

    architecture: JudgeArchitecture
    weights: tuple[np.ndarray, ...] = field(repr=False)
    provenance: dict = field(default_factory=dict, repr=False)
    plausible: np.ndarray | None = field(default=None, repr=False)

    def rate(
        self, scores: CandidateScores | PhaseScores, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the utility of each candidate or phase (n, k) and of "none of them" (n, 1).

        Parameters
        ----------
        scores
            Of the candidates, or of the phases.
        valid
            False where a row has fewer, shape (n, k).

        Notes
        -----
        The softmax of both is the probability of each: of a candidate to be within 5 degrees of the
        truth, of a phase to be that of the pattern. The order does not matter.
        """
        return self.rate_features(make_features(scores, valid), valid)

    def rate_features(
        self, features: np.ndarray, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the same for features (n, k, n_features), from `make_features`."""
        waiting = iter(self.weights)

        def dense(x: np.ndarray) -> np.ndarray:
            # not by BLAS, whose last digits depend on the number of rows and of threads
            return np.einsum("...i,ij->...j", x, next(waiting)) + next(waiting)

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
        none = dense(np.maximum(dense(pooled), 0))
        return np.where(valid, utility, _NEVER), none

    def count_plausible(self, mass: np.ndarray) -> np.ndarray:
        """Return how many candidates it takes to hold the right one in 9 of 10 patterns that do.

        Parameters
        ----------
        mass
            Probabilities of distinct candidates, the likeliest first, 0 where there are fewer,
            shape (n, k).

        Returns
        -------
        n_plausible
            At least 1 where there is a candidate, shape (n,), integer.

        Notes
        -----
        Candidates are taken in turn until those before hold the share that patterns as difficult,
        by the share of their first answer, want: none where that alone is right in 9 of 10
        simulated patterns of crystals that the judge was not fitted to, of those that have the
        right one among their candidates at all; else nine tenths, or more where 9 of 10 of these
        patterns need more.

        References
        ----------
        Romano, Y., Sesia, M. and Candes, E. (2020), arXiv:2006.02544: adaptive prediction sets.
        Vovk, V. (2012), doi:10.1007/s10994-013-5355-6: conditional on difficulty.
        """
        if self.plausible is None:
            return np.zeros(len(mass), np.int64)
        edges, wanted = self.plausible
        # given that one of them is right
        share = mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-12)
        part = np.clip(np.searchsorted(edges, share[:, 0], side="right") - 1, 0, len(edges) - 1)
        before = np.cumsum(share, axis=1) - share
        taken = (before < wanted[part][:, None]) | (np.arange(mass.shape[1]) == 0)
        return (taken & (mass > 0)).sum(axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return architecture and weights as JSON has them, for bundles."""
        # the shortest decimals that are this float32
        weights = [
            {"shape": list(w.shape), "values": [float(str(v)) for v in w.ravel()]}
            for w in self.weights
        ]
        return {"architecture": asdict(self.architecture), "weights": weights}

    @classmethod
    def from_dict(cls, fields: dict[str, Any], n_features: int) -> SetJudge:
        """Return the judge of a dictionary by `to_dict`, for features of a number.

        Raises
        ------
        ValueError
            If it is no such judge: weights of other shapes, or that are not finite.
        """
        architecture = JudgeArchitecture(**fields["architecture"])
        weights = tuple(
            np.array(w["values"], np.float32).reshape(w["shape"]) for w in fields["weights"]
        )
        shapes = [w.shape for w in weights]
        needed = _list_shapes(architecture, n_features)
        if shapes != needed:
            raise ValueError(f"a judge {architecture!r} has weights {needed!r}, got {shapes!r}")
        if not all(np.isfinite(w).all() for w in weights):
            raise ValueError("the weights of a judge must be finite")
        return cls(architecture, weights)

    def save(self, path: Path | str) -> None:
        """Write the judge to an .npz file."""
        about = {"architecture": asdict(self.architecture), "provenance": self.provenance}
        if self.plausible is not None:
            about["plausible"] = self.plausible.tolist()
        np.savez_compressed(path, *self.weights, about=json.dumps(about))

    @classmethod
    def load(cls, path: Path | str) -> SetJudge:
        """Return the judge of a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            weights = tuple(file[f"arr_{k}"] for k in range(len(file.files) - 1))
        plausible = np.array(about["plausible"]) if "plausible" in about else None
        architecture = JudgeArchitecture(**about["architecture"])
        return cls(architecture, weights, about["provenance"], plausible)


@cache
def get_set_judge(kind: str = "judge") -> SetJudge:
    """Return a judge that comes with the package: "judge" of candidates, or "phase_judge"."""
    return SetJudge.load(_SHIPPED / f"{kind}.npz")


def make_features(scores: CandidateScores | PhaseScores, valid: np.ndarray) -> np.ndarray:
    """Return what a judge sees of scores, shape (n, k, n_features), float32, each near 0 to 1.

    Scores over the best (of phases: less the best) and as they are.
    """
    if isinstance(scores, PhaseScores):
        columns = _describe_phases(scores, valid)
    else:
        columns = []
        for score in (scores.matching, scores.narrow, scores.tolerant):
            best = np.where(valid, score, 0).max(axis=1, keepdims=True)
            columns += [5 * (score / np.maximum(best, 1e-6) - 1), 4 * (score - 0.5)]
        columns += [0.5 * np.log1p(number) - 1 for number in (scores.spots, scores.peaks)]
        columns.append(4 * (scores.explained - 0.5))
    return np.where(valid[..., None], np.stack(columns, axis=-1), 0).astype(np.float32)


def _describe_phases(scores: PhaseScores, valid: np.ndarray) -> list[np.ndarray]:
    columns = []
    for score in (scores.matching, scores.tolerant, scores.correlation, scores.explained):
        best = np.where(valid, score, -1).max(axis=1, keepdims=True)
        columns += [5 * (score - best), 4 * (score - 0.5)]
    columns += [4 * (scores.narrow - 0.5), 4 * (scores.share - 0.5), 4 * scores.missing]
    columns += [0.5 * np.log1p(number) - 1 for number in (scores.spots, scores.peaks)]
    return [*columns, 0.25 * (scores.reflections - 6)]


def make_network_features(
    scores: CandidateScores,
    valid: np.ndarray,
    utility: tuple[np.ndarray, np.ndarray],
    log_posterior: np.ndarray,
    log_rest: np.ndarray,
    reach: float | np.ndarray,
) -> np.ndarray:
    """Return what a judge sees who hears a network, too, (n, k, `N_NETWORK_FEATURES`), float32.

    Parameters
    ----------
    scores, valid
        As of `make_features`.
    utility
        Of candidates (n, k) and of "none of them" (n, 1), by the judge that sees scores alone.
    log_posterior
        Of the candidates, by the network, shape (n, k).
    log_rest
        Logarithm of the posterior outside of them, shape (n,).
    reach
        How far the detector shows spots, 1/angstrom; of each pattern (n,).
    """
    of_set, of_none = utility
    lead = np.where(valid, of_set - of_none, -20.0)
    highest = np.maximum(lead.max(axis=1, keepdims=True), 0)
    share = np.exp(lead - highest)
    share = share / (share.sum(axis=1, keepdims=True) + np.exp(-highest))
    log_posterior = np.where(valid, log_posterior, -30.0)
    likeliest = log_posterior.max(axis=1, keepdims=True)
    of_all = [
        0.25 * log_rest[:, None] + 1,
        0.25 * np.maximum(likeliest, -12),
        np.exp(likeliest),
        2 * (np.reshape(reach, (-1, 1)) - MEAN_REACH),
    ]
    columns = [
        np.clip(lead, -15, 15) / 5,
        np.log(np.maximum(share, 1e-6)) / 5 + 1,
        0.25 * np.maximum(log_posterior, -12) + 1,
        0.25 * np.maximum(log_posterior - likeliest, -12) + 1,
        np.exp(log_posterior),
        *(np.broadcast_to(column, valid.shape) for column in of_all),
    ]
    told = np.where(valid[..., None], np.stack(columns, axis=-1), 0).astype(np.float32)
    return np.concatenate([told, make_features(scores, valid)], axis=2)


def _list_shapes(architecture: JudgeArchitecture, n_features: int) -> list[tuple[int, ...]]:
    """Return the shapes of a judge's weights."""
    a, n = architecture, n_features
    if a.pooling not in ("none", "mean and maximum", "attention"):
        raise ValueError(f"a judge's pooling cannot be {a.pooling!r}")
    layers = []
    for _ in range(a.depth):
        layers.append((n, a.width))
        n = a.width
    layers += [(n, n)] * (3 if a.pooling == "attention" else 0)
    pooled = 2 * n
    if a.pooling != "none":
        layers.append((n + pooled, a.width))
        n = a.width
    layers += [(n + n_features, 1), (pooled, a.width), (a.width, 1)]
    return [shape for n_in, n_out in layers for shape in ((n_in, n_out), (n_out,))]


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

    features, shown = inputs[..., :-1], inputs[..., -1:]
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
