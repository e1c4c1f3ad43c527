"""The command ``pyxem-nas evaluate``: a map against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyxem_nas.cli.console import print_json, print_result
from pyxem_nas.cli.options import AsJson

commands = typer.Typer()


@commands.command("evaluate", epilog="Example: `pyxem-nas evaluate map.ctf truth.h5`")
def evaluate_map(
    map_file: Annotated[Path, typer.Argument(metavar="MAP", help="Map, .h5, .ang or .ctf.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="True map.")],
    as_json: AsJson = False,
) -> None:
    """Compare a map with a reference of the same positions.

    Phases are matched by name. Positions that were rejected count as wrong.
    """
    from pyxem_nas.maps import evaluate, read_map

    evaluation = evaluate(read_map(map_file), read_map(reference))
    if as_json:
        print_json(evaluation)
    else:
        print_result(repr(evaluation))
