"""Real patterns: every check that needs no one's frame.

    python benchmarks/real.py                                  # what lies in ../shared/data
    python benchmarks/real.py --download SPEDAg LayeredCuNb4DSTEM   # needs internet, em-database

Silver (two grains, twins 60 degrees apart, on their measured grain map), a TopSpin scan (7 x 3, one
fcc grain near <110>), a NanoMEGAS file (2 x 3, phase unknown); with networks where a bundle has
them, and without. `--download` fetches data sets of the registry em-database (``pip install
em-database``), or of `pyxem.data` by the names of its functions (sped_ag), and indexes them with
the phases named by --cif or, for those two, silver and Cu/Nb. Printed are neighbour coherence,
disorientations between grains, the calibration found and the rate.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from orix.crystal_map import Phase, PhaseList

from pyxem_nas import Acquisition, ModelBundle, example_phases, read_phases
from pyxem_nas.diffraction import disorientation_angles, laue_operations
from pyxem_nas.maps import measure_coherence, segment_grains
from pyxem_nas.maps.grains import find_medoids
from pyxem_nas.patterns import read_scan

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CIFS = {"SPEDAg": ["Ag-Silver.cif"], "sped_ag": ["Ag-Silver.cif"]}
ENERGY = {"SPEDAg": (200, 1.0), "sped_ag": (200, 1.0), "LayeredCuNb4DSTEM": (200, 0.0)}


def make_cubic(name: str, element: str, edge: float, space_group: int = 225) -> Phase:
    """Return a cubic crystal with an atom at the origin."""
    from diffpy.structure import Atom, Lattice, Structure

    structure = Structure([Atom(element, [0, 0, 0])], Lattice(edge, edge, edge, 90, 90, 90))
    phase = Phase(name, space_group=space_group, structure=structure)
    return phase.expand_asymmetric_unit()


def index(signal, bundle, acquisition, method, **options):
    """Return a map, and print what can be said of it without truth."""
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        xmap = signal.index_phase_orientation(
            bundle, method=method, acquisition=acquisition, center="auto", scan_rotation=0,
            show_progressbar=False, **options,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    for message in dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning):
        print(f"  warning: {message}")
    counts = {p.name: int((xmap.phase_id == i).sum()) for i, p in xmap.phases}
    print(f"  {method}: {xmap.size} positions in {seconds:.1f} s, {counts}")
    print(f"  neighbours: {measure_coherence(xmap)}")
    if "distortion" in xmap.prop:
        matrix = xmap.prop["distortion"][0].reshape(2, 2)
        long, short = np.linalg.svd(matrix, compute_uv=False)
        column, row = (np.median(xmap.prop[name]) for name in ("beam_column", "beam_row"))
        print(
            f"  calibration: scale {100 * (np.sqrt(long * short) - 1):+.2f} %, ellipse "
            f"{100 * (long / short - 1):.2f} %, beam at ({column:.2f}, {row:.2f})"
        )
    return xmap


def report_grains(xmap, n_largest=6):
    """Print disorientations between the largest neighbouring grains of a map of one phase."""
    phases = [phase for i, phase in xmap.phases if i >= 0]
    operations = [laue_operations(phase) for phase in phases]
    rotations = xmap.rotations.data.reshape(xmap.size, -1, 4)[:, 0]
    shape = xmap.shape if len(xmap.shape) == 2 else (1, xmap.size)
    grains = segment_grains(xmap.phase_id, rotations, shape, operations)
    for k, phase in enumerate(phases):
        rows = np.flatnonzero((xmap.phase_id == k) & (grains >= 0))
        if not len(rows):
            continue
        numbers, sizes = np.unique(grains[rows], return_counts=True)
        large = np.sort(numbers[np.argsort(-sizes)][:n_largest])
        rows = rows[np.isin(grains[rows], large)]
        medoids = rotations[rows[find_medoids(grains[rows], rotations[rows], operations[k])]]
        i, j = np.triu_indices(len(medoids), 1)
        angles = disorientation_angles(medoids[i], medoids[j], operations[k])
        print(
            f"  {phase.name}: {len(numbers)} grains, the largest {np.sort(sizes)[::-1][:6]}; "
            f"between them {np.round(np.sort(angles), 1)} degrees"
        )


def check_silver(passed):
    """Twins 60 degrees apart, one orientation a grain, empty positions not indexed."""
    path = DATA / "silver" / "silver_52x16.blo"
    if not path.exists():
        print("silver: not here, skipped")
        return
    print("silver, 16 x 52, two twins on their grain map")
    labels = np.load(path.with_name("grain_labels.npy")).ravel()
    acquisition = Acquisition(200, 1.0)
    phases = read_phases(DATA / "cif" / "Ag-Silver.cif")
    for bundle, method in (
        (ModelBundle.load("silver"), "hybrid"),
        (ModelBundle.load("silver"), "network"),
        (ModelBundle.from_phases(phases, acquisition), "match"),
    ):
        signal = read_scan(path)
        signal.calibration.scale, signal.calibration.units = 0.026728, "1/angstrom"
        for options in ({}, {"calibrate": "auto"}):
            xmap = index(signal, bundle, acquisition, method, **options)
            operations = laue_operations(bundle.phases[0])
            rotations = xmap.rotations.data.reshape(xmap.size, -1, 4)[:, 0]
            medoids, spread = [], []
            for grain in np.unique(labels[labels >= 0]):
                rows = np.flatnonzero((labels == grain) & (xmap.phase_id >= 0))
                if not len(rows):
                    continue
                medoid = rotations[
                    rows[find_medoids(np.zeros(len(rows), int), rotations[rows], operations)[0]]
                ]
                medoids.append(medoid)
                spread.append(
                    disorientation_angles(
                        rotations[rows], np.tile(medoid, (len(rows), 1)), operations
                    )
                )
            between = (
                disorientation_angles(medoids[0][None], medoids[1][None], operations)[0]
                if len(medoids) > 1
                else np.nan
            )
            one = np.mean(np.concatenate(spread) < 3)
            empty = np.mean(xmap.phase_id[labels < 0] == -1)
            print(
                f"  between the grains {between:.2f} degrees; {100 * one:.1f} % within 3 degrees "
                f"of their grain's; {100 * empty:.1f} % of the empty positions not indexed"
            )
            passed[f"silver {method} {options or ''}"] = (
                abs(between - 60) < 1.5 and one > 0.99 and empty == 1
            )


def check_topspin(passed):
    """One fcc grain near <110>, a between 3.48 and 3.51 angstrom."""
    path = DATA / "files" / "topspin_7x3.app5"
    if not path.exists():
        print("TopSpin: not here, skipped")
        return
    print("TopSpin, 3 x 7 of 37 x 37 pixels, one fcc grain near <110>")
    acquisition = Acquisition(300, 0.5)
    bundle = ModelBundle.from_phases(
        PhaseList([make_cubic("fcc", "Ni", 3.495)], ids=[0]), acquisition
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal = read_scan(path)
    signal.calibration.scale, signal.calibration.units = 0.0893, "1/angstrom"
    for options in ({}, {"calibrate": "auto"}):
        xmap = index(signal, bundle, acquisition, "match", min_confidence=0, **options)
        rotations = xmap.rotations.data.reshape(xmap.size, -1, 4)[:, 0]
        # the beam in the crystal: z of the laboratory, taken by lab2crystal
        w, x, y, z = rotations.T
        beam = np.abs(
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x**2 + y**2)], axis=1)
        )
        beam = np.sort(beam, axis=1)
        off = np.rad2deg(np.arccos(np.clip(beam @ np.array([0, 1, 1]) / np.sqrt(2), -1, 1)))
        coherence = measure_coherence(xmap, forgive_twins=True)
        print(
            f"  off <110> by {np.median(off):.1f} degrees (median); twins forgiven "
            f"{100 * coherence.within:.0f} % of neighbours agree"
        )
        passed[f"TopSpin {options or ''}"] = np.median(off) < 8 and coherence.within > 0.8


def check_nanomegas(passed):
    """Phase unknown: nothing is to be believed."""
    path = DATA / "nanomegas_2x3.blo"
    if not path.exists():
        print("NanoMEGAS: not here, skipped")
        return
    print("NanoMEGAS, 3 x 2, phase unknown")
    signal = read_scan(path)
    signal.calibration.scale, signal.calibration.units = 0.0123, "1/angstrom"
    xmap = index(signal, ModelBundle.load("steel"), None, "hybrid")
    trust = np.nan_to_num(xmap.phase_probability * xmap.orientation_probability)
    believed = np.mean((xmap.phase_id >= 0) & (trust > 0.9))
    print(f"  {100 * believed:.0f} % believed with more than 0.9")
    passed["NanoMEGAS"] = believed == 0


def download(name, cifs):
    """Fetch a data set, index it with and without networks, and print what its map says."""
    import pyxem.data

    if hasattr(pyxem.data, name):
        signal = getattr(pyxem.data, name)(allow_download=True, lazy=True)
        signal.set_signal_type("electron_diffraction")
    else:
        from emdatabase import data

        signal = read_scan(Path(getattr(data, name)().download()))
    print(f"{name}: {signal}")
    if cifs:
        phases = read_phases(*cifs)
    elif name == "LayeredCuNb4DSTEM":
        phases = PhaseList(
            [make_cubic("Cu", "Cu", 3.615), make_cubic("Nb", "Nb", 3.301, 229)], ids=[0, 1]
        )
    elif name in CIFS:
        phases = example_phases("silver")
    else:
        raise SystemExit(f"--cif is needed: nobody told the phases of {name}")
    acquisition = Acquisition(*ENERGY.get(name, (200, 0.0)))
    bundles = [(ModelBundle.from_phases(phases, acquisition), "match")]
    if name in CIFS:
        bundles.append((ModelBundle.load("silver"), "hybrid"))
    for bundle, method in bundles:
        for options in ({}, {"calibrate": "auto"}):
            report_grains(index(signal, bundle, acquisition, method, **options))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--download", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--cif", type=Path, action="append", default=[])
    options = parser.parse_args(arguments)
    passed = {}
    for name in options.download:
        download(name, options.cif)
    if not options.download:
        for check in (check_silver, check_topspin, check_nanomegas):
            check(passed)
    for name, ok in passed.items():
        print(f"{'passed' if ok else 'FAILED'}: {name}")
    return 0 if all(passed.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
