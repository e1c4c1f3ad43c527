"""What a scan and its map teach: trusted positions, grains that train and grains that validate.

Owns the choice of positions and the look at the map's frame. What is read from a map, and a frame's
fit to the patterns, belong to `measured`; grains to `maps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import (
    Acquisition,
    get_reflections,
    laue_operations,
    multiply_quaternions,
)
from pyxem_nas.indexing import get_specs
from pyxem_nas.maps import balance_grains, segment_grains, split_grains
from pyxem_nas.patterns import get_centers, get_scale
from pyxem_nas.signals import check_acquisition, get_sampler
from pyxem_nas.training.measured import (
    MapFrame,
    MeasuredPatterns,
    describe_positions,
    find_frame,
    match_phases,
    read_quaternions,
    read_reliability,
    score_frames,
)

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

    from pyxem_nas.patterns import PolarSampler

__all__ = ["Lessons", "MeasuredScan", "Trust", "choose_lessons", "open_scan"]

_MIN_GRAIN = 3  # positions of a grain that self-training believes
_N_VALIDATION = 300  # measured patterns of a phase that validate, at most
_FRAME_TOLERANCE = 0.9  # of the best frame's score that the map's own must reach
_AMBIGUOUS = 0.97  # of the best frame's score: then the patterns do not tell the frame


@dataclass(frozen=True)
class MeasuredScan:
    """A scan with all that is needed to describe its patterns; made by `open_scan`."""

    signal: ElectronDiffraction2D
    acquisition: Acquisition
    centers: np.ndarray
    sampler: PolarSampler  # for the networks
    fine_sampler: PolarSampler  # and for refinement
    field_of_view: float
    stated: Mapping[str, Any]  # of the camera, as `index_phase_orientation` takes it

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scan."""
        return self.signal.axes_manager._navigation_shape_in_array


@dataclass(frozen=True)
class Trust:
    """What of a map is believed, and in which frame it is; see `fine_tune` for each."""

    min_reliability: float
    min_confidence: float
    frame: Literal["astar"] | MapFrame | None
    phase_names: Mapping[str, str] | None
    scan_rotation: float
    navigation_mask: np.ndarray | None

    def __post_init__(self) -> None:
        if not (isinstance(self.frame, MapFrame) or self.frame in (None, "astar")):
            raise ValueError(f'frame must be None, "astar" or a MapFrame, got {self.frame!r}')

    def in_own_answers(self) -> Trust:
        """Return what is believed of a bundle's own map of the scan."""
        return dataclasses.replace(
            self, min_reliability=-np.inf, frame=MapFrame(), scan_rotation=0.0
        )


@dataclass(frozen=True)
class Lessons:
    """Measured patterns that teach and that validate, and what was found of the map's frame."""

    training: MeasuredPatterns
    validation: MeasuredPatterns
    frame_figures: Mapping[str, Any]


@dataclass(frozen=True)
class _Labels:
    """What a map says of all positions: phases (-1: nothing), rotations, grains."""

    phase_id: np.ndarray
    quaternions: np.ndarray
    grains: np.ndarray


def open_scan(
    bundle: ModelBundle,
    s: ElectronDiffraction2D,
    acquisition: Acquisition | None,
    center: Any,
    *,
    mask: np.ndarray | None = None,
    detector_flip: str | None = None,
    distortion: np.ndarray | None = None,
) -> MeasuredScan:
    """Check a scan as indexing does, and return it with its centres and sampling."""
    acquisition = check_acquisition(s, bundle, acquisition)
    scale = get_scale(s, acquisition.beam_energy)
    specs = get_specs(bundle)
    light = (specs[0], *specs[2:])
    shape = s.axes_manager._signal_shape_in_array
    return MeasuredScan(
        s,
        acquisition,
        get_centers(s, center, scale),
        get_sampler(s, scale, mask, detector_flip, distortion, light),
        get_sampler(s, scale, mask, detector_flip, distortion, specs),
        float(min(n * step for n, step in zip(shape, scale, strict=True))),
        {"mask": mask, "detector_flip": detector_flip, "distortion": distortion},
    )


