"""Train a trunk that all networks of `steel` share, on a machine that has none of the hosts.

    python benchmarks/train_trunk.py tables --folder work      # here
    python benchmarks/train_trunk.py train  --folder work      # there
    python benchmarks/train_trunk.py phase  --folder work      # anywhere: the phase head alone
    python benchmarks/train_trunk.py bundle --folder work --output steel.nas    # here

As `train_elsewhere.py`, of which the tables are. It learns from simulations and from what the
shipped networks, each of one task, say of them.

The trunk of `results/compare_trunk.md` learned so in 250 s, 4.5 million patterns, with `--start` at
one that had learned from labels alone (batches of 512, seed 31, 30,000 orientations with Bloch
waves, 4.1 million patterns in 470 s; of 64 and 96 channels side by side the 96 were better).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

from train_elsewhere import STEEL, draw_spots, make_source, read_tables, write_tables

WIDTH = 96
JOB = dataclasses.replace(
    STEEL, n_samples={}, seeds={"shared": 32}, seed=32,
    n_dynamical=(15_000, 15_000, 8_000), n_dynamical_foreign=200, learning_rate=2e-3,
)  # fmt: skip
BATCH = 2048
LABELS_SHARE = 0.3  # of the loss; the rest is what the networks of one task say
N_SLOTS = 2  # of each process that simulates
PHASE_HEAD = "phase_head"  # the file of a phase head that is trained by itself
PHASE_BLOCKS = 2  # of that
STEPS = 50  # between two looks at the clock
ROW = 40 * 180  # bins of a descriptor


def write_steel_tables(folder: Path, start: Path | None) -> None:
    """Write what training needs of the hosts, the networks of `steel`, and weights to start from.

    `start` is the folder of an earlier training of the same widths.
    """
    import numpy as np

    from pyxem_nas import ModelBundle
    from pyxem_nas.bundles import load_keras

    bundle = ModelBundle.load("steel")
    teachers = {
        name: [np.asarray(w) for w in load_keras(content).get_weights()]
        for name, content in bundle.models.items()
    }
    weights = {"teachers": teachers, "start": {}}
    if start is not None:
        for name in ("trunk", *teachers):
            weights["start"][name] = read_arrays(start / f"{name}.npz")
    write_tables(folder, JOB, bundle.phases, bundle.acquisition, dict(bundle.cells), weights)


def read_arrays(path: Path) -> list:
    """Return the arrays that were saved without names."""
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return [file[f"arr_{i}"] for i in range(len(file.files))]


def build(tables: dict) -> dict:
    """Return trunk and heads."""
    from pyxem_nas.bundles import build_shared_networks
    from pyxem_nas.bundles.architectures import Architecture
    from pyxem_nas.patterns import DescriptorSpec

    networks = build_shared_networks(
        Architecture(width=WIDTH), DescriptorSpec().shape, tables["cells"], tables["n_known"] + 1
    )
    for name, weights in tables["weights"]["start"].items():
        networks[name].set_weights(weights)
    return networks


def build_phase(tables: dict) -> dict:
    """Return the trunk, which learns no more, and a new phase head with blocks of its own."""
    import keras

    from pyxem_nas.bundles.architectures import Architecture, add_blocks, build_phase_head

    trunk = build(tables)["trunk"]  # with the weights that the tables begin with
    trunk.trainable = False
    inputs = keras.Input(trunk.output_shape[1:], name="features")
    blocks = Architecture(width=WIDTH, n_blocks=PHASE_BLOCKS, squeeze_excitation=True)
    logits = build_phase_head(add_blocks(inputs, blocks), tables["n_known"] + 1)
    return {"trunk": trunk, "phase": keras.Model(inputs, logits, name="phase")}


def build_teachers(tables: dict) -> dict:
    """Return the networks of one task each."""
    from pyxem_nas.bundles.architectures import (
        Architecture,
        build_orientation_network,
        build_phase_network,
    )
    from pyxem_nas.patterns import DescriptorSpec

    shape, networks = DescriptorSpec().shape, {}
    for k, cells in tables["cells"].items():
        networks[f"orientation_{k}"] = build_orientation_network(
            Architecture(width=64), shape, cells.n_inplane, cells.n_directions
        )
    architecture = Architecture(width=64, normalization="batch", squeeze_excitation=True)
    networks["phase"] = build_phase_network(architecture, shape, tables["n_known"] + 1)
    for name, network in networks.items():
        network.set_weights(tables["weights"]["teachers"][name])
        network.trainable = False
    return networks


def build_lesson(networks: dict, teachers: dict, n_classes: int):
    """Return a network from descriptors and labels to the loss of each head, pattern by pattern.

    Cross-entropy with the label and with what the network of that one task says (Hinton et al.
    2015, arXiv:1503.02531): of 20,000 cells the label is one draw, the posterior all it knows.
    """
    import keras
    from keras import ops

    from pyxem_nas.bundles import join_networks

    shape = networks["trunk"].input_shape[1:]
    inputs = {"descriptors": keras.Input(shape, dtype="float16", name="descriptors")}
    descriptors = ops.cast(inputs["descriptors"], "float32")
    losses = {}
    for name, logits in join_networks(networks)(descriptors).items():
        inputs[name] = keras.Input((), dtype="int32", name=name)
        told = ops.softmax(teachers[name](descriptors, training=False))
        says = ops.log_softmax(logits)
        known = ops.cast(inputs[name] >= 0, "float32")
        label = ops.take_along_axis(says, ops.maximum(inputs[name], 0)[:, None], axis=1)[:, 0]
        entropy = LABELS_SHARE * label + (1 - LABELS_SHARE) * ops.sum(told * says, axis=1)
        shares = 1 if name == "phase" else n_classes
        losses[name] = keras.layers.Identity(name=f"of_{name}")(-entropy * known * shares)
    return keras.Model(inputs, {f"of_{name}": loss for name, loss in losses.items()})


def _simulate(folder: Path, seed: int, first: int, step: int, memory: list, free, full) -> None:
    """Fill batches into shared memory without end; runs in a process of its own."""
    import numpy as np

    tables = read_tables(folder)
    source = make_source(tables, folder)
    from pyxem_nas.training.network_training import shared_labels

    slots = [np.frombuffer(raw, np.float16).reshape(BATCH, -1) for raw in memory]
    for index in range(first, 10**9, step):
        rng = np.random.default_rng((seed, index))
        descriptors, classes, quaternions = source.simulate(BATCH, rng)
        labels = shared_labels(tables["cells"], classes, quaternions)
        slot = free.get()
        slots[slot][:] = descriptors.reshape(BATCH, -1)
        full.put((first, slot, labels))


def draw_batches(folder: Path, seed: int, n_processes: int) -> Iterator[dict]:
    """Yield descriptors (BATCH, ...), float16, and the heads' labels, as fast as they come."""
    import numpy as np

    context = multiprocessing.get_context("spawn")
    full = context.Queue()
    os.environ["NUMBA_NUM_THREADS"] = "1"
    places = []
    for k in range(n_processes):
        memory = [context.RawArray("B", 2 * BATCH * ROW) for _ in range(N_SLOTS)]
        free = context.Queue()
        for slot in range(N_SLOTS):
            free.put(slot)
        arguments = (folder, seed, k, n_processes, memory, free, full)
        context.Process(target=_simulate, args=arguments, daemon=True).start()
        places.append((memory, free))
    while True:
        k, slot, labels = full.get()
        memory, free = places[k]
        descriptors = np.frombuffer(memory[slot], np.float16).reshape(BATCH, 40, 180).copy()
        free.put(slot)
        yield {"descriptors": descriptors, **labels}


