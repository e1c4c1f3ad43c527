"""Simulated patterns of many crystals with their candidates: what the universal judge is fitted to.

    python benchmarks/judge_patterns.py tables   --folder work     # here: crystals as tables
    python benchmarks/judge_patterns.py patterns --folder work     # here, or where cores are

Each crystal of `judge_crystals` is simulated at two of three precession angles, by Bloch waves and
kinematically, through random cameras. Its candidates come from exhaustive matching and are refined,
and so are those of three crystals that the pattern is not of, and what it finds where there is no
crystal. What is written, a file a crystal and angle, are the scores of all candidates and how far
each is from the truth.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

from elsewhere import stand_in_for_hosts

ANGLES = (0.0, 0.5, 1.0)  # degrees of precession
STRANGERS = (17, 41, 67)  # places in the list from a crystal to those that its patterns are not of
N_NOISE = 40  # patterns without a crystal, for each crystal
N_PATTERNS = 240  # of each crystal and angle
N_DYNAMICAL = 200  # orientations of each crystal whose Bloch waves are computed
N_CANDIDATES = 12
MOST_ENTRIES = 100_000  # of a potential's table: larger cells are simulated kinematically alone
N_PIXELS = 112  # of simulated images
RADIUS = 1.95  # 1/angstrom: templates draw spots whose centres lie beyond the last ring
SEED = 23


def write_tables(folder: Path) -> None:
    """Write all that simulation and matching need of the crystals."""
    from judge_crystals import make_crystals

    from pyxem_nas import Acquisition
    from pyxem_nas.diffraction import get_reflections, laue_operations
    from pyxem_nas.diffraction.dynamical import get_potential

    acquisition = Acquisition(200.0)
    crystals = make_crystals()
    tables = {
        "names": [crystal.name for crystal in crystals],
        "systems": [crystal.space_group.crystal_system for crystal in crystals],
        "reflections": [get_reflections([c], reciprocal_radius=RADIUS) for c in crystals],
        "operations": [laue_operations(crystal) for crystal in crystals],
        "potentials": [get_potential(crystal, acquisition) for crystal in crystals],
    }
    folder.mkdir(parents=True, exist_ok=True)
    tables["potentials"] = [
        potential if potential.table.size <= MOST_ENTRIES else None
        for potential in tables["potentials"]
    ]
    (folder / "crystals.pkl").write_bytes(zlib.compress(pickle.dumps(tables)))
    (folder / "wavelength.txt").write_text(repr(acquisition.wavelength))


def read_tables(folder: Path) -> dict:
    """Return what `write_tables` wrote."""
    stand_in_for_hosts(float((folder / "wavelength.txt").read_text()))
    return pickle.loads(zlib.decompress((folder / "crystals.pkl").read_bytes()))


def angles_of(k: int) -> tuple[float, float]:
    """Return the precession angles at which a crystal is simulated."""
    return ANGLES[k % 3], ANGLES[(k + 1) % 3]


def strangers_of(k: int, angle: float, n: int) -> list[int]:
    """Return crystals that patterns of another are compared with, simulated at the same angle."""
    found: list[int] = []
    for step in STRANGERS:
        other = (k + step) % n
        while angle not in angles_of(other) or other in (k, *found):
            other = (other + 1) % n
        found.append(other)
    return found


def take_reflections(reflections, radius: float):
    """Return the reflections of one crystal within a radius; they are sorted by length."""
    import numpy as np

    from pyxem_nas.diffraction.reflections import Reflections

    n = int((np.linalg.norm(reflections.vectors, axis=1) < radius).sum())
    names = ("hkl", "vectors", "intensities", "extinction")
    return Reflections(*(getattr(reflections, name)[:n] for name in names), (0, n))


class Workplace:
    """What is known of the crystals: their simulators and match libraries."""

    def __init__(self, folder: Path) -> None:
        self.tables = read_tables(folder)

    def make_library(self, k: int, angle: float, scale: float):
        """Return the match library of a crystal for a camera of a scale in 1/angstrom."""
        from pyxem_nas.diffraction.acquisition import Acquisition
        from pyxem_nas.indexing import match_library, template_drawing
        from pyxem_nas.patterns import DescriptorSpec

        reflections, operations = self.tables["reflections"][k], self.tables["operations"][k]
        template_drawing.get_reflections = lambda *_, reciprocal_radius=1.85, **__: (
            take_reflections(reflections, reciprocal_radius)
        )
        match_library.laue_operations = lambda *_: operations
        spec = DescriptorSpec()
        return match_library._make_library(
            SimpleNamespace(name=self.tables["names"][k]), Acquisition(200.0, angle), spec,
            template_drawing.MatchingSettings(), see_rings(spec, scale),
        )  # fmt: skip

    def simulate(self, k: int, angle: float, scale: float, noise: bool = False):
        """Return descriptors, polar patterns and orientations of patterns of a crystal.

        With `noise` of none: of vacuum and of amorphous specimens.
        """
        import numpy as np

        from pyxem_nas.diffraction import SpotLibrary, dynamical
        from pyxem_nas.diffraction.acquisition import Acquisition
        from pyxem_nas.indexing.refinement import get_refinement_spec, mark_unseen
        from pyxem_nas.patterns import DescriptorSpec, Detector, make_sampler
        from pyxem_nas.scans.randomization import Randomization
        from pyxem_nas.scans.source import DescriptorSource

        key = (SEED, k, round(10 * angle))
        acquisition = Acquisition(200.0, angle)
        library = None
        if self.tables["potentials"][k] is not None and not noise:
            dynamical.get_potential = lambda *_, **__: self.tables["potentials"][k]
            spots = dynamical.draw_dynamical_spots(
                None, N_DYNAMICAL, acquisition, np.random.default_rng((*key, 1)),
                thickness=(100.0, 900.0), precession_angle=(angle, angle),
            )  # fmt: skip
            library = SpotLibrary([spots])
        stacks = []
        for spec in (DescriptorSpec(), get_refinement_spec(DescriptorSpec())):
            source = DescriptorSource(
                take_reflections(self.tables["reflections"][k], 1.85), 1, acquisition, spec,
                Randomization(
                    precession_angle=(angle, angle), dose=(500.0, 3e5), scale=(scale, scale)
                ),
                library,
            )  # fmt: skip
            # the same seed: the same patterns, described twice
            if noise:
                stack = source.simulate(3 * N_NOISE, np.random.default_rng((*key, 3)))
                rows = np.flatnonzero(stack[1] == 1)[:N_NOISE]  # 1: none of the one known crystal
                stacks.append([values[rows] for values in stack])
                continue
            stacks.append(source.simulate(N_PATTERNS, np.random.default_rng((*key, 2)), phase_id=0))
        fine = get_refinement_spec(DescriptorSpec())
        sampler = make_sampler(Detector((N_PIXELS, N_PIXELS), (scale, scale)), fine)
        centers = np.full((len(stacks[1][0]), 2), 0.5 * (N_PIXELS - 1))
        return stacks[0][0], mark_unseen(stacks[1][0], centers, sampler, fine), stacks[0][2]

    def find_candidates(self, k: int, angle: float, scale: float, descriptors, polar) -> dict:
        """Return a crystal's candidates in patterns, refined, and their scores."""
        import math

        import numpy as np

        from pyxem_nas.diffraction.acquisition import Acquisition
        from pyxem_nas.indexing.matching import match_descriptors
        from pyxem_nas.indexing.phase_scores import score_phase
        from pyxem_nas.indexing.refinement import get_refinement_spec, refine_candidates
        from pyxem_nas.patterns import DescriptorSpec

        spec, fine = DescriptorSpec(), get_refinement_spec(DescriptorSpec())
        reflections = take_reflections(self.tables["reflections"][k], 1.85)
        found, grid = match_descriptors(
            descriptors, self.make_library(k, angle, scale), spec, n_best=N_CANDIDATES
        )
        wavelength = Acquisition(200.0).wavelength
        optics = {"wavelength": wavelength, "precession_angle": angle, "spec": fine}
        rated = refine_candidates(polar, found, reflections, 0, **optics)
        likely = grid / grid.max(axis=1, keepdims=True).clip(1e-9) + rated.tolerant / (
            rated.tolerant.max(axis=1, keepdims=True).clip(1e-9)
        )
        best = rated.quaternions[np.arange(len(polar)), likely.argmax(axis=1)]
        best[~best.any(axis=1)] = 1.0, 0, 0, 0
        return {
            "quaternions": rated.quaternions,
            "grid": grid,
            "narrow": rated.correlation,
            "tolerant": rated.tolerant,
            "spots": rated.spots,
            "explained": rated.explained,
            "peaks": rated.peaks,
            "phase_scores": score_phase(polar, best, reflections, 0, **optics),
            "n_reflections": np.full(len(polar), math.log(len(reflections.vectors))),
        }


