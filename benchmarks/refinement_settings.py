"""Which settings refine best, judged by simulations of crystals that no benchmark judges by.

    python benchmarks/refinement_settings.py

Bloch-wave patterns of the package's own simulator, of eleven crystals through four cameras, start
at the truth turned by up to 1.2 degrees and are refined with every set of settings. Nothing of the
sets that `benchmarks/accuracy.py` and `benchmarks/refinement.py` judge by is seen. Prints the
medians as Markdown and writes them to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from harm import CAMERA
from judge_crystals import make_crystals
from report import _table, describe_run

from pyxem_nas import Acquisition, Randomization
from pyxem_nas.diffraction import (
    SpotLibrary,
    disorientation_angles,
    draw_dynamical_spots,
    get_reflections,
    laue_operations,
    multiply_quaternions,
)
from pyxem_nas.indexing import RefinementSettings, mark_unseen, refine_candidates
from pyxem_nas.indexing.refinement import REFINEMENT_SPEC
from pyxem_nas.patterns import Detector, make_sampler
from pyxem_nas.scans.source import DescriptorSource

CRYSTALS = (
    "W", "V", "Cu", "MgO", "Si", "Zr", "rutile", "SrTiO3", "forsterite", "CuO", "calcite",
)  # fmt: skip
#: precession in degrees, dose in electrons, scale and spot width in 1/angstrom
CAMERAS = (
    (0.7, 3e4, 0.030, 0.036),
    (0.3, 3e3, 0.026, 0.050),
    (1.0, 2e5, 0.022, 0.025),
    (0.0, 1e4, 0.034, 0.040),
)
ROD_WIDTHS = (0.010, 0.012, 0.014, 0.017)  # 1/angstrom
EXPONENTS = (0.1, 0.2, 0.3)
SATURATIONS = (np.inf, 24.0, 12.0, 6.0)
N_PIXELS = 112


def draw(phase, camera: tuple[float, ...], n: int, seed: tuple[int, ...]):
    """Return polar patterns of one phase through one camera, and their orientations."""
    angle, dose, scale, width = camera
    acquisition = Acquisition(200.0, angle)
    fields = {name: (v, v) for name, v in CAMERA.items()}
    fields |= {"dose": (dose, dose), "scale": (scale, scale), "spot_width": (width, width)}
    fields |= {"precession_angle": (angle, angle), "gamma": (0.5, 1.0), "saturation": (0.3, 3.0)}
    spots = draw_dynamical_spots(
        phase, n, acquisition, np.random.default_rng(seed), thickness=(100.0, 900.0),
        precession_angle=(angle, angle), n_thicknesses=2,
    )  # fmt: skip
    source = DescriptorSource(
        get_reflections([phase]), 1, acquisition, REFINEMENT_SPEC,
        dataclasses.replace(Randomization(), **fields), SpotLibrary([spots]),
    )  # fmt: skip
    polar, _, truth = source.simulate(n, np.random.default_rng((*seed, 1)), phase_id=0)
    sampler = make_sampler(Detector((N_PIXELS, N_PIXELS), (scale, scale)), REFINEMENT_SPEC)
    centers = np.full((n, 2), 0.5 * (N_PIXELS - 1))
    return mark_unseen(polar, centers, sampler, REFINEMENT_SPEC), truth


def disturb(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return orientations turned by up to 1.2 degrees about random axes."""
    axes = rng.standard_normal((len(truth), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    half = np.deg2rad(rng.uniform(0, 1.2, (len(truth), 1))) / 2
    return multiply_quaternions(truth, np.hstack([np.cos(half), axes * np.sin(half)]))


def measure(options: argparse.Namespace) -> np.ndarray:
    """Return medians in degrees, (crystals, cameras, rod widths, exponents, saturations)."""
    crystals = {crystal.name: crystal for crystal in make_crystals()}
    settings = (ROD_WIDTHS, EXPONENTS, SATURATIONS)
    medians = np.zeros((len(CRYSTALS), len(CAMERAS), *map(len, settings)))
    for index in np.ndindex(medians.shape[:2]):
        phase, camera = crystals[CRYSTALS[index[0]]], CAMERAS[index[1]]
        seed = (options.seed, *index)
        polar, truth = draw(phase, camera, options.n, seed)
        start = disturb(truth, np.random.default_rng((*seed, 2)))[:, None]
        reflections, group = get_reflections([phase]), laue_operations(phase)
        for chosen in np.ndindex(medians.shape[2:]):
            values = [values[i] for values, i in zip(settings, chosen, strict=True)]
            found, *_ = refine_candidates(
                polar, start, reflections, 0, wavelength=Acquisition(200.0).wavelength,
                precession_angle=camera[0],
                settings=RefinementSettings(
                    rod_width=values[0], intensity_exponent=values[1], saturation=values[2]
                ),
            )  # fmt: skip
            angles = disorientation_angles(found[:, 0], truth, group)
            medians[*index, *chosen] = np.median(angles)
        print(phase.name, camera, medians[index][2, 1].round(3).tolist(), flush=True)
    return medians


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="patterns of a crystal and camera")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    medians = measure(options)
    mean = np.exp(np.log(medians).mean(axis=0))  # over crystals
    info = describe_run(options)
    cameras = "; ".join(
        f"{angle:g} degrees, {dose:,.0f} electrons" for angle, dose, _, _ in CAMERAS
    )
    text = (
        f"# Settings of the refinement, by simulations\n\n{info['date']}, commit "
        f"{info['commit']}.\n\n    {info['command']}\n\nMedian disorientation in degrees, "
        f"geometric mean over {len(CRYSTALS)} crystals ({', '.join(CRYSTALS)}), {options.n} "
        f"patterns each, and over four cameras (precession, dose: {cameras}); columns: rod width "
        "in 1/angstrom, intensity exponent.\n\n"
    )
    pairs = [(i, j) for i in range(len(ROD_WIDTHS)) for j in range(len(EXPONENTS))]
    head = ["saturation", *(f"{ROD_WIDTHS[i]:g}, {EXPONENTS[j]:g}" for i, j in pairs)]
    for title, table in [
        ("All cameras", np.exp(np.log(mean).mean(axis=0))),
        *((f"{c[0]:g} degrees, {c[1]:,.0f} electrons", mean[k]) for k, c in enumerate(CAMERAS)),
    ]:
        rows = [
            [f"{saturation:g}", *(f"{table[i, j, k]:.3f}" for i, j in pairs)]
            for k, saturation in enumerate(SATURATIONS)
        ]
        text += f"{title}:\n\n" + _table(head, rows) + "\n"
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "refinement_settings.md").write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
