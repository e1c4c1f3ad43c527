"""The command ``pyxem-nas index``: from scans to maps."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyxem_nas.cli import options as cli_options
from pyxem_nas.cli.console import (
    collected_warnings,
    format_percent,
    name_file,
    print_json,
    say,
    send_logs_to_stderr,
    show_status,
)
from pyxem_nas.cli.output import write_maps
from pyxem_nas.file_writing import check_can_write

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap, PhaseList
    from pyxem.signals import ElectronDiffraction2D

    from pyxem_nas.bundles import ModelBundle

commands = typer.Typer()


@commands.command(
    epilog="Examples: `pyxem-nas index scan.blo --cif ferrite.cif --cif NbC.cif --beam-energy 200 "
    "--scale 0.0123 --output map.ctf`"
    "\n\n`pyxem-nas index scan.blo --bundle steel --scale 0.0123 --output map.ctf`"
    "\n\n`pyxem-nas index a.mib b.mib --bundle mine.nas --scale 0.0123 --output maps/{stem}.ctf`"
    "\n\n`pyxem-nas index scan.blo --bundle steel --scale 0.0123 --report`"
)
@cli_options.spread_options
def index(
    files: Annotated[list[Path], typer.Argument(help="Scans, of any format that HyperSpy reads.")],
    *,
    bundle: cli_options.BundleOrNone = None,
    cif: cli_options.Cif = None,
    output: Annotated[
        list[str] | None,
        cli_options.option(
            "Map to write, .ctf, .ang or .h5; can be given several times. {stem} stands for the "
            "scan's name. A PNG is put beside the first. [default: {stem}_map.h5]"
        ),
    ] = None,
    stated: cli_options.ScanOptions,
    indexing: cli_options.IndexingOptions,
    phase: Annotated[
        list[str] | None,
        cli_options.option(
            "Phase to look for, can be given several times. [default: all of the bundle]"
        ),
    ] = None,
    n_best: Annotated[int, cli_options.option("Orientations kept per position.", min=1)] = 1,
    report: Annotated[
        bool,
        cli_options.option(
            "Write a report, one HTML file, beside the first map: the map to click, patterns with "
            "the spots of their answers, statistics, grain sizes, texture, and warnings.",
            "--report",
        ),
    ] = False,
    lazy: Annotated[
        bool, cli_options.option("Read the patterns piece by piece, or at once.", "--lazy/--eager")
    ] = True,
    resume: Annotated[
        bool,
        cli_options.option("Go on where an interrupted run of the same command was.", "--resume"),
    ] = False,
    overwrite: cli_options.Overwrite = False,
    as_json: cli_options.AsJson = False,
) -> None:
    """Index scans and write their phase and orientation maps.

    The phases that may be there are given by CIF files, or with networks by a bundle.
    Where a file holds no calibration of the patterns, give it with `--scale`. A file that cannot
    be indexed does not stop the others. Until a map is written, finished parts are kept in a folder
    beside it; after an interruption, `--resume` goes on from there.
    """
    plan = _plan_outputs(files, output or ["{stem}_map.h5"], overwrite, report)
    with show_status("Loading pyxem and the phases"):
        phases = cli_options.load_phases(bundle, cif)
    send_logs_to_stderr()
    stated.check()
    options = {
        **indexing.collect_settings(),
        "phases": phase,
        "n_best": n_best,
        # a log has no use for a bar
        "show_progressbar": None if sys.stdout.isatty() and not as_json else False,
    }
    results = []
    for file, paths in zip(files, plan, strict=True):
        try:
            result = _index_file(
                file, paths, phases, stated, options,
                lazy=lazy, resume=resume, overwrite=overwrite, report=report,
            )  # fmt: skip
            say(describe_result(file, result))
        except KeyboardInterrupt:
            say("Stopped; the same command with --resume goes on where it was", style="red")
            raise
        except Exception as error:  # a bad file must not stop the others
            if len(files) == 1:
                raise
            say(f"Error: {name_file(file, str(error))}", style="red")
            result = {"error": f"{type(error).__name__}: {error}"}
        results.append({"scan": file} | result)
    if as_json:
        print_json(results)
    if any("error" in result for result in results):
        raise typer.Exit(1)


def _index_file(
    file: Path,
    paths: Sequence[Path],
    phases: ModelBundle | PhaseList,
    stated: cli_options.ScanOptions,
    options: Mapping[str, Any],
    *,
    lazy: bool,
    resume: bool,
    overwrite: bool,
    report: bool,
) -> dict[str, Any]:
    """Index one scan, write its maps and its report; return what came out."""
    from pyxem_nas.indexing import choose_precision, remove_store
    from pyxem_nas.maps import check_map_unit
    from pyxem_nas.patterns import get_scan_axes

    store = paths[0].with_name(f"{paths[0].name}.blocks")
    with collected_warnings() as messages:
        scan = stated.read(file, lazy=lazy)
        check_map_unit(paths, get_scan_axes(scan).unit)
        if not resume:
            remove_store(store)
        bundle = stated.choose_bundle(phases, scan)
        settings = {**options, **stated.collect_settings(bundle, scan)}
        result = index_scan(scan, bundle, settings | {"store": store})
    for message in messages:
        say(f"Warning: {name_file(file, message)}", style="yellow")
    xmap = result.pop("map")
    result["files"] = write_maps(paths, xmap, overwrite=overwrite)
    remove_store(store)
    if report:
        settings["precision"] = choose_precision(options["precision"])  # what auto was
        settings["patterns per second"] = round(result["patterns_per_second"])
        page = _report(paths[0], file.name, xmap, scan, bundle, settings, messages)
        result["files"].append(page)
    return result


def _plan_outputs(
    files: Sequence[Path], templates: Sequence[str], overwrite: bool, report: bool = False
) -> list[list[Path]]:
    """Return the maps to write for each scan; refuse before any work names that collide."""
    cli_options.check_map_names(templates)
    plan = [[Path(text.replace("{stem}", file.stem)) for text in templates] for file in files]
    paths = [path for row in plan for path in (*row, *_beside(row[0], report))]
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            f"several results would be written to {twice!r}; put {{stem}}, the scan's name, into "
            "--output and give scans of different names"
        )
    check_can_write(paths, overwrite=overwrite)
    return plan


def _beside(path: Path, report: bool) -> list[Path]:
    """Return the files that are written beside the first map."""
    return [path.with_suffix(suffix) for suffix in (".png", ".html")[: 1 + report]]


def _report(
    path: Path,
    title: str,
    xmap: CrystalMap,
    scan: ElectronDiffraction2D,
    bundle: ModelBundle,
    settings: Mapping[str, Any],
    messages: Sequence[str],
) -> Path:
    """Write the report of one scan beside its first map, and return its path."""
    from pyxem_nas.figures import write_report

    with show_status("Writing the report"):
        return write_report(
            path.with_suffix(".html"),
            xmap,
            scan,
            bundle,
            settings={k: v for k, v in settings.items() if k != "show_progressbar"},
            title=title,
            messages=messages,
            overwrite=True,  # looked at before the work
        )


def index_scan(
    scan: ElectronDiffraction2D, bundle: ModelBundle, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the map of a scan, and the time it took."""
    started = time.perf_counter()
    xmap = scan.index_phase_orientation(bundle, **options)
    seconds = time.perf_counter() - started
    return {
        "map": xmap,
        "positions": xmap.size,
        "phases": _count_phases(xmap),
        "seconds": seconds,
        "patterns_per_second": xmap.size / seconds,
    }


def _count_phases(xmap: CrystalMap) -> dict[str, int]:
    """Return the number of positions of each phase, those not indexed last."""
    counts = {phase.name: int((xmap.phase_id == i).sum()) for i, phase in xmap.phases if i >= 0}
    return counts | {"not_indexed": int((~xmap.is_indexed).sum())}


def describe_result(file: Path, result: Mapping[str, Any]) -> str:
    """Return what came out of a scan as two lines."""
    n = result["positions"]
    shares = ", ".join(f"{name} {format_percent(k / n)}" for name, k in result["phases"].items())
    return (
        f"{file}: {n} positions in {result['seconds']:.1f} s: {shares}\n"
        f"  -> {', '.join(str(path) for path in result['files'])}"
    )