def see_rings(spec, scale: float):
    """Return the share of each ring that the square detector shows, (n_radial,)."""
    import numpy as np

    ratio = np.minimum(0.5 * (N_PIXELS - 1) * scale / spec.radii, 1.0)
    return np.maximum(1 - 4 / np.pi * np.arccos(ratio), 0.0)


def angles_to(quaternions, truth, operations):
    """Return the disorientations in degrees of candidates (n, k, 4) from the truth (n, 4)."""
    import numpy as np

    from pyxem_nas.diffraction.orientation import multiply_quaternions

    cosine = np.zeros(quaternions.shape[:2])
    for operation in operations:
        image = multiply_quaternions(operation, truth)
        np.maximum(cosine, np.abs(np.einsum("nki,ni->nk", quaternions, image)), out=cosine)
    return np.rad2deg(2 * np.arccos(np.minimum(cosine, 1)))


def make_patterns(folder: Path, part: int, n_parts: int) -> None:
    """Write the files of some of the crystals, but those that are there."""
    import numpy as np

    place = Workplace(folder)
    n = len(place.tables["names"])
    jobs = [(k, angle) for k in range(n) for angle in angles_of(k)]
    for k, angle in jobs[part::n_parts]:
        path = folder / f"crystal_{k:02d}_{round(10 * angle):02d}.npz"
        if path.exists():
            continue
        # one camera length for all patterns of a file: libraries leave out what it does not show
        rng = np.random.default_rng((SEED, k, round(10 * angle)))
        scale = float(np.exp(rng.uniform(np.log(0.016), np.log(0.038))))
        descriptors, polar, truth = place.simulate(k, angle, scale)
        own = place.find_candidates(k, angle, scale, descriptors, polar)
        operations = place.tables["operations"][k]
        own["angle"] = angles_to(own.pop("quaternions"), truth, operations)
        columns = {f"own_{name}": v for name, v in own.items()}
        strangers = strangers_of(k, angle, n)
        for i, stranger in enumerate(strangers):
            other = place.find_candidates(stranger, angle, scale, descriptors, polar)
            other.pop("quaternions")
            columns |= {f"other{i}_{name}": v for name, v in other.items()}
        columns = {name: np.asarray(v, np.float32) for name, v in columns.items()}
        partial = path.with_suffix(".part.npz")
        np.savez_compressed(partial, precession=angle, scale=scale, strangers=strangers, **columns)
        os.replace(partial, path)


