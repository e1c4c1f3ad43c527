"""Train the networks of a bundle on a machine that has none of the hosts.

    python benchmarks/train_elsewhere.py tables --folder work      # here
    python benchmarks/train_elsewhere.py train  --folder work      # there
    python benchmarks/train_elsewhere.py bundle --folder work --output steel.nas    # here

A machine with a GPU and many cores has no HyperSpy, pyxem or diffsims, and needs none: what
training takes from them (structure factors, potentials, cells) goes there as one file. "train"
needs NumPy, SciPy, Numba, threadpoolctl and Keras with any backend (KERAS_BACKEND), and the
package's sources beside this file; it trains the networks side by side, each with its share of the
cores. The networks of the shipped `steel` went on with `STEEL` below, on 16 cores and one H100 in
250 s; on two cores the same 5.5 million patterns take one to two hours. `noncubic.py` trains here
too.
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
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elsewhere import stand_in_for_hosts

if TYPE_CHECKING:
    from orix.crystal_map import Phase

    from pyxem_nas import Acquisition

N_FOREIGN_PHASES = 24  # with atoms, for dynamical patterns


@dataclass(frozen=True)
class Job:
    """What is trained: the networks of one bundle.

    `n_samples` and `seeds` by the networks' names, `n_dynamical` orientations of the known phases
    and of each foreign one, `ranges` of `Randomization` that are not the default.
    """

    n_samples: dict[str, int]
    seeds: dict[str, int]
    n_dynamical: tuple[int, ...]
    n_dynamical_foreign: int
    ranges: dict[str, tuple[float, float]]
    seed: int
    learning_rate: float = 2e-3


#: `steel` goes on from its own weights, with more patterns, more Bloch waves, and more of them.
STEEL = Job(
    n_samples={
        "orientation_0": 1_200_000,
        "orientation_1": 1_000_000,
        "orientation_2": 1_000_000,
        "phase": 600_000,
    },
    seeds={"orientation_0": 12, "orientation_1": 13, "orientation_2": 14, "phase": 17},
    n_dynamical=(40_000, 40_000, 25_000),
    n_dynamical_foreign=600,
    ranges={
        "precession_angle": (0.0, 1.0),
        "dose": (500.0, 3e5),
        "dynamical_share": (0.8, 0.8),
    },
    seed=12,
    learning_rate=1.5e-3,
)


def write_tables(
    folder: Path,
    job: Job,
    phases: list[Phase],
    acquisition: Acquisition,
    cells: dict[int, Any],
    weights: dict[str, list] | None = None,
) -> None:
    """Write what training needs of the hosts; `weights` of networks to go on from."""
    import numpy as np

    from pyxem_nas.diffraction import get_reflections, make_foreign_phases
    from pyxem_nas.diffraction.dynamical import get_potential
    from pyxem_nas.diffraction.foreign import make_foreign_reflections

    rng = np.random.default_rng((job.seed, 11))
    foreign = make_foreign_phases(get_reflections(phases), N_FOREIGN_PHASES, rng)
    tables = {
        "job": dataclasses.asdict(job),
        "n_known": len(phases),
        "acquisition": acquisition,
        "reflections": make_foreign_reflections(get_reflections([*phases, *foreign]), 150, rng),
        "potentials": [get_potential(phase, acquisition) for phase in [*phases, *foreign]],
        "cells": cells,
        "weights": weights or {},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.pkl").write_bytes(zlib.compress(pickle.dumps(tables)))
    (folder / "wavelength.txt").write_text(repr(acquisition.wavelength))


def read_tables(folder: Path) -> dict:
    """Return what `write_tables` wrote, the hosts stood in for."""
    stand_in_for_hosts(float((folder / "wavelength.txt").read_text()))
    tables = pickle.loads(zlib.decompress((folder / "tables.pkl").read_bytes()))
    return tables | {"job": Job(**tables["job"])}


def draw_spots(tables: dict, folder: Path) -> None:
    """Compute Bloch waves of all crystals, a file each."""
    import numpy as np

    from pyxem_nas.diffraction import dynamical
    from pyxem_nas.scans.randomization import Randomization

    job, ranges = tables["job"], Randomization(**tables["job"].ranges)
    for k, potential in enumerate(tables["potentials"]):
        path = folder / f"spots_{k}.npz"
        if path.exists():
            continue
        dynamical.get_potential = lambda *_, potential=potential, **__: potential
        spots = dynamical.draw_dynamical_spots(
            None,
            job.n_dynamical[k] if k < tables["n_known"] else job.n_dynamical_foreign,
            tables["acquisition"],
            np.random.default_rng((job.seed, 13, k)),
            thickness=ranges.thickness,
            precession_angle=ranges.precession_angle,
        )
        path.write_bytes(spots.to_bytes())


def make_source(tables: dict, folder: Path):
    """Return the simulator of the training."""
    from pyxem_nas.diffraction import DynamicalSpots, SpotLibrary
    from pyxem_nas.scans.randomization import Randomization
    from pyxem_nas.scans.source import DescriptorSource

    n = len(tables["potentials"])
    spots = [DynamicalSpots.from_bytes((folder / f"spots_{k}.npz").read_bytes()) for k in range(n)]
    return DescriptorSource(
        tables["reflections"], tables["n_known"], tables["acquisition"],
        randomization=Randomization(**tables["job"].ranges), library=SpotLibrary(spots),
    )  # fmt: skip


def train_one(name: str, folder: Path, n_samples: int | None) -> None:
    """Train one network and write its weights."""
    import numpy as np

    tables = read_tables(folder)
    from pyxem_nas.bundles.architectures import (
        Architecture,
        build_orientation_network,
        build_phase_network,
    )
    from pyxem_nas.training import network_training

    source, job = make_source(tables, folder), tables["job"]
    settings = network_training.TrainingSettings(
        n_samples=n_samples or job.n_samples[name],
        learning_rate=job.learning_rate,
        seed=job.seeds[name],
    )
    shape = source.spec.shape
    log = (folder / f"{name}.log").open("w", buffering=1)
    options = {
        "checkpoint": folder / f"checkpoint_{name}",
        "report": lambda line: log.write(line + "\n"),
    }
    if name == "phase":
        architecture = Architecture(width=64, normalization="batch", squeeze_excitation=True)
        model = build_phase_network(architecture, shape, tables["n_known"] + 1)
    else:
        cells = tables["cells"][int(name.removeprefix("orientation_"))]
        model = build_orientation_network(
            Architecture(width=64), shape, cells.n_inplane, cells.n_directions
        )
    if name in tables["weights"]:
        model.set_weights(tables["weights"][name])
    if name == "phase":
        network_training.train_phase_network(model, source, settings, **options)
    else:
        k = int(name.removeprefix("orientation_"))
        network_training.train_orientation_network(model, source, cells, k, settings, **options)
    np.savez_compressed(
        folder / f"{name}.npz",
        *model.get_weights(),
        settings=json.dumps(dataclasses.asdict(settings)),
    )


def train(folders: list[Path], n_samples: int | None) -> None:
    """Train all networks of one or more folders side by side, each with its share of the cores."""
    started = time.perf_counter()
    names = {}
    for folder in folders:
        tables = read_tables(folder)
        draw_spots(tables, folder)
        names[folder] = list(tables["job"].n_samples)
    n = sum(len(networks) for networks in names.values())
    environment = os.environ | {"NUMBA_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // n))}
    command = [sys.executable, __file__, "train"]
    if n_samples:
        command += ["--n-samples", str(n_samples)]
    running = [
        subprocess.Popen([*command, "--folder", str(folder), "--network", name], env=environment)
        for folder, networks in names.items()
        for name in networks
    ]
    if any([process.wait() for process in running]):
        raise SystemExit("a training failed")
    print(f"{n} networks in {time.perf_counter() - started:.0f} s")


def read_weights(folder: Path, name: str) -> tuple[list, dict]:
    """Return the weights of a trained network and the settings of its training."""
    import numpy as np

    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        n = len(file.files) - 1
        return [file[f"arr_{i}"] for i in range(n)], json.loads(str(file["settings"]))


def write_steel_tables(folder: Path) -> None:
    """Write the tables of `STEEL`."""
    import numpy as np

    from pyxem_nas import ModelBundle
    from pyxem_nas.bundles import load_keras

    bundle = ModelBundle.load("steel")
    weights = {
        name: [np.asarray(w) for w in load_keras(content).get_weights()]
        for name, content in bundle.models.items()
    }
    write_tables(folder, STEEL, bundle.phases, bundle.acquisition, dict(bundle.cells), weights)


def write_bundle(folder: Path, output: Path) -> None:
    """Write `steel` with its networks' weights replaced, to be calibrated anew."""
    from pyxem_nas import ModelBundle
    from pyxem_nas.bundles import dump_keras, load_keras

    bundle = ModelBundle.load("steel")
    models, settings = dict(bundle.models), {}
    for name, content in bundle.models.items():
        model = load_keras(content)
        weights, settings[name] = read_weights(folder, name)
        model.set_weights(weights)
        models[name] = dump_keras(model)
    trained = {"settings": settings, "ranges": STEEL.ranges, "seed": STEEL.seed}
    provenance = {**bundle.provenance, "trained_elsewhere": trained}
    dataclasses.replace(bundle, models=models, provenance=provenance).save(output, overwrite=True)


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("tables", "train", "bundle"))
    parser.add_argument("--folder", type=Path, nargs="+", default=[Path("bundle_training/steel_2")])
    parser.add_argument("--output", type=Path, default=Path("steel.nas"))
    parser.add_argument("--network", help="train this one alone")
    parser.add_argument("--n-samples", type=int, help="other than the job's, to try the way")
    arguments = parser.parse_args()
    if arguments.step == "tables":
        write_steel_tables(arguments.folder[0])
    elif arguments.step == "bundle":
        write_bundle(arguments.folder[0], arguments.output)
    elif arguments.network:
        train_one(arguments.network, arguments.folder[0], arguments.n_samples)
    else:
        train(arguments.folder, arguments.n_samples)


if __name__ == "__main__":
    main()
