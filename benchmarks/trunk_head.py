"""A new phase on a trunk that was trained for others, beside networks trained as a whole.

    python benchmarks/trunk_head.py steel_trunk.nas --directory trunk_head

Calls `search_models` for aluminium twice, as a user with a new cubic phase would: on the trunk of a
bundle, of which only the heads are trained, and with networks of its own. Judges both on Bloch-wave
images of our own through cameras drawn at random (`compare_bundles.py`). Prints a Markdown report
and writes it to ``benchmarks/results``. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compare_bundles import run, write_report
from diffpy.structure import Atom, Lattice, Structure
from orix.crystal_map import Phase
from report import describe_run

from pyxem_nas import Acquisition, ModelBundle, search_models
from pyxem_nas.bundles import number_phases


def make_aluminium() -> Phase:
    """Return face-centred cubic aluminium, a = 4.0496 angstrom."""
    places = ([0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0])
    atoms = [Atom("Al", place) for place in places]
    lattice = Lattice(4.0496, 4.0496, 4.0496, 90, 90, 90)
    return Phase("Al", space_group=225, structure=Structure(atoms=atoms, lattice=lattice))


def make_bundles(options: argparse.Namespace) -> list[ModelBundle]:
    """Return the bundle trained as a whole, and the one with new heads on the old trunk."""
    bundles = []
    for name in ("whole", "head"):
        path = options.directory / f"{name}.nas"
        if not path.exists():
            more = {}
            if name == "head":
                more = {"initial": ModelBundle.load(options.trunk), "shared_trunk": True}
            bundle = search_models(
                number_phases([make_aluminium()]), Acquisition(200.0, 0.7), max_trials=0,
                n_samples=getattr(options, f"n_{name}"), directory=options.directory / name,
                seed=options.seed, name=name,
                report=lambda line: print(line, file=sys.stderr, flush=True), **more,
            )  # fmt: skip
            bundle.save(path)
        bundles.append(ModelBundle.load(path))
    return bundles


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trunk", help="bundle with a trunk")
    parser.add_argument("--n-whole", type=int, default=300_000, help="patterns of the whole")
    parser.add_argument("--n-head", type=int, default=150_000, help="and of the heads")
    parser.add_argument("--n", type=int, default=40, help="test patterns a camera")
    parser.add_argument("--n-cameras", type=int, default=12)
    parser.add_argument("--directory", type=Path, required=True, help="what is done is kept here")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    whole, head = make_bundles(options)
    options.bundles = [options.directory / "whole.nas", options.directory / "head.nas"]
    info = describe_run(options)
    report = write_report(run(options), info)
    _, _, rest = report.partition("\n")
    report = f"# A new phase on a trunk: aluminium\n{rest}"
    minutes = [b.provenance["seconds_of_last_run"] / 60 for b in (whole, head)]
    machine = info["machine"]
    report += (
        f"\nFirst: networks of their own, {options.n_whole} patterns, {minutes[0]:.1f} minutes "
        f"from phase to bundle. Second: heads on a trunk for other phases, {options.n_head} "
        f"patterns of the phase and as many of none, {minutes[1]:.1f} minutes. "
        f"{machine['cores']} cores, load {machine['load']:.1f} at the end.\n"
    )
    print(report)
    (Path(__file__).parent / "results" / "trunk_head.md").write_text(report)


if __name__ == "__main__":
    main()
