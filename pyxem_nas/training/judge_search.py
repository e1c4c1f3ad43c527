"""The judge of candidates: its architecture searched, its weights fitted.

Owns the search on crystals that are left out and the fit. The patterns come from whoever asks
(`benchmarks/make_judge.py`); what a judge is, `bundles.set_judge` says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyxem_nas.bundles import JudgeArchitecture, SetJudge, build_judge_network, read_weights
from pyxem_nas.training.search import SearchReport, SearchSettings, search_on_arrays

_logger = logging.getLogger(__name__)


def search_judge(
    features: np.ndarray,
    right: np.ndarray,
    held_out: np.ndarray,
    settings: SearchSettings,
    directory: Path | str,
    *,
    report: Callable[[str], None] = _logger.info,
) -> SearchReport:
    """Search the architecture of a judge by its likelihood on patterns of crystals held out.

    Parameters
    ----------
    features
        Of candidates and, last, whether there is one, shape (n, k, 7), float32
        (`bundles.make_features`).
    right
        Which candidates are right and, last, that none is, shape (n, k + 1).
    held_out
        Patterns that judge, shape (n,), boolean.
    settings
        Trials and epochs.
    directory
        Where AutoKeras keeps its trials; a search that was stopped goes on from there.
    report
        Called with lines of progress.

    Returns
    -------
    report
        All trials, the best first.
    """
    from pyxem_nas.training.search_space import CandidateSet, JudgeHead

    right = np.asarray(right, np.float32)
    data = features[~held_out], right[~held_out], features[held_out], right[held_out]
    block, head = CandidateSet(name="trunk"), JudgeHead(name="utilities")
    return search_on_arrays("judge", block, head, data, settings, Path(directory), report)


def fit_judge_network(
    features: np.ndarray,
    right: np.ndarray,
    architecture: JudgeArchitecture,
    *,
    epochs: int = 15,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> SetJudge:
    """Return the judge of an architecture, fitted to patterns; arguments as of `search_judge`."""
    import keras

    from pyxem_nas.training.search_space import surprise

    keras.utils.set_random_seed(seed)
    inputs = keras.Input(features.shape[1:])
    model = keras.Model(inputs, build_judge_network(inputs, architecture))
    n_steps = epochs * -(-len(features) // 256)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, n_steps)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-3), surprise)
    model.fit(features, np.asarray(right, np.float32), batch_size=256, epochs=epochs, verbose=0)
    return SetJudge(architecture, read_weights(model))
