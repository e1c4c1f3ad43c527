"""Calibration of the choice between phases on simulated patterns.

Owns the simulated scans that matching is calibrated on, through cameras of several lengths, and the
fit of a bundle's `PhaseJudge` to patterns of all its phases and of foreign crystals. What the
scores are belongs to `indexing.phase_scores`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pyxem_nas.bundles import ModelBundle, PhaseJudge, PhaseScores
from pyxem_nas.indexing import (
    Described,
    IndexingPlan,
    get_predictor,
    get_refinement_spec,
    get_specs,
    judge_phases,
    make_plan,
    mark_unseen,
    rate_phases,
    score_phases,
)
from pyxem_nas.patterns import Detector, make_sampler
from pyxem_nas.scans import DescriptorSource
from pyxem_nas.training.judge_fit import fit_logit

_N_CAMERAS = 4  # of different length: matching leaves out what a detector does not show
_N_PIXELS = 112  # of simulated images, `scans.simulate_descriptors`
_SHARE_OF_NONE = 0.1  # patterns of none of the phases among a user's, as good as a guess
_LEAST_LOG = -12.0  # of a phase network's probability


def look_through(
    bundle: ModelBundle,
    simulator: DescriptorSource,
    n: int,
    seed: tuple[int, ...],
    phase_id: int | None = None,
) -> Iterator[tuple[Described, np.ndarray, np.ndarray, IndexingPlan]]:
    """Yield simulated patterns through cameras of one length after the other.

    Parameters
    ----------
    bundle
        Whose patterns are wanted.
    simulator
        Of one precession angle, the bundle's phases first.
    n
        Number of patterns of all cameras together.
    seed
        Of the simulations.
    phase_id
        The one phase wanted; None: all and "none of these".

    Yields
    ------
    described, classes, quaternions, plan
        n / 4 patterns, their phases and orientations, and the plan "hybrid" for them.
    """
    low, high = simulator.randomization.scale
    angle = simulator.randomization.precession_angle[0]
    acquisition = dataclasses.replace(bundle.acquisition, precession_angle=angle)
    specs = [bundle.spec, get_refinement_spec(bundle.spec)]
    if bundle.pattern_spec is not None:
        specs.append(bundle.pattern_spec)
    for i in range(_N_CAMERAS):
        scale = low * (high / low) ** ((i + 0.5) / _N_CAMERAS)
        ranges = dataclasses.replace(simulator.randomization, scale=(scale, scale))
        stacks = [
            dataclasses.replace(simulator, spec=spec, randomization=ranges).simulate(
                max(1, n // _N_CAMERAS), np.random.default_rng((*seed, i)), phase_id=phase_id
            )
            for spec in specs  # the same seed: the same patterns, described in each way
        ]
        sampler = make_sampler(Detector((_N_PIXELS, _N_PIXELS), (scale, scale)), *get_specs(bundle))
        plan = make_plan(bundle, sampler, method="hybrid", acquisition=acquisition)
        centers = np.full((len(stacks[0][0]), 2), 0.5 * (_N_PIXELS - 1))
        polar = mark_unseen(stacks[1][0], centers, sampler, specs[1])
        cartesian = stacks[2][0] if len(stacks) > 2 else None
        described = Described(stacks[0][0], polar, bundle.spec, cartesian)
        yield described, stacks[0][1], stacks[0][2], plan.see(centers)


def calibrate_phase_judge(
    bundle: ModelBundle, simulator: DescriptorSource, *, seed: int = 0, n: int = 3000
) -> tuple[PhaseJudge, dict[str, Any]]:
    """Fit how much the shipped judge of phases and the phase network count.

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
        By which one pattern in ten is of none of the phases.
    figures
        What was reached: share of right phases by physical scores, over all phases and of each,
        and together with the phase network.
    """
    scores, classes, log_network = score_simulations(bundle, simulator, seed=seed, n=n)
    judge = fit_phase_judge(scores, classes, log_network)
    return judge, describe_phase_judge(bundle, judge, scores, classes, log_network)


def score_simulations(
    bundle: ModelBundle, simulator: DescriptorSource, *, seed: int, n: int
) -> tuple[PhaseScores, np.ndarray, np.ndarray | None]:
    """Return what `fit_phase_judge` takes: scores, classes and the network's log-probabilities."""
    predictor = get_predictor(bundle)
    scores, classes, logs = [], [], []
    for described, truth, _, plan in look_through(bundle, simulator, n, (seed, 701)):
        scores.append(score_phases(predictor, described, plan))
        classes.append(truth)
        if "phase" in bundle.models:
            logs.append(predictor.log_phase_probability(described.phase_input))
    joined = PhaseScores(*(np.concatenate(parts) for parts in zip(*scores, strict=True)))
    return joined, np.concatenate(classes), np.concatenate(logs) if logs else None


def fit_phase_judge(
    scores: PhaseScores, classes: np.ndarray, log_network: np.ndarray | None = None
) -> PhaseJudge:
    """Return the weights of greatest likelihood.

    Parameters
    ----------
    scores
        Of each phase, shapes (n, n_phases).
    classes
        The truth, shape (n,), n_phases for none of the phases.
    log_network
        Logarithm of the phase network's probabilities, shape (n, n_phases + 1); None without one.

    References
    ----------
    McFadden, D. (1974), conditional logit. A weak prior (variance 1000) keeps the weights finite.
    """
    n_phases = scores.correlation.shape[1]
    none = np.zeros((len(classes), n_phases + 1))
    none[:, -1] = 1
    terms = [rate_phases(scores), none]
    if log_network is not None:
        terms.append(np.maximum(log_network, _LEAST_LOG))
    right = classes[:, None] == np.arange(n_phases)
    start = np.array([1.0, 0.0, 0.8])[: len(terms)]
    fitted = fit_logit(np.stack(terms), right, np.ones(right.shape, bool), start)
    # none of these was as frequent as each phase
    rarer = math.log(_SHARE_OF_NONE / (1 - _SHARE_OF_NONE) * n_phases)
    network = fitted[2] if log_network is not None else 0.8
    return PhaseJudge(0.0, 0.0, 0.0, fitted[1] + rarer, network, fitted[0])


def describe_phase_judge(
    bundle: ModelBundle,
    judge: PhaseJudge,
    scores: PhaseScores,
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
