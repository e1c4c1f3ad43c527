"""What the command line says, and how.

Owns the way of words and numbers to the terminal: results go to stdout, as tables or JSON, all else
to stderr. What is said belongs to :mod:`pyxem_nas.cli`.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from pyxem_nas.plain_values import to_plain

__all__ = [
    "format_percent",
    "grow_tree",
    "log_progress",
    "name_file",
    "print_json",
    "print_result",
    "say",
    "send_logs_to_stderr",
    "show_status",
]


def print_result(result: Any) -> None:
    """Print a text or a table to stdout.

    Parameters
    ----------
    result
        Text, printed as it is, or a renderable of rich.
    """
    Console().print(result, markup=False, highlight=False, soft_wrap=isinstance(result, str))


def print_json(value: Any) -> None:
    """Print a value as JSON to stdout; see :func:`to_plain`."""
    print(json.dumps(to_plain(value), indent=2, allow_nan=False))


def say(text: str, style: str | None = None) -> None:
    """Print a line that is no result to stderr, in one of rich's styles."""
    console = Console(stderr=True)
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_status(text: str) -> Iterator[None]:
    """Say on stderr what is going on, with a spinner where there is a terminal."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(escape(text)):
            yield
    else:
        say(text)
        yield


def log_progress() -> None:
    """Show the package's progress lines on stderr, with the time of day."""
    logger = logging.getLogger("pyxem_nas")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def send_logs_to_stderr() -> None:
    """Keep HyperSpy's log out of stdout, where it would spoil the results."""
    for handler in logging.getLogger("hyperspy").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)


def grow_tree(title: str, values: Any) -> Tree:
    """Return a tree of nested dictionaries and lists as :func:`to_plain` makes them.

    Parameters
    ----------
    title
        Text at the root.
    values
        Dictionary, list or scalar; what is short and flat becomes one line.
    """
    if not _is_nested(values):
        return Tree(escape(f"{title}: {_one_line(values)}"))
    tree = Tree(escape(title))
    rows = values.items() if isinstance(values, dict) else enumerate(values, start=1)
    for key, value in rows:
        tree.add(grow_tree(str(key), value))
    return tree


def _is_nested(value: Any) -> bool:
    """Return whether a value needs more than one line."""
    items = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(items, list):
        return False
    return len(items) > 6 or any(isinstance(item, dict | list) for item in items)


def _one_line(value: Any) -> str:
    """Return a value, a flat list or a flat dictionary as one line."""
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_one_line(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_one_line(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_percent(share: float) -> str:
    """Return a share as per cent, "-" for NaN.

    Examples
    --------
    >>> format_percent(0.981), format_percent(float("nan"))
    ('98.1 %', '-')
    """
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def name_file(path: Path, text: str) -> str:
    """Return a text with the file that it is about before it, unless it begins with its name.

    Examples
    --------
    >>> name_file(Path("a.blo"), "no unit"), name_file(Path("a.blo"), "'a.blo' is no scan")
    ('a.blo: no unit', "'a.blo' is no scan")
    """
    return text if text.startswith(repr(str(path))) else f"{path}: {text}"


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what is warned of, each text once, instead of having it printed by Python."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield messages
    # those of other categories speak to programmers
    texts = (str(w.message) for w in caught if w.category is UserWarning)
    messages.extend(dict.fromkeys(texts))
