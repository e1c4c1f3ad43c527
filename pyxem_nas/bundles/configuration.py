"""The user's configuration: which bundle is meant where none is named."""

from __future__ import annotations

import json
from pathlib import Path

import platformdirs

from pyxem_nas.file_writing import replacing


def set_default_bundle(path_or_name: Path | str) -> None:
    """Set the bundle that `index_phase_orientation` takes where none is given.

    It is kept in the user's configuration folder.

    Parameters
    ----------
    path_or_name
        Path of a bundle, or the name of a shipped one.

    Raises
    ------
    FileNotFoundError, BundleError
        If there is no such bundle or it cannot be loaded.
    """
    from pyxem_nas.bundles.bundle import ModelBundle

    ModelBundle.load(path_or_name)
    path = Path(path_or_name)
    value = str(path.resolve()) if path.is_file() else str(path_or_name)
    target = _path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.write_text(json.dumps({"bundle": value}))


def get_default_bundle() -> str:
    """Return what `set_default_bundle` set.

    Raises
    ------
    ValueError
        If nothing was set.
    """
    try:
        return str(json.loads(_path().read_text())["bundle"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        raise ValueError(
            'no bundle given and no default set; pass one, e.g. "steel", or call '
            "pyxem_nas.set_default_bundle"
        ) from None


def _path() -> Path:
    return platformdirs.user_config_path("pyxem_nas", appauthor=False) / "configuration.json"
