"""What the explorer shows of a map, as a header and arrays over the grid of its positions.

Owns :func:`collect`: phases, orientations, properties and the frames between map and patterns. The
page computes the rest of them: colours, grains, boundaries, spots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.diffraction import Reflections
from pyxem_nas.figures.explorer.container import quantise, quantise_rotations
from pyxem_nas.figures.explorer.crystals import describe_phases
from pyxem_nas.figures.map_canvas import Canvas, format_unit
from pyxem_nas.figures.map_colors import sequential_colors
from pyxem_nas.figures.report_figures import get_confidence
from pyxem_nas.figures.spots import MAX_SPOTS, MIN_INTENSITY, detector_reach
from pyxem_nas.maps import NOT_INDEXED

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap

    from pyxem_nas.figures.solutions import SolutionViewer

__all__ = ["LEFT_OUT", "NO_PHASE", "collect"]

NO_PHASE, LEFT_OUT = 254, 255
"""Phase numbers on the page: not indexed, and not part of the map."""

# name: label, lowest, highest value (None: of the data), what it says
_PROPERTIES: dict[str, tuple[str, float | None, float | None, str]] = {
    "confidence": ("Confidence", 0, 1, "P(phase) × P(orientation)"),
    "phase_probability": ("P(phase)", 0, 1, "probability that the phase is right"),
    "orientation_probability": (
        "P(orientation)", 0, 1, "probability that the orientation is right to 5°",
    ),
    "correlation": ("Correlation", 0, 1, "of the pattern with the spots of the answer"),
    "reliability": ("Reliability", 0, 100, "lead over the best other orientation, %"),
    "twin_reliability": ("Twin reliability", 0, 100, "lead over the 180° twin about the beam, %"),
    "phase_reliability": ("Phase reliability", 0, 100, "lead over the best other phase, %"),
    "n_plausible": ("Plausible answers", 0, None, "orientations that the pattern does not part"),
}  # fmt: skip
_INDEXED_BY = ["network", "template matching", "other", "exhaustive matching"]


def collect(
    xmap: CrystalMap, viewer: SolutionViewer | None = None, *, max_solutions: int = 5
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what the page shows of a map.

    Parameters
    ----------
    xmap
        Map of up to two dimensions.
    viewer
        Scan, bundle and frames; None: no patterns, no spots.
    max_solutions
        Orientations kept per position, at most.

    Returns
    -------
    header
        Plain values.
    arrays
        ``phase`` (n,) uint8; ``rotations`` (n_solutions, 4, n) int16; ``property_<k>`` (n,) uint8;
        and those of `describe_phases`; n positions, row-major.
    """
    rows, shape = _grid(xmap, viewer)
    there = rows >= 0
    ids = {int(i): k for k, i in enumerate(i for i in xmap.phases.ids if i != NOT_INDEXED)}
    phase = np.full(len(rows), LEFT_OUT, np.uint8)
    phase[there] = [ids.get(int(i), NO_PHASE) for i in xmap.phase_id[rows[there]]]
    quaternions = xmap.rotations.data.reshape(xmap.size, -1, 4)[:, :max_solutions]
    quaternions[xmap.phase_id == NOT_INDEXED] = [1.0, 0, 0, 0]
    rotations = np.zeros((quaternions.shape[1], 4, len(rows)), np.int16)
    rotations[..., there] = quantise_rotations(quaternions[rows[there]]).transpose(1, 2, 0)
    properties, columns = _collect_properties(xmap, rows)
    phases, tables = describe_phases(xmap, None if viewer is None else _tables(viewer))
    canvas = Canvas(xmap)
    left, right, bottom, top = canvas.extent
    header = {
        "shape": shape,
        "step": [abs(bottom - top) / canvas.shape[0], abs(right - left) / canvas.shape[1]],
        "unit": format_unit(xmap),
        "is_plane": bool(shape[0] > 1),
        "n_solutions": rotations.shape[0],
        "phases": phases,
        "properties": properties,
        "precision": {"rotation_deg": 0.003},
    }
    if viewer is not None:
        header["simulation"] = _describe_simulation(viewer)
    arrays = {"phase": phase, "rotations": rotations, **columns, **tables}
    arrays["colormap"] = np.round(255 * sequential_colors()(np.arange(256))[:, :3]).astype(np.uint8)
    return header, arrays