def choose_lessons(
    bundle: ModelBundle,
    scan: MeasuredScan,
    xmap: CrystalMap | None,
    trust: Trust,
    n_positions: int,
    rng: np.random.Generator,
    report: Callable[[str], None],
) -> Lessons:
    """Return the patterns to learn from and to validate with.

    Parameters
    ----------
    bundle
        The bundle that is to learn.
    scan
        The scan.
    xmap
        Its map. None: the bundle's own, of grains of three positions or more.
    trust
        What of the map is believed.
    n_positions
        Patterns at most.
    rng
        Source of all that is random.
    report
        Called with lines of progress.

    Raises
    ------
    ValueError
        If nothing of the map can be trusted, or its frame is another than stated.
    """
    own = xmap is None
    if own:
        report("indexing the scan for self-training")
        xmap, trust = (
            _index_for_training(bundle, scan, trust.navigation_mask),
            trust.in_own_answers(),
        )
    phase_id, quaternions = _trust(xmap, bundle, scan, trust)
    groups = [laue_operations(phase) for phase in bundle.phases]
    grains = segment_grains(phase_id, quaternions, scan.shape, groups)
    if own:
        size = np.bincount(grains[grains >= 0], minlength=1)
        phase_id = np.where((grains >= 0) & (size[grains] < _MIN_GRAIN), -1, phase_id)
    rows = np.flatnonzero(phase_id >= 0)
    if not len(rows):
        raise ValueError("no position is left to learn from; lower min_reliability")
    rows = rows[balance_grains(phase_id[rows], grains[rows], n_positions, rng)]
    labels = _Labels(phase_id, quaternions, grains)
    found, figures = _settle_frame(trust.frame, bundle, scan, rows, labels)
    quaternions = multiply_quaternions(quaternions, found.quaternion)
    labels = dataclasses.replace(labels, quaternions=quaternions)
    train, held = split_grains(phase_id[rows], grains[rows], quaternions[rows], groups, rng)
    held = _thin(held, phase_id[rows], grains[rows], rng)
    training = _describe(scan, rows[train], labels, bundle)
    validation = _describe(scan, rows[held], labels, bundle, fine=True)
    if not len(training):
        raise ValueError(
            "all trusted positions were needed for validation or hold empty patterns; give a map "
            "of more grains, or lower min_reliability"
        )
    return Lessons(training, validation, figures)


def _index_for_training(
    bundle: ModelBundle, scan: MeasuredScan, navigation_mask: np.ndarray | None
) -> CrystalMap:
    """Return the scan's map by its networks, nothing rejected."""
    method = {
        name: "network" if bundle.has_orientation_network(k) else "template"
        for k, name in enumerate(bundle.phase_names)
    }
    xmap = scan.signal.index_phase_orientation(
        bundle,
        method=method,
        acquisition=scan.acquisition,
        center=scan.centers,
        **scan.stated,
        min_confidence=0.0,
        navigation_mask=navigation_mask,
        show_progressbar=False,
    )
    if np.isnan(read_reliability(xmap)[1]).all():
        raise ValueError(
            f"bundle {bundle.name!r} is not calibrated, so its confident answers are not known; "
            "pass a trusted map"
        )
    return xmap


def _trust(
    xmap: CrystalMap, bundle: ModelBundle, scan: MeasuredScan, trust: Trust
) -> tuple[np.ndarray, np.ndarray]:
    """Return phases, -1 where the map is not to be trusted, and rotations at all positions."""
    nav_shape, navigation_mask = scan.shape, trust.navigation_mask
    n = int(np.prod(nav_shape))
    # an axis of length 1 is none to a CrystalMap
    long_axes = [tuple(m for m in shape if m > 1) for shape in (xmap._original_shape, nav_shape)]
    if xmap.is_in_data.size != n or long_axes[0] != long_axes[1]:
        raise ValueError(
            f"the map has {xmap.is_in_data.size} positions of shape {xmap._original_shape!r}, the "
            f"scan {n} of shape {nav_shape!r}; they must be the same"
        )
    phase_id = match_phases(xmap, bundle, trust.phase_names)
    if navigation_mask is not None:
        if np.shape(navigation_mask) != nav_shape:
            raise ValueError(
                f"navigation_mask must have the scan's shape {nav_shape}, got "
                f"{np.shape(navigation_mask)}"
            )
        phase_id[np.asarray(navigation_mask, bool).ravel()] = -1
    reliability, confidence = read_reliability(xmap)
    # what the map does not tell cannot be held against it
    reliable = ~(reliability < trust.min_reliability)
    confident = ~(confidence < trust.min_confidence)
    indexed = phase_id >= 0
    if not (indexed & reliable & confident).any():
        raise ValueError(
            f"of {int(indexed.sum())} indexed positions none can be trusted: "
            f"{int((indexed & reliable).sum())} have a reliability of {trust.min_reliability:g} or "
            f"more, {int((indexed & confident).sum())} a confidence of {trust.min_confidence:g} or "
            "more; lower min_reliability or min_confidence"
        )
    phase_id[~(reliable & confident)] = -1
    return phase_id, read_quaternions(xmap, trust.scan_rotation)


