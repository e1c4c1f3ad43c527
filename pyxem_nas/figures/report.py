"""The report of a map: one HTML file with everything in it.

Owns :func:`write_report`: the choice and order of what is shown, and the statistics table. What can
be clicked comes from `explorer`, HTML from `report_html`, figures from `plotting` and
`report_figures`, warnings from `report_checks`. The file refers to nothing outside of itself.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.figures.beam_figure import describe_beam, plot_beam
from pyxem_nas.figures.explorer import embed_explorer
from pyxem_nas.figures.map_canvas import format_unit
from pyxem_nas.figures.map_colors import indexed_phases
from pyxem_nas.figures.plotting import plot_map
from pyxem_nas.figures.report_checks import Finding, check_map, check_scan
from pyxem_nas.figures.report_figures import (
    get_confidence,
    measure_grains,
    plot_examples,
    plot_grain_sizes,
    plot_textures,
)
from pyxem_nas.figures.report_html import (
    embed_figure,
    format_details,
    format_note,
    format_page,
    format_table,
)
from pyxem_nas.figures.search_figure import plot_search
from pyxem_nas.figures.solutions import make_viewer
from pyxem_nas.file_writing import replacing
from pyxem_nas.maps import NOT_INDEXED, measure_coherence
from pyxem_nas.patterns import get_acquisition
from pyxem_nas.plain_values import to_plain
from pyxem_nas.signals import get_bundle

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap, PhaseList
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["write_report"]

_PACKAGES = ("pyxem-nas", "hyperspy", "pyxem", "orix", "diffsims", "numpy", "keras", "tensorflow")
_MAX_SIZE = 19_500_000  # bytes of the file, so that it can be sent by mail


def write_report(
    path: Path | str,
    xmap: CrystalMap,
    signal: ElectronDiffraction2D | None = None,
    bundle: ModelBundle | PhaseList | Path | str | Sequence[Path | str] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    title: str = "Phase and orientation map",
    messages: Sequence[str] = (),
    boundary_angle: float = 5.0,
    overwrite: bool = False,
) -> Path:
    """Write a report of a map as one HTML file that a colleague can click.

    On top the explorer: the map to zoom and to choose from, under a click the pattern with its
    spots, its place in the pole figures, its grain and the neighbours, selections with their
    statistics, profiles of misorientation. Below it warnings worth a user's attention, statistics,
    maps, patterns with their answers, grain sizes, texture, settings, versions and the provenance
    of the bundle. The file opens by a double click, asks no server, and stays below 20 MB: of large
    scans it holds fewer or smaller patterns, and says so.

    Parameters
    ----------
    path
        File to write, .html.
    xmap
        Map, as `index_phase_orientation` returned it.
    signal
        The scan; None: without patterns and without the checks that need them.
    bundle
        What the map was made with, as it was given to `index_phase_orientation`: a bundle, its
        path or name, phases or their CIF files; needed with `signal`.
    settings
        Arguments of `index_phase_orientation`. What they say of `acquisition`, `center`, `mask`,
        `detector_flip`, `distortion` and `scan_rotation` is used to draw and to check spots.
    title
        Heading, e.g. the name of the scan.
    messages
        Warnings from elsewhere, to be shown with those of the report.
    boundary_angle
        Disorientation in degrees that makes a grain boundary.
    overwrite
        Whether to replace a file that exists.

    Returns
    -------
    path
        The file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        If `signal` comes without a bundle, or map, scan and bundle do not belong together.

    Examples
    --------
    >>> write_report("map.html", xmap, s, "steel")  # doctest: +SKIP
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists; pass overwrite=True to replace it")
    if signal is not None and bundle is None:
        raise ValueError("a report with patterns needs the bundle that the map was made with")
    settings = dict(settings or {})
    if bundle is not None:
        bundle = get_bundle(bundle, settings.get("acquisition"), signal)
    viewer = None
    if signal is not None:
        names = ("acquisition", "center", "mask", "detector_flip", "distortion", "scan_rotation")
        frames = {name: settings[name] for name in names if settings.get(name) is not None}
        viewer = make_viewer(signal, xmap, bundle, **frames)
    findings = [Finding(text, "") for text in messages]
    findings += check_map(xmap, bundle)
    findings += [] if viewer is None else check_scan(viewer)
    sections = [
        ("Worth your attention", _warnings(findings)),
        ("Phases", _statistics(xmap, boundary_angle)),
        ("Maps", _maps(xmap, boundary_angle)),
    ]
    if xmap.is_indexed.any():
        if viewer is not None:
            sections.append(("Patterns and answers", _examples(viewer)))
    if {"beam_column", "beam_row"} <= set(xmap.prop):
        picture = embed_figure(plot_beam(xmap), "Position of the direct beam over the scan")
        sections.append(("Direct beam", picture + format_note(describe_beam(xmap))))
    if xmap.is_indexed.any():
        sections.append(("Grain sizes", _grains(xmap, boundary_angle)))
        sections.append(("Texture", _texture(xmap)))
    sections.append(("How it was made", _making(signal, bundle, settings)))
    subtitle = _subtitle(xmap, bundle)
    taken = len(format_page(title, subtitle, "", sections).encode())
    explorer = embed_explorer(xmap, viewer, max_size=_MAX_SIZE - taken)
    with replacing(path) as temporary:
        temporary.write_text(format_page(title, subtitle, explorer, sections), encoding="utf-8")
    return path


