"""The command ``pyxem-nas fine-tune``: from a scan and its map to an adapted bundle."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pyxem_nas.cli import options as cli_options
from pyxem_nas.cli.console import (
    log_progress,
    print_json,
    print_result,
    send_logs_to_stderr,
    show_status,
)
from pyxem_nas.file_writing import check_can_write

commands = typer.Typer()


class FrameName(StrEnum):
    """Frame of a map's rotations."""

    patterns = "patterns"
    astar = "astar"


@dataclass(frozen=True)
class MappedScanOptions(cli_options.ScanOptions):
    """What a file may not say of its patterns, and what its map says already."""

    scan_rotation: Annotated[
        float,
        cli_options.option("Degrees from diffraction to scan frame that the map's rotations hold."),
    ] = 0.0


@commands.command(
    "fine-tune",
    epilog="Examples: `pyxem-nas fine-tune scan.blo map.ang --frame astar --bundle steel --scale "
    "0.0123 --output mine.nas`\n\n`pyxem-nas fine-tune scan.blo --bundle steel --scale 0.0123 "
    "--output mine.nas` learns from the scan's own confident answers",
)
@cli_options.spread_options
def fine_tune_bundle(
    scan_file: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan that HyperSpy reads.")],
    map_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MAP]",
            help="Trusted map of the scan, .h5, .ang or .ctf; without, self-training.",
            show_default=False,
        ),
    ] = None,
    *,
    bundle: cli_options.Bundle,
    output: Annotated[Path, cli_options.option("Bundle to write, .nas.")],
    frame: Annotated[
        FrameName,
        cli_options.option(
            "The map's rotations: x right, y up as ours, or astar: found in the patterns."
        ),
    ] = FrameName.patterns,
    min_reliability: Annotated[
        float, cli_options.option("Least reliability of a trusted position.", min=0, max=100)
    ] = 15.0,
    min_confidence: Annotated[
        float, cli_options.option("Least confidence of a trusted position.", min=0, max=1)
    ] = 0.9,
    phase_name: Annotated[
        list[str] | None,
        cli_options.option("MAP_NAME=BUNDLE_NAME of a phase, can be given several times."),
    ] = None,
    stated: MappedScanOptions,
    positions: Annotated[int, cli_options.option("Patterns learned from, at most.", min=1)] = 4000,
    epochs: Annotated[int, cli_options.option("Passes, at most.", min=1)] = 8,
    seed: cli_options.Seed = 0,
    overwrite: cli_options.Overwrite = False,
    as_json: cli_options.AsJson = False,
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
        from pyxem_nas.bundles import ModelBundle
        from pyxem_nas.maps import read_map
        from pyxem_nas.training import fine_tune

        model = ModelBundle.load(bundle)
    send_logs_to_stderr()
    stated.check()
    xmap = None if map_file is None else read_map(map_file)
    scan = stated.read(scan_file)
    tuned = fine_tune(
        model,
        scan,
        xmap,
        min_reliability=min_reliability,
        min_confidence=min_confidence,
        frame="astar" if frame is FrameName.astar else None,
        phase_names=names,
        **stated.collect_settings(model, scan),
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
