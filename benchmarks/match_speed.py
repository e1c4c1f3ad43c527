"""Exhaustive matching of one crystal after the other: rates, against pyxem and the machine's limit.

    python benchmarks/match_speed.py

For a cubic, an orthorhombic, a hexagonal, a monoclinic and a triclinic crystal: the seconds that a
library takes, patterns/s of matching alone, of pyxem's `get_orientation` with as many templates
(``frac_keep=1``, polar patterns ready in both cases), and from raw 144 x 144 patterns to a map,
refined. The limit is a plain `matmul` of single precision that multiplies as many numbers as the
products and inverse transforms of matching do. All of one run, each the best of some repeats.
Beside the rates is the time that a core spends on a pattern, which other work changes less: for its
Fourier coefficients, which all phases share, and for comparing them with a phase's templates.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numba
import numpy as np
from report import _table, describe_run
from speed import PEER_SPEC, SCALE, index, make_scan, score, time_best

from pyxem_nas import Acquisition, ModelBundle, example_phases
from pyxem_nas.bundles import number_phases
from pyxem_nas.indexing import match_library, matching, template_drawing
from pyxem_nas.indexing.template_matching import get_template_library, match_templates
from pyxem_nas.maps.crystal_map import best_rotations
from pyxem_nas.patterns import DescriptorSpec, Detector, compute_descriptors, make_sampler
from pyxem_nas.scans.specimens import make_phase

ACQUISITION = Acquisition(200.0, 0.5)
SPEC = DescriptorSpec()


def get_phases() -> dict:
    """Return the crystals by name; wollastonite after Ohashi (1984)."""
    steel = example_phases("steel")
    return {
        "ferrite": steel["ferrite"],
        "NbC": steel["NbC"],
        "Ti": make_phase(
            "Ti", 194, (2.951, 2.951, 4.684, 90, 90, 120), [("Ti", (1 / 3, 2 / 3, 0.25))]
        ),
        "cementite": steel["cementite"],
        "m-ZrO2": make_phase(
            "m-ZrO2", 14, (5.150, 5.212, 5.317, 90, 99.23, 90),
            [("Zr", (0.2754, 0.0395, 0.2083)), ("O", (0.0700, 0.3317, 0.3447)),
             ("O", (0.4496, 0.7569, 0.4792))],
        ),
        "wollastonite": make_phase(
            "wollastonite", 2, (7.940, 7.320, 7.070, 90.03, 95.37, 103.43),
            [("Ca", (0.1985, 0.4228, 0.7608)), ("Ca", (0.2027, 0.9293, 0.7640)),
             ("Ca", (0.5034, 0.7505, 0.5280)), ("Si", (0.1852, 0.3870, 0.2687)),
             ("Si", (0.1849, 0.9545, 0.2692)), ("Si", (0.3970, 0.7235, 0.0560)),
             ("O", (0.4291, 0.2314, 0.8019)), ("O", (0.4008, 0.7259, 0.8302)),
             ("O", (0.3037, 0.4635, 0.4641)), ("O", (0.3017, 0.9374, 0.4655)),
             ("O", (0.0154, 0.6254, 0.7343)), ("O", (0.0175, 0.1319, 0.7353)),
             ("O", (0.2732, 0.5118, 0.0919)), ("O", (0.2713, 0.8717, 0.0940)),
             ("O", (0.2188, 0.1784, 0.2228))],
        ),
    }  # fmt: skip


def measure(phase, options: argparse.Namespace) -> list[str]:
    """Return the row of one crystal."""
    bundle = ModelBundle.from_phases(number_phases([phase]), ACQUISITION)
    scan, truth = make_scan(bundle, options.n, 3)
    started = time.perf_counter()
    library = match_library.get_match_library(phase, ACQUISITION, SPEC, disk_cache=False)
    made = time.perf_counter() - started
    centers = np.full((options.n, 2), 71.5)
    descriptors, polar = (
        compute_descriptors(
            np.ascontiguousarray(scan.data),
            centers,
            make_sampler(Detector((144, 144), (SCALE, SCALE)), spec),
        )[0]
        for spec in (SPEC, PEER_SPEC)  # the peer's is not blurred: one sampler cannot do both
    )
    matching.match_descriptors(descriptors[:64], library, SPEC)
    seconds, _ = time_best(
        lambda: matching.match_descriptors(descriptors, library, SPEC), options.repeat
    )
    core = measure_core(descriptors, library, options)
    limit = measure_limit(library, options)
    spacing = template_drawing.MatchingSettings().get_spacing(len(library.symmetry))
    templates = get_template_library(phase, ACQUISITION, angular_resolution=spacing)
    few = polar[: options.n_peer]
    match_templates(few[:4], PEER_SPEC.radii, templates)
    peer, _ = time_best(lambda: match_templates(few, PEER_SPEC.radii, templates), options.repeat)
    how = {"method": "match", "refine": True}
    index(scan.inav[:64], bundle, how)
    whole, xmap = time_best(lambda: index(scan, bundle, how), options.repeat)
    _, good = score(xmap.phase_id, best_rotations(xmap).data.reshape(-1, 4), truth)
    alone, theirs = options.n / seconds, len(few) / peer
    return [
        phase.name, f"{library.n_templates}", f"{library.ranks.mean():.0f}", f"{made:.1f}",
        f"{library.n_bytes / 2**20:.0f}", f"{alone:.0f}", *core, f"{100 * limit / seconds:.0f}",
        f"{templates.n_templates}", f"{theirs:.1f}", f"{alone / theirs:.0f} x",
        f"{xmap.size / whole:.0f}", f"{100 * good:.1f}",
    ]  # fmt: skip


def measure_core(descriptors, library, options: argparse.Namespace) -> list[str]:
    """Return the microseconds of one core that coefficients and comparison of a pattern take."""
    n_threads = numba.get_num_threads()
    numba.set_num_threads(1)
    seconds = [np.inf, np.inf]
    try:
        for _ in range(3 * options.repeat):
            times = [time.thread_time()]
            spectra = matching.transform(descriptors, SPEC)
            times.append(time.thread_time())
            matching.match_spectra(spectra, library)
            times.append(time.thread_time())
            seconds = np.minimum(seconds, np.diff(times))
    finally:
        numba.set_num_threads(n_threads)
    return [f"{1e6 * value / len(descriptors):.0f}" for value in seconds]


def measure_limit(library, options: argparse.Namespace) -> float:
    """Return the seconds of a plain product of as many multiplications as matching does."""
    per_template = 4 * (library.ranks.sum() + library.n_harmonics * library.n_angles // 4)
    multiplications = options.n * library.n_templates * per_template
    side = round(multiplications ** (1 / 3))
    a = np.ones((side, side), np.float32)
    a @ a
    return time_best(lambda: a @ a, options.repeat)[0] * multiplications / side**3


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1024, help="patterns")
    parser.add_argument("--n-peer", type=int, default=48, help="patterns that pyxem gets")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--phases", nargs="+", help="names; default: all")
    output = Path(__file__).parent / "results" / "match_speed.md"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    run = describe_run(options)
    load = os.getloadavg()[0]
    phases = get_phases()
    rows = []
    for name in options.phases or phases:
        rows.append(measure(phases[name], options))
        print(rows[-1], file=sys.stderr, flush=True)
    head = [
        "crystal", "templates", "profiles", "library / s", "MB", "matching alone / s",
        "coefficients / us of a core", "comparison / us of a core",
        "of a plain product / %", "pyxem's templates", "pyxem / s", "matching is",
        "raw to map, refined / s", "< 5 deg or twin / %",
    ]  # fmt: skip
    text = f"# Exhaustive matching, crystal by crystal\n\n{run['date']}, commit {run['commit']}, "
    text += f"{run['machine']['cpu']}, {run['machine']['cores']} cores, load {load:.1f} at the "
    text += f"start.\n\n    {run['command']}\n\n{_table(head, rows)}\n"
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