# ------------------------------------------------------------------------- sections


def _warnings(findings: Sequence[Finding]) -> str:
    if not findings:
        return '<p class="fine">No check found anything to warn of.</p>'
    return "".join(
        f'<div class="warning"><b>{escape(_sentence(f.title))}</b>{escape(f.advice)}</div>'
        for f in findings
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _statistics(xmap: CrystalMap, angle: float) -> str:
    """Return the table of phases."""
    confidence = get_confidence(xmap)
    grains = measure_grains(xmap, angle=angle)
    indexed = max(int(np.sum(xmap.is_indexed)), 1)
    rows = []
    for i, phase in xmap.phases:
        if i == NOT_INDEXED:
            continue
        of = np.asarray(xmap.phase_id == i)
        n = int(of.sum())
        sizes = grains.get(phase.name, np.zeros(0))
        networks = "indexed_by" in xmap.prop and n
        rows.append(
            [
                phase.name,
                f"{n}",
                f"{100 * n / indexed:.1f} %",
                _median(confidence[of]),
                _median(_column(xmap, "correlation")[of]),
                _median(_column(xmap, "reliability")[of], "{:.0f}"),
                f"{100 * np.mean(xmap.prop['indexed_by'][of] == 0):.0f} %" if networks else "–",
                f"{len(sizes)}",
                _median(sizes, "{:.3g} " + format_unit(xmap)),
            ]
        )
    n = int((~np.asarray(xmap.is_indexed)).sum())
    rows.append(["not indexed", f"{n}", *[""] * 7])
    heads = ["Phase", "Positions", "Area fraction", "Median confidence", "Median correlation",
             "Median reliability", "By network", "Grains", "Median grain diameter"]  # fmt: skip
    note = (
        "Area fraction of the indexed positions. Confidence is P(phase) × P(orientation within "
        f"5°). Grains: neighbours within {angle:g}°, 180° twins about the beam forgiven, at least "
        "3 positions; those cut by the edge of the map are counted."
    )
    coherence = measure_coherence(xmap, angle=angle)
    if coherence.n_pairs:
        note += f" Neighbours: {coherence}. A map that fits noise has about the same of both."
    return format_table(heads, rows) + f'<p class="note">{note}</p>'


def _median(values: np.ndarray, form: str = "{:.2f}") -> str:
    finite = values[np.isfinite(values)]
    return form.format(np.median(finite)) if finite.size else "–"


def _column(xmap: CrystalMap, name: str) -> np.ndarray:
    if name not in xmap.prop:
        return np.full(xmap.size, np.nan)
    return np.asarray(xmap.prop[name], float).reshape(xmap.size, -1)[:, 0]


def _maps(xmap: CrystalMap, angle: float) -> str:
    figure = plot_map(xmap, directions=("x", "y", "z"), boundary_angle=angle)
    note = (
        "Black: not indexed; grey: no second solution to compare with. Black lines: boundaries of "
        f"phases and of more than {angle:g}°; white, thin: those to the 180° twin about the beam, "
        "which IPF maps do not show."
    )
    return embed_figure(figure, "Phase map, IPF maps and measures of trust", dpi=170) + format_note(
        note
    )


def _examples(viewer: Any) -> str:
    note = (
        "Three patterns of each phase: the 90th, the 50th and the 10th percentile of confidence. "
        "Rings: spots of the returned orientation, simulated. They should lie on spots; if they "
        "are mirrored or turned, the frame is wrong (--flip, --scan-rotation)."
    )
    return embed_figure(plot_examples(viewer), "Patterns with simulated spots") + format_note(note)


def _grains(xmap: CrystalMap, angle: float) -> str:
    sizes = measure_grains(xmap, angle=angle)
    if not any(len(values) for values in sizes.values()):
        return format_note("No grain has 3 or more positions.")
    note = (
        f"Diameter of the circle of a grain's area; a grain ends where {angle:g}° are exceeded, "
        "180° twins about the beam forgiven."
    )
    return embed_figure(plot_grain_sizes(xmap, sizes), "Histograms of grain sizes") + format_note(
        note
    )


def _texture(xmap: CrystalMap) -> str:
    n = sum(len(v) for v in measure_grains(xmap).values())
    note = (
        "Pole figures (plane normals in the sample: x right, y up) and inverse pole figures "
        f"(sample axes in the crystal), kernel of 7.5°. {n} grains: a map of few grains has sharp "
        "maxima that say nothing of the material."
    )
    return embed_figure(plot_textures(xmap), "Pole figures and inverse pole figures") + format_note(
        note
    )


def _making(
    signal: ElectronDiffraction2D | None, bundle: ModelBundle | None, settings: Mapping[str, Any]
) -> str:
    """Return settings, versions and provenance."""
    parts = []
    if signal is not None:
        shape = signal.axes_manager
        axes = shape.signal_axes
        settings = {
            "patterns": f"{shape._signal_shape_in_array[1]} × {shape._signal_shape_in_array[0]}, "
            f"{signal.data.dtype}",
            "pixel size": f"{axes[0].scale:.5g} {_plain_unit(axes[0].units)}",
        } | _say_defaults(signal, bundle, settings)
    parts.append(
        format_details("Settings", {k: _shorten(v) for k, v in settings.items()}, is_open=True)
    )
    parts.append(format_details("Versions", {"python": sys.version.split()[0]} | _versions()))
    if bundle is not None:
        about = {
            "name": bundle.name,
            "hash": bundle.hash[:16],
            "acquisition": bundle.acquisition.to_dict(),
            "thresholds": to_plain(bundle.thresholds),
        }
        parts.append(format_details("Bundle", about | to_plain(dict(bundle.provenance))))
        if any(report.get("trials") for report in bundle.search_report):
            picture = embed_figure(plot_search(bundle), "Trials of the architecture search")
            parts.append(f"<details><summary>Architecture search</summary>{picture}</details>")
    return "".join(parts)


def _say_defaults(
    signal: ElectronDiffraction2D, bundle: ModelBundle | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings with what None stands for."""
    settings = dict(settings)
    acquisition = settings.get("acquisition")
    if acquisition is None and bundle is not None:
        acquisition = get_acquisition(signal, bundle.acquisition)
    if acquisition is not None:
        settings["acquisition"] = (
            f"{acquisition.beam_energy:g} kV, precession {acquisition.precession_angle:.3g}°"
        )
    if settings.get("center") is None:
        axes = signal.axes_manager.signal_axes
        at = ", ".join(f"{-axis.offset / axis.scale:.2f}" for axis in axes)
        is_set = any(axis.offset for axis in axes)
        settings["center"] = f"the calibration's, ({at}) pixels" if is_set else "auto"
    stand_for = {"phases": "all of the bundle", "mask": "none", "detector_flip": "none",
                 "distortion": "none", "navigation_mask": "none"}  # fmt: skip
    if bundle is not None:
        stand_for["min_confidence"] = (
            f"the bundle's, {bundle.thresholds.confidence:.3g} "
            f"(phase: {bundle.thresholds.phase_confidence:.3g})"
        )
        stand_for["template_threshold"] = f"the bundle's, {bundle.thresholds.template:.3g}"
    for name, text in stand_for.items():
        if name in settings and settings[name] is None:
            settings[name] = text
    return settings


def _plain_unit(unit: Any) -> str:
    """Return pyxem's spelling of 1/angstrom without TeX."""
    return "1/Å" if str(unit) in ("$A^{-1}$", r"$\AA^{-1}$", "1/angstrom") else str(unit)


def _shorten(value: Any) -> Any:
    """Return a setting as text; arrays by their shape."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"array of shape {value.shape}"
    if callable(value):
        return getattr(value, "__name__", "function")
    return to_plain(value)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _subtitle(xmap: CrystalMap, bundle: ModelBundle | None) -> str:
    shape = " × ".join(str(n) for n in xmap.shape[::-1]) or "1"
    x, y = (float(step) for step in (xmap.dx, xmap.dy))
    steps = " × ".join(f"{step:g}" for step in dict.fromkeys((x, y)) if step)
    text = f"{shape} positions"
    text += f", step {steps} {format_unit(xmap)}" if steps else ""
    text += "" if bundle is None else f", bundle {bundle.name}"
    found = ", ".join(name for _, name in indexed_phases(xmap)) or "none"
    when = datetime.now().strftime("%Y-%m-%d %H:%M")
    return escape(f"{text}. Phases found: {found}. Written {when}.")