def _grid(xmap: CrystalMap, viewer: SolutionViewer | None) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the map's row of each position of the grid, -1 for none, and the grid's shape."""
    if viewer is not None:
        return viewer.rows, viewer.grid_shape
    in_data = np.asarray(xmap.is_in_data)
    return np.where(in_data, np.cumsum(in_data) - 1, -1), Canvas(xmap).shape


def _collect_properties(
    xmap: CrystalMap, rows: np.ndarray
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return what the properties are, and their levels over the grid."""
    # items() of the properties would hold the positions that are left out, too
    columns = {name: np.asarray(xmap.prop[name], float) for name in xmap.prop}
    known = {
        name: values.reshape(xmap.size, -1)[:, 0]
        for name, values in columns.items()
        if values.ndim == 1 or name in _PROPERTIES
    }
    known["confidence"] = get_confidence(xmap)
    order = [n for n in _PROPERTIES if n in known]
    order += [n for n in known if n not in _PROPERTIES and not n.startswith("phase_id")]
    entries: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for name in order:
        values = np.where(xmap.phase_id == NOT_INDEXED, np.nan, known[name])
        finite = values[np.isfinite(values)]
        if not finite.size:
            continue
        label = (name.replace("_", " ").capitalize(), None, None, "")
        label, low, high, text = _PROPERTIES.get(name, label)
        low = float(finite.min()) if low is None else float(low)
        high = max(float(finite.max()), low + 1e-9) if high is None else float(high)
        entry = {"name": name, "label": label, "low": low, "high": high, "help": text}
        if name == "indexed_by":
            entry |= {"label": "Indexed by", "low": 0.0, "high": 254.0, "names": _INDEXED_BY}
        elif name == "n_plausible" and high <= 254:
            entry["high"] = high = 254.0  # one level a number: nothing is rounded
            entry["shown"] = [1.0, float(finite.max())]
        elif (low, high) == (0.0, 100.0):
            entry["shown"] = [0.0, max(float(np.percentile(finite, 99)), 1e-9)]
        levels = quantise(values, entry["low"], entry["high"])
        grid = np.full(len(rows), 255, np.uint8)
        grid[rows >= 0] = levels[rows[rows >= 0]]
        arrays[f"property_{len(entries)}"] = grid
        entries.append(entry)
    return entries, arrays


def _tables(viewer: SolutionViewer) -> dict[str, Reflections]:
    """Return the reflections of each phase of the bundle, by name."""
    whole, tables = viewer.reflections, {}
    for k, name in enumerate(viewer.bundle.phase_names):
        rows = slice(*whole.bounds[k : k + 2])
        tables[name] = Reflections(
            whole.hkl[rows],
            whole.vectors[rows],
            whole.intensities[rows],
            whole.extinction[rows],
            (0, rows.stop - rows.start),
        )
    return tables


def _describe_simulation(viewer: SolutionViewer) -> dict[str, Any]:
    """Return what the page needs to put spots on a pattern as `locate_spots` does."""
    detector = viewer.detector
    return {
        "wavelength": viewer.acquisition.wavelength,
        "beam_energy": viewer.acquisition.beam_energy,
        "precession_angle": viewer.acquisition.precession_angle,
        "max_excitation_error": viewer.max_excitation_error,
        "reciprocal_radius": detector_reach(detector),
        "min_intensity": MIN_INTENSITY,
        "max_spots": MAX_SPOTS,
        "detector_shape": detector.shape,
        "detector_scale": detector.scale,
        "matrix": detector.matrix.tolist(),
        "scan_rotation": viewer.scan_rotation,
    }
