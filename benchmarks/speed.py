"""Raw patterns to CrystalMap: what an indexed pattern costs, against pyxem's own matching.

    python benchmarks/speed.py

Raw 144 x 144 uint8 patterns of a simulated steel scan go in, a CrystalMap comes out; three phases.
The peer is pyxem as its guide uses it (`get_azimuthal_integral2d`, background off, square root,
`get_orientation` with each phase, 1 degree grid), with all templates (``frac_keep=1``) and with its
default prefilter (``frac_keep=0.1``). All rates are of one run, after a warm-up on other patterns;
each is the best of some repeats, as other work may run on the machine. The report is printed and
written to ``benchmarks/results/speed.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from report import _table, describe_run

from pyxem_nas import Architecture, ModelBundle, simulate_scan
from pyxem_nas.bundles.architectures import build_orientation_network
from pyxem_nas.diffraction import disorientation_angles, laue_operations, turned_about_beam
from pyxem_nas.indexing import block, branches, described, predictor, runtime
from pyxem_nas.indexing.plan import get_specs
from pyxem_nas.indexing.template_matching import get_template_library, match_templates
from pyxem_nas.maps.crystal_map import best_rotations
from pyxem_nas.patterns.kernel import compute_descriptors
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import DescriptorSpec, Detector
from pyxem_nas.scans.source import make_source
from pyxem_nas.training.network_training import cell_labels

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

SCALE = 0.0246
TRAINING_BATCH = 256
FAST = {"method": "network", "refine": False}
METHODS = {
    "network": FAST,
    "network + refinement": {"method": "network", "refine": True},
    "hybrid": {"method": "hybrid", "refine": True},
    "match, no networks": {"method": "match", "refine": True},
    "match, no networks, fast": {"method": "match", "refine": False},
}
PEERS = {"pyxem, all templates": 1.0, "pyxem, default prefilter": 0.1}
PEER_SPEC = DescriptorSpec(n_radial=80, n_azimuthal=360, radial_range=(0.15, 1.8), blur=0.0)


def time_best(function: Callable[[], object], repeat: int) -> tuple[float, object]:
    """Return the seconds of the fastest of some calls and the last result."""
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


def time_processor(function: Callable[[], object], repeat: int) -> tuple[float, float, object]:
    """Return `time_best`'s, and between them the seconds of all cores, which load changes less."""
    spent = []

    def counted() -> object:
        started = time.process_time()
        result = function()
        spent.append(time.process_time() - started)
        return result

    seconds, result = time_best(counted, repeat)
    return seconds, min(spent), result


