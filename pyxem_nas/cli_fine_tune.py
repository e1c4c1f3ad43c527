"""The command ``pyxem-nas fine-tune``: from a scan and its map to an adapted bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pyxem_nas.cli_index import (
    _calibrate,
    _known_center,
    _parse_acquisition,
    _parse_center,
)
from pyxem_nas.cli_options import AsJson, Axis, Bundle, Overwrite, Seed, option
from pyxem_nas.console import (
    log_progress,
    print_json,
    print_result,
    send_logs_to_stderr,
    show_status,
)
from pyxem_nas.files import check_can_write, read_map, read_mask, read_scan

commands = typer.Typer()


class FrameName(StrEnum):
    """Frame of a map's rotations."""

    patterns = "patterns"
    astar = "astar"


@commands.command(
    "fine-tune",
    epilog="Examples: `pyxem-nas fine-tune scan.blo map.ang --frame astar --bundle steel --scale "
    "0.0123 --output mine.nas`\n\n`pyxem-nas fine-tune scan.blo --bundle steel --scale 0.0123 "
    "--output mine.nas` learns from the scan's own confident answers",
)
def fine_tune_bundle(
    scan_file: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan that HyperSpy reads.")],
    bundle: Bundle,
    output: Annotated[Path, option("Bundle to write, .nas.")],
    map_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MAP]",
            help="Trusted map of the scan, .h5, .ang or .ctf; without, self-training.",
            show_default=False,
        ),
    ] = None,
    frame: Annotated[
        FrameName,
        option("The map's rotations: x right, y up as ours, or astar: found in the patterns."),
    ] = FrameName.patterns,
    min_reliability: Annotated[
        float, option("Least reliability of a trusted position.", min=0, max=100)
    ] = 15.0,
    min_confidence: Annotated[
        float, option("Least confidence of a trusted position.", min=0, max=1)
    ] = 0.9,
    phase_name: Annotated[
        list[str] | None,
        option("MAP_NAME=BUNDLE_NAME of a phase, can be given several times."),
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
    scan_rotation: Annotated[
        float, option("Degrees from diffraction to scan frame that the map's rotations hold.")
    ] = 0.0,
    beam_energy: Annotated[
        float | None, option("In kV. [default: the file's, else the bundle's]")
    ] = None,
    precession: Annotated[
        float | None, option("In degrees. [default: the file's, else the bundle's]")
    ] = None,
    positions: Annotated[int, option("Patterns learned from, at most.", min=1)] = 4000,
    epochs: Annotated[int, option("Passes, at most.", min=1)] = 8,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a bundle to your microscope with a scan and a map that you trust.

    Learns from the map's reliable positions and from simulations of the scan's camera, keeps what
    the bundle knew, and calibrates its probabilities again. The old bundle stays as it is.
    """
    if output.suffix != ".nas":
        raise ValueError(f"a bundle's name ends in .nas, got {str(output)!r}")
    check_can_write([output], overwrite=overwrite)  # before minutes of work, not after
    names = _parse_names(phase_name or [])
    log_progress()
    with show_status("Loading pyxem and the bundle"):
        from pyxem_nas.adaptation import fine_tune
        from pyxem_nas.bundle import ModelBundle

        model = ModelBundle.load(bundle)
    send_logs_to_stderr()
    xmap = None if map_file is None else read_map(map_file)
    scan = read_scan(scan_file)
    _calibrate(scan, scale, units)
    tuned = fine_tune(
        model,
        scan,
        xmap,
        min_reliability=min_reliability,
        min_confidence=min_confidence,
        frame="astar" if frame is FrameName.astar else None,
        phase_names=names,
        acquisition=_parse_acquisition(model, beam_energy, precession),
        center=_parse_center(center) or _known_center(scan),
        mask=None if mask is None else read_mask(mask),
        detector_flip=None if flip is None else flip.value,
        scan_rotation=scan_rotation,
        n_positions=positions,
        epochs=epochs,
        seed=seed,
        name=output.stem,
    )
    tuned.save(output, overwrite=overwrite)
    record = tuned.provenance["fine_tuning"][-1]
    if as_json:
        print_json({"bundle": output} | record)
        return
    print_result(repr(tuned))
    print_result(f"The bundle is {output}")


def _parse_names(texts: list[str]) -> dict[str, str]:
    """Return what --phase-name says: the bundle's name of each of the map's."""
    if not all("=" in text for text in texts):
        raise ValueError(f"--phase-name takes MAP_NAME=BUNDLE_NAME, got {texts!r}")
    return dict(text.rsplit("=", 1) for text in texts)
