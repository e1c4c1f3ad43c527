"""The command ``pyxem-nas``.

Owns the application and its exit codes: 0 done, 1 a file failed, 2 wrong use. Each command has a
module, ``cli_<command>``, with arguments and help; shared options are in
:mod:`pyxem_nas.cli_options`. Every command is a thin shell around the public functions of the
package, which do the checking and the work. They are imported inside the commands, so that
``--help`` answers at once. Words and tables belong to :mod:`pyxem_nas.console`, files to
:mod:`pyxem_nas.files`.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from pyxem_nas import (
    cli_demo,
    cli_evaluate,
    cli_fine_tune,
    cli_index,
    cli_info,
    cli_live,
    cli_search,
)
from pyxem_nas.cli_options import option
from pyxem_nas.console import print_result, say

__all__ = ["app", "main"]

_WRONG_USE = (
    ValueError,
    TypeError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
app = typer.Typer(
    name="pyxem-nas",
    help="Phase and orientation maps from scanning electron diffraction.",
    epilog="Exit codes: 0 done, 1 a file failed, 2 wrong use. Set PYXEM_NAS_DEBUG=1 to see where "
    "an error comes from.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for _module in (cli_demo, cli_search, cli_fine_tune, cli_index, cli_evaluate, cli_info, cli_live):
    app.add_typer(_module.commands)


def main() -> None:
    """Run the command line and exit with its code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's talk about the processor
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files: no display needed
    try:
        app()
    except _WRONG_USE as error:
        if os.environ.get("PYXEM_NAS_DEBUG"):
            raise
        say(f"Error: {error}", style="red")
        sys.exit(2)
    except OSError as error:  # a full disk, a server that is gone
        if os.environ.get("PYXEM_NAS_DEBUG"):
            raise
        say(f"Error: {error}", style="red")
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, option("Print the version.", "--version")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print_result(version_of("pyxem-nas"))
        raise typer.Exit


if __name__ == "__main__":
    main()