def _describe(
    scan: MeasuredScan,
    rows: np.ndarray,
    labels: _Labels,
    bundle: ModelBundle,
    *,
    fine: bool = False,
) -> MeasuredPatterns:
    """Return measured patterns at some positions, those that show nothing left out."""
    sampler = scan.fine_sampler if fine else scan.sampler
    described = describe_positions(scan.signal, rows, scan.centers, sampler)
    polar = described[1] if fine else np.empty((0,), np.float32)
    measured = MeasuredPatterns(
        described[0], polar, described[-1] if bundle.pattern_spec is not None else None,
        labels.phase_id[rows], labels.quaternions[rows], labels.grains[rows],
    )  # fmt: skip
    shown = described[0].any(axis=(1, 2))
    return measured if shown.all() else measured.take(np.flatnonzero(shown))


def _settle_frame(
    frame: Literal["astar"] | MapFrame | None,
    bundle: ModelBundle,
    scan: MeasuredScan,
    rows: np.ndarray,
    labels: _Labels,
) -> tuple[MapFrame, dict[str, Any]]:
    """Return the map's frame, stated or found, after a look at the patterns."""
    order = np.lexsort((np.arange(len(rows)), _rank_in_grain(labels.grains[rows])))
    some = rows[np.sort(order[:96])]  # first one of each grain
    measured = _describe(scan, some, labels, bundle, fine=True)
    if not len(measured):
        raise ValueError("the trusted positions hold empty patterns only")
    reflections = get_reflections(bundle.phases)
    best, score, runner_up = find_frame(measured, bundle, reflections, scan.acquisition)
    figures = {"best": dataclasses.asdict(best), "score": score, "runner_up": runner_up}
    if frame == "astar":
        if runner_up > _AMBIGUOUS * score:
            raise ValueError(
                f"the patterns do not tell the frame of the map: two frames fit alike (mean "
                f"correlation {score:.3f} and {runner_up:.3f}); pass frame=MapFrame(flipped, "
                "angle), or a map of more grains"
            )
        return best, {"stated": "astar", "taken": dataclasses.asdict(best), **figures}
    stated = MapFrame() if frame is None else frame
    own = score_frames(
        measured, stated.quaternion[None], bundle, reflections, scan.acquisition
    )[0]  # fmt: skip
    if own < _FRAME_TOLERANCE * score:
        raise ValueError(
            f"the map's orientations do not fit the patterns (mean correlation {own:.3f}); they do "
            f"({score:.3f}) with frame={best!r}. Pass that, or correct detector_flip or "
            "scan_rotation"
        )
    return stated, {"taken": dataclasses.asdict(stated), "own_score": float(own), **figures}


def _rank_in_grain(grains: np.ndarray) -> np.ndarray:
    """Return how many rows of the same grain come before each row."""
    order = np.argsort(grains, kind="stable")
    starts = np.r_[0, np.flatnonzero(np.diff(grains[order])) + 1]
    lengths = np.diff(np.r_[starts, len(grains)])
    ranks = np.empty(len(grains), int)
    ranks[order] = np.arange(len(grains)) - np.repeat(starts, lengths)
    return ranks


def _thin(rows, phase_id, grains, rng) -> np.ndarray:
    """Return at most 300 of the rows of each phase, evenly from its grains."""
    kept = [np.zeros(0, int)]
    for k in np.unique(phase_id[rows]):
        of_phase = rows[phase_id[rows] == k]
        some = balance_grains(phase_id[of_phase], grains[of_phase], _N_VALIDATION, rng)
        kept.append(of_phase[some])
    return np.sort(np.concatenate(kept))
