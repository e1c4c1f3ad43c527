"""Sphinx configuration of pyxem_nas' documentation.

    uv run --group docs sphinx-build -W --keep-going docs docs/_build/html

Notebooks are copied here and not executed (CI executes them apart); the page of commands is what
``pyxem-nas --help`` says.
"""

import os
import shutil
import types
from importlib.metadata import version as version_of
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_HERE = Path(__file__).parent
_GENERATED = _HERE / "_generated"

project = "pyxem_nas"
author = "pyxem_nas developers"
copyright = author  # noqa: A001
release = version_of("pyxem-nas")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_nb"]
exclude_patterns = ["_build", "_generated/*.ipynb_checkpoints"]
templates_path: list[str] = []

nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = f"pyxem_nas {release}"
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_show_sourcelink = False

_SECTIONS = {
    "Methods on ElectronDiffraction2D, attached by the import": [
        "signals.index_phase_orientation", "signals.get_polar_descriptors",
    ],
    "Bundles": [
        "ModelBundle", "Thresholds", "Judge", "BundleError", "set_default_bundle",
        "shipped_bundles",
    ],
    "Making bundles": [
        "search_models", "fine_tune", "Acquisition", "DescriptorSpec", "Architecture",
        "Randomization",
    ],
    "Maps": [
        "make_crystal_map", "save_map", "write_mtex_script", "plot_map", "plot_overlay",
        "plot_posterior",
    ],
    "Judging maps": ["evaluate", "Evaluation"],
    "Example data": ["example_phases", "simulate_scan"],
    "Live": ["live.PhaseOrientationUDF", "live.watch_folder"],
}  # fmt: skip


def _copy_notebooks() -> None:
    """Copy the notebooks and their pictures, so that Sphinx finds them below its source."""
    folder = _GENERATED / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted((_HERE.parent / "notebooks").glob("*.ipynb")):
        shutil.copy(path, folder)
    titles = "\n".join(f"{path.stem}" for path in sorted(folder.glob("*.ipynb")))
    (folder / "index.md").write_text(
        "# Notebooks\n\nThey run with the package alone; CI executes them with small settings.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{titles}\n```\n"
    )


def _write_commands() -> None:
    """Write what each command's --help says."""
    from typer import rich_utils
    from typer.main import get_command
    from typer.testing import CliRunner

    from pyxem_nas.cli import app as cli

    rich_utils.FORCE_TERMINAL = False
    names = ["", *get_command(cli.app).commands]
    parts = [
        "# Commands\n\nExit codes: 0 done, 1 a file failed, 2 wrong use. `--json`, where a command "
        "has it, prints what a script would read.\n"
    ]
    for name in names:
        words = [name, "--help"] if name else ["--help"]
        shown = CliRunner().invoke(cli.app, words, env={"COLUMNS": "96", "NO_COLOR": "1"})
        parts.append(f"## pyxem-nas {name}\n\n```text\n{shown.output.strip()}\n```\n")
    (_GENERATED / "commands.md").write_text("\n".join(parts))


def _write_api() -> None:
    """Write the reference: all public names, those without a section of their own at the end."""
    import pyxem_nas

    listed = {name for names in _SECTIONS.values() for name in names}
    sections = {title: [n for n in names if _exists(n)] for title, names in _SECTIONS.items()}
    names = [n for n in pyxem_nas.__all__ if not isinstance(_find(n), types.ModuleType)]
    further = [name for name in names if name not in listed]
    text = "# Reference\n\n```{eval-rst}\n.. currentmodule:: pyxem_nas\n```\n"
    for title, names in {**sections, "Further": further}.items():
        if names:
            entries = "\n\n".join(_directive(name) for name in names)
            text += f"\n## {title}\n\n```{{eval-rst}}\n{entries}\n```\n"
    (_GENERATED / "api.md").write_text(text)


def _find(name: str):
    import importlib

    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(f"pyxem_nas.{module}".rstrip(".")), last, None)


def _exists(name: str) -> bool:
    return _find(name) is not None


def _directive(name: str) -> str:
    found = _find(name)
    if isinstance(found, type):
        if issubclass(found, Exception):
            return f".. autoexception:: pyxem_nas.{name}"
        members = "to_crystal_map" if name == "live.PhaseOrientationUDF" else ""
        return f".. autoclass:: pyxem_nas.{name}\n   :members: {members}".rstrip()
    return f".. autofunction:: pyxem_nas.{name}" if callable(found) else ""


_copy_notebooks()
_write_commands()
_write_api()
