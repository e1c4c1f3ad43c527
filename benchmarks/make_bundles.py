"""Make the bundles that come with the package: `python benchmarks/make_bundles.py steel|silver`.

Settings and seeds are below, of each stage of a training; the run goes on where it was when started
again with the same directory. On two cores: see the `seconds` and dates that `pyxem-nas info steel`
shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from pyxem_nas import (
    Acquisition,
    Architecture,
    ModelBundle,
    Randomization,
    example_phases,
    search_models,
)
from pyxem_nas.indexing.runtime import Sample, get_copy_name, ship_copies
from pyxem_nas.scans.source import make_source
from pyxem_nas.training.bundle_calibration import calibrate

BUNDLES = Path(__file__).parents[1] / "pyxem_nas" / "bundles" / "shipped"
SETTINGS = {
    "steel": (
        # one bundle for precession from 0 to 1 degree. The architectures come from a search of 6
        # trials each (results/search_steel.json): the best that does 2,000 patterns/s in the
        # search's own measure; of the phase network's the second best, with growing dilation
        {
            "architecture": Architecture(width=64),
            "max_trials": 0,
            "n_samples": {"NbC": 450_000, "ferrite": 300_000, "cementite": 500_000},
            "seed": 0,
            "search_phase": "NbC",
            "randomization": Randomization(precession_angle=(0.0, 1.0)),
        },
        # and with fewer electrons: below 3,000 a pattern templates had been better
        # (`accuracy.py --cameras "dose sweep"`)
        {
            "architecture": Architecture(width=64),
            "max_trials": 0,
            "n_samples": 200_000,
            "seed": 1,
            "search_phase": "NbC",
            "randomization": Randomization(precession_angle=(0.0, 1.0), dose=(500.0, 3e5)),
        },
    ),
    # one phase, the smallest example: short training on kinematical patterns. Its phase network saw
    # 25,600 patterns, before search_models gave phase networks more. With Bloch waves and 128,000
    # patterns it took more of simulated scans, and refused 2.5 % of the real one
    "silver": (
        {
            "architecture": Architecture(width=96),
            "phase_architecture": Architecture(width=96),
            "max_trials": 0,
            "n_dynamical": 0,
            "n_samples": 76_800,
            "seed": 0,
            "randomization": Randomization(precession_angle=(0.0, 1.2)),
        },
    ),
}


def make(name: str, directory: Path) -> ModelBundle:
    """Return a bundle, its training done or gone on with in a directory, a folder a stage."""
    bundle = None
    for k, settings in enumerate(SETTINGS[name]):
        folder = directory / f"stage_{k + 1}"
        kept = folder / f"{name}.nas"
        if kept.exists() and k + 1 < len(SETTINGS[name]):
            bundle = ModelBundle.load(kept)
            continue
        bundle = search_models(
            example_phases(name),
            Acquisition(beam_energy=200.0, precession_angle=0.5),
            directory=folder,
            name=name,
            initial=bundle,
            report=lambda line: print(line, flush=True),
            **settings,
        )
        bundle.save(kept, overwrite=True)
    return bundle


#: Of `--calibrate`: seed, orientations with Bloch waves, and whether the phase network's
#: temperature and the phase judge are fitted anew. Those of silver were fitted with the foreign
#: crystals of its training. The networks of steel have gone on by `train_elsewhere.py` since.
CALIBRATION = {"steel": (2, 1000, True), "silver": (0, 0, False)}
N_CALIBRATION = 6000  # patterns a phase


def calibrate_again(name: str, path: Path | None = None) -> ModelBundle:
    """Return a bundle, the shipped one or a file, with judges and thresholds fitted anew."""
    bundle = ModelBundle.load(path or name)
    seed, n_dynamical, whole = CALIBRATION[name]
    fitted, figures = calibrate(
        bundle, make_source(bundle, seed), seed=seed, n=N_CALIBRATION, n_dynamical=n_dynamical
    )
    if not whole:
        kept = bundle.provenance["validation"]
        figures = figures | {key: kept[key] for key in ("phase_accuracy", "phase_by_physics")}
        fitted = dataclasses.replace(
            fitted, phase_temperature=bundle.phase_temperature, phase_judge=bundle.phase_judge
        )
    return dataclasses.replace(fitted, provenance={**bundle.provenance, "validation": figures})


def ship(name: str) -> None:
    """Write the copies of eight bits of a shipped bundle, and delete those of no shipped bundle."""
    ship_copies(ModelBundle.load(name))
    names = set()
    for shipped in map(ModelBundle.load, SETTINGS):
        for network, content in shipped.models.items():
            names.add(get_copy_name(content, Sample(shipped, network)))
    for path in (BUNDLES / "int8").glob("*.tflite"):
        if path.name not in names:
            path.unlink()


def main() -> None:
    """Run the training of one bundle and put it into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--directory", type=Path, default=None, help="working directory")
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument(
        "--copies", action="store_true", help="only the copies of eight bits of the bundle shipped"
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="only judges and thresholds of the bundle shipped"
    )
    parser.add_argument("--bundle", type=Path, help="calibrate this file instead, then ship it")
    arguments = parser.parse_args()
    if arguments.copies:
        ship(arguments.name)
        return
    if arguments.calibrate:
        bundle = calibrate_again(arguments.name, arguments.bundle)
        bundle.save(arguments.output or BUNDLES / f"{arguments.name}.nas", overwrite=True)
        return
    directory = arguments.directory or Path("bundle_training") / arguments.name
    bundle = make(arguments.name, directory)
    report = Path(__file__).parent / "results" / f"search_{arguments.name}.json"
    if report.exists():  # of the search that found the architecture
        bundle = dataclasses.replace(bundle, search_report=json.loads(report.read_text()))
    bundle.save(arguments.output or BUNDLES / f"{arguments.name}.nas", overwrite=True)
    if arguments.output is None:
        ship(arguments.name)
    print(bundle)


if __name__ == "__main__":
    main()
