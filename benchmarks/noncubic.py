"""Networks for crystals that are not cubic: titanium and monoclinic zirconia, from CIF to map.

    python benchmarks/noncubic.py tables    # here: what training needs of the crystals
    python benchmarks/train_elsewhere.py train --folder bundle_training/noncubic/*   # or leave out
    python benchmarks/noncubic.py measure   # `pyxem-nas search --trials 0`, file, map, figures

"measure" runs the command from a CIF file in a folder; networks that were trained elsewhere are put
there first, and the search, which does nothing twice, goes on with calibration. Without them it
trains, which takes one to two hours on two cores. The bundle goes through its file. Patterns
are dynamical (Bloch waves of our own, other seeds) through the cameras of `cameras.py`; compared
are the refined network and refined exhaustive matching on the same images.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from bloch import BlochPatterns, draw_images
from cameras import CAMERAS
from report import _table, describe_run
from train_elsewhere import Job, read_weights, write_tables

from pyxem_nas import Acquisition, ModelBundle, read_phases
from pyxem_nas.diffraction import disorientation_angles, laue_operations, make_cells
from pyxem_nas.diffraction.disorientation import turned_about_beam
from pyxem_nas.diffraction.dynamical import draw_dynamical_spots
from pyxem_nas.maps.crystal_map import best_rotations
from pyxem_nas.maps.statistics import paired_interval

FOLDER = Path("bundle_training/noncubic")
ACQUISITION = Acquisition(200.0, 0.5)
CIF = {
    "titanium": """data_titanium
_symmetry_space_group_name_H-M 'P 63/m m c'
_cell_length_a 2.9505
_cell_length_b 2.9505
_cell_length_c 4.6826
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Ti1 Ti 0.33333 0.66667 0.25
""",
    "zirconia": """data_zirconia
