"""The command ``pyxem-nas live``: maps of scans as the microscope writes them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyxem_nas.cli_index import (
    _MAP_SUFFIXES,
    _calibrate,
    _describe_result,
    _known_center,
    _parse_acquisition,
    _parse_center,
    _parse_method,
    index_scan,
)
from pyxem_nas.cli_options import AsJson, Axis, Bundle, Overwrite, option
from pyxem_nas.console import say, send_logs_to_stderr, show_status, to_plain
from pyxem_nas.files import read_mask, read_scan, write_maps
from pyxem_nas.watcher import SCAN_PATTERNS, watch_folder

if TYPE_CHECKING:
    from pyxem_nas.bundle import ModelBundle

commands = typer.Typer()


@commands.command(
    epilog="Examples: `pyxem-nas live scans --bundle steel --scale 0.0123`\n\n"
    "`pyxem-nas live scans --bundle steel --scale 0.0123 --method network --no-refine` is the "
    "fast mode, which keeps up with a fast camera."
)
def live(
    folder: Annotated[Path, typer.Argument(help="Folder into which scans are written.")],
    bundle: Bundle,
    pattern: Annotated[
        list[str] | None,
        option(
            "Names of scans, can be given several times. [default: those of common scan formats]"
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        option(
            "Map to write beside the scan, .ctf, .ang or .h5; can be given several times. {stem} "
            "stands for the scan's name. A PNG is put beside the first. [default: {stem}_map.h5]"
        ),
    ] = None,
    settle: Annotated[
        float,
        option(
            "Seconds without a change after which a file is complete; 0 for programs that move "
            "complete files into the folder.",
            min=0,
        ),
    ] = 5.0,
    idle_timeout: Annotated[
        float | None,
        option("Stop after so many seconds without a new scan. [default: never]", min=0),
    ] = None,
    scale: Annotated[
        float | None, option("Size of a detector pixel. [default: the file's]")
    ] = None,
    units: Annotated[
        str | None, option("Units of the scale, 1/nm or mrad. [default: 1/angstrom]")
    ] = None,
    center: Annotated[
        str | None,
        option(
            "Direct beam in pixels, or auto to find it. [default: the file's, else auto]",
            metavar="X,Y|auto",
        ),
    ] = None,
    mask: Annotated[Path | None, option("Image .npy, True = detector pixel left out.")] = None,
    flip: Annotated[Axis | None, option("Axis along which the camera mirrors.")] = None,
    scan_rotation: Annotated[float, option("Degrees from diffraction to scan frame.")] = 0.0,
    beam_energy: Annotated[
        float | None, option("In kV. [default: the file's, else the bundle's]")
    ] = None,
    precession: Annotated[
        float | None, option("In degrees. [default: the file's, else the bundle's]")
    ] = None,
    method: Annotated[
        list[str] | None,
        option(
            "hybrid, network or template; PHASE=METHOD for one phase, can be given several times. "
            "[default: hybrid]"
        ),
    ] = None,
    refine: Annotated[bool, option("Refine the orientations.")] = True,
    min_confidence: Annotated[
        float | None,
        option("Answers below are rejected. [default: the bundle's]", min=0, max=1),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Index scans as a microscope writes them into a folder.

    Each file is indexed as soon as it is complete; its maps are written beside it. Scans that
    have their maps are passed over, unless `--overwrite`. A file that cannot be indexed does not
    stop the others, and is tried again when it changes. Ctrl-C ends the watch. With `--json`
    there is one line of JSON per scan.
    """
    templates = output or ["{stem}_map.h5"]
    _check_templates(templates)
    with show_status("Loading pyxem and the bundle"):
        from pyxem_nas.bundle import ModelBundle

        model = ModelBundle.load(bundle)
    send_logs_to_stderr()
    options = {
        "method": _parse_method(method or ["hybrid"]),
        "acquisition": _parse_acquisition(model, beam_energy, precession),
        "mask": None if mask is None else read_mask(mask),
        "detector_flip": None if flip is None else flip.value,
        "scan_rotation": scan_rotation,
        "refine": refine,
        "min_confidence": min_confidence,
        "show_progressbar": False,
    }
    calibration = {"scale": scale, "units": units, "center": _parse_center(center)}
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
            result = _index_file(path, model, calibration, options, templates)
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
    wrong = [text for text in templates if Path(text).suffix.lower() not in _MAP_SUFFIXES]
    if wrong:
        raise ValueError(f"a map's name ends in .ctf, .ang or .h5, got {wrong!r}")
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
    bundle: ModelBundle,
    calibration: Mapping[str, Any],
    options: Mapping[str, Any],
    templates: Sequence[str],
) -> dict[str, Any]:
    """Index one scan and write its maps; return what came out, or the error."""
    try:
        scan = read_scan(path, lazy=True)
        _calibrate(scan, calibration["scale"], calibration["units"])
        center = calibration["center"] or _known_center(scan)
        result = index_scan(scan, bundle, {**options, "center": center})
        # an older map of a file that has changed since is replaced
        maps = _name_maps(path, templates)
        result["files"] = write_maps(maps, result.pop("map"), overwrite=True)
        result["seconds_after_writing"] = time.time() - path.stat().st_mtime
        say(_describe_result(path, result))
    except Exception as error:  # a bad file must not stop the others
        say(f"Error: {path}: {error}", style="red")
        return {"error": f"{type(error).__name__}: {error}"}
    return result
