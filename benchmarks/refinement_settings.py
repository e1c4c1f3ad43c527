"""Which rod width and intensity exponent refine best, judged by simulations alone.

    python benchmarks/refinement_settings.py

Bloch-wave patterns of the package's own simulator, through cameras drawn at random, start at the
truth turned by about 0.8 degrees about each axis and are refined with every pair of settings.
Nothing of the set that `benchmarks/accuracy.py` and `benchmarks/refinement.py` judge by is seen.
Prints the medians as Markdown and writes them to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from report import _table, describe_run

from pyxem_nas import Acquisition, Randomization, example_phases
from pyxem_nas.diffraction import (
    SpotLibrary,
    disorientation_angles,
    draw_dynamical_spots,
    laue_operations,
    multiply_quaternions,
)
from pyxem_nas.diffraction.reflections import get_reflections
from pyxem_nas.indexing.refinement import REFINEMENT_SPEC, RefinementSettings, refine_candidates
from pyxem_nas.scans.source import DescriptorSource

ROD_WIDTHS = (0.005, 0.01, 0.012, 0.014, 0.017, 0.02)  # 1/angstrom
EXPONENTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
PRECESSION = (0.0, 0.7)  # degrees


def draw(phase, angle: float, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return polar patterns of one phase and their orientations."""
    acquisition = Acquisition(beam_energy=200.0, precession_angle=angle)
    ranges = dataclasses.replace(
        Randomization(), precession_angle=(angle, angle), dynamical_share=(1.0, 1.0)
    )
    spots = draw_dynamical_spots(
        phase, n, acquisition, rng, thickness=ranges.thickness, precession_angle=(angle, angle)
    )
    source = DescriptorSource(
        get_reflections([phase]), 1, acquisition, REFINEMENT_SPEC, ranges, SpotLibrary([spots])
    )
    polar, _, quaternions = source.simulate(n, rng, phase_id=0)
    return polar, quaternions


def measure(options: argparse.Namespace) -> np.ndarray:
    """Return medians in degrees, shape (phases, precessions, rod widths, exponents)."""
    phases = [phase for _, phase in example_phases("steel")]
    medians = np.zeros((len(phases), len(PRECESSION), len(ROD_WIDTHS), len(EXPONENTS)))
    for index in np.ndindex(medians.shape[:2]):
        phase, angle = phases[index[0]], PRECESSION[index[1]]
        rng = np.random.default_rng([options.seed, *index])
        polar, truth = draw(phase, angle, options.n, rng)
        turn = np.deg2rad(rng.normal(0, 0.8, (options.n, 3))) / 2
        turn = np.column_stack([np.sqrt(1 - (turn**2).sum(axis=1)), turn])
        start = multiply_quaternions(truth, turn)[:, None]
        for i, rod_width in enumerate(ROD_WIDTHS):
            for j, exponent in enumerate(EXPONENTS):
                found, *_ = refine_candidates(
                    polar, start, get_reflections([phase]), 0,
                    wavelength=Acquisition(200.0).wavelength, precession_angle=angle,
                    settings=RefinementSettings(rod_width=rod_width, intensity_exponent=exponent),
                )  # fmt: skip
                group = laue_operations(phase)
                medians[*index, i, j] = np.median(disorientation_angles(found[:, 0], truth, group))
        print(phase.name, angle, medians[index].round(2).tolist(), flush=True)
    return medians


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=600, help="patterns of a phase and precession")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    medians = measure(options)
    info = describe_run(options)
    text = f"# Settings of the refinement, by simulations\n\n{info['date']}, commit "
    text += f"{info['commit']}.\n\n    {info['command']}\n\n"
    text += f"Median disorientation in degrees, mean over phases ({options.n} patterns each) and "
    text += f"precession of {' and '.join(map(str, PRECESSION))} degrees; rows: rod width in "
    text += "1/angstrom, columns: intensity exponent.\n\n"
    names = [phase.name for _, phase in example_phases("steel")]
    for title, table in [
        ("all", medians.mean(axis=(0, 1))),
        *zip(names, medians.mean(axis=1), strict=True),
    ]:
        rows = [
            [f"{width}", *(f"{v:.3f}" for v in row)]
            for width, row in zip(ROD_WIDTHS, table, strict=True)
        ]
        text += _table([title, *map(str, EXPONENTS)], rows) + "\n"
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "refinement_settings.md").write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