def train(folder: Path, output: Path, seconds: float, n_processes: int, phase: bool) -> None:
    """Train for so many seconds, Bloch waves and all; the schedule ends when the time does.

    With `phase` a phase head with blocks of its own, on the trunk as it is; else all.
    """
    import keras
    import numpy as np

    began = time.perf_counter()
    tables = read_tables(folder)
    draw_spots(tables, folder)
    print(f"Bloch waves: {time.perf_counter() - began:.0f} s", flush=True)
    seed, peak = tables["job"].seed + phase, tables["job"].learning_rate
    keras.utils.set_random_seed(seed)
    networks = build_phase(tables) if phase else build(tables)
    model = build_lesson(networks, build_teachers(tables), tables["n_known"] + 1)
    optimizer = keras.optimizers.AdamW(0.01 * peak, weight_decay=1e-4, clipnorm=1.0)
    losses = {name: lambda _, loss: loss for name in model.output_names}
    model.compile(optimizer, losses, jit_compile=True)
    zeros = {name: np.zeros(BATCH, np.float32) for name in model.output_names}
    names = ["descriptors", *(name for name in networks if name != "trunk")]
    drawn = draw_batches(folder, seed, n_processes)
    batches = (({name: batch[name] for name in names}, zeros) for batch in drawn)
    started, n_steps = None, 0
    while time.perf_counter() - began < seconds:
        history = model.fit(batches, steps_per_epoch=STEPS if n_steps else 5, verbose=0).history
        started = started or time.perf_counter()  # the first steps compile
        n_steps += STEPS if n_steps else 5
        done = (time.perf_counter() - started) / (seconds - (started - began))
        falling = 0.5 + 0.5 * np.cos(np.pi * min(1, done))
        optimizer.learning_rate = peak * max(1e-3, min(0.2 + 20 * done, falling))
        shown = "  ".join(f"{name} {v[-1]:.3f}" for name, v in history.items())
        print(f"{time.perf_counter() - began:.0f} s  {n_steps * BATCH}  {shown}", flush=True)
        about = {"n_samples": n_steps * BATCH, "batch_size": BATCH, "seconds": round(seconds)}
        if phase:
            np.savez_compressed(output / f"{PHASE_HEAD}.npz", *networks["phase"].get_weights())
            (output / f"{PHASE_HEAD}.json").write_text(json.dumps(about))
            continue
        for name, network in networks.items():
            np.savez_compressed(output / f"{name}.npz", *network.get_weights())
        (output / "trained.json").write_text(json.dumps(about))


