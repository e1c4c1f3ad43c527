"""Whether the bundle `steel` leaves out what is no known phase, and what that costs.

    python benchmarks/rejection.py --bundle steel

Shows the bundle vacuum and amorphous patterns, dynamical patterns of silver, magnesia and silicon
(five visible spots or more; none of them is among the made-up crystals of the training), and the
true phases' patterns of ``shared/data``, through all cameras of `cameras.py`. Prints the share not
indexed at the bundle's threshold and draws the whole trade-off. Results go to
``benchmarks/results/rejection.md`` and ``.png``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from accuracy import Batch, make_signal
from bloch import PHASES, BlochPatterns, draw_images, load_bloch
from cameras import get_cameras
from matplotlib.figure import Figure
from report import _table, describe_run

from pyxem_nas import ModelBundle
from pyxem_nas.diffraction.acquisition import Acquisition

_PRECESSION = 0.7  # degrees


def make_cubic_phase(name: str, group: int, a: float, kinds: list[tuple[str, float]]) -> object:
    """Return a face-centred phase: elements, each with its shift along the diagonal; 0.5: along x.

    `group` is the number of the space group, `a` in angstrom.
    """
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    corners = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
    atoms = [
        Atom(element, (corner + (shift if shift != 0.5 else np.array([0.5, 0, 0]))) % 1)
        for element, shift in kinds
        for corner in corners
    ]
    structure = Structure(atoms, Lattice(a, a, a, 90, 90, 90))
    return Phase(name, space_group=group, structure=structure)


def make_foreign_phases() -> dict[str, object]:
    """Return silver, magnesia and silicon."""
    contents = {
        "silver": (225, 4.0857, [("Ag", 0.0)]),
        "magnesia": (225, 4.2112, [("Mg", 0.0), ("O", 0.5)]),
        "silicon": (227, 5.4310, [("Si", 0.0), ("Si", 0.25)]),
    }
    return {name: make_cubic_phase(name, *content) for name, content in contents.items()}


def simulate_foreign(phase: object, n: int, seed: int) -> BlochPatterns:
    """Return dynamical patterns of a foreign phase."""
    from pyxem_nas.diffraction import draw_dynamical_spots

    drawn = draw_dynamical_spots(
        phase, n, Acquisition(200), np.random.default_rng(seed), thickness=(150.0, 700.0),
        precession_angle=(_PRECESSION, _PRECESSION), n_thicknesses=1,
    )  # fmt: skip
    spots = []
    for i in range(n):
        rows = slice(drawn.bounds[i], drawn.bounds[i + 1])
        table = np.column_stack([drawn.positions[rows], drawn.intensities[rows]])
        direct = max(1 - table[:, 2].sum(), 0.0)
        spots.append(np.concatenate([[[0.0, 0.0, direct]], table]).astype(float))
    precession = np.full(n, _PRECESSION)
    return BlochPatterns(phase.name, drawn.quaternions, spots, drawn.thickness[:, 0], precession)


def make_empty(n: int) -> BlochPatterns:
    """Return patterns of nothing but direct beam, background and noise; one faint far spot."""
    # the camera's dose is counted in diffracted electrons: one spot outside the detector
    spots = [np.array([[0.0, 0.0, 1.0], [50.0, 0.0, 1.0]])] * n
    nothing = np.zeros(n)
    return BlochPatterns("vacuum", np.tile([1.0, 0, 0, 0], (n, 1)), spots, nothing, nothing)


def index(patterns: BlochPatterns, camera, bundle: ModelBundle, seed: int, method: str) -> tuple:
    """Return phase probability, phase id, correlation and which rows count, of patterns.

    The probability is 0 where "none of these" is the answer; the phase id is that at the bundle's
    thresholds.
    """
    images = draw_images(patterns, camera, seed)
    n = len(images.data)
    batch = Batch(
        camera, Acquisition(200, _PRECESSION), images.data, images.centers, None,
        np.zeros(n, int), patterns.rotations, patterns.thickness, images.too_few_spots,
    )  # fmt: skip
    options = {"center": batch.centers, "method": method, "show_progressbar": False}
    known = make_signal(batch).index_phase_orientation(bundle, min_confidence=1e-9, **options)
    kept = make_signal(batch).index_phase_orientation(bundle, **options)
    probability = np.where(
        known.phase_id < 0, 0.0, np.nan_to_num(known.prop["phase_probability"], nan=1.0)
    )
    rich = np.array([len(s) > 5 for s in patterns.spots]) & ~images.too_few_spots
    return probability, kept.phase_id, kept.prop["correlation"], rich


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--n", type=int, default=30, help="patterns per kind and camera")
    parser.add_argument("--method", default="network")
    parser.add_argument(
        "--phase-threshold", type=float,
        help="phase probability below which physical scores join; 1: everywhere",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="rejection", help="of the files written there")
    options = parser.parse_args()
    import pyxem_nas  # noqa: F401 - attaches the method to signals

    bundle = ModelBundle.load(options.bundle)
    if options.phase_threshold is not None:
        thresholds = dataclasses.replace(bundle.thresholds, phase=options.phase_threshold)
        bundle = dataclasses.replace(bundle, thresholds=thresholds)
    kinds = {"vacuum and amorphous": lambda k: make_empty(options.n)}
    for phase in make_foreign_phases().values():
        kinds[phase.name] = lambda k, phase=phase: simulate_foreign(
            phase, options.n, options.seed + k
        )
    for name in PHASES:
        kinds[name] = lambda k, name=name: load_bloch(
            name, options.n, start=k * options.n, seed=options.seed
        )
    found = {}
    for kind, make in kinds.items():
        parts = [
            index(make(k), camera, bundle, options.seed, options.method)
            for k, camera in enumerate(get_cameras())
        ]
        *columns, rich = (np.concatenate(column) for column in zip(*parts, strict=True))
        counted = rich if kind in ("silver", "magnesia", "silicon") else np.ones_like(rich)
        found[kind] = tuple(column[counted] for column in columns)
    true = np.concatenate([found[name][0] for name in PHASES])
    least = [np.quantile(true, share) for share in (0.01, 0.02)]
    rows = [
        [
            kind,
            str(len(ids)),
            f"{100 * np.mean(ids < 0):.1f}",
            *(f"{100 * np.mean(values < bound):.1f}" for bound in least),
            describe_answers(ids, correlation, bundle.phase_names),
        ]
        for kind, (values, ids, correlation) in found.items()
    ]
    lost = np.mean(np.concatenate([found[name][1] for name in PHASES]) < 0)
    head = ["patterns", "n", "not indexed at the default thresholds / %", "where 1 % are lost / %",
            "where 2 % are lost / %", "taken for (number, median correlation)"]  # fmt: skip
    run = describe_run(options)
    machine = run["machine"]
    text = "\n".join(
        [
            "# What is no known phase\n",
            f"{run['date']}, commit {run['commit']}, {machine['cpu']}, {machine['cores']} cores.\n",
            f"    {run['command']}\n",
            _table(head, rows),
            f"At the default thresholds {100 * lost:.1f} % of the true patterns are lost; the "
            "next columns bound the phase probability where 1 and 2 % of them are.\n",
            f"![trade-off]({options.name}.png)",
        ]
    )
    print(text)
    options.output.mkdir(exist_ok=True)
    (options.output / f"{options.name}.md").write_text(text + "\n")
    draw(found).savefig(options.output / f"{options.name}.png", dpi=110)


def describe_answers(ids: np.ndarray, correlation: np.ndarray, names: list[str]) -> str:
    """Return which phases patterns were taken for, how often, and how well these fit."""
    return ", ".join(
        f"{names[k]} ({np.sum(ids == k)}, {np.median(correlation[ids == k]):.2f})"
        for k in np.unique(ids[ids >= 0])
    )


def draw(found: dict[str, tuple[np.ndarray, ...]]) -> Figure:
    """Return the share of each kind that is refused against the share of true patterns lost."""
    true = np.concatenate([found[name][0] for name in PHASES])
    thresholds = np.quantile(true, np.linspace(0, 0.2, 81)) + 1e-12
    lost = [100 * np.mean(true < t) for t in thresholds]
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    ax = figure.subplots()
    styles = zip(found, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False)
    for kind, color in styles:
        refused = [100 * np.mean(found[kind][0] < t) for t in thresholds]
        ax.plot(lost, refused, label=kind, color=color)
    ax.axvline(2, color="0.7", lw=1)
    ax.set(xlabel="true patterns lost / %", ylabel="not indexed / %", xlim=(0, 10), ylim=(0, 101))
    ax.legend()
    ax.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
