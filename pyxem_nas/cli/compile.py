"""The command ``pyxem-nas compile``: what the first index would wait for."""

from __future__ import annotations

import typer

from pyxem_nas.cli.console import print_result, send_logs_to_stderr, show_status

commands = typer.Typer()


@commands.command(
    "compile", epilog="Example, in a Dockerfile: `RUN pip install pyxem-nas && pyxem-nas compile`"
)
def compile_all() -> None:
    """Compile what indexing needs on this machine, so that the first index does not wait for it.

    For images of containers and for clusters. Compiled code is kept in the folder that the variable
    NUMBA_CACHE_DIR names, else beside the package or in the user's cache.
    """
    with show_status("Loading pyxem"):
        import pyxem_nas
    send_logs_to_stderr()
    with show_status("Compiling"):
        seconds = pyxem_nas.compile_kernels()
    print_result(f"Ready: {seconds:.0f} s")
