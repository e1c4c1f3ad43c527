"""Adaptation of a bundle to a microscope: fine-tuning on measured patterns.

Owns `fine_tune` and what the bundle says of it afterwards. What a map teaches belongs to `lessons`,
the scan's camera to `camera_fit`, the training to `network_tuning`, calibration to `recalibration`.
Stands above `signals`, online and offline.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition
from pyxem_nas.scans import make_source
from pyxem_nas.signals import get_bundle
from pyxem_nas.training.camera_fit import FittedCamera, fit_camera
from pyxem_nas.training.lessons import Lessons, MeasuredScan, Trust, choose_lessons, open_scan
from pyxem_nas.training.measured import MapFrame
from pyxem_nas.training.network_tuning import MIXTURE, TuningSettings, tune_networks
from pyxem_nas.training.recalibration import recalibrate

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["fine_tune"]

_logger = logging.getLogger(__name__)
_PACKAGES = ("pyxem-nas", "keras", "tensorflow", "orix", "numpy")


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
    trust = Trust(
        min_reliability, min_confidence, frame, phase_names, scan_rotation, navigation_mask
    )
    settings = TuningSettings(epochs, samples_per_epoch, learning_rate, seed, report)
    started = time.perf_counter()
    rng = np.random.default_rng((seed, 31))
    scan = open_scan(
        bundle, s, acquisition, center,
        mask=mask, detector_flip=detector_flip, distortion=distortion,
    )  # fmt: skip
    lessons = choose_lessons(bundle, scan, xmap, trust, n_positions, rng, report)
    counts = _count(bundle, lessons)
    report(f"learning from {_say_counts(counts)}")
    self_taught = xmap is None
    tuned, figures = _tune(bundle, scan, lessons, settings, min_positions, rng, self_taught)
    tuned = dataclasses.replace(tuned, name=name or f"{bundle.name}-tuned")
    record = {
        "labelled_by": "self-training" if self_taught else "map",
        "from_bundle": {"name": bundle.name, "hash": bundle.hash},
        "positions": counts,
        "settings": {
            **_describe_settings(trust.in_own_answers() if self_taught else trust, settings),
            "n_positions": n_positions,
            "min_positions": min_positions,
        },
        "acquisition": scan.acquisition.to_dict(),
        "frame": lessons.frame_figures,
        **figures,
    }
    seconds = round(time.perf_counter() - started)
    report(f"done in {seconds} s")
    return _sign(tuned, record | {"seconds": seconds})


def _tune(
    bundle: ModelBundle,
    scan: MeasuredScan,
    lessons: Lessons,
    settings: TuningSettings,
    min_positions: int,
    rng: np.random.Generator,
    self_taught: bool,
) -> tuple[ModelBundle, dict[str, Any]]:
    """Fit the camera, tune the networks and calibrate; return the bundle and what was found."""
    bundle = bundle.with_whole_networks()  # what one learns must not change another
    source = make_source(bundle, settings.seed)
    camera = fit_camera(
        lessons.training, source, field_of_view=scan.field_of_view,
        precession_angle=scan.acquisition.precession_angle, rng=rng,
    )  # fmt: skip
    settings.report(f"the scan's camera: {_say_camera(camera)}")
    sources = {"known": source, "camera": dataclasses.replace(source, randomization=camera)}
    models, figures = tune_networks(
        bundle, lessons.training, lessons.validation, sources, settings, min_positions
    )
    settings.report("calibrating on validation grains and simulations")
    tuned = dataclasses.replace(bundle, models={**bundle.models, **models})
    validation = lessons.validation
    if self_taught:  # its own answers cannot tell how often it is right
        validation = validation.take(np.arange(0))
    tuned, calibration = recalibrate(
        tuned, validation, sources, scan.acquisition, seed=settings.seed
    )
    return tuned, {"camera": camera.describe(), "networks": figures, "calibration": calibration}


def _sign(tuned: ModelBundle, record: Mapping[str, Any]) -> ModelBundle:
    """Return a bundle whose provenance has one more record of fine-tuning."""
    dated = {
        **record,
        "versions": {package: version(package) for package in _PACKAGES},
        "date": date.today().isoformat(),
    }
    earlier = list(tuned.provenance.get("fine_tuning", []))
    return dataclasses.replace(
        tuned, provenance={**tuned.provenance, "fine_tuning": [*earlier, dated]}
    )


def _describe_settings(trust: Trust, settings: TuningSettings) -> dict[str, Any]:
    """Return what was trusted and how long was tuned, JSON-ready."""
    least = trust.min_reliability
    return {
        "min_reliability": None if least == -np.inf else least,
        "min_confidence": trust.min_confidence,
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "samples_per_epoch": settings.samples_per_epoch,
        "mixture": dict(MIXTURE),
        "seed": settings.seed,
    }


def _count(bundle: ModelBundle, lessons: Lessons) -> dict[str, dict[str, int]]:
    """Return the numbers of patterns and grains by phase."""
    counts = {}
    for k, phase_name in enumerate(bundle.phase_names):
        of_phase = {}
        for what, measured in (("training", lessons.training), ("validation", lessons.validation)):
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
