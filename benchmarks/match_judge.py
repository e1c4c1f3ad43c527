"""Fit the judges of exhaustive matching: which candidate is right, and how surely.

    python benchmarks/match_judge.py

One set of weights for all phases (conditional logit, McFadden 1974), fitted on simulations of five
crystals that no benchmark judges by (molybdenum, MgO, silicon, titanium, forsterite), from the half
of the randomisation that no network was trained for: two-beam intensities, more scrambled, at two
precession angles. Half of the patterns of each crystal fit, the others are what the report is of.
The judges of matching and a network together are fitted on such simulations of a bundle's
phases (``--bundle steel``), as networks of other crystals are not shipped.
Prints the fields of `pyxem_nas.bundles.DEFAULT_JUDGES`.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
from scipy.optimize import minimize

from pyxem_nas import Acquisition, ModelBundle, Randomization
from pyxem_nas.diffraction import disorientation_angles, get_reflections, laue_operations
from pyxem_nas.indexing.branches import _find_by_matching, _join_network, _rate
from pyxem_nas.indexing.described import Described
from pyxem_nas.indexing.judging import compare_with_best
from pyxem_nas.indexing.match_library import get_match_library
from pyxem_nas.indexing.matching import match_spectra, transform
from pyxem_nas.indexing.plan import get_specs, make_plan
from pyxem_nas.indexing.predictor import get_predictor
from pyxem_nas.indexing.refinement import get_refinement_spec, refine_candidates
from pyxem_nas.maps.statistics import expected_calibration_error
from pyxem_nas.patterns import DescriptorSpec, Detector, make_sampler
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.scans.specimens import make_phase
from pyxem_nas.training.search import hold_out_domain

SPEC = DescriptorSpec()
PRECESSION = (0.2, 0.7)  # degrees
CRYSTALS = {
    "Mo": (229, (3.147,) * 3, [("Mo", (0, 0, 0))]),
    "MgO": (225, (4.212,) * 3, [("Mg", (0, 0, 0)), ("O", (0.5, 0.5, 0.5))]),
    "Si": (227, (5.431,) * 3, [("Si", (0.125, 0.125, 0.125))]),
    "Ti": (194, (2.951, 2.951, 4.684, 90, 90, 120), [("Ti", (1 / 3, 2 / 3, 0.25))]),
    "forsterite": (
        62, (10.207, 5.980, 4.756),
        [("Mg", (0, 0, 0)), ("Mg", (0.2774, 0.25, 0.9915)), ("Si", (0.0940, 0.25, 0.4262)),
         ("O", (0.0913, 0.25, 0.7657)), ("O", (0.4474, 0.25, 0.2215)),
         ("O", (0.1628, 0.0331, 0.2777))],
    ),
}  # fmt: skip


def rate(phase, acquisition, descriptors, polar, truth, visible=None) -> dict[str, np.ndarray]:
    """Return the scores of the candidates of patterns of one phase, and which are right."""
    library = get_match_library(phase, acquisition, SPEC, visible=visible)
    reflections = get_reflections([phase])
    quaternions, matching = match_spectra(transform(descriptors, SPEC), library)
    rated = refine_candidates(
        polar, quaternions, reflections, 0, spec=get_refinement_spec(SPEC),
        wavelength=acquisition.wavelength, precession_angle=acquisition.precession_angle,
    )  # fmt: skip
    return compare(quaternions, matching, rated, truth, phase)


def compare(quaternions, matching, rated, truth, phase) -> dict[str, np.ndarray]:
    """Return the scores of candidates over the best of each pattern, and how far they are off."""
    valid = quaternions.any(axis=-1)
    symmetry = laue_operations(phase)
    columns = {
        "matching": compare_with_best(matching.astype(float), valid),
        "tolerant": compare_with_best(rated.tolerant, valid),
        "correlation": compare_with_best(rated.correlation, valid),
        "valid": valid,
    }
    for name, candidates in (("angle", rated.quaternions), ("grid_angle", quaternions)):
        columns[name] = np.stack(
            [
                np.where(valid[:, k], disorientation_angles(candidates[:, k], truth, symmetry), 180)
                for k in range(valid.shape[1])
            ],
            axis=1,
        )
    return columns


def draw(phase, angle: float, n: int, seed: tuple[int, ...]) -> list[tuple[np.ndarray, ...]]:
    """Return simulated patterns of one phase, described for matching and for refinement."""
    randomization = Randomization(precession_angle=(angle, angle), dynamical_share=(0.0, 0.0))
    return [
        DescriptorSource(
            get_reflections([phase]), 1, Acquisition(200.0, angle), spec,
            hold_out_domain(randomization)[1],
        ).simulate(n, np.random.default_rng(seed), phase_id=0)
        for spec in (SPEC, get_refinement_spec(SPEC))
    ]  # fmt: skip


def simulate(n: int, seed: int) -> dict[str, np.ndarray]:
    """Return the rated candidates of n simulated patterns of each crystal."""
    parts = []
    for k, (name, crystal) in enumerate(CRYSTALS.items()):
        phase = make_phase(name, *crystal)
        for j, angle in enumerate(PRECESSION):
            acquisition = Acquisition(200.0, angle)
            stacks = draw(phase, angle, n // 2, (seed, k, j))
            (descriptors, _, truth), (polar, _, _) = stacks
            parts.append(rate(phase, acquisition, descriptors, polar, truth))
            parts[-1]["crystal"] = np.full(len(truth), k)
            print(name, angle, "done", file=sys.stderr, flush=True)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def simulate_bundle(bundle: ModelBundle, n: int, seed: int) -> dict[str, np.ndarray]:
    """Return the rated candidates of matching and network of n patterns of each phase."""
    parts = []
    predictor = get_predictor(bundle)
    for k, phase in enumerate(bundle.phases):
        for j, angle in enumerate(PRECESSION):
            stacks = draw(phase, angle, n // 2, (seed, 50 + k, j))
            (descriptors, _, truth), (polar, _, _) = stacks
            acquisition = Acquisition(bundle.acquisition.beam_energy, angle)
            sampler = make_sampler(Detector((144, 144), (0.025, 0.025)), *get_specs(bundle))
            plan = make_plan(bundle, sampler, acquisition=acquisition)
            described = Described(descriptors, polar, bundle.spec)
            matched = _find_by_matching(predictor, k, described, plan)
            found = _join_network(predictor, k, described, plan, matched)
            rated = _rate(predictor, found, k, described, plan)
            parts.append(compare(found.quaternions, found.matching, rated, truth, phase))
            parts[-1]["log_posterior"] = found.log_posterior
            print(phase.name, angle, "done", file=sys.stderr, flush=True)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def utilities(columns: dict, names: list[str], weights: np.ndarray) -> np.ndarray:
    """Return the utility of each candidate and, last, of none of them."""
    *weights, none = weights
    utility = sum(w * columns[name] for w, name in zip(weights, names, strict=True))
    utility = np.where(columns["valid"], utility, -1e9)
    return np.column_stack([utility, np.full(len(utility), none)])


def fit(columns: dict, names: list[str], angle: str) -> np.ndarray:
    """Return the weights of greatest likelihood; the last is the utility of none of them."""
    right = (columns[angle] < 5) & columns["valid"]
    right = np.column_stack([right, ~right.any(axis=1)])

    def loss(weights: np.ndarray) -> float:
        utility = utilities(columns, names, weights)
        hit = np.logaddexp.reduce(np.where(right, utility, -1e9), axis=1)
        return float((np.logaddexp.reduce(utility, axis=1) - hit).mean()) + 1e-6 * (
            np.square(weights).sum()
        )

    return minimize(loss, np.full(len(names) + 1, 10.0), method="BFGS").x


def report(columns: dict, names: list[str], angle: str, weights: np.ndarray) -> dict[str, float]:
    """Return what a judge reaches: right within 5 degrees, and its calibration."""
    utility = utilities(columns, names, weights)
    probability = np.exp(utility - np.logaddexp.reduce(utility, axis=1, keepdims=True))
    best = probability[:, :-1].argmax(axis=1)
    rows = np.arange(len(best))
    good = columns[angle][rows, best] < 5
    return {
        "within 5 deg": float(good.mean()),
        "among candidates": float((columns[angle] < 5).any(axis=1).mean()),
        "ECE": expected_calibration_error(probability[rows, best], good),
    }


def main() -> None:
    """Run the fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=400, help="patterns of each crystal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", help="fit the judges of matching and network together")
    options = parser.parse_args()
    if options.bundle:
        bundle = ModelBundle.load(options.bundle)
        columns = simulate_bundle(bundle, options.n, options.seed)
        columns["log_posterior"] = np.where(columns["valid"], columns["log_posterior"], 0)
    else:
        columns = simulate(options.n, options.seed)
    odd = np.arange(len(columns["valid"])) % 2 == 1
    ours, others = ({name: v[half] for name, v in columns.items()} for half in (~odd, odd))
    kinds = {
        "match": (["tolerant", "matching"], "angle"),
        "match fast": (["matching"], "grid_angle"),
        "tolerant alone": (["tolerant"], "angle"),
        "hybrid": (["log_posterior", "tolerant", "matching"], "angle"),
        "hybrid fast": (["log_posterior", "matching"], "grid_angle"),
        "with the narrow correlation": (["tolerant", "matching", "correlation"], "angle"),
    }
    for kind, (names, angle) in kinds.items():
        if not set(names) <= set(columns):
            continue
        weights = fit(ours, names, angle)
        fitted = dict(zip([*names, "none"], weights.round(2).tolist(), strict=True))
        print(json.dumps({kind: fitted | report(others, names, angle, weights)}))


if __name__ == "__main__":
    main()
