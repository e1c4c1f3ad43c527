"""The explorer as HTML: template, style, one script and the data, all in one text.

Owns how the JavaScript modules of ``web`` become one script, and where the data stand in the page.
No build step: the modules are plain, and are joined when a page is written.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pyxem_nas.figures.explorer.container import pack
from pyxem_nas.figures.explorer.content import collect
from pyxem_nas.figures.explorer.patterns import embed_patterns

if TYPE_CHECKING:
    import numpy as np
    from orix.crystal_map import CrystalMap

    from pyxem_nas.figures.explorer.patterns import EmbeddedPatterns
    from pyxem_nas.figures.solutions import SolutionViewer

__all__ = ["embed_explorer", "explorer_html", "join_modules", "read_web"]

_MAX_SOLUTIONS = 5  # per position
_MAP_SHARE = 0.5  # of the room that the map may take before runners-up are left out
_OVERHEAD = 150_000  # bytes of script, style, numbers of the patterns and tags
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const |function |async function |class )", re.MULTILINE)


def read_web(name: str) -> str:
    """Return a file of the folder ``web``."""
    return (files(__package__) / "web" / name).read_text(encoding="utf-8")


@cache
def join_modules(entry: str) -> str:
    """Return a module and all that it imports as one script, each once, the imported first.

    Imports must be of the form ``import { a, b } from "./c.js";`` and all modules share one scope:
    a name that two of them declare is a syntax error in the browser.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        text = read_web(name)
        done[name] = ""  # before its imports: a circle ends here
        for other in _IMPORT.findall(text):
            add(other)
        done.pop(name)
        done[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(entry)
    template = json.dumps(read_web("explorer.html")).replace("</", "<\\/")
    return "\n".join([f"const TEMPLATE = {template};", *done.values()])


def embed_explorer(
    xmap: CrystalMap, viewer: SolutionViewer | None, *, max_size: int = 19_000_000
) -> str:
    """Return the explorer of a map as a piece of HTML.

    Parameters
    ----------
    xmap
        The map.
    viewer
        Scan, bundle and frames; None: without patterns.
    max_size
        Bytes of the text, at most: runners-up are left out where the map is large, and patterns
        made smaller or fewer.
    """
    room = max_size * 3 // 4 - _OVERHEAD  # in base64 three bytes are four characters
    n_solutions = _MAX_SOLUTIONS
    while True:
        header, arrays = collect(xmap, viewer, max_solutions=n_solutions)
        size = len(pack(header, arrays))
        if size <= room * _MAP_SHARE or n_solutions == 1:
            break
        n_solutions = min(n_solutions, header["n_solutions"]) - 1
    patterns = None if viewer is None else embed_patterns(viewer, budget=max(room - size, 0))
    return explorer_html(header, arrays, patterns)


def explorer_html(
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    patterns: EmbeddedPatterns | None = None,
) -> str:
    """Return a piece of HTML with style, data and script; see `collect` and `embed_patterns`."""
    chunks: Sequence[bytes] = []
    if patterns is not None:
        header = {**header, "patterns": patterns.header}
        arrays = {
            **arrays,
            "pattern_position": patterns.positions,
            "pattern_scale": patterns.scales,
            "pattern_center": patterns.centers,
        }
        chunks = patterns.chunks
    data = [_data("map", pack(header, arrays))]
    data += [_data(f"patterns-{k}", chunk) for k, chunk in enumerate(chunks)]
    return (
        f'<style>{read_web("explorer.css")}</style>\n<div class="nas-explorer"></div>\n'
        + "\n".join(data)
        + f'\n<script type="module">{join_modules("page.js")}</script>'
    )


def _data(name: str, block: bytes) -> str:
    text = base64.b64encode(block).decode("ascii")
    return f'<script type="text/plain" data-explorer="{name}">{text}</script>'