_symmetry_space_group_name_H-M 'P 1 21/c 1'
_cell_length_a 5.1505
_cell_length_b 5.2116
_cell_length_c 5.3173
_cell_angle_alpha 90
_cell_angle_beta 99.23
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Zr1 Zr 0.2754 0.0395 0.2083
O1 O 0.0700 0.3317 0.3447
O2 O 0.4496 0.7569 0.4792
""",
}
N_SAMPLES = {"titanium": 600_000, "zirconia": 900_000}
N_PER_CAMERA = 40


def read_crystal(name: str):
    """Return the phase list of one crystal, from its CIF file."""
    path = FOLDER / f"{name}.cif"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CIF[name])
    return read_phases(path)


def write_all_tables() -> None:
    """Write what training elsewhere needs."""
    for name, n in N_SAMPLES.items():
        phases = [phase for _, phase in read_crystal(name)]
        job = Job(
            n_samples={"orientation_0": n, "phase": 200_000},
            seeds={"orientation_0": 0, "phase": 0},
            n_dynamical=(6000,),
            n_dynamical_foreign=300,
            ranges={"precession_angle": (0.3, 0.7)},
            seed=0,
        )
        write_tables(FOLDER / name, job, phases, ACQUISITION, {0: make_cells(phases[0])})


def put_networks(name: str, folder: Path) -> None:
    """Put networks that were trained elsewhere where the search looks for its own."""
    from pyxem_nas.bundles import (
        Architecture,
        build_orientation_network,
        build_phase_network,
        dump_keras,
    )

    cells = make_cells(read_crystal(name)[0])
    phase = Architecture(width=64, normalization="batch", squeeze_excitation=True)
    networks = {
        "orientation_0": build_orientation_network(
            Architecture(width=64), (40, 180), cells.n_inplane, cells.n_directions
        ),
        "phase": build_phase_network(phase, (40, 180), 2),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for key, model in networks.items():
        if (FOLDER / name / f"{key}.npz").exists():
            model.set_weights(read_weights(FOLDER / name, key)[0])
            (folder / f"{key}.keras").write_bytes(dump_keras(model))


def search(name: str) -> tuple[ModelBundle, str]:
    """Return the bundle that the command makes of the CIF file, and its seconds, if it is run."""
    output, folder = FOLDER / f"{name}.nas", FOLDER / f"{name}_search"
    put_networks(name, folder)
    started, took = time.perf_counter(), "was there"
    if not output.exists():
        command = [
            sys.executable, "-m", "pyxem_nas.cli", "search", str(FOLDER / f"{name}.cif"),
            "--beam-energy", "200", "--precession", "0.5", "--trials", "0",
            "--samples", str(N_SAMPLES[name]), "--dynamical", "1500", "--directory", str(folder),
            "--output", str(output),
        ]  # fmt: skip
        subprocess.run(command, check=True)
        took = f"{time.perf_counter() - started:.0f}"
    return ModelBundle.load(output), took


def draw_patterns(phase, n: int) -> BlochPatterns:
    """Return dynamical patterns in orientations that nothing was trained on."""
    spots = draw_dynamical_spots(
        phase, n, ACQUISITION, np.random.default_rng(2026), thickness=(150.0, 700.0),
        precession_angle=(0.5, 0.5), n_thicknesses=1, debye_waller=0.6,
    )  # fmt: skip
    parts = []
    for first, last in zip(spots.bounds[:-1], spots.bounds[1:], strict=True):
        intensity = spots.intensities[first:last, 0].astype(float)
        direct = [[0.0, 0.0, max(1 - intensity.sum(), 0.01)]]
        found = np.column_stack([spots.positions[first:last].astype(float), intensity])
        parts.append(np.concatenate([direct, found]))
    return BlochPatterns(
        phase.name, spots.quaternions, parts, spots.thickness[:, 0], np.full(n, 0.5)
    )


def measure(name: str) -> list:
    """Return a row of the table."""
    from pyxem.signals import ElectronDiffraction2D

    bundle, seconds = search(name)
    phase = bundle.phases[0]
    patterns = draw_patterns(phase, N_PER_CAMERA * len(CAMERAS))
    operations, right = laue_operations(phase), {"network": [], "match": []}
    for i, camera in enumerate(CAMERAS):
        rows = slice(i * N_PER_CAMERA, (i + 1) * N_PER_CAMERA)
        part = BlochPatterns(
            phase.name, patterns.rotations[rows], patterns.spots[rows], patterns.thickness[rows],
            patterns.precession[rows],
        )  # fmt: skip
        images = draw_images(part, camera, 0)
        s = ElectronDiffraction2D(images.data)
        for axis in s.axes_manager.signal_axes:
            axis.scale, axis.units = camera.scale, "$A^{-1}$"
        for method in right:
            xmap = s.index_phase_orientation(
                bundle, method=method, center=images.centers, acquisition=ACQUISITION,
                min_confidence=0, show_progressbar=False,
            )  # fmt: skip
            found = best_rotations(xmap).data.reshape(-1, 4)
            angle = disorientation_angles(found, part.rotations, operations)
            twin = disorientation_angles(turned_about_beam(found), part.rotations, operations)
            right[method].append(np.stack([angle <= 5, np.minimum(angle, twin) <= 5]))
    network, match = (np.concatenate(right[m], axis=1) for m in ("network", "match"))
    difference, low, high = (100 * v for v in paired_interval(network[1], match[1]))
    shares = [f"{100 * v[0].mean():.1f} / {100 * v[1].mean():.1f}" for v in (network, match)]
    interval = f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"
    return [name, str(len(operations)), *shares, interval, seconds]


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("tables", "measure"))
    arguments = parser.parse_args()
    if arguments.step == "tables":
        write_all_tables()
        return
    rows = [measure(name) for name in CIF]
    run = describe_run(arguments)
    head = [
        "crystal", "Laue operations", "network, refined", "matching, refined",
        "network - matching, twin forgiven", "`search` / s",
    ]  # fmt: skip
    text = (
        f"# Networks for crystals that are not cubic\n\n{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\nWithin 5 degrees / its 180-degree twin forgiven, %, of "
        f"{N_PER_CAMERA * len(CAMERAS)} dynamical patterns a crystal through the seven cameras; "
        "the difference in points with its 95 % interval. `search` without the networks' training "
        "where they were trained elsewhere.\n\n" + _table(head, rows)
    )
    print(text)
    (Path(__file__).parent / "results" / "noncubic.md").write_text(text)


if __name__ == "__main__":
    main()
