"""The command line: ``pyxem-nas``.

The application, its commands and their options, what is said on the terminal. A thin shell around
the public functions of the package; nothing imports it.
"""


def main() -> None:
    """Run the command."""
    from pyxem_nas.cli.app import main as run

    run()
