"""The report's HTML: page, tables, nested values and pictures as text.

Owns how things look in the file; what is in it belongs to `report`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["embed_figure", "format_details", "format_note", "format_page", "format_table"]

_STYLE = """
:root { --ground: #ffffff; --ink: #222222; --soft: #5a636c; --line: #dcdfe3;
        --warn: #fdf3ec; --fine: #eef8f4; color-scheme: light; }
:root[data-theme="dark"] { --ground: #16181b; --ink: #e8eaed; --soft: #a9b1ba; --line: #3a4047;
        --warn: #33231a; --fine: #172a24; color-scheme: dark; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", Arial, sans-serif; color: var(--ink);
       background: var(--ground); margin: 1.4rem auto; padding: 0 1.2rem; max-width: 1560px; }
main > section, body > header { max-width: 1080px; margin: 0 auto; }
main > section.whole, body > header { max-width: none; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem;
     border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
.sub { color: var(--soft); margin: .2rem 0; } .note { color: var(--soft); font-size: .9rem; }
nav a { color: inherit; margin-right: 1.1rem; }
.wide { overflow-x: auto; }
img { max-width: 100%; height: auto; display: block; margin: .6rem auto; background: #ffffff; }
table.plain-table { border-collapse: collapse; margin: .6rem 0; }
.plain-table th, .plain-table td { padding: .28rem .8rem; text-align: right;
         border-bottom: 1px solid var(--line); vertical-align: top; }
.plain-table th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
.plain-table th:first-child, .plain-table td:first-child { text-align: left; white-space: nowrap; }
.plain td, .plain th { text-align: left; vertical-align: top; }
.warning { border-left: 4px solid #D55E00; background: var(--warn); padding: .5rem .9rem;
           margin: .5rem 0; } .warning b { display: block; }
.fine { border-left: 4px solid #009E73; background: var(--fine); padding: .5rem .9rem; }
details { margin: .5rem 0; } summary { cursor: pointer; font-weight: 600; }
.plain table { margin: 0; } .plain table td { padding: .05rem .8rem .05rem 0; border: 0; }
@media screen and (max-width: 860px) { body { margin: 1rem auto; padding: 0 .8rem; }
    .wide img { max-width: none; width: 860px; } .plain-table td { padding: .28rem .5rem; } }
@media print { details > * { display: block; } h2 { break-after: avoid; }
               img { break-inside: avoid; } }
"""


def format_page(
    title: str, subtitle: str, explorer: str, sections: Sequence[tuple[str, str]]
) -> str:
    """Return the page of a title, a line below it, the explorer and (heading, content) sections."""
    links = "".join(
        f'<a href="#part-{k}">{escape(head)}</a>' for k, (head, _) in enumerate(sections)
    )
    body = "".join(
        f'<section id="part-{k}"><h2>{escape(head)}</h2>{content}</section>'
        for k, (head, content) in enumerate(sections)
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p class="sub">{subtitle}</p>'
        f'<nav aria-label="Parts of the report">{links}</nav></header>'
        f'<main><section class="whole" aria-label="Explorer">{explorer}</section>'
        f"{body}</main></body></html>\n"
    )


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    table = (
        f'<table class="plain-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )
    return f'<div class="wide">{table}</div>'


def format_details(title: str, values: Mapping[str, Any], *, is_open: bool = False) -> str:
    """Return nested values that unfold below a title."""
    state = " open" if is_open else ""
    return (
        f"<details{state}><summary>{escape(title)}</summary>"
        f'<div class="plain">{_nested(values)}</div></details>'
    )


def _nested(value: Any) -> str:
    """Return nested mappings as nested tables."""
    if isinstance(value, Mapping) and value:
        rows = "".join(
            f"<tr><td>{escape(str(key).replace('_', ' '))}</td><td>{_nested(item)}</td></tr>"
            for key, item in value.items()
        )
        return f"<table>{rows}</table>"
    if isinstance(value, list):
        return escape(", ".join(_text(item) for item in value)) or "–"
    return escape(_text(value))


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_note(text: str) -> str:
    """Return a remark in small print."""
    return f'<p class="note">{escape(text)}</p>'


def embed_figure(figure: Figure, description: str, *, dpi: int = 130) -> str:
    """Return a figure as an element that holds its PNG, and close it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    source = f"data:image/png;base64,{data}"
    return f'<div class="wide"><img alt="{escape(description)}" src="{source}"></div>'
