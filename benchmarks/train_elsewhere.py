"""Train a bundle's networks on, on a machine that has none of the hosts: in three steps.

    python benchmarks/train_elsewhere.py tables  --bundle steel --folder work    # here
    python benchmarks/train_elsewhere.py train   --folder work                   # there
    python benchmarks/train_elsewhere.py bundle  --bundle steel --folder work --output steel.nas

A machine with a GPU and many cores has no HyperSpy, pyxem or diffsims, and needs none: what
training takes from them (structure factors, potentials, cells) goes there as one file. "train"
needs NumPy, SciPy, Numba, threadpoolctl and Keras with any backend (KERAS_BACKEND), and the
package's sources beside this file; it trains the networks side by side, each with its share of the
cores. The networks of the shipped `steel` come from `SETTINGS` below, made on 16 cores and one
H100 in 250 s; on two cores the same 5.5 million patterns take one to two hours.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

from elsewhere import stand_in_for_hosts

SEED = 2
#: Simulated patterns and seed of each network; it starts from that of the bundle.
SETTINGS = {
    "orientation_0": (1_484_800, 2),
    "orientation_1": (1_612_800, 3),
    "orientation_2": (1_510_400, 4),
    "phase": (844_800, 7),
}
LEARNING_RATE = 1.5e-3
N_DYNAMICAL = {"ferrite": 12_000, "NbC": 12_000, "cementite": 8_000}
N_DYNAMICAL_FOREIGN = 300
RANGES = {"precession_angle": (0.0, 1.0), "dose": (500.0, 3e5)}


def write_tables(bundle_name: str, folder: Path) -> None:
    """Write what training needs of the hosts and of the bundle."""
    import numpy as np

    from pyxem_nas import ModelBundle
    from pyxem_nas.bundles import load_keras
    from pyxem_nas.diffraction import get_reflections, make_foreign_phases
    from pyxem_nas.diffraction.dynamical import get_potential
    from pyxem_nas.diffraction.foreign import make_foreign_reflections

    bundle = ModelBundle.load(bundle_name)
    rng = np.random.default_rng((SEED, 11))
    foreign = make_foreign_phases(get_reflections(bundle.phases), 24, rng)
    phases = [*bundle.phases, *foreign]
    tables = {
        "names": [phase.name for phase in phases],
        "n_known": len(bundle.phases),
        "acquisition": bundle.acquisition,
        "reflections": make_foreign_reflections(get_reflections(phases), 150, rng),
        "potentials": [get_potential(phase, bundle.acquisition) for phase in phases],
        "cells": dict(bundle.cells),
        "weights": {
            name: [np.asarray(w) for w in load_keras(content).get_weights()]
            for name, content in bundle.models.items()
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.pkl").write_bytes(pickle.dumps(tables))
    (folder / "wavelength.txt").write_text(repr(bundle.acquisition.wavelength))


def read_tables(folder: Path) -> dict:
    """Return what `write_tables` wrote."""
    wavelength = float((folder / "wavelength.txt").read_text())
    stand_in_for_hosts(wavelength)
    return pickle.loads((folder / "tables.pkl").read_bytes())


def draw_spots(tables: dict, folder: Path) -> None:
    """Compute Bloch waves of all crystals, a file each."""
    import numpy as np

    from pyxem_nas.diffraction import dynamical

    for k, (name, potential) in enumerate(zip(tables["names"], tables["potentials"], strict=True)):
        path = folder / f"spots_{k}.npz"
        if path.exists():
            continue
        dynamical.get_potential = lambda *_, potential=potential, **__: potential
        spots = dynamical.draw_dynamical_spots(
            None,
            N_DYNAMICAL.get(name, N_DYNAMICAL_FOREIGN),
            tables["acquisition"],
            np.random.default_rng((SEED, 13, k)),
            thickness=(100.0, 900.0),
            precession_angle=RANGES["precession_angle"],
        )
        path.write_bytes(spots.to_bytes())


def train_one(name: str, folder: Path, n_samples: int | None) -> None:
    """Train one network and write its weights."""
    import numpy as np

    tables = read_tables(folder)
    from pyxem_nas.bundles.architectures import (
        Architecture,
        build_orientation_network,
        build_phase_network,
    )
    from pyxem_nas.diffraction import DynamicalSpots, SpotLibrary
    from pyxem_nas.scans.camera import Randomization
    from pyxem_nas.scans.source import DescriptorSource
    from pyxem_nas.training import network_training

    n = len(tables["names"])
    spots = [DynamicalSpots.from_bytes((folder / f"spots_{k}.npz").read_bytes()) for k in range(n)]
    source = DescriptorSource(
        tables["reflections"], tables["n_known"], tables["acquisition"],
        randomization=Randomization(**RANGES), library=SpotLibrary(spots),
    )  # fmt: skip
    samples, seed = SETTINGS[name]
    settings = network_training.TrainingSettings(
        n_samples=n_samples or samples, learning_rate=LEARNING_RATE, seed=seed
    )
    log = (folder / f"{name}.log").open("w", buffering=1)
    options = {
        "checkpoint": folder / f"checkpoint_{name}",
        "report": lambda line: log.write(line + "\n"),
    }
    shape = source.spec.shape
    if name == "phase":
        architecture = Architecture(width=64, normalization="batch", squeeze_excitation=True)
        model = build_phase_network(architecture, shape, tables["n_known"] + 1)
        model.set_weights(tables["weights"][name])
        network_training.train_phase_network(model, source, settings, **options)
    else:
        k = int(name.removeprefix("orientation_"))
        cells = tables["cells"][k]
        model = build_orientation_network(
            Architecture(width=64), shape, cells.n_inplane, cells.n_directions
        )
        model.set_weights(tables["weights"][name])
        network_training.train_orientation_network(model, source, cells, k, settings, **options)
    np.savez_compressed(
        folder / f"{name}.npz", *model.get_weights(), settings=json.dumps(vars(settings))
    )


def train(folder: Path, n_samples: int | None) -> None:
    """Train all networks side by side, each with its share of the cores."""
    started = time.perf_counter()
    draw_spots(read_tables(folder), folder)
    threads = str(max(1, (os.cpu_count() or 1) // len(SETTINGS)))
    command = [sys.executable, __file__, "train", "--folder", str(folder)]
    if n_samples:
        command += ["--n-samples", str(n_samples)]
    running = [
        subprocess.Popen(
            [*command, "--network", name], env=os.environ | {"NUMBA_NUM_THREADS": threads}
        )
        for name in SETTINGS
    ]
    if any([process.wait() for process in running]):
        raise SystemExit("a training failed")
    print(f"done in {time.perf_counter() - started:.0f} s")


def write_bundle(bundle_name: str, folder: Path, output: Path) -> None:
    """Write the bundle with its networks' weights replaced, to be calibrated anew."""
    import numpy as np

    from pyxem_nas import ModelBundle
    from pyxem_nas.bundles import dump_keras, load_keras

    bundle = ModelBundle.load(bundle_name)
    models, trained = dict(bundle.models), {}
    for name, content in bundle.models.items():
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            trained[name] = json.loads(str(file["settings"]))
            model = load_keras(content)
            model.set_weights([file[f"arr_{i}"] for i in range(len(model.get_weights()))])
        models[name] = dump_keras(model)
    provenance = {**bundle.provenance, "trained_elsewhere": {"settings": trained, "ranges": RANGES}}
    dataclasses.replace(bundle, models=models, provenance=provenance).save(output, overwrite=True)


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("tables", "train", "bundle"))
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--folder", type=Path, default=Path("bundle_training/elsewhere"))
    parser.add_argument("--output", type=Path, default=Path("steel.nas"))
    parser.add_argument("--network", choices=SETTINGS, help="train this one alone")
    parser.add_argument("--n-samples", type=int, help="other than SETTINGS, to try the way")
    arguments = parser.parse_args()
    if arguments.step == "tables":
        write_tables(arguments.bundle, arguments.folder)
    elif arguments.step == "bundle":
        write_bundle(arguments.bundle, arguments.folder, arguments.output)
    elif arguments.network:
        train_one(arguments.network, arguments.folder, arguments.n_samples)
    else:
        train(arguments.folder, arguments.n_samples)


if __name__ == "__main__":
    main()