def make_noise(folder: Path, part: int, n_parts: int) -> None:
    """Write what some of the crystals find in patterns of vacuum and of amorphous specimens."""
    import numpy as np

    place = Workplace(folder)
    for k in range(len(place.tables["names"]))[part::n_parts]:
        path, angle = folder / f"noise_{k:02d}.npz", angles_of(k)[0]
        if path.exists():
            continue
        rng = np.random.default_rng((SEED, k, 99))
        scale = float(np.exp(rng.uniform(np.log(0.016), np.log(0.038))))
        descriptors, polar, _ = place.simulate(k, angle, scale, noise=True)
        found = place.find_candidates(k, angle, scale, descriptors, polar)
        found.pop("quaternions")
        columns = {name: np.asarray(v, np.float32) for name, v in found.items()}
        partial = path.with_suffix(".part.npz")
        np.savez_compressed(partial, **columns)
        os.replace(partial, path)


def make_all(folder: Path, n_processes: int) -> None:
    """Write all files, by several processes."""
    started = time.perf_counter()
    threads = str(max(1, (os.cpu_count() or 1) // n_processes))
    command = [sys.executable, __file__, "patterns", "--folder", str(folder)]
    running = [
        subprocess.Popen(
            [*command, "--part", str(part), str(n_processes)],
            env=os.environ | {"NUMBA_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
        )
        for part in range(n_processes)
    ]
    if any([process.wait() for process in running]):
        raise SystemExit("a process failed")
    n = len(list(folder.glob("crystal_*.npz")))
    print(f"{n} files in {time.perf_counter() - started:.0f} s")


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("tables", "patterns"))
    parser.add_argument("--folder", type=Path, default=Path("bundle_training/judge"))
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--part", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "tables":
        write_tables(arguments.folder)
    elif arguments.part:
        make_patterns(arguments.folder, *arguments.part)
        make_noise(arguments.folder, *arguments.part)
    else:
        make_all(arguments.folder, arguments.processes)


if __name__ == "__main__":
    main()
