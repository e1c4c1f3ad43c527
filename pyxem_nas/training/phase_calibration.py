"""Calibration of the choice between phases on simulated patterns.

Owns the fit of a bundle's `PhaseJudge`: every phase's network and refinement on patterns of all
phases and of foreign crystals. What the scores are belongs to `phase_scores`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pyxem_nas.bundles import Judge, ModelBundle, PhaseJudge, load_keras
from pyxem_nas.diffraction import laue_operations
from pyxem_nas.indexing import (
    fit_phase_judge,
    get_refinement_spec,
    judge_candidates,
    judge_phases,
    rank_candidates,
    refine_candidates,
    score_phase,
    select_candidates,
)
from pyxem_nas.scans import DescriptorSource

_CHUNK = 512  # patterns: the logits of a phase of low symmetry take 0.3 MB each


def calibrate_phase_judge(
    bundle: ModelBundle, simulator: DescriptorSource, *, seed: int = 0, n: int = 3000
) -> tuple[PhaseJudge | None, dict[str, Any]]:
    """Fit the weights by which physical scores decide the phase.

    Parameters
    ----------
    bundle
        With its orientation networks and their judges; with its phase network and temperature if
        it has one.
    simulator
        Patterns that no network was trained on, of one precession angle, the bundle's phases first.
    seed
        Of the simulations.
    n
        Number of patterns, of all phases and foreign crystals together.

    Returns
    -------
    judge
        None if the bundle has one phase, or one without an orientation network: then the default
        judge has to serve.
    figures
        What was reached: share of right phases by physical scores, over all phases and of each,
        and together with the phase network.
    """
    n_phases = len(bundle.phases)
    if n_phases < 2 or not all(bundle.has_orientation_network(k) for k in range(n_phases)):
        return None, {}
    scores, classes, log_network = score_simulations(bundle, simulator, seed=seed, n=n)
    judge = fit_phase_judge(scores, classes, log_network)
    return judge, describe_phase_judge(bundle, judge, scores, classes, log_network)


def score_simulations(
    bundle: ModelBundle, simulator: DescriptorSource, *, seed: int, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return what `fit_phase_judge` takes: scores, classes and the network's log-probabilities."""
    specs = (bundle.spec, get_refinement_spec(bundle.spec))
    stacks = [
        dataclasses.replace(simulator, spec=spec).simulate(n, np.random.default_rng((seed, 701)))
        for spec in specs  # the same seed: the same patterns, described twice
    ]
    descriptors, classes, _ = stacks[0]
    polar = stacks[1][0]
    scores = np.stack(
        [
            _score_simulated_phase(bundle, k, descriptors, polar, simulator)
            for k in range(len(bundle.phases))
        ],
        axis=1,
    )
    if "phase" not in bundle.models:
        return scores, classes, None
    if bundle.pattern_spec is not None:
        descriptors, _, _ = dataclasses.replace(simulator, spec=bundle.pattern_spec).simulate(
            n, np.random.default_rng((seed, 701))
        )
    logits = load_keras(bundle.models["phase"]).predict(descriptors, batch_size=256, verbose=0)
    scaled = logits.astype(np.float64) / (bundle.phase_temperature or 1.0)
    return scores, classes, scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)


def _score_simulated_phase(bundle, k, descriptors, polar, simulator) -> np.ndarray:
    """Return the scores of one phase in its best orientation, (n, 3)."""
    model = load_keras(bundle.models[f"orientation_{k}"])
    symmetry = laue_operations(bundle.phases[k])
    judge = bundle.judges.get(k, {}).get("refined", Judge())
    grid = {
        "spec": get_refinement_spec(bundle.spec),
        "wavelength": simulator.acquisition.wavelength,
        "precession_angle": simulator.randomization.precession_angle[0],
    }
    parts = []
    for start in range(0, len(descriptors), _CHUNK):
        rows = slice(start, start + _CHUNK)
        logits = model.predict(descriptors[rows], batch_size=256, verbose=0)
        highest = logits.max(axis=1, keepdims=True)
        norms = (highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)))[:, 0]
        candidates, log_posterior = select_candidates(logits, norms, bundle.cells[k])
        rated = refine_candidates(polar[rows], candidates, simulator.reflections, k, **grid)
        probability = judge_candidates(rated, log_posterior, judge)
        answers = rank_candidates(rated.quaternions, probability, rated.correlation, symmetry)
        best = answers["quaternions"][:, 0]
        parts.append(score_phase(polar[rows], best, simulator.reflections, k, **grid))
    return np.concatenate(parts)


def describe_phase_judge(
    bundle: ModelBundle,
    judge: PhaseJudge,
    scores: np.ndarray,
    classes: np.ndarray,
    log_network: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return the share of right phases, "none of these" left out of the answers."""
    known = classes < len(bundle.phases)
    truth = classes[known]

    def accuracy(probability: np.ndarray) -> dict[str, float]:
        right = probability[known, :-1].argmax(axis=1) == truth
        each = {name: float(right[truth == k].mean()) for k, name in enumerate(bundle.phase_names)}
        return {"all": float(right.mean()), **each}

    figures = {"physics": accuracy(judge_phases(scores, judge))}
    if log_network is not None:
        figures["network"] = accuracy(np.exp(log_network))
        figures["both"] = accuracy(judge_phases(scores, judge, log_network))
    return figures
