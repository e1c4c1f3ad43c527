"""A new bundle's judges, temperature and thresholds, from simulations that training did not see.

Owns which patterns are simulated for that; the fits are `judge_fit`'s and `phase_calibration`'s.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pyxem_nas.bundles import Judge, ModelBundle, Thresholds, load_whole
from pyxem_nas.diffraction import laue_operations
from pyxem_nas.indexing import (
    RatedCandidates,
    find_candidates,
    get_predictor,
    rank_candidates,
    rate_candidates,
    select_candidates,
)
from pyxem_nas.scans import DescriptorSource
from pyxem_nas.training.judge_fit import (
    FittedJudges,
    HybridPatterns,
    KnownPatterns,
    candidates_right,
    fit_hybrids,
    fit_judges,
    fit_temperature,
    threshold_for_precision,
)
from pyxem_nas.training.phase_calibration import calibrate_phase_judge, look_through
from pyxem_nas.training.training_source import hold_out_source

_N_VALIDATION = 3000
_TRUE_PATTERNS_KEPT = 0.98
_N_ANGLES = 3  # of precession, that hybrid judges are fitted at


def calibrate(
    bundle: ModelBundle,
    source: DescriptorSource,
    *,
    seed: int = 0,
    n: int = _N_VALIDATION,
    n_dynamical: int = 1000,
) -> tuple[ModelBundle, dict[str, Any]]:
    """Fit judges, temperature and thresholds of a bundle on held-out simulations.

    Parameters
    ----------
    bundle
        With its networks.
    source
        Simulator of the training; the patterns are drawn with other seeds.
    seed
        Of the simulations.
    n
        Patterns per phase.
    n_dynamical
        Orientations per phase whose Bloch waves are computed: all patterns of known phases are
        dynamical then. 0: they are drawn from the half of the randomisation that searches judge on.

    Returns
    -------
    bundle
        Calibrated.
    figures
        What was reached on the held-out simulations, for the provenance.
    """
    simulator = hold_out_source(bundle, source, seed, n_dynamical)
    judges, figures, confidences, unsure = {}, {}, [], []
    gathered = _gather_hybrid(bundle, source, seed, n, n_dynamical)
    hybrids, figures["hybrid_judge"] = fit_hybrids(gathered)
    for k, phase in enumerate(bundle.phases):
        fitted = _calibrate_phase(bundle, simulator, k, seed, n)
        judges[k] = fitted.judges | {"hybrid": hybrids[k]}
        symmetry = get_predictor(bundle).symmetry[k]
        probability, right = _measure_hybrid(gathered[k], hybrids[k], symmetry)
        figures[phase.name] = fitted.figures | {"hybrid": {"within_5_deg": float(right.mean())}}
        unsure.append(threshold_for_precision(probability, right))
        confidences.append(probability)
    temperature, accuracy, phase_confidence = _calibrate_phase_network(bundle, simulator, seed, n)
    figures["phase_accuracy"] = accuracy
    known = np.concatenate(phase_confidence)
    confidence = np.quantile(np.concatenate(confidences), 1 - _TRUE_PATTERNS_KEPT)
    # a network of a few steps of training may know no pattern at all
    certainty = np.quantile(known, 1 - _TRUE_PATTERNS_KEPT) if len(known) else 0.0
    thresholds = Thresholds(
        float(max(unsure)), float(confidence * certainty), phase_confidence=float(certainty)
    )
    calibrated = dataclasses.replace(
        bundle, judges=judges, thresholds=thresholds, phase_temperature=temperature
    )
    if len(bundle.phases) > 1:
        phase_judge, figures["phase_by_physics"] = calibrate_phase_judge(
            calibrated, simulator, seed=seed, n=n
        )
        calibrated = dataclasses.replace(calibrated, phase_judge=phase_judge)
    return calibrated, figures


def _calibrate_phase(bundle, simulator, k, seed, n) -> FittedJudges:
    """Fit the judges of a phase to simulations."""
    parts = [
        (described.descriptors, described.polar, truth)
        for described, _, truth, _ in look_through(bundle, simulator, n, (seed, 501, k), k)
    ]
    descriptors, polar, truth = (np.concatenate(part) for part in zip(*parts, strict=True))
    logits = load_whole(bundle, f"orientation_{k}").predict(descriptors, batch_size=256, verbose=0)
    found = select_candidates(logits, None, bundle.cells[k])
    return fit_judges(
        KnownPatterns(descriptors, polar, truth, *found),
        simulator.reflections,
        k,
        laue_operations(bundle.phases[k]),
        spec=bundle.spec,
        wavelength=simulator.acquisition.wavelength,
        precession_angle=simulator.randomization.precession_angle[0],
    )


def _gather_hybrid(bundle, source, seed, n, n_dynamical) -> dict[int, HybridPatterns]:
    """Return patterns of each phase, at several precession angles and through several cameras."""
    predictor, n_phases = get_predictor(bundle), len(bundle.phases)
    low, high = source.randomization.precession_angle
    angles = [low] if low == high else np.linspace(low, high, _N_ANGLES)
    parts = {k: [] for k in range(n_phases)}
    for i, angle in enumerate(angles):
        ranges = dataclasses.replace(source.randomization, precession_angle=(angle, angle))
        at_angle = dataclasses.replace(source, randomization=ranges)
        simulator = hold_out_source(bundle, at_angle, seed + 100 * i, n_dynamical // 2)
        for k in range(n_phases):
            looks = look_through(bundle, simulator, n // len(angles), (seed, 503, k, i), k)
            for j, (described, _, truth, plan) in enumerate(looks):
                candidates = find_candidates(predictor, k, described, plan)
                rated = rate_candidates(predictor, candidates, k, described, plan)
                right = candidates_right(rated.quaternions, truth, predictor.symmetry[k])
                reach, camera = np.full(len(truth), plan.reach), np.full(len(truth), i + j)
                parts[k].append((*rated, candidates.log_posterior, right, reach, camera))
    n_scores, gathered = len(RatedCandidates._fields), {}
    for k, part in parts.items():
        columns = [np.concatenate(column) for column in zip(*part, strict=True)]
        rated = RatedCandidates(*columns[:n_scores])
        gathered[k] = HybridPatterns(rated, *columns[n_scores:])
    return gathered


def _measure_hybrid(
    patterns: HybridPatterns, judge: Judge, symmetry: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of the answers and whether they are right, shape (n,)."""
    probability, rated = patterns.judge(judge), patterns.rated
    answer = probability.argmax(axis=1)
    ranked = rank_candidates(rated.quaternions, probability, rated.correlation, symmetry)
    return ranked["probability"][:, 0], patterns.right[np.arange(len(answer)), answer]


def _calibrate_phase_network(bundle, simulator, seed, n):
    """Return temperature, accuracy per class and the confidence of true patterns' right class."""
    simulator = dataclasses.replace(simulator, spec=bundle.pattern_spec or bundle.spec)
    descriptors, classes, _ = simulator.simulate(
        n * (simulator.n_known + 1), np.random.default_rng((seed, 601))
    )
    model = load_whole(bundle, "phase")
    logits = model.predict(descriptors, batch_size=256, verbose=0)
    temperature, probability = fit_temperature(logits, classes)
    answer = probability.argmax(axis=1)
    names = [*bundle.phase_names, "none of these"]
    accuracy = {
        name: float((answer == classes)[classes == k].mean()) for k, name in enumerate(names)
    }
    confidence = [
        probability.max(axis=1)[(classes == k) & (answer == k)] for k in range(len(names) - 1)
    ]
    return temperature, accuracy, confidence