def write_bundle(folder: Path, output: Path) -> None:
    """Write `steel` with trunk and heads instead of its networks, not calibrated."""
    from pyxem_nas import ModelBundle
    from pyxem_nas.bundles import dump_keras

    bundle = ModelBundle.load("steel")
    start = {name: read_arrays(folder / f"{name}.npz") for name in ("trunk", *bundle.models)}
    tables = {"cells": bundle.cells, "n_known": len(bundle.phases), "weights": {"start": start}}
    networks = build(tables)
    trained = json.loads((folder / "trained.json").read_text())
    if (folder / f"{PHASE_HEAD}.npz").exists():
        networks["phase"] = build_phase(tables)["phase"]
        networks["phase"].set_weights(read_arrays(folder / f"{PHASE_HEAD}.npz"))
        trained["phase"] = json.loads((folder / f"{PHASE_HEAD}.json").read_text())
    models = {name: dump_keras(network) for name, network in networks.items()}
    trained |= {"ranges": JOB.ranges, "seed": JOB.seed, "width": WIDTH}
    provenance = {**bundle.provenance, "trained_elsewhere": trained}
    dataclasses.replace(bundle, models=models, provenance=provenance).save(output, overwrite=True)


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("tables", "train", "phase", "bundle"))
    parser.add_argument("--folder", type=Path, default=Path("bundle_training/steel_trunk"))
    parser.add_argument("--start", type=Path, help="folder of weights to go on from")
    parser.add_argument("--seconds", type=float, default=500.0)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--output", type=Path, help="a folder to train into, a file for a bundle")
    arguments = parser.parse_args()
    folder = arguments.folder
    if arguments.step == "tables":
        write_steel_tables(folder, arguments.start)
    elif arguments.step in ("train", "phase"):
        output, only_phase = arguments.output or folder, arguments.step == "phase"
        train(folder, output, arguments.seconds, arguments.processes, only_phase)
    else:
        write_bundle(folder, arguments.output or Path("steel.nas"))


if __name__ == "__main__":
    main()
