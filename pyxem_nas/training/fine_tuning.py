"""Adaptation of a bundle to a microscope: fine-tuning on measured patterns.

Owns `fine_tune`: which positions teach and validate, and what the bundle says of it afterwards.
Trusted positions and frames belong to `measured`, grains to `grains`, the scan's camera to
`camera_fit`, the training to `network_tuning`, calibration to `recalibration`. Stands above
`signals`, online and offline.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
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
from pyxem_nas.scans import make_source
from pyxem_nas.signals import check_acquisition, get_bundle, get_sampler
from pyxem_nas.training.camera_fit import FittedCamera, fit_camera
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
from pyxem_nas.training.network_tuning import MIXTURE, TuningSettings, tune_networks
from pyxem_nas.training.recalibration import recalibrate

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

    from pyxem_nas.patterns import PolarSampler

__all__ = ["fine_tune"]

_logger = logging.getLogger(__name__)
_MIN_GRAIN = 3  # positions of a grain that self-training believes
_N_VALIDATION = 300  # measured patterns of a phase that validate, at most
_FRAME_TOLERANCE = 0.9  # of the best frame's score that the map's own must reach
_AMBIGUOUS = 0.97  # of the best frame's score: then the patterns do not tell the frame
_PACKAGES = ("pyxem-nas", "keras", "tensorflow", "orix", "numpy")


@dataclass(frozen=True)
class _Scan:
    """A scan with all that is needed to describe its patterns."""

    signal: ElectronDiffraction2D
    acquisition: Acquisition
    centers: np.ndarray
    sampler: PolarSampler  # for the networks
    fine_sampler: PolarSampler  # and for refinement
    field_of_view: float


def fine_tune(
    bundle: ModelBundle | Path | str | None,
    s: ElectronDiffraction2D,
    xmap: CrystalMap | None = None,
    *,
    min_reliability: float = 15.0,
    min_confidence: float = 0.9,
    frame: Literal["astar"] | MapFrame | None = None,
    phase_names: Mapping[str, str] | None = None,
    acquisition: Acquisition | None = None,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: str | None = None,
    distortion: np.ndarray | None = None,
    scan_rotation: float = 0.0,
    navigation_mask: np.ndarray | None = None,
    n_positions: int = 4000,
    min_positions: int = 40,
    epochs: int = 8,
    samples_per_epoch: int = 4096,
    learning_rate: float = 4e-4,
    seed: int = 0,
    name: str | None = None,
    report: Callable[[str], None] = _logger.info,
) -> ModelBundle:
    """Adapt a bundle's networks to a microscope, with a scan and a map of it that can be trusted.

    Parameters
    ----------
    bundle
        A bundle, the path of one, or the name of a shipped one; it is not changed. None: the one
        set with `pyxem_nas.set_default_bundle`.
    s
        Measured scan, eager or lazy, calibrated.
    xmap
        Trusted map of the same positions: of template matching, of ASTAR (.ang, .ctf read by
        `pyxem_nas.files.read_map` or orix), or of `index_phase_orientation`. None: self-training on
        the scan's own confident answers, of grains of three positions or more.
    min_reliability
        Least reliability, 0 to 100, of the positions that are believed (`reliability`, ASTAR's
        ``rel`` or the confidence index of .ang, each times what makes it a percentage). A .ctf
        tells none: all its indexed positions are believed.
    min_confidence
        Least phase probability times orientation probability, where the map has them.
    frame
        None: the map's rotations are in the frame of the patterns, x right, y up, as those of
        `index_phase_orientation`, of `save_map`'s files and of template matching composed as there;
        checked on the patterns. "astar": the frame depends on the program's settings and is found
        in the patterns. A `MapFrame`: as stated.
    phase_names
        Names of the map's phases and what the bundle calls them, where neither name nor lattice
        tells.
    acquisition, center, mask, detector_flip, distortion
        As in `index_phase_orientation`.
    scan_rotation
        Degrees from the diffraction to the scan frame that the map's rotations hold already, as in
        `index_phase_orientation`.
    navigation_mask
        True where a position is left out, shape of the scan.
    n_positions
        Number of measured patterns used, at most, drawn evenly from phases and grains.
    min_positions
        A phase with fewer training patterns keeps its orientation network.
    epochs
        Passes, at most; the training of a network stops when its validation gets no better.
    samples_per_epoch
        Descriptors per pass.
    learning_rate
        Highest rate of the schedule.
    seed
        Of everything.
    name
        Name of the new bundle; None: the old one's with "-tuned".
    report
        Called with lines of progress; by default they are logged.

    Returns
    -------
    bundle
        With adapted networks, judges, temperature and thresholds;
        ``provenance["fine_tuning"]`` tells how.

    Raises
    ------
    ValueError
        If map and scan do not fit, no position is reliable, a phase of the map is none of the
        bundle's, or the map's orientations are in another frame than stated.

    See Also
    --------
    search_models

    Notes
    -----
    Measured descriptors are turned by random azimuths, their target with them, and jittered in
    intensity. Each batch mixes them with simulations: through cameras that look like the scan's,
    and through those of the bundle's own training, so that orientations and phases that the scan
    lacks are not forgotten. A quarter of the grains of each phase validates; of the weights between
    those before and after tuning the best are taken with which the bundle's own simulations lose
    next to nothing (Wortsman et al. 2022, arXiv:2109.01903).

    Probabilities are calibrated on the validation grains and on simulations of the scan's camera;
    after self-training on simulations alone. The trusted positions of a map are its easier ones.

    Examples
    --------
    >>> tuned = pyxem_nas.fine_tune("steel", s, xmap)  # doctest: +SKIP
    >>> tuned.save("my_microscope.nas")  # doctest: +SKIP
    """
    bundle = get_bundle(bundle)
    if not bundle.models:
        raise ValueError(f"bundle {bundle.name!r} has no networks to tune; see search_models")
    if not (isinstance(frame, MapFrame) or frame in (None, "astar")):
        raise ValueError(f'frame must be None, "astar" or a MapFrame, got {frame!r}')
    started = time.perf_counter()
    rng = np.random.default_rng((seed, 31))
    scan = _open_scan(bundle, s, acquisition, center, mask, detector_flip, distortion)
    labelled_by = "self-training" if xmap is None else "map"
    if xmap is None:
        report("indexing the scan for self-training")
        xmap = _index_for_training(bundle, scan, mask, detector_flip, distortion, navigation_mask)
        min_reliability, frame, scan_rotation = -np.inf, MapFrame(), 0.0
    phase_id, quaternions = _trust(
        xmap, bundle, scan, phase_names, min_reliability, min_confidence, navigation_mask,
        scan_rotation,
    )  # fmt: skip
    groups = [laue_operations(phase) for phase in bundle.phases]
    nav_shape = s.axes_manager._navigation_shape_in_array
    grains = segment_grains(phase_id, quaternions, nav_shape, groups)
    if labelled_by == "self-training":
        size = np.bincount(grains[grains >= 0], minlength=1)
        phase_id = np.where((grains >= 0) & (size[grains] < _MIN_GRAIN), -1, phase_id)
    rows = np.flatnonzero(phase_id >= 0)
    if not len(rows):
        raise ValueError("no position is left to learn from; lower min_reliability")
    rows = rows[balance_grains(phase_id[rows], grains[rows], n_positions, rng)]
    found, frame_figures = _settle_frame(frame, bundle, scan, rows, phase_id, quaternions, grains)
    quaternions = multiply_quaternions(quaternions, found.quaternion)
    train, held = split_grains(phase_id[rows], grains[rows], quaternions[rows], groups, rng)
    held = _thin(held, phase_id[rows], grains[rows], rng)
    training = _describe(scan, rows[train], phase_id, quaternions, grains, bundle)
    validation = _describe(scan, rows[held], phase_id, quaternions, grains, bundle, fine=True)
    if not len(training):
        raise ValueError(
            "all trusted positions were needed for validation or hold empty patterns; give a map "
            "of more grains, or lower min_reliability"
        )
    counts = _count(bundle, training, validation)
    report(f"learning from {_say_counts(counts)}")

    source = make_source(bundle, seed)
    camera = fit_camera(
        training, source, field_of_view=scan.field_of_view,
        precession_angle=scan.acquisition.precession_angle, rng=rng,
    )  # fmt: skip
    report(f"the scan's camera: {_say_camera(camera)}")
    sources = {"known": source, "camera": dataclasses.replace(source, randomization=camera)}
    settings = TuningSettings(epochs, samples_per_epoch, learning_rate, seed, report)
    models, figures = tune_networks(bundle, training, validation, sources, settings, min_positions)
    report("calibrating on validation grains and simulations")
    tuned = dataclasses.replace(
        bundle, name=name or f"{bundle.name}-tuned", models={**bundle.models, **models}
    )
    if labelled_by == "self-training":  # its own answers cannot tell how often it is right
        validation = validation.take(np.arange(0))
    tuned, calibration = recalibrate(tuned, validation, sources, scan.acquisition, seed=seed)
    record = {
        "labelled_by": labelled_by,
        "from_bundle": {"name": bundle.name, "hash": bundle.hash},
        "positions": counts,
        "settings": {
            "min_reliability": None if min_reliability == -np.inf else min_reliability,
            "min_confidence": min_confidence, "n_positions": n_positions,
            "min_positions": min_positions, "epochs": epochs, "learning_rate": learning_rate,
            "samples_per_epoch": samples_per_epoch, "mixture": dict(MIXTURE), "seed": seed,
        },
        "acquisition": scan.acquisition.to_dict(),
        "frame": frame_figures,
        "camera": camera.describe(),
        "networks": figures,
        "calibration": calibration,
        "versions": {package: version(package) for package in _PACKAGES},
        "date": date.today().isoformat(),
        "seconds": round(time.perf_counter() - started),
    }  # fmt: skip
    earlier = list(bundle.provenance.get("fine_tuning", []))
    provenance = {**bundle.provenance, "fine_tuning": [*earlier, record]}
    report(f"done in {record['seconds']} s")
    return dataclasses.replace(tuned, provenance=provenance)


# ------------------------------------------------------------------------- positions


def _open_scan(bundle, s, acquisition, center, mask, detector_flip, distortion) -> _Scan:
    """Check the scan as indexing does, and return it with its centres and sampling."""
    acquisition = check_acquisition(s, bundle, acquisition)
    scale = get_scale(s, acquisition.beam_energy)
    specs = get_specs(bundle)
    light = (specs[0], *specs[2:])
    shape = s.axes_manager._signal_shape_in_array
    return _Scan(
        s,
        acquisition,
        get_centers(s, center, scale),
        get_sampler(s, scale, mask, detector_flip, distortion, light),
        get_sampler(s, scale, mask, detector_flip, distortion, specs),
        float(min(n * step for n, step in zip(shape, scale, strict=True))),
    )


def _index_for_training(
    bundle, scan, mask, detector_flip, distortion, navigation_mask
) -> CrystalMap:
    """Return the scan's map by its networks, nothing rejected."""
    method = {
        name: "network" if bundle.has_orientation_network(k) else "template"
        for k, name in enumerate(bundle.phase_names)
    }
    xmap = scan.signal.index_phase_orientation(
        bundle, method=method, acquisition=scan.acquisition, center=scan.centers, mask=mask,
        detector_flip=detector_flip, distortion=distortion, min_confidence=0.0,
        navigation_mask=navigation_mask, show_progressbar=False,
    )  # fmt: skip
    if np.isnan(read_reliability(xmap)[1]).all():
        raise ValueError(
            f"bundle {bundle.name!r} is not calibrated, so its confident answers are not known; "
            "pass a trusted map"
        )
    return xmap


