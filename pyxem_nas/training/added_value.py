"""What a network adds to exhaustive matching: an objective for its search.

Owns patterns that matching has looked at, and how much surer of the truth the two are together.
Matching itself and its judge are `indexing`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from pyxem_nas.bundles import DEFAULT_JUDGES, ModelBundle
from pyxem_nas.diffraction import OrientationCells, laue_operations
from pyxem_nas.indexing import (
    find_candidates,
    get_predictor,
    judge_candidates,
    log_posterior_at,
    rate_candidates,
    sum_exponentials,
)
from pyxem_nas.scans import DescriptorSource
from pyxem_nas.training.judge_fit import candidates_right
from pyxem_nas.training.phase_calibration import look_through

ADDED = "val_with_matching"  # its name among the metrics of a trial
_WEIGHTS = np.linspace(0, 1, 21)  # of a network's word


@dataclass(frozen=True, eq=False)
class AddedValue:
    """Patterns of one phase, what matching says of them, and the truth.

    Parameters
    ----------
    descriptors
        Shape (n, n_radial, n_azimuthal), float32.
    candidates
        Refined candidates of matching, shape (n, k, 4); all-zero ones are none.
    log_share
        Logarithm of the probability that the judge without networks gives to each and, last, to
        none of them, shape (n, k + 1).
    right
        Which of these is the truth, shape (n, k + 1).
    cells
        What a network's logits stand for.
    """

    descriptors: np.ndarray = field(repr=False)
    candidates: np.ndarray = field(repr=False)
    log_share: np.ndarray = field(repr=False)
    right: np.ndarray = field(repr=False)
    cells: OrientationCells = field(repr=False)

    def measure(self, logits: np.ndarray) -> float:
        """Return the mean of minus the log-probability of the truth, of matching and network.

        The network's log-posterior joins that of the judge with the weight that serves best, as in
        a bundle's calibration; without any network it is `measure_matching`.
        """
        logits = np.ascontiguousarray(logits, np.float32)
        word = log_posterior_at(logits, sum_exponentials(logits), self.cells, self.candidates)
        word = np.concatenate([word, np.zeros((len(word), 1))], axis=1)
        return min(self._surprise(weight, word) for weight in _WEIGHTS)

    def measure_matching(self) -> float:
        """Return the same of matching alone."""
        return self._surprise(0.0, np.zeros(self.log_share.shape))

    def _surprise(self, weight: float, word: np.ndarray) -> float:
        utility = self.log_share + weight * word
        utility -= np.logaddexp.reduce(utility, axis=1, keepdims=True)
        hit = np.logaddexp.reduce(np.where(self.right, utility, -np.inf), axis=1)
        return float(-np.maximum(hit, -12.0).mean())  # one hopeless pattern is not the mean


def draw_added_value(
    bundle: ModelBundle,
    source: DescriptorSource,
    phase_id: int,
    cells: OrientationCells,
    *,
    n: int = 512,
    seed: int = 0,
) -> AddedValue:
    """Return simulated patterns of one phase, matched and refined.

    Parameters
    ----------
    bundle
        The phases, without networks (`ModelBundle.from_phases`).
    source
        Simulator of patterns that trials are judged on.
    phase_id
        The phase.
    cells
        Of the network that is to be judged.
    n
        Number of patterns.
    seed
        Of the simulations.
    """
    predictor, operations = get_predictor(bundle), laue_operations(bundle.phases[phase_id])
    judge, parts = DEFAULT_JUDGES["match"], []
    for described, _, truth, plan in look_through(bundle, source, n, (seed, 509), phase_id):
        found = find_candidates(predictor, phase_id, described, plan)
        rated = rate_candidates(predictor, found, phase_id, described, plan)
        share = judge_candidates(rated, found.log_posterior, judge, reach=plan.reach)
        right = candidates_right(rated.quaternions, truth, operations)
        shares = np.concatenate([share, 1 - share.sum(axis=1, keepdims=True)], axis=1)
        rights = np.concatenate([right, ~right.any(axis=1, keepdims=True)], axis=1)
        log_share = np.log(np.maximum(shares, 1e-12))
        parts.append((described.descriptors, rated.quaternions, log_share, rights))
    return AddedValue(*(np.concatenate(part) for part in zip(*parts, strict=True)), cells)


@cache
def added_value_callback_class() -> type:
    """Return the Keras callback `AddedValueMetric`, made at the first call."""
    import keras

    class AddedValueMetric(keras.callbacks.Callback):
        """Write what a network adds, the sum over phases, among the metrics of each epoch.

        `values` by the names of the network's outputs.
        """

        def __init__(self, values: Mapping[str, AddedValue]):
            super().__init__()
            self.values = values

        def on_epoch_end(self, epoch, logs=None):
            total = 0.0
            for name, value in self.values.items():
                logits = self.model.predict(value.descriptors, verbose=0)
                if not isinstance(logits, np.ndarray):  # of several heads
                    names = self.model.output_names
                    logits = logits[name] if isinstance(logits, dict) else logits[names.index(name)]
                total += value.measure(logits)
            logs[ADDED] = total

    return AddedValueMetric
