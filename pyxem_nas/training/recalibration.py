"""Calibration of an adapted bundle on measured patterns and simulations of their camera.

Owns judges, temperature and thresholds after adaptation. Those of a new bundle, on simulations
alone, are `bundle_calibration.calibrate`'s.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pyxem_nas.bundles import ModelBundle, Thresholds
from pyxem_nas.diffraction import Acquisition, laue_operations
from pyxem_nas.indexing import Predictor, get_refinement_spec
from pyxem_nas.scans import DescriptorSource
from pyxem_nas.training.judge_fit import (
    FittedJudges,
    KnownPatterns,
    fit_judges,
    fit_temperature,
    threshold_for_precision,
)
from pyxem_nas.training.measured import MeasuredPatterns

__all__ = ["recalibrate"]

_KEPT = 0.98  # of true patterns, above the threshold of confidence


def recalibrate(
    bundle: ModelBundle,
    validation: MeasuredPatterns,
    sources: dict[str, DescriptorSource],
    acquisition: Acquisition,
    *,
    seed: int,
    n: int = 800,
) -> tuple[ModelBundle, dict[str, Any]]:
    """Fit judges, temperature and thresholds on validation grains and simulations.

    Parameters
    ----------
    bundle
        With its adapted networks.
    validation
        Measured patterns of grains that no network was adapted to, with `polar`; may be empty.
    sources
        Simulators: "camera" of the scan, which gives three quarters of the simulations, and "known"
        of the bundle's training.
    acquisition
        Of the scan.
    seed
        Of the simulations.
    n
        Simulations per phase. Measured patterns count as often as that, at most.

    Returns
    -------
    bundle
        Calibrated.
    figures
        What is right among the answers to the validation grains, by phase, and thresholds.
    """
    predictor = Predictor(bundle)
    judges, unsure, confidences, figures = {}, [], [], {}
    for k, phase in enumerate(bundle.phases):
        if not bundle.has_orientation_network(k):
            continue
        stacks = _gather(k, bundle, validation, sources, acquisition, seed, n)
        fitted = _fit_phase(predictor, k, stacks, acquisition)
        n_measured = int((validation.phase_id == k).sum())
        judges[k] = fitted.judges
        unsure.append(threshold_for_precision(fitted.probability, fitted.right))
        confidences.append(fitted.probability)
        if n_measured:
            figures[phase.name] = {
                "validation_patterns": n_measured,
                "within_5_deg": float(fitted.right[:n_measured].mean()),
            }
    changes: dict[str, Any] = {"judges": {**bundle.judges, **judges}}
    least = np.quantile(np.concatenate(confidences), 1 - _KEPT) if confidences else 0.0
    least_phase = 0.0
    if "phase" in bundle.models:
        temperature, certainty = _fit_temperature(predictor, validation, sources, seed, n)
        changes["phase_temperature"] = temperature
        least_phase = np.quantile(certainty, 1 - _KEPT)
        least *= least_phase
    threshold = max(unsure, default=bundle.thresholds.template)
    changes["thresholds"] = Thresholds(
        float(threshold), float(least), phase_confidence=float(least_phase)
    )
    figures["thresholds"] = dataclasses.asdict(changes["thresholds"])
    return dataclasses.replace(bundle, **changes), figures


def _gather(k, bundle, validation, sources, acquisition, seed, n) -> tuple[np.ndarray, ...]:
    """Return descriptors, polar patterns and orientations of one phase, measured ones first."""
    rows = np.flatnonzero(validation.phase_id == k)
    repeated = np.tile(rows, max(1, min(4, n // max(len(rows), 1))))[: max(n, len(rows))]
    columns = [
        [validation.descriptors[repeated]],
        [validation.polar[repeated]],
        [validation.quaternions[repeated]],
    ]
    angle = (acquisition.precession_angle,) * 2
    for name, n_wanted in (("camera", 3 * n // 4), ("known", n // 4)):
        source = sources[name]
        if name == "known":
            at_angle = dataclasses.replace(source.randomization, precession_angle=angle)
            source = dataclasses.replace(source, randomization=at_angle)
        for column, spec in enumerate((bundle.spec, get_refinement_spec(bundle.spec))):
            # the same seed: the same patterns, described twice
            rng = np.random.default_rng((seed, 701, k))
            described, _, truth = dataclasses.replace(source, spec=spec).simulate(
                n_wanted, rng, phase_id=k
            )
            columns[column].append(described)
        columns[2].append(truth)
    return tuple(np.concatenate(parts) for parts in columns)


def _fit_phase(
    predictor: Predictor, k: int, stacks: tuple[np.ndarray, ...], acquisition: Acquisition
) -> FittedJudges:
    """Fit the judges of a phase to descriptors, polar patterns and orientations."""
    descriptors, polar, truth = stacks
    bundle = predictor.bundle
    return fit_judges(
        KnownPatterns(descriptors, polar, truth, *predictor.find_candidates(k, descriptors)),
        predictor.reflections,
        k,
        laue_operations(bundle.phases[k]),
        spec=bundle.spec,
        wavelength=acquisition.wavelength,
        precession_angle=acquisition.precession_angle,
    )


def _fit_temperature(predictor, validation, sources, seed, n) -> tuple[float, np.ndarray]:
    """Return the temperature, and the probability of right answers to known phases."""
    bundle = predictor.bundle
    measured = validation.descriptors if validation.cartesian is None else validation.cartesian
    inputs, classes = [measured], [validation.phase_id]
    spec = bundle.pattern_spec or bundle.spec
    for name, share in (("camera", 3), ("known", 1)):
        source = dataclasses.replace(sources[name], spec=spec)
        rng = np.random.default_rng((seed, 702))
        described, known, _ = source.simulate(share * n * (source.n_known + 1) // 4, rng)
        inputs.append(described)
        classes.append(known)
    label = np.concatenate(classes)
    logits, _ = predictor.run("phase", np.concatenate(inputs))
    temperature, probability = fit_temperature(logits, label)
    right = (probability.argmax(axis=1) == label) & (label < len(bundle.phases))
    return temperature, probability.max(axis=1)[right]