def _trust(
    xmap, bundle, scan, phase_names, min_reliability, min_confidence, navigation_mask, scan_rotation
) -> tuple[np.ndarray, np.ndarray]:
    """Return phases, -1 where the map is not to be trusted, and rotations at all positions."""
    nav_shape = scan.signal.axes_manager._navigation_shape_in_array
    n = int(np.prod(nav_shape))
    # an axis of length 1 is none to a CrystalMap
    long_axes = [tuple(m for m in shape if m > 1) for shape in (xmap._original_shape, nav_shape)]
    if xmap.is_in_data.size != n or long_axes[0] != long_axes[1]:
        raise ValueError(
            f"the map has {xmap.is_in_data.size} positions of shape {xmap._original_shape!r}, the "
            f"scan {n} of shape {nav_shape!r}; they must be the same"
        )
    phase_id = match_phases(xmap, bundle, phase_names)
    if navigation_mask is not None:
        if np.shape(navigation_mask) != nav_shape:
            raise ValueError(
                f"navigation_mask must have the scan's shape {nav_shape}, got "
                f"{np.shape(navigation_mask)}"
            )
        phase_id[np.asarray(navigation_mask, bool).ravel()] = -1
    reliability, confidence = read_reliability(xmap)
    # what the map does not tell cannot be held against it
    reliable = ~(reliability < min_reliability)
    confident = ~(confidence < min_confidence)
    indexed = phase_id >= 0
    if not (indexed & reliable & confident).any():
        raise ValueError(
            f"of {int(indexed.sum())} indexed positions none can be trusted: "
            f"{int((indexed & reliable).sum())} have a reliability of {min_reliability:g} or more, "
            f"{int((indexed & confident).sum())} a confidence of {min_confidence:g} or more; lower "
            "min_reliability or min_confidence"
        )
    phase_id[~(reliable & confident)] = -1
    return phase_id, read_quaternions(xmap, scan_rotation)


