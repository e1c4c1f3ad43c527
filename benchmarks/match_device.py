"""Exhaustive matching on a GPU beside the processor: rates, and whether the answers are the same.

    python benchmarks/match_device.py job --file job.npz                         # here
    KERAS_BACKEND=jax python benchmarks/match_device.py run --file job.npz       # where a GPU is

A job holds descriptors of simulated images and what libraries are made of, so that the machine with
the GPU needs NumPy, SciPy, Numba, platformdirs and Keras with any backend that compiles, and the
package's sources beside this file, but none of its hosts. There every crystal's patterns are
compared by the processor's kernel on all cores, by the device, and by the device with the products
that Keras's backend makes by itself, whose numbers have eleven binary digits on a GPU.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from elsewhere import stand_in_for_hosts

CRYSTALS = ("NbC", "Ti", "cementite", "wollastonite")
RADIUS = 1.95  # 1/angstrom: templates draw spots whose centres lie beyond the last ring
PRECESSION = 0.5  # degrees
N_CORE = 1024  # patterns that the processor gets


def write_job(options: argparse.Namespace) -> None:
    """Write descriptors, reflections and symmetry of the crystals."""
    from match_speed import ACQUISITION, SPEC, get_phases
    from speed import SCALE, make_scan

    from pyxem_nas import ModelBundle
    from pyxem_nas.bundles import number_phases
    from pyxem_nas.diffraction import get_reflections, laue_operations
    from pyxem_nas.patterns import Detector, compute_descriptors, make_sampler

    phases, job = get_phases(), {"wavelength": np.array(ACQUISITION.wavelength)}
    sampler = make_sampler(Detector((144, 144), (SCALE, SCALE)), SPEC)
    for name in CRYSTALS:
        phase = phases[name]
        bundle = ModelBundle.from_phases(number_phases([phase]), ACQUISITION)
        scan, _ = make_scan(bundle, options.n, 3)
        patterns, centers = np.ascontiguousarray(scan.data), np.full((options.n, 2), 71.5)
        (descriptors,) = compute_descriptors(patterns, centers, sampler)
        reflections = get_reflections([phase], reciprocal_radius=RADIUS)
        job[f"{name} descriptors"] = descriptors.astype(np.float16)
        for column in ("hkl", "vectors", "intensities", "extinction"):
            job[f"{name} {column}"] = getattr(reflections, column)
        job[f"{name} symmetry"] = laue_operations(phase)
    np.savez_compressed(options.file, **job)


def make_library(name: str, job: dict[str, np.ndarray]):
    """Return the library of a crystal of a job."""
    from pyxem_nas.diffraction.acquisition import Acquisition
    from pyxem_nas.diffraction.reflections import Reflections
    from pyxem_nas.indexing import match_library, template_drawing
    from pyxem_nas.patterns import DescriptorSpec

    lengths = np.linalg.norm(job[f"{name} vectors"], axis=1)

    def get_reflections(*_, reciprocal_radius: float = RADIUS, **__) -> Reflections:
        n = int((lengths < reciprocal_radius).sum())  # they are sorted by length
        columns = ("hkl", "vectors", "intensities", "extinction")
        return Reflections(*(job[f"{name} {column}"][:n] for column in columns), (0, n))

    template_drawing.get_reflections = get_reflections
    match_library.laue_operations = lambda *_: job[f"{name} symmetry"]
    spec = DescriptorSpec()
    return match_library._make_library(
        SimpleNamespace(name=name), Acquisition(200.0, PRECESSION), spec,
        template_drawing.MatchingSettings(), np.ones(spec.n_radial),
    )  # fmt: skip


def time_best(function, repeat: int) -> float:
    """Return the least seconds of some calls, the first of which is not counted."""
    function()
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def time_products(spectra: np.ndarray, library, repeat: int) -> float:
    """Return the seconds that a pattern takes on the device alone, nothing moved."""
    from keras import ops

    from pyxem_nas.indexing import matching_device

    n = matching_device.choose_block(library)
    block = ops.convert_to_tensor(np.resize(spectra, (n, *spectra.shape[1:])))
    tables, compare = matching_device._get_tables(library), matching_device._get_compiled()
    n_calls = 10

    def run() -> None:
        for _ in range(n_calls):  # one after the other: the last one waits for all
            found = compare(block, **tables)
        ops.convert_to_numpy(found[:1, :1, :1, :1])

    return time_best(run, repeat) / (n * n_calls)


def compare_answers(found: tuple, expected: tuple) -> list[str]:
    """Return how far answers of two ways are from each other."""
    (quaternions, scores), (known, known_scores) = found, expected
    same = np.abs(np.einsum("nkc,nkc->nk", quaternions, known)) > 1 - 1e-9
    same |= ~known.any(axis=-1) & ~quaternions.any(axis=-1)
    return [
        f"{np.abs(scores - known_scores).max():.1e}",
        f"{100 * same[:, 0].mean():.1f}",
        f"{100 * same.all(axis=1).mean():.1f}",
    ]


def measure(name: str, job: dict[str, np.ndarray], options: argparse.Namespace) -> list[list[str]]:
    """Return the rows of one crystal: processor, device, device with its own products."""
    from keras import ops

    from pyxem_nas.indexing import matching, matching_device
    from pyxem_nas.patterns import DescriptorSpec

    library, spec = make_library(name, job), DescriptorSpec()
    descriptors = job[f"{name} descriptors"].astype(np.float32)
    few = matching.transform(descriptors, spec)
    spectra = np.resize(few, (options.n, *few.shape[1:]))
    core = spectra[: min(N_CORE, options.n)]
    expected = matching.match_spectra(few, library)
    seconds = time_best(lambda: matching.match_spectra(core, library), options.repeat)
    whole = np.resize(descriptors, (len(core), *spec.shape))
    coefficients = time_best(lambda: matching.transform(whole, spec), options.repeat)
    about = [name, f"{library.n_templates}"]
    rows = [[*about, "processor", f"{len(core) / seconds:.0f}", "-", "-", "-", "-", "-"]]
    rows += [[*about, "its coefficients alone", f"{len(core) / coefficients:.0f}"] + ["-"] * 5]

    def match(spectra: np.ndarray = spectra) -> tuple[np.ndarray, np.ndarray]:
        cosine = matching.DISTINCT_COSINE
        return matching_device.match_on_device(spectra, library, matching.N_CANDIDATES, cosine)

    ours = matching_device._multiply
    for way, multiply in (("device", ours), ("device, its own products", ops.matmul)):
        matching_device._multiply = multiply
        matching_device._get_compiled.cache_clear()
        started = time.perf_counter()
        found = match(few)
        first = time.perf_counter() - started
        rate = options.n / time_best(match, options.repeat)
        alone = 1 / time_products(few, library, options.repeat)
        rows.append([*about, way, f"{rate:.0f}", f"{alone:.0f}", f"{first:.1f}"])
        rows[-1] += compare_answers(found, expected)
    matching_device._multiply = ours
    return rows


def run_job(options: argparse.Namespace) -> None:
    """Measure all crystals of a job and write the table."""
    with np.load(options.file, allow_pickle=False) as file:
        job = dict(file)
    stand_in_for_hosts(float(job["wavelength"]))
    import keras

    from pyxem_nas.indexing import matching

    matching.has_gpu = lambda: False  # the processor, unless asked otherwise

    head = ["crystal", "templates", "by", "patterns/s", "products alone / s", "first call / s"]
    head += ["largest difference of scores", "same first candidate / %", "same 12, in order / %"]
    lines = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head))]
    device = keras.backend.backend()
    if device == "jax":
        import jax

        device += f" {jax.__version__}, {jax.devices()[0].device_kind}"
    n_cores = len(os.sched_getaffinity(0))
    text = f"# Exhaustive matching on a device\n\nKeras {keras.__version__} on {device}; "
    text += f"{n_cores} cores; {options.n} patterns.\n\n"
    for name in options.crystals:
        lines += ["| " + " | ".join(row) + " |" for row in measure(name, job, options)]
        options.output.write_text(text + "\n".join(lines) + "\n")
        print("\n".join(lines[-4:]), flush=True)


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("job", "run"))
    parser.add_argument("--file", type=Path, default=Path("match_device.npz"))
    parser.add_argument("--n", type=int, default=384, help="patterns, of each crystal")
    parser.add_argument("--crystals", nargs="+", default=list(CRYSTALS))
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--output", type=Path, default=Path("match_device.md"))
    options = parser.parse_args()
    {"job": write_job, "run": run_job}[options.step](options)


if __name__ == "__main__":
    main()