def make_scan(bundle: ModelBundle, n: int, seed: int) -> tuple[ElectronDiffraction2D, CrystalMap]:
    """Simulate n patterns of a bundle's phases, a grain for each ten; no holes."""
    return simulate_scan(
        bundle.phase_list, (n,), bundle.acquisition, seed=seed, scale=SCALE, vacuum_share=0.0,
        n_grains=max(len(bundle.phases), n // 10),
    )  # fmt: skip


def index(signal: ElectronDiffraction2D, bundle: ModelBundle, options: dict) -> CrystalMap:
    """Index a scan, rejection off; by matching without any network, of phases alone."""
    if options["method"] == "match":
        bundle = ModelBundle.from_phases(bundle.phase_list, bundle.acquisition)
    return signal.index_phase_orientation(
        bundle, min_confidence=0, show_progressbar=False, **options
    )


def score(phase: np.ndarray, quaternions: np.ndarray, truth: CrystalMap) -> tuple[float, float]:
    """Return the shares of right phases, and of those of orientations within 5 degrees or twins."""
    right = phase == truth.phase_id
    true = best_rotations(truth).data.reshape(-1, 4)
    good = np.zeros(len(phase), bool)
    for k, known in truth.phases:
        rows = np.flatnonzero(right & (truth.phase_id == k))
        if len(rows):
            group = laue_operations(known)
            answers = quaternions[rows]
            angle = disorientation_angles(answers, true[rows], group)
            twin = disorientation_angles(turned_about_beam(answers), true[rows], group)
            good[rows] = np.minimum(angle, twin) <= 5
    return float(right.mean()), float(good[right].mean())


# ------------------------------------------------------------------------- the peer


def take(scan: ElectronDiffraction2D, rows: np.ndarray) -> ElectronDiffraction2D:
    """Return some patterns of a scan as a signal of the same calibration."""
    signal = type(scan)(scan.data[rows])
    signal.calibration.scale, signal.calibration.units = SCALE, "$A^{-1}$"
    signal.calibration.center = scan.calibration.center
    return signal


def index_by_pyxem(
    signal: ElectronDiffraction2D, bundle: ModelBundle, frac_keep: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return phases and quaternions by pyxem's integration and matcher, frames composed right."""
    polar = signal.get_azimuthal_integral2d(
        npt=PEER_SPEC.n_radial, npt_azim=PEER_SPEC.n_azimuthal,
        radial_range=PEER_SPEC.radial_range, show_progressbar=False,
    )  # fmt: skip
    polar = np.asarray(polar.data, np.float32).reshape(-1, *PEER_SPEC.shape)
    polar = np.sqrt(np.clip(polar, 0, None))
    polar = np.clip(polar - np.median(polar, axis=2, keepdims=True), 0, None)
    # its azimuths start at -180 degrees, ours at 0
    polar = np.roll(polar, PEER_SPEC.n_azimuthal // 2, axis=2)
    found = [
        match_templates(
            polar, PEER_SPEC.radii, get_template_library(phase, bundle.acquisition),
            frac_keep=frac_keep,
        )
        for phase in bundle.phases
    ]  # fmt: skip
    scores = np.stack([s[:, 0] for _, s in found])
    phase = scores.argmax(axis=0)
    return phase, np.stack([q[:, 0] for q, _ in found])[phase, np.arange(len(phase))]


# ------------------------------------------------------------------------- parts


def compare_methods(bundle: ModelBundle, options: argparse.Namespace) -> str:
    """Return the table of rates, ratios and accuracy of all methods."""
    scan, truth = make_scan(bundle, options.n, 1)
    other, _ = make_scan(bundle, 200, 2)
    few = np.linspace(0, options.n - 1, options.n_peer).astype(int)
    few_truth = truth[np.isin(np.arange(truth.size), few)]
    rates, cores, rows = {}, {}, []
    for name, frac_keep in PEERS.items():
        index_by_pyxem(take(other, np.arange(4)), bundle, frac_keep)
        signal = take(scan, few)
        seconds, core, (phase, quaternions) = time_processor(
            lambda s=signal, f=frac_keep: index_by_pyxem(s, bundle, f), options.repeat_peer
        )
        rates[name], cores[name] = len(few) / seconds, core / len(few)
        rows.append((name, len(few), *score(phase, quaternions, few_truth)))
    for name, how in METHODS.items():
        index(other, bundle, how)
        seconds, core, xmap = time_processor(
            lambda how=how: index(scan, bundle, how), options.repeat
        )
        rates[name], cores[name] = xmap.size / seconds, core / xmap.size
        quaternions = best_rotations(xmap).data.reshape(-1, 4)
        rows.append((name, xmap.size, *score(xmap.phase_id, quaternions, truth)))
    full, prefiltered = (rates[name] for name in PEERS)
    return _table(
        ["method", "patterns", "patterns/s", "against all templates", "against the prefilter",
         "us of a core",
         "phase right / %", "of those < 5 deg or twin / %"],
        [
            [name, f"{n}", f"{rates[name]:.1f}", f"{rates[name] / full:.1f} x",
             f"{rates[name] / prefiltered:.1f} x", f"{1e6 * cores[name]:.0f}",
             f"{100 * right:.1f}", f"{100 * good:.1f}"]
            for name, n, right, good in rows
        ],
    )  # fmt: skip


def measure_single_phases(bundle: ModelBundle, options: argparse.Namespace) -> str:
    """Return the table of orientation-only rates, one phase known."""
    rows = []
    for name in options.phases:
        one = bundle.select_phases([name])
        scan, truth = make_scan(one, options.n, 3)
        index(scan.inav[:100], one, FAST)
        seconds, xmap = time_best(lambda b=one, s=scan: index(s, b, FAST), options.repeat)
        _, good = score(xmap.phase_id, best_rotations(xmap).data.reshape(-1, 4), truth)
        cells = one.cells[0]
        n_cells = cells.n_inplane * cells.n_directions
        rows.append([name, f"{n_cells}", f"{xmap.size / seconds:.0f}", f"{100 * good:.1f}"])
    return _table(["phase", "cells", "patterns/s", "< 5 deg or twin / %"], rows)


#: Networks of issue 5 and their rates there, "measured on this kind of machine, idle" by XLA.
YARDSTICKS = {
    "270,000 parameters, 90 azimuthal bins": (
        Architecture(width=108, azimuthal_stride=1),
        90,
        3000,
    ),
    "64 channels, 90 bins": (Architecture(width=64, azimuthal_stride=1), 90, 5400),
    "64 channels, 45 bins": (Architecture(width=64, azimuthal_stride=1), 45, 8400),
}


def compare_networks(bundle: ModelBundle, options: argparse.Namespace) -> str:
    """Return the rates of one orientation network alone, beside networks of known rate."""
    k = bundle.phase_names.index("NbC")
    cells, content = bundle.cells[k], bundle.models[f"orientation_{k}"]
    sample = runtime.Sample(bundle, f"orientation_{k}")
    networks = {
        "shipped, float32 by XLA": runtime.load_network(content, "float32", sample),
        "shipped, int8 by LiteRT": runtime.load_network(content, "int8", sample),
    }
    for name, (architecture, n_bins, _) in YARDSTICKS.items():
        model = build_orientation_network(
            architecture, (bundle.spec.n_radial, n_bins), n_bins, cells.n_directions
        )
        networks[name] = runtime._compile(model)
    rng = np.random.default_rng(0)
    rows = []
    for name, network in networks.items():
        inputs = rng.random((8 * runtime.BATCH, *network.input_shape), np.float32)

        def run(network: runtime.Network = network, inputs: np.ndarray = inputs) -> None:
            deque(network.predict_all(inputs), 0)  # to the end, nothing kept

        run()
        seconds, _ = time_best(run, 5 * options.repeat)
        rate = len(inputs) / seconds
        known = YARDSTICKS[name][2] if name in YARDSTICKS else None
        there = [f"{known}", f"{known / rate:.1f} x"] if known else ["-", "-"]
        rows.append([name, f"{rate:.0f}", *there])
    head = ["orientation network of NbC alone", "patterns/s", "known of an idle machine"]
    return _table([*head, "that is faster by"], rows)


def measure_kernel(bundle: ModelBundle, options: argparse.Namespace) -> str:
    """Return the descriptor kernel's rate and that of only moving its bytes."""
    scan, _ = make_scan(bundle, min(options.n, 2048), 4)
    patterns = np.ascontiguousarray(scan.data)
    centers = np.full((len(patterns), 2), 71.5)
    detector = Detector(patterns.shape[1:], (SCALE, SCALE))
    specs = get_specs(bundle)[:2]
    rows = []
    for label, chosen in (("networks", specs[:1]), ("networks and refinement", specs)):
        sampler = make_sampler(detector, *chosen)
        outputs = compute_descriptors(patterns, centers, sampler)
        seconds, _ = time_best(
            lambda s=sampler: compute_descriptors(patterns, centers, s), 3 * options.repeat
        )
        copies = [np.empty_like(a) for a in (patterns, *outputs)]

        def move(sources: tuple = (patterns, *outputs), targets: list = copies) -> None:
            for source, target in zip(sources, targets, strict=True):
                np.copyto(target, source)

        move()
        bound, _ = time_best(move, 3 * options.repeat)
        n = len(patterns)
        shapes = ", ".join(f"{s.n_radial} x {s.n_azimuthal}" for s in chosen)
        rows.append([f"{label}: {shapes}", f"{n / seconds:.0f}", f"{n / bound:.0f}"])
        rows[-1].append(f"{seconds / bound:.1f} x")
    head = ["descriptors", "patterns/s", "copying patterns and descriptors, one core", "distance"]
    return _table(head, rows)


#: What is timed of each stage: modules and the names by which they call it.
STAGES = {
    "decode": [(block, "_stack")],
    "descriptors": [(block, "compute_descriptors")],
    "matching": [(described, "transform"), (branches, "match_spectra"),
                 (branches, "score_spectra")],
    "candidates": [(predictor, "select_candidates"), (predictor, "select_with_norms"),
                   (predictor, "log_posterior_at")],
    "judging": [(branches, "judge_candidates"), (branches, "rank_candidates")],
    "scores": [(branches, "refine_candidates")],
}  # fmt: skip


@contextmanager
def count_time(loaded: predictor.Predictor) -> Iterator[dict[str, float]]:
    """Count the seconds in each stage of indexing while the block runs."""
    spent: dict[str, float] = defaultdict(float)

    def timed(stage: str, function: Callable, side_by_side: int = 1) -> Callable:
        def call(*arguments, **options):
            started = time.perf_counter()
            result = function(*arguments, **options)
            spent[stage] += (time.perf_counter() - started) / side_by_side
            return result

        return call

    places = [(stage, *place) for stage, known in STAGES.items() for place in known]
    kept = [getattr(module, name) for _, module, name in places]
    networks = dict(loaded._networks)
    for (stage, module, name), function in zip(places, kept, strict=True):
        setattr(module, name, timed(stage, function))
    for name, network in networks.items():
        stage = "phase network" if name == "phase" else "orientation networks"
        predict = timed(stage, network.predict, network.n_workers)
        loaded._networks[name] = network._replace(predict=predict)
    try:
        yield spent
    finally:
        for (_, module, name), function in zip(places, kept, strict=True):
            setattr(module, name, function)
        loaded._networks.update(networks)


def profile(bundle: ModelBundle, options: argparse.Namespace) -> str:
    """Return where the time goes, in microseconds a pattern."""
    scan, _ = make_scan(bundle, options.n, 1)
    stages = ["decode", "descriptors", "matching", "phase network", "orientation networks"]
    stages += ["candidates", "scores", "judging"]
    rows = []
    for name in METHODS:
        index(scan.inav[:200], bundle, METHODS[name])
        used = bundle
        if METHODS[name]["method"] == "match":
            used = ModelBundle.from_phases(bundle.phase_list, bundle.acquisition)
        best: dict[str, float] = {}
        for _ in range(options.repeat):
            with count_time(predictor.get_predictor(used)) as spent:
                started = time.perf_counter()
                index(scan, bundle, METHODS[name])
                spent["whole"] = time.perf_counter() - started
            best = spent if not best or spent["whole"] < best["whole"] else best
        best["rest"] = best["whole"] - sum(best[stage] for stage in stages)
        rows.append([name, *(f"{1e6 * best[s] / options.n:.1f}" for s in (*stages, "rest"))])
        rows[-1].append(f"{1e6 * best['whole'] / options.n:.1f}")
    head = ["us a pattern", *stages[:-2], "scores and refinement", "judging"]
    return _table([*head, "dask, HyperSpy, Python", "whole"], rows)


def measure_scaling(bundle: ModelBundle, options: argparse.Namespace) -> str:
    """Return the cost of a pattern in scans of different length, one scan repeated lazily."""
    import dask.array as da

    scan, _ = make_scan(bundle, 5000, 5)
    data = da.from_array(scan.data, chunks=(1000, -1, -1))
    rows = []
    index(scan.inav[:200], bundle, FAST)
    for n in options.sizes:
        patterns = da.concatenate([data] * -(-n // 5000))[:n]
        signal = type(scan)(patterns).as_lazy()
        for axis in signal.axes_manager.signal_axes:
            axis.scale, axis.units = SCALE, "$A^{-1}$"
            axis.offset = -71.5 * SCALE
        repeat = options.repeat if n <= 20_000 else 1
        before = time.process_time()
        seconds, _ = time_best(lambda s=signal: index(s, bundle, FAST), repeat)
        processor = (time.process_time() - before) / repeat
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append([f"{n}", f"{1e6 * seconds / n:.0f}", f"{n / seconds:.0f}"])
        rows[-1] += [f"{1e6 * processor / n:.0f}", f"{memory:.2f}"]
    head = [
        "patterns",
        "us a pattern",
        "patterns/s",
        "processor us a pattern",
        "peak memory of the process so far / GiB",
    ]
    return _table(head, rows)


def measure_training(bundle: ModelBundle, options: argparse.Namespace) -> str:
    """Return what the simulator gives and what a training step takes, samples a second."""
    import keras

    rows = []
    for name in options.phases:
        k = bundle.phase_names.index(name)
        cells = bundle.cells[k]
        keras.utils.set_random_seed(0)
        model = build_orientation_network(
            Architecture(width=64), bundle.spec.shape, cells.n_inplane, cells.n_directions
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adamw", loss, jit_compile=True)
        source, rng = make_source(bundle, 0), np.random.default_rng(0)

        def simulate(source=source, rng=rng, k=k) -> tuple[np.ndarray, np.ndarray]:
            descriptors, _, quaternions = source.simulate(TRAINING_BATCH, rng, phase_id=k)
            return descriptors, quaternions

        descriptors, quaternions = simulate()
        labels = cell_labels(cells, quaternions)

        def step(model=model, x=descriptors, y=labels) -> None:
            model.train_on_batch(x, y)

        step()
        simulating, _ = time_best(simulate, 3 * options.repeat)
        learning, _ = time_best(step, 3 * options.repeat)
        rows.append([name, f"{TRAINING_BATCH / simulating:.0f}"])
        rows[-1] += [f"{TRAINING_BATCH / learning:.0f}", f"{learning / simulating:.1f} x"]
    head = ["phase", "simulated descriptors/s", "network's training samples/s", "simulator's lead"]
    return _table(head, rows)


_START_UP = """
import json, sys, time
t = [time.perf_counter()]
import numpy as np, pyxem_nas, pyxem.signals
t.append(time.perf_counter())
import tensorflow
t.append(time.perf_counter())
signal = pyxem.signals.ElectronDiffraction2D(np.load(sys.argv[2]))
for axis in signal.axes_manager.signal_axes:
    axis.scale, axis.units, axis.offset = 0.0246, "$A^{-1}$", -71.5 * 0.0246
for _ in range(2):
    signal.index_phase_orientation(sys.argv[1], method="network", refine=sys.argv[3] == "1",
                                   min_confidence=0, show_progressbar=False)
    t.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip(t, t[1:])]))
"""


def measure_start_up(bundle: ModelBundle, options: argparse.Namespace, folder: Path) -> str:
    """Return the seconds of imports, first and second call in a new process, on 30 patterns."""
    scan, _ = make_scan(bundle, 30, 6)
    path = folder / "start_up.npy"
    np.save(path, scan.data)
    rows = []
    for refine in ("0", "1"):
        command = [sys.executable, "-c", _START_UP, options.bundle, str(path), refine]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = json.loads(done.stdout.splitlines()[-1])
        rows.append([["fast", "refined"][int(refine)], *(f"{s:.1f}" for s in seconds[:3])])
        rows[-1].append(f"{seconds[3]:.2f}")
    head = ["seconds", "import pyxem_nas and pyxem", "import TensorFlow", "first call"]
    return _table([*head, "second call"], rows)


# ------------------------------------------------------------------------- command line


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel", help="name or path of a bundle")
    parser.add_argument("--n", type=int, default=4096, help="patterns of most measurements")
    parser.add_argument("--n-peer", type=int, default=240, help="patterns that pyxem gets")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--repeat-peer", type=int, default=1)
    parser.add_argument("--phases", nargs="+", default=["NbC", "cementite"], help="one by one")
    sizes = [1000, 10_000, 50_000, 200_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="of long scans")
    parts = [
        "start-up",
        "methods",
        "phases",
        "networks",
        "kernel",
        "profile",
        "scaling",
        "training",
    ]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    output = Path(__file__).parent / "results" / "speed.md"
    parser.add_argument("--output", type=Path, default=output)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    import tempfile

    options = parse_options(arguments)
    bundle = ModelBundle.load(options.bundle)
    run = describe_run(options)
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    machine = run["machine"]
    text = f"# Speed\n\n{run['date']}, commit {run['commit']}, {machine['cpu']}, "
    text += f"{machine['cores']} cores, load {machine['load']:.1f} at the start (figures of a "
    text += f"loaded machine are too low). {versions}.\n\n    {run['command']}\n\n"
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "start-up": ("Start-up, new process", measure_start_up),
            "methods": (
                "Raw 144 x 144 uint8 patterns to CrystalMap, three phases",
                compare_methods,
            ),
            "phases": ("Orientation only: network without refinement", measure_single_phases),
            "networks": ("One network alone, a yardstick of the machine", compare_networks),
            "kernel": ("Descriptor kernel", measure_kernel),
            "profile": ("Where the time goes", profile),
            "training": ("Training an orientation network, kinematical patterns", measure_training),
            "scaling": ("Long scans: network without refinement, lazy", measure_scaling),
        }
        for part in options.parts:
            title, measure = parts[part]
            extra = (Path(folder),) if part == "start-up" else ()
            text += f"## {title}\n\nLoad {os.getloadavg()[0]:.1f} before.\n\n"
            text += measure(bundle, options, *extra) + "\n"
            options.output.write_text(text.rstrip() + "\n")
            print(part, "done", file=sys.stderr, flush=True)
    print(text)


if __name__ == "__main__":
    main()
