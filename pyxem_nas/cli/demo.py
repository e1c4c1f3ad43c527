"""The command ``pyxem-nas demo``: a simulated scan, its map and how right it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pyxem_nas.cli.console import (
    format_percent,
    print_json,
    print_result,
    say,
    send_logs_to_stderr,
    show_status,
)
from pyxem_nas.cli.index import index_scan
from pyxem_nas.cli.options import (
    AsJson,
    Bundle,
    Precision,
    PrecisionName,
    Seed,
    option,
    read_crystals,
)
from pyxem_nas.cli.output import write_maps

if TYPE_CHECKING:
    from orix.crystal_map import PhaseList

    from pyxem_nas.maps import Evaluation

commands = typer.Typer()


@commands.command(
    epilog="Examples: `pyxem-nas demo --shape 100 100 --seed 7`\n\n`pyxem-nas demo --cif`"
)
def demo(
    output: Annotated[Path, option("Folder for the maps.")] = Path("pyxem-nas-demo"),
    shape: Annotated[tuple[int, int], option("Rows and columns of the scan.")] = (60, 60),
    seed: Seed = 0,
    bundle: Bundle = "steel",
    cif: Annotated[
        bool,
        option(
            "Index by CIF files of the bundle's phases alone, which it writes beside the maps: "
            "nothing trained, no network.",
            "--cif",
        ),
    ] = False,
    precision: Precision = PrecisionName.auto,
    as_json: AsJson = False,
) -> None:
    """Index a simulated scan and compare the map with the truth.

    Simulates a scan of the bundle's phases as a camera would record it, indexes it, prints how
    right the map is and writes map.h5, map.ang, map.ctf, map.png and map.html, the map to click.
    With --cif the bundle says what is simulated, and no more.
    """
    with show_status("Loading pyxem and the bundle"):
        from pyxem_nas.bundles import ModelBundle
        from pyxem_nas.figures import write_report
        from pyxem_nas.maps import NOT_INDEXED, evaluate
        from pyxem_nas.scans import simulate_scan

        model = ModelBundle.load(bundle)
    send_logs_to_stderr()
    output.mkdir(parents=True, exist_ok=True)
    with show_status(f"Simulating a scan of {shape[0]} x {shape[1]} patterns"):
        scan, truth = simulate_scan(model.phase_list, shape, model.acquisition, seed=seed)
    if cif:
        phases = read_crystals(_write_crystals(output, model.phase_list))
        model = ModelBundle.from_phases(phases, model.acquisition)
    # nothing rejected at first: a rejected position has no answer to compare with the truth
    options = {
        "min_confidence": 0.0,
        "n_best": 3,  # runners-up to look at in the explorer
        "precision": precision.value,
        "show_progressbar": False if as_json else None,
    }
    # so that the speed is that of the work
    with show_status("Starting" if cif else "Starting the networks"):
        some = scan.inav[:: max(shape[1] // 6, 1), :: max(shape[0] // 6, 1)]
        some.index_phase_orientation(model, **options | {"show_progressbar": False})
    say("Indexing")
    result = index_scan(scan, model, options)
    xmap = result.pop("map")
    result["evaluation"] = evaluation = evaluate(xmap, truth)
    with show_status("Leaving out what is doubtful"):  # as users see it
        quiet = {"min_confidence": None, "show_progressbar": False}
        doubtful = ~scan.index_phase_orientation(model, **options | quiet).is_indexed
        xmap[doubtful].phase_id = NOT_INDEXED
    with show_status("Writing the maps"):
        paths = [output / f"map.{suffix}" for suffix in ("h5", "ang", "ctf")]
        result["files"] = write_maps(paths, xmap, overwrite=True)
    with show_status("Writing the explorer"):
        title = f"Simulated scan of {', '.join(model.phase_names)}"
        page = write_report(output / "map.html", xmap, scan, model, title=title, overwrite=True)
        result["files"].append(page)
    if as_json:
        print_json({"bundle": bundle, "cif": cif, "shape": shape, "seed": seed} | result)
        return
    print_result(_demo_table(result, evaluation))
    names = ", ".join(path.name for path in result["files"])
    print_result(
        f"{names} are in the folder {output}; there, {doubtful.sum()} positions that are "
        "too doubtful are not indexed. Open map.html in a browser and click the map"
    )


def _write_crystals(folder: Path, phase_list: PhaseList) -> list[Path]:
    """Write a CIF file for each phase, all atoms of the cell; return the files."""
    paths = []
    for _, phase in phase_list:
        paths.append(folder / f"{phase.name}.cif")
        phase.structure.write(str(paths[-1]), "cif")
    return paths


def _demo_table(result: Mapping[str, Any], evaluation: Evaluation) -> Table:
    """Return the demo's table: the whole in its title, one row per phase."""
    table = Table(
        title=f"{result['positions']} positions, {result['patterns_per_second']:.0f} patterns/s, "
        f"phase right in {format_percent(evaluation.phase_accuracy)}",
        caption="Against the truth of the simulated scan, no answer rejected. The angles are "
        "those between found and true orientation, where the phase is right.",
    )
    table.add_column("phase", no_wrap=True)
    for head in ("positions", "phase right", "median", "within 2°", "within 5°", "or its twin"):
        table.add_column(head, justify="right")
    for name, scores in evaluation.orientation.items():
        table.add_row(
            escape(name),
            str(scores.n_reference),
            format_percent(scores.n_right_phase / max(scores.n_reference, 1)),
            "-" if math.isnan(scores.median) else f"{scores.median:.2f}°",
            format_percent(scores.within_2),
            format_percent(scores.within_5),
            format_percent(evaluation.orientation_twin_forgiven[name].within_5),
        )
    return table
