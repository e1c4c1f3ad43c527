"""Fit the default weights of the choice between phases by physical scores.

    python benchmarks/phase_judge.py --bundle steel silver

The bundles are merged and the weights fitted on simulations of all their phases and of foreign
crystals, from the half of the randomisation that no network was trained for (two-beam intensities,
more scrambled), at three precession angles. The weight of a phase network is fitted with the first
bundle that has one. Prints the fields of `pyxem_nas.bundle.PhaseJudge`. Look at what they do to
dynamical patterns with ``--judge``: phase networks switched off, physical scores only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from pyxem_nas import Acquisition, ModelBundle, Randomization
from pyxem_nas.bundles.judges import PhaseJudge
from pyxem_nas.diffraction.foreign import make_foreign_reflections
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.indexing.phase_scores import fit_phase_judge
from pyxem_nas.scans.source import DescriptorSource
from pyxem_nas.training.phase_calibration import describe_phase_judge, score_simulations
from pyxem_nas.training.search import hold_out_domain

PRECESSION = (0.1, 0.5, 0.9)  # degrees


def score_bundle(bundle: ModelBundle, n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return scores, classes and the phase network's log-probabilities of n patterns."""
    known = get_reflections(bundle.phases)
    reflections = make_foreign_reflections(known, 150, np.random.default_rng((seed, 11)))
    parts = []
    for k, angle in enumerate(PRECESSION):
        randomization = Randomization(precession_angle=(angle, angle), dynamical_share=(0.0, 0.0))
        source = DescriptorSource(
            reflections,
            len(bundle.phases),
            Acquisition(bundle.acquisition.beam_energy, angle),
            bundle.spec,
            hold_out_domain(randomization)[1],
        )
        parts.append(score_simulations(bundle, source, seed=seed + k, n=n // len(PRECESSION)))
    return tuple(None if c[0] is None else np.concatenate(c) for c in zip(*parts, strict=True))


def judge_bloch(bundle: ModelBundle, options: argparse.Namespace) -> dict[str, float]:
    """Return the share of right phases on dynamical patterns, no phase network in the bundle."""
    from accuracy import PHASES, index_by_package, make_batches

    options = argparse.Namespace(
        cameras=None, n_per_phase=options.n_per_phase, set="patterns", data=options.data,
        seed=options.seed, use_mask=False,
    )  # fmt: skip
    arguments = {"method": "network"}
    truth, found, probability = [], [], []
    for batch in make_batches(options):
        columns = index_by_package(batch, bundle, bundle.phase_names, arguments)
        truth.extend(PHASES[k] for k in batch.phase)
        found.extend(columns["phase"])
        probability.extend(columns["phase_probability"])
    truth, found, probability = np.array(truth), np.array(found), np.array(probability)
    right = truth == found
    from pyxem_nas.maps.statistics import expected_calibration_error, wilson_interval

    low, high = wilson_interval(int(right.sum()), len(right))
    return {
        "phases in the bundle": len(bundle.phases),
        "n": len(right),
        "all": float(right.mean()),
        "95 % low": low,
        "95 % high": high,
        **{name: float(right[truth == name].mean()) for name in PHASES},
        "ECE": expected_calibration_error(probability, right),
    }


def main() -> None:
    """Run the fit, or the judgement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", nargs="+", default=["steel", "silver"])
    parser.add_argument("--n", type=int, default=3000, help="simulated patterns of each fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", action="store_true", help="no fit: judge on dynamical patterns")
    parser.add_argument("--n-per-phase", type=int, default=40, help="patterns a phase and camera")
    parser.add_argument("--data", type=Path, help="folder of the Bloch-wave files")
    options = parser.parse_args()
    bundles = [ModelBundle.load(name) for name in options.bundle]
    merged = ModelBundle.merge(*bundles) if len(bundles) > 1 else bundles[0]
    if options.judge:
        models = {k: v for k, v in bundles[0].models.items() if k != "phase"}
        without = dataclasses.replace(bundles[0], models=models, pattern_spec=None)
        for bundle in (without, merged):
            print(json.dumps(judge_bloch(bundle, options), indent=1))
        return
    scores, classes, _ = score_bundle(merged, options.n, options.seed)
    judge = fit_phase_judge(scores, classes)
    print(json.dumps(describe_phase_judge(merged, judge, scores, classes), indent=1))
    with_network = next((b for b in bundles if "phase" in b.models), None)
    if with_network is not None:
        columns = score_bundle(with_network, options.n, options.seed + 100)
        fitted = fit_phase_judge(*columns)
        both = dataclasses.replace(judge, network=fitted.network)
        print(json.dumps(describe_phase_judge(with_network, both, *columns), indent=1))
        judge = both
    rounded = {name: round(value, 2) for name, value in dataclasses.asdict(judge).items()}
    print(PhaseJudge(**rounded))


if __name__ == "__main__":
    main()
