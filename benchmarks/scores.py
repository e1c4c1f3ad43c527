"""The figures of the accuracy benchmark: plain arrays of all patterns in, nested numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from bloch import PHASES

from pyxem_nas.diffraction import disorientation_angles, laue_operations, turned_about_beam
from pyxem_nas.maps.statistics import expected_calibration_error, paired_interval
from pyxem_nas.scans.specimens import example_phases

if TYPE_CHECKING:
    from accuracy import Answers, Batch

#: The method that all others are compared with, pattern by pattern.
PEER = "template"
_COLUMNS = (
    "phase", "phase_probability", "quaternions", "rejected", "orientation_probability"
)  # fmt: skip


def collect_truth(batches: list[Batch]) -> dict[str, np.ndarray]:
    """Return what is known of all patterns, one array per quantity."""
    truth = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("phase", "rotations", "thickness", "too_few_spots")
    }
    for name in ("name", "dose"):
        truth[f"camera_{name}"] = np.concatenate(
            [np.full(len(b.phase), getattr(b.camera, name)) for b in batches]
        )
    truth["precession"] = np.concatenate(
        [np.full(len(b.phase), b.acquisition.precession_angle) for b in batches]
    )
    return truth


def collect_answers(answers: list[Answers], truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return one method's phases, probabilities and angles from the truth in degrees."""
    found = {name: np.concatenate([getattr(a, name) for a in answers]) for name in _COLUMNS}
    quaternions = found.pop("quaternions")
    found["angle"] = np.full(len(quaternions), 180.0)
    found["angle_twin_forgiven"] = np.full(len(quaternions), 180.0)
    phase_list = example_phases("steel")
    for k, name in enumerate(PHASES):
        rows = (truth["phase"] == k) & ~found["rejected"]
        group, true = laue_operations(phase_list[name]), truth["rotations"][rows]
        angle = disorientation_angles(quaternions[rows], true, group)
        twin = disorientation_angles(turned_about_beam(quaternions[rows]), true, group)
        found["angle"][rows] = angle
        found["angle_twin_forgiven"][rows] = np.minimum(angle, twin)
    found["right"] = found["phase"] == truth["phase"]
    return found


def score(
    found: dict[str, np.ndarray], peer: dict[str, np.ndarray] | None, rows: np.ndarray
) -> dict:
    """Return the figures of one method over some patterns, shares in [0, 1]."""
    angle, forgiven = found["angle"][rows], found["angle_twin_forgiven"][rows]
    right, good = found["right"][rows], angle <= 5
    sure = found["orientation_probability"][rows] > 0.9
    figures = {
        "n": int(rows.sum()),
        "phase_right": float(right.mean()),
        "within_2": float((angle <= 2).mean()),
        "within_5": float(good.mean()),
        "within_5_twin_forgiven": float((forgiven <= 5).mean()),
        "median_of_within_5": float(np.median(angle[good])) if good.any() else float("nan"),
        "ece_phase": expected_calibration_error(found["phase_probability"][rows], right),
        "ece_orientation": expected_calibration_error(found["orientation_probability"][rows], good),
        "ece_phase_of_chance": get_error_of_chance(found["phase_probability"][rows]),
        "ece_orientation_of_chance": get_error_of_chance(found["orientation_probability"][rows]),
        "sure": float(sure.mean()),
        "sure_but_off_by_15": float((angle[sure] > 15).mean()) if sure.any() else float("nan"),
    }
    if peer is not None:
        pairs = {
            "phase_right": (right, peer["right"][rows]),
            "within_5": (good, peer["angle"][rows] <= 5),
            "within_5_twin_forgiven": (forgiven <= 5, peer["angle_twin_forgiven"][rows] <= 5),
        }
        figures["minus_peer"] = {name: paired_interval(*pair) for name, pair in pairs.items()}
    return figures


def get_error_of_chance(probability: np.ndarray, n_draws: int = 100) -> list[float]:
    """Return the calibration error that probabilities would have were they exactly right.

    Mean and 95th percentile: the fewer the patterns, the farther from 0. NaN where there are none.
    """
    probability = probability[np.isfinite(probability)]
    if not len(probability):
        return [float("nan")] * 2
    rng = np.random.default_rng(0)
    errors = [
        expected_calibration_error(probability, rng.random(len(probability)) < probability)
        for _ in range(n_draws)
    ]
    return [float(np.mean(errors)), float(np.quantile(errors, 0.95))]


def score_all(truth: dict, found: dict[str, dict], seconds: dict[str, float]) -> dict:
    """Return the figures of all methods: pooled, by phase, by camera and by both."""
    n = len(truth["phase"])
    groups = {"pooled": {"all": np.ones(n, bool)}}
    groups["phase"] = {name: truth["phase"] == k for k, name in enumerate(PHASES)}
    cameras = list(dict.fromkeys(truth["camera_name"].tolist()))
    groups["camera"] = {name: truth["camera_name"] == name for name in cameras}
    groups["phase and camera"] = {
        f"{phase}, {camera}": groups["phase"][phase] & groups["camera"][camera]
        for phase in PHASES
        for camera in cameras
    }
    angles = np.unique(truth["precession"])
    if len(angles) > 1:
        groups["precession"] = {f"{a:g} deg": truth["precession"] == a for a in angles}
    scores = {}
    for method, columns in found.items():
        peer = found.get(PEER) if method != PEER else None
        scores[method] = {
            kind: {key: score(columns, peer, rows) for key, rows in parts.items() if rows.any()}
            for kind, parts in groups.items()
        }
        scores[method]["patterns_per_second"] = n / seconds[method]
    return scores


def describe_few_spots(truth: dict, found: dict[str, dict]) -> dict[str, dict]:
    """Return per phase how many patterns show too little, and each method with and without them."""
    shares = {}
    for k, name in enumerate(PHASES):
        rows = truth["phase"] == k
        few = truth["too_few_spots"] & rows
        shares[name] = {"share": float(few.sum() / rows.sum()), "methods": {}}
        for method, columns in found.items():
            bad = rows & (columns["angle"] > 5)
            shares[name]["methods"][method] = {
                "of_misses": float((bad & few).sum() / max(bad.sum(), 1)),
                "within_5_of_others": float((columns["angle"][rows & ~few] <= 5).mean()),
            }
    return shares
