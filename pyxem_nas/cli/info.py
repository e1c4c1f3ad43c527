"""The command ``pyxem-nas info``: what a bundle holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pyxem_nas.cli.console import grow_tree, print_json, print_result
from pyxem_nas.cli.options import AsJson, Overwrite, option
from pyxem_nas.file_writing import check_can_write
from pyxem_nas.plain_values import to_plain

if TYPE_CHECKING:
    from pyxem_nas.bundles import ModelBundle

commands = typer.Typer()


@commands.command(
    epilog="Examples: `pyxem-nas info steel`\n\n`pyxem-nas info mine.nas --plot search.png`"
)
def info(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Name of a shipped bundle, or a .nas file.")
    ],
    plot: Annotated[
        Path | None,
        option("Picture of the architecture search to write, .png, .pdf or .svg: every trial."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show what a bundle holds and where it comes from."""
    from pyxem_nas.bundles import ModelBundle

    if plot is not None:
        check_can_write([plot], overwrite=overwrite)
    model = ModelBundle.load(bundle)
    if plot is not None:
        _draw_search(model, plot)
    phases = [_describe_phase(model, k) for k, _ in model.phase_list]
    names = ("acquisition", "precession_range", "spec", "thresholds", "provenance")
    sections = {name: to_plain(getattr(model, name)) for name in names}
    if as_json:
        whole = {"name": model.name, "phases": phases} | sections
        print_json(whole | {"search_report": model.search_report})
        return
    for phase in phases:
        phase["lattice"] = _format_lattice(phase["lattice"])
    print_result(_table(f"Bundle {model.name}", phases))
    for name, values in sections.items():
        print_result(grow_tree(name, values))
    if model.search_report:
        print_result(_table("Search", [_describe_search(r) for r in model.search_report]))


def _draw_search(bundle: ModelBundle, path: Path) -> None:
    """Write a picture of the bundle's architecture search."""
    import matplotlib.pyplot as plt

    from pyxem_nas.figures import plot_search
    from pyxem_nas.file_writing import replacing

    figure = plot_search(bundle)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=200)
    plt.close(figure)


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of rows with the same keys."""
    table = Table(title=escape(title))
    for head in rows[0]:
        table.add_column(head.replace("_", " "))
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    return table


def _describe_phase(bundle: ModelBundle, phase_id: int) -> dict[str, Any]:
    """Return what tells one phase of a bundle from another."""
    from pyxem_nas.diffraction import get_lattice_parameters

    phase = bundle.phase_list[phase_id]
    elements = [atom.element for atom in phase.structure]
    counts = {element: elements.count(element) for element in dict.fromkeys(elements)}
    network = bundle.has_orientation_network(phase_id)
    return {
        "name": phase.name,
        "space_group": None if phase.space_group is None else phase.space_group.short_name,
        "lattice": [round(value, 6) for value in get_lattice_parameters(phase)],
        "cell": " ".join(f"{element}{n}" for element, n in counts.items()),
        "orientation": "network" if network else "templates",
    }


def _format_lattice(lattice: Sequence[float]) -> str:
    """Return the lattice parameters as one text, without angles that say nothing."""
    lengths, angles = (" ".join(f"{v:.5g}" for v in part) for part in (lattice[:3], lattice[3:]))
    if len(set(lattice[:3])) == 1:
        lengths = f"{lattice[0]:.5g}"
    return lengths if angles == "90 90 90" else f"{lengths}, {angles}"


def _describe_search(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the best trial of a search report, and how many there were."""
    best = report["trials"][0]
    return {
        "searched for": report["target"],
        "trials": len(report["trials"]),
        "minutes": f"{report['seconds'] / 60:.1f}",
        "best validation loss": f"{best['validation_loss']:.3f}",
        "parameters": best["n_parameters"],
        "patterns/s": f"{best['patterns_per_second']:.0f}",
    }
