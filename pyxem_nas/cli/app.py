"""The command ``pyxem-nas``.

Owns the application and its exit codes: 0 done, 1 a file failed, 2 wrong use. Each command has a
module of its name with arguments and help; shared options are in `options`. Every command is a thin
shell around the public functions of the package, which do the checking and the work. They are
imported inside the commands, so that ``--help`` answers at once. Words and tables belong to
`console`, files to `maps.files`.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from pyxem_nas.cli import compile as compile_command
from pyxem_nas.cli import demo, evaluate, fine_tune, index, info, live, search
from pyxem_nas.cli.console import print_result, say
from pyxem_nas.cli.options import option

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
for _module in (demo, search, fine_tune, index, evaluate, info, live, compile_command):
    app.add_typer(_module.commands)


def main() -> None:
    """Run the command line and exit with its code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's talk about the processor
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files: no display needed
    _hide_deprecations()
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


def _hide_deprecations() -> None:
    """Keep from the user of the command what HyperSpy and pyxem tell programmers."""
    if sys.warnoptions:  # somebody asks for warnings
        return
    for category in (UserWarning, FutureWarning):  # HyperSpy's visible ones are UserWarnings
        warnings.filterwarnings(
            "ignore", ".*(deprecated|has moved|will be removed|may be removed)", category
        )


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, option("Print the version.", "--version")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print_result(version_of("pyxem-nas"))
        raise typer.Exit