def _describe(
    scan, rows, phase_id, quaternions, grains, bundle, *, fine: bool = False
) -> MeasuredPatterns:
    """Return measured patterns at some positions, those that show nothing left out."""
    sampler = scan.fine_sampler if fine else scan.sampler
    described = describe_positions(scan.signal, rows, scan.centers, sampler)
    polar = described[1] if fine else np.empty((0,), np.float32)
    measured = MeasuredPatterns(
        described[0], polar, described[-1] if bundle.pattern_spec is not None else None,
        phase_id[rows], quaternions[rows], grains[rows],
    )  # fmt: skip
    shown = described[0].any(axis=(1, 2))
    return measured if shown.all() else measured.take(np.flatnonzero(shown))


def _settle_frame(
    frame, bundle, scan, rows, phase_id, quaternions, grains
) -> tuple[MapFrame, dict[str, Any]]:
    """Return the map's frame, stated or found, after a look at the patterns."""
    order = np.lexsort((np.arange(len(rows)), _rank_in_grain(grains[rows])))
    some = rows[np.sort(order[:96])]  # first one of each grain
    measured = _describe(scan, some, phase_id, quaternions, grains, bundle, fine=True)
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


def _count(bundle, training, validation) -> dict[str, dict[str, int]]:
    """Return the numbers of patterns and grains by phase."""
    counts = {}
    for k, phase_name in enumerate(bundle.phase_names):
        of_phase = {}
        for what, measured in (("training", training), ("validation", validation)):
            mine = measured.phase_id == k
            of_phase[f"{what}_patterns"] = int(mine.sum())
            of_phase[f"{what}_grains"] = len(np.unique(measured.grains[mine]))
        counts[phase_name] = of_phase
    return counts


def _say_counts(counts: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(
        f"{name}: {n['training_patterns']} patterns of {n['training_grains']} grains "
        f"({n['validation_patterns']} of {n['validation_grains']} validate)"
        for name, n in counts.items()
    )


def _say_camera(camera: FittedCamera) -> str:
    found = camera.describe()
    names = [n for n in ("scale_error", "spot_width", "ellipticity", "gamma") if n in found]
    return ", ".join(
        f"{n.replace('_', ' ')} {found[n][1]:.3g} ({found[n][0]:.3g} to {found[n][2]:.3g})"
        for n in names
    )
