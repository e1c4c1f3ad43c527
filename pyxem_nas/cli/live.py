"""The command ``pyxem-nas live``: maps of scans as the microscope writes them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyxem_nas.cli import options as cli_options
from pyxem_nas.cli.console import (
    collected_warnings,
    name_file,
    say,
    send_logs_to_stderr,
    show_status,
)
from pyxem_nas.cli.index import describe_result, index_scan
from pyxem_nas.cli.output import write_maps
from pyxem_nas.file_writing import check_can_write
from pyxem_nas.plain_values import to_plain

if TYPE_CHECKING:
    from orix.crystal_map import PhaseList

    from pyxem_nas.bundles import ModelBundle

commands = typer.Typer()


@commands.command(
    epilog="Examples: `pyxem-nas live scans --cif ferrite.cif --beam-energy 200 --scale 0.0123`\n\n"
    "`pyxem-nas live scans --bundle steel --scale 0.0123 --method network --no-refine` is the "
    "fast mode, which keeps up with a fast camera."
)
@cli_options.spread_options
def live(
    folder: Annotated[Path, typer.Argument(help="Folder into which scans are written.")],
    *,
    bundle: cli_options.BundleOrNone = None,
    cif: cli_options.Cif = None,
    pattern: Annotated[
        list[str] | None,
        cli_options.option(
            "Names of scans, can be given several times. [default: those of common scan formats]"
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        cli_options.option(
            "Map to write beside the scan, .ctf, .ang or .h5; can be given several times. {stem} "
            "stands for the scan's name. A PNG is put beside the first. [default: {stem}_map.h5]"
        ),
    ] = None,
    settle: Annotated[
        float,
        cli_options.option(
            "Seconds without a change after which a file is complete; 0 for programs that move "
            "complete files into the folder.",
            min=0,
        ),
    ] = 5.0,
    idle_timeout: Annotated[
        float | None,
        cli_options.option(
            "Stop after so many seconds without a new scan. [default: never]", min=0
        ),
    ] = None,
    stated: cli_options.ScanOptions,
    indexing: cli_options.IndexingOptions,
    overwrite: cli_options.Overwrite = False,
    as_json: cli_options.AsJson = False,
) -> None:
    """Index scans as a microscope writes them into a folder.

    Each file is indexed as soon as it is complete; its maps are written beside it. Scans that
    have their maps are passed over, unless `--overwrite`. A file that cannot be indexed does not
    stop the others, and is tried again when it changes. Ctrl-C ends the watch. With `--json`
    there is one line of JSON per scan.
    """
    templates = output or ["{stem}_map.h5"]
    _check_templates(templates)
    with show_status("Loading pyxem and the phases"):
        from pyxem_nas.live import SCAN_PATTERNS, watch_folder

        phases = cli_options.load_phases(bundle, cif)
    send_logs_to_stderr()
    stated.check()
    options = {
        **indexing.collect_settings(),
        "show_progressbar": False,
    }
    scans = watch_folder(
        folder,
        patterns=pattern or SCAN_PATTERNS,
        settle=settle,
        idle_timeout=idle_timeout,
        skip=lambda path: _is_done(path, templates, overwrite),
    )
    say(f"Watching {folder}; Ctrl-C ends it")
    counts = {"indexed": 0, "failed": 0}
    try:
        for path in scans:
            result = _index_file(path, phases, stated, options, templates)
            counts["failed" if "error" in result else "indexed"] += 1
            if as_json:
                print(json.dumps(to_plain({"scan": path} | result), allow_nan=False), flush=True)
    except KeyboardInterrupt:
        pass
    say(f"{counts['indexed']} scans indexed, {counts['failed']} failed")
    if counts["failed"]:
        raise typer.Exit(1)


def _check_templates(templates: Sequence[str]) -> None:
    """Raise unless each scan gets maps of its own."""
    cli_options.check_map_names(templates)
    if any("{stem}" not in text for text in templates):
        raise ValueError(f"put {{stem}}, the scan's name, into --output, got {list(templates)!r}")


def _name_maps(path: Path, templates: Sequence[str]) -> list[Path]:
    """Return the maps of a scan; relative names are beside it."""
    return [path.parent / text.replace("{stem}", path.stem) for text in templates]


def _is_done(path: Path, templates: Sequence[str], overwrite: bool) -> bool:
    """Return whether a scan has its maps, newer than it is, or is itself such a map."""
    if not overwrite and all(
        map_file.exists() and map_file.stat().st_mtime >= path.stat().st_mtime
        for map_file in _name_maps(path, templates)
    ):
        return True
    endings = tuple(text.split("{stem}")[-1] for text in templates)
    return path.name.endswith(endings)


def _index_file(
    path: Path,
    phases: ModelBundle | PhaseList,
    stated: cli_options.ScanOptions,
    options: Mapping[str, Any],
    templates: Sequence[str],
) -> dict[str, Any]:
    """Index one scan and write its maps; return what came out, or the error."""
    from pyxem_nas.maps import check_map_unit
    from pyxem_nas.patterns import get_scan_axes

    try:
        # an older map of a file that has changed since is replaced
        maps = _name_maps(path, templates)
        check_can_write(maps, overwrite=True)
        with collected_warnings() as messages:
            scan = stated.read(path)
            check_map_unit(maps, get_scan_axes(scan).unit)
            bundle = stated.choose_bundle(phases, scan)
            result = index_scan(scan, bundle, {**options, **stated.collect_settings(bundle, scan)})
        for message in messages:
            say(f"Warning: {name_file(path, message)}", style="yellow")
        result["files"] = write_maps(maps, result.pop("map"), overwrite=True)
        result["seconds_after_writing"] = time.time() - path.stat().st_mtime
        say(describe_result(path, result))
    except Exception as error:  # a bad file must not stop the others
        say(f"Error: {name_file(path, str(error))}", style="red")
        return {"error": f"{type(error).__name__}: {error}"}
    return result
