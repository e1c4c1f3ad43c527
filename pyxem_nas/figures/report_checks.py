"""What a user should know of a scan and its map before trusting them.

Owns the checks of the report: rejected and doubtful positions, phases never found, a beam that
drifts, a calibration that the spots contradict. Each check is quick: patterns are read at a few
hundred positions at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyxem_nas.figures.report_figures import get_confidence
from pyxem_nas.figures.solutions import SolutionViewer
from pyxem_nas.maps import NOT_INDEXED
from pyxem_nas.patterns import find_centers

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap

    from pyxem_nas.bundles import ModelBundle

__all__ = ["Finding", "check_map", "check_scan"]

_MANY = 0.2  # share of positions from which on a finding is worth a word
_DOUBTFUL = 0.5  # confidence below which an answer is a guess
_LOW_TWIN = 2.0  # twin reliability below which the twin fits as well
_DRIFT, _OFFSET = 1.0, 0.75  # pixels
_SCALE_ERROR, _ELLIPTICITY = 0.01, 0.01
_N_SIDE = 16  # positions along each side of the scan at which the beam is looked for
_N_FITTED, _FEW_SPOTS = 100, 60  # patterns whose spots are located; spots that tell too little


class Finding(NamedTuple):
    """Something worth a user's attention.

    Parameters
    ----------
    title
        What was found.
    advice
        What it may mean and what to do.
    """

    title: str
    advice: str


def check_map(xmap: CrystalMap, bundle: ModelBundle | None = None) -> list[Finding]:
    """Return what a map tells of itself."""
    return [*_check_confidence(xmap), *_check_phases(xmap, bundle)]


def _check_confidence(xmap: CrystalMap) -> Iterator[Finding]:
    indexed = np.asarray(xmap.is_indexed)
    confidence = get_confidence(xmap)[indexed]
    rejected = 1 - indexed.mean()
    if rejected > _MANY:
        yield Finding(
            f"{100 * rejected:.0f} % of the positions are not indexed",
            "Holes and amorphous regions are rejected rightly; else compare the patterns there "
            "with the spots (plot_overlay), and check calibration, centre and the list of phases.",
        )
    if not indexed.any():
        return
    if not np.isfinite(confidence).any():
        yield Finding(
            "the probabilities are not calibrated",
            "The bundle holds no calibrated weights for this method: nothing was rejected, and "
            "reliability is the only measure of trust.",
        )
    elif np.nanmean(confidence < _DOUBTFUL) > _MANY:
        yield Finding(
            f"{100 * np.nanmean(confidence < _DOUBTFUL):.0f} % of the indexed positions have a "
            f"confidence below {_DOUBTFUL:g}",
            "Look at the patterns of low confidence below. A bundle fine-tuned on this microscope, "
            "a better centre or precession may help.",
        )
    if "twin_reliability" in xmap.prop and indexed.any():
        twin = np.asarray(xmap.prop["twin_reliability"], float)[indexed]
        share = float(np.mean(np.isfinite(twin) & (twin < _LOW_TWIN)))
        if share > _MANY:
            yield Finding(
                f"in {100 * share:.0f} % of the indexed positions the 180° twin fits as well",
                "Patterns near a zone axis or of few spots do not tell an orientation from the one "
                "turned by 180° about the beam: do not take boundaries of this kind for real.",
            )


def _check_phases(xmap: CrystalMap, bundle: ModelBundle | None) -> Iterator[Finding]:
    names = {int(i): p.name for i, p in xmap.phases if i != NOT_INDEXED}
    present = set(np.unique(xmap.phase_id).tolist())
    absent = [name for i, name in names.items() if i not in present]
    if absent:
        yield Finding(
            f"never found: {', '.join(absent)}",
            "If the phase is in the specimen, look at the rejected positions; if it is not, leave "
            "it out (--phase, phases=): every phase that cannot occur costs accuracy.",
        )
    if "phase_reliability" not in xmap.prop or bundle is None or "phase" in bundle.models:
        return
    values = np.asarray(xmap.prop["phase_reliability"], float)[np.asarray(xmap.is_indexed)]
    share = float(np.mean(values < _LOW_TWIN)) if values.size else 0.0
    if share > _MANY:
        yield Finding(
            f"in {100 * share:.0f} % of the indexed positions another phase fits as well",
            "Without a phase network the phase is decided by correlation alone.",
        )


def check_scan(viewer: SolutionViewer) -> list[Finding]:
    """Return what the patterns tell of centre, calibration and settings."""
    return [*_check_center(viewer), *_check_calibration(viewer), *_check_settings(viewer)]


def _check_center(viewer: SolutionViewer) -> Iterator[Finding]:
    signal = viewer.signal
    shape = signal.axes_manager._navigation_shape_in_array
    if not shape or not signal.axes_manager.navigation_size > 8:
        return
    steps = tuple(slice(None, None, max(1, -(-n // _N_SIDE))) for n in shape)
    found = find_centers(signal.inav[steps[::-1]], viewer.detector.scale)
    index = np.stack(np.meshgrid(*(np.arange(n)[k] for n, k in zip(shape, steps, strict=True)),
                                 indexing="ij"), axis=-1).reshape(-1, len(shape))  # fmt: skip
    found = found.reshape(-1, 2).astype(float)
    median = np.median(found, axis=0)
    good = np.hypot(*(found - median).T) < 8  # a pattern without beam has no centre
    # a plane over the scan: drift, not the noise of single patterns
    terms = np.column_stack([np.ones(len(index)), index / np.maximum(np.array(shape) - 1, 1)])
    used = np.zeros(2) if viewer.centers is None else viewer.centers[steps].reshape(-1, 2)
    rest = (found - used)[good]
    slopes = np.linalg.lstsq(terms[good], rest, rcond=None)[0][1:]
    drift = float(np.hypot(*np.abs(slopes).sum(axis=0)))
    if viewer.centers is None:
        if drift > 3 * _DRIFT:
            yield Finding(
                f"the beam drifts by {drift:.1f} pixels over the scan",
                "It was found in each pattern, so the map should not suffer; the microscope's "
                "descan may want an alignment.",
            )
        return
    if drift > _DRIFT:
        yield Finding(
            f"the beam drifts by {drift:.1f} pixels over the scan against the centre used",
            'Index with the centre found in each pattern: --center auto, center="auto".',
        )


def _check_calibration(viewer: SolutionViewer) -> Iterator[Finding]:
    from pyxem_nas.refining import fit_distortion

    detector = viewer.detector
    try:
        fit = fit_distortion(
            viewer.signal,
            viewer.xmap,
            viewer.bundle,
            center=viewer.stated_center,
            mask=detector.mask,
            detector_flip=detector.flip,
            scan_rotation=viewer.scan_rotation,
            acquisition=viewer.acquisition,
            distortion=detector.distortion,
            n_patterns=_N_FITTED,
        )
    except ValueError:  # too little to fit: nothing can be said of the calibration
        return
    if fit.n_spots < _FEW_SPOTS:
        return
    shift = np.array(fit.center_shift)
    if np.hypot(*shift) > _OFFSET:
        yield Finding(
            f"the spots say that the centre lies ({shift[0]:+.1f}, {shift[1]:+.1f}) pixels "
            "(column, row) from the one used",
            "Correct the calibration's centre by that much, or index with --center auto.",
        )
    given = np.eye(2) if detector.distortion is None else np.asarray(detector.distortion)
    scale, ellipticity = _split(fit.distortion @ np.linalg.inv(given))
    if abs(scale - 1) > _SCALE_ERROR:
        better = " and ".join(f"{s / scale:.5g}" for s in dict.fromkeys(detector.scale))
        yield Finding(
            f"the spots lie {100 * abs(scale - 1):.1f} % "
            f"{'farther out' if scale > 1 else 'nearer to the beam'} than the calibration says",
            f"Refinement would take a pixel size of {better} 1/angstrom; index again with it, or "
            "check the lattice parameters of the phases.",
        )
    if ellipticity > _ELLIPTICITY:
        matrix = ", ".join("[" + ", ".join(f"{v:.4f}" for v in row) + "]" for row in fit.distortion)
        yield Finding(
            f"the patterns are elliptical by {100 * ellipticity:.1f} %",
            f"Index with distortion=[{matrix}], as fit_distortion() finds it.",
        )


def _split(matrix: np.ndarray) -> tuple[float, float]:
    """Return the mean scale of a matrix and the excess of its longer axis."""
    long, short = np.linalg.svd(matrix, compute_uv=False)
    return float(np.sqrt(long * short)), float(long / short - 1)


def _check_settings(viewer: SolutionViewer) -> Iterator[Finding]:
    tem: Any = viewer.signal.metadata.get_item("Acquisition_instrument.TEM")
    known = viewer.bundle.acquisition
    missing = []
    if tem is None or not tem.get_item("beam_energy"):
        missing.append("beam energy")
    if tem is None or tem.get_item("rocking_angle") is None:
        missing.append("precession angle")
    taken = viewer.acquisition
    if missing and taken == known:
        yield Finding(
            f"the scan does not say its {' and '.join(missing)}",
            f"The bundle's were taken: {taken.beam_energy:g} kV, {taken.precession_angle:g}°. "
            "State them if they were others (--beam-energy, --precession).",
        )
    ranges = viewer.bundle.provenance.get("settings", {}).get("randomization", {})
    low, high = ranges.get("scale", (0.0, np.inf))
    scale = float(np.mean(viewer.detector.scale))
    if viewer.bundle.models and not low * 0.5 <= scale <= high * 1.5:
        yield Finding(
            f"a pixel is {scale:.4g} 1/angstrom, the networks were trained for {low:g} to {high:g}",
            "Descriptors do not depend on the pixel size as long as spots are resolved; check the "
            "unit of the scale.",
        )
