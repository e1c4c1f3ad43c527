"""The calibration of a scan found in the scan itself, before it is indexed.

Owns ``calibrate="auto"``: which positions are fitted and which test the fit, when a fit is used,
and the drift of the centre. The fit to a sample of known orientations is `geometry_fit`'s.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.indexing.block import get_predictor, index_block
from pyxem_nas.indexing.geometry_fit import NothingToFit, fit_sample, measure_offsets
from pyxem_nas.indexing.plan import IndexingPlan, get_specs
from pyxem_nas.indexing.refinement import get_refinement_spec
from pyxem_nas.indexing.result_rows import split_rows
from pyxem_nas.indexing.scan_sample import (
    RefinementPlan,
    ScanPatterns,
    correct_scan,
    refine_sample,
)
from pyxem_nas.patterns import CalibrationFit, Detector, make_sampler, to_native

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["SelfCalibration", "calibrate_scan"]

_logger = logging.getLogger(__name__)
_N_FITTED, _N_TESTED = 100, 100  # positions
_N_PLACES = 20  # stretches of neighbours they lie in, so that a lazy scan is not read whole
_N_TURNS = 6  # of indexing and fitting, at most: a better calibration brings orientations back
_SETTLED = 1e-3, 0.05  # steps of the matrix, and of the centre in pixels, that end them
_BEST = 0.6  # share of the fitted positions, those of highest correlation, that are fitted to
_SURE = 3.0  # standard deviations: of the signed ranks of the gains, of a slope of the drift
_MOST_CHANGE = 0.08  # of the matrix: rather another crystal of the same lattice
_LEAST_CHANGE = 0.003  # of the matrix
_LEAST_SHIFT = 0.3  # pixels, of the centre anywhere in the scan


@dataclass(frozen=True, eq=False)
class SelfCalibration:
    """What a scan's own patterns say of its calibration, and whether they were believed.

    Parameters
    ----------
    used
        Whether the scan is indexed with it.
    reason
        Why, or why not, in words.
    fit
        Scale, ellipse and centre; None where nothing could be fitted.
    distortion
        Matrix of shape (2, 2) that the scan is indexed with; None: as given.
    centers
        Direct-beam positions that the scan is indexed with, (..., 2).
    correlation_before, correlation_after
        Mean correlation at positions that were not fitted to, with the calibration that was given
        and with the one found.
    """

    used: bool
    reason: str
    fit: CalibrationFit | None = None
    distortion: np.ndarray | None = None
    centers: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    correlation_before: float = float("nan")
    correlation_after: float = float("nan")


def calibrate_scan(
    patterns: da.Array, centers: np.ndarray, plan: IndexingPlan, detector: Detector
) -> SelfCalibration:
    """Find scale, ellipse and centre of a scan in its patterns; use them if they are better.

    Parameters
    ----------
    patterns
        Scan of shape (..., ny, nx), whole patterns per chunk.
    centers
        Direct-beam positions as given, (column, row) in pixels, shape (..., 2).
    plan
        How the scan is to be indexed.
    detector
        Its calibration as given.

    Returns
    -------
    found
        With `used` False where the crystals of the bundle are not in the scan, or the calibration
        is right.

    Notes
    -----
    One half of some 200 positions is indexed and fitted to in turns, the other half
    tests: it is indexed with both calibrations, and the answers of both are refined with each of
    them, so that a pattern whose answer jumps is compared by its better one. The new calibration is
    used if its correlations there are higher by three standard deviations of the signed ranks of
    the differences (Wilcoxon 1945), and it differs by 0.3 % or 0.3 pixels anywhere in the scan.

    References
    ----------
    Wilcoxon, F. (1945) Biometrics Bulletin 1, 80, doi:10.2307/3001968.
    """
    rows, is_tested = _choose_positions(patterns.shape[:-2])
    if rows.size < 8:
        return _report(SelfCalibration(False, f"{rows.size} positions are too few to calibrate by"))
    stack = _read(patterns, rows)
    flat = np.asarray(centers, np.float64).reshape(-1, 2)
    index = np.stack(np.unravel_index(rows, patterns.shape[:-2]), axis=1)
    fitted = np.flatnonzero(~is_tested)
    given = np.eye(2) if detector.distortion is None else np.asarray(detector.distortion, float)
    matrix, plane = given, np.zeros((1 + index.shape[1], 2))
    fit, whole = None, _terms(index, patterns.shape[:-2])
    try:
        for _ in range(_N_TURNS):
            here = dataclasses.replace(detector, distortion=matrix)
            moved = (flat[rows] + whole @ plane)[fitted]
            sample, kept = _index_sample(stack[fitted], moved, plan, here)
            fit = fit_sample(sample, fit_center=True, fit_matrix=True)
            shift = np.array(fit.center_shift)
            corrected = correct_scan(sample, fit.distortion, shift)
            last, plane = plane, _fit_drift(corrected, whole[fitted][kept], plane, shift)
            settled = np.abs(fit.distortion - matrix).max() < _SETTLED[0]
            matrix = fit.distortion
            if settled and np.abs(plane - last).max() < _SETTLED[1]:
                break
    except NothingToFit as error:  # too few spots where they should be: no crystal known
        return _report(SelfCalibration(False, f"nothing to fit: {error}"))
    tested = np.flatnonzero(is_tested)
    moved = (flat[rows] + whole @ plane)[tested]
    before, after = _compare(
        stack[tested], plan, (flat[rows][tested], detector),
        (moved, dataclasses.replace(detector, distortion=matrix)),
    )  # fmt: skip
    everywhere = _terms(_all_positions(patterns.shape[:-2]), patterns.shape[:-2]) @ plane
    return _decide(fit, matrix, given, flat + everywhere, everywhere, before, after, centers.shape)


def _decide(
    fit: CalibrationFit,
    matrix: np.ndarray,
    given: np.ndarray,
    centers: np.ndarray,
    shifts: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    shape: tuple[int, ...],
) -> SelfCalibration:
    """Return the calibration, used if it is better at the positions that it was not fitted to."""
    change = np.abs(matrix @ np.linalg.inv(given) - np.eye(2)).max()
    shift = np.linalg.norm(shifts, axis=1).max()
    sure = _rank_gain(after - before)
    figures = (
        f"correlation {before.mean():.3f} -> {after.mean():.3f}, {sure:.1f} standard deviations"
    )
    if not fit.spread <= fit.largest_spread:
        used, reason = (
            False,
            (
                f"spots lie {fit.spread:.3f} 1/angstrom from where they should, of a crystal of "
                f"the bundle it were at most {fit.largest_spread:.3f}: {figures}"
            ),
        )
    elif change > _MOST_CHANGE:
        used, reason = (
            False,
            (
                f"off by {100 * change:.0f} %, which is rather another crystal; state the scale: "
                f"{figures}"
            ),
        )
    elif sure < _SURE:
        used, reason = False, f"not better at positions that were not fitted to: {figures}"
    elif change < _LEAST_CHANGE and shift < _LEAST_SHIFT:
        used, reason = False, f"as it was within its error: {figures}"
    else:
        used, reason = True, f"better at positions that were not fitted to: {figures}"
    return _report(
        SelfCalibration(
            used,
            reason,
            fit,
            matrix if used else None,
            centers.reshape(shape).astype(np.float32),
            float(before.mean()),
            float(after.mean()),
        )
    )


def _rank_gain(gain: np.ndarray) -> float:
    """Return by how many standard deviations the signed ranks of gains speak for a gain."""
    from scipy.stats import rankdata

    gain = gain[gain != 0]
    if len(gain) < 8:
        return 0.0
    ranks = rankdata(np.abs(gain)) * np.sign(gain)
    return float(ranks.sum() / np.sqrt((ranks**2).sum()))


def _report(found: SelfCalibration) -> SelfCalibration:
    _logger.info("calibration %s: %s", "changed" if found.used else "left", found.reason)
    if found.fit is not None:
        _logger.info("%r", found.fit)
    return found


# ------------------------------------------------------------------------- the sample


def _choose_positions(nav_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in stretches over the scan, and which of them test: every other stretch."""
    n = int(np.prod(nav_shape))
    length = max(1, (_N_FITTED + _N_TESTED) // (2 * _N_PLACES))
    n_places = min(2 * _N_PLACES, max(n // length, 1))
    starts = np.linspace(0, n - length, n_places).astype(int) if n > length else np.zeros(1, int)
    rows = (starts[:, None] + np.arange(min(length, n))).ravel()
    is_tested = np.repeat(np.arange(len(starts)) % 2 == 1, min(length, n))
    rows, first = np.unique(rows, return_index=True)
    return rows, is_tested[first]


def _read(patterns: da.Array, rows: np.ndarray) -> np.ndarray:
    """Return the patterns of some positions as one stack in memory."""
    index = np.unravel_index(rows, patterns.shape[:-2])
    stack = to_native(patterns.vindex[index].compute())
    if stack.dtype.kind == "f":
        stack = np.nan_to_num(stack, posinf=0, neginf=0)
    return stack


def _index_sample(
    stack: np.ndarray, centers: np.ndarray, plan: IndexingPlan, detector: Detector
) -> tuple[ScanPatterns, np.ndarray]:
    """Return the patterns that are best explained, with their orientations, and which they are."""
    columns = _index(stack, centers, detector, plan)
    score = np.where(columns["phase_id"] >= 0, np.nan_to_num(columns["correlation"]), 0)
    n_best = max(int(np.ceil(_BEST * len(score))), 1)
    least = max(np.sort(score)[-n_best], 1e-6)
    kept = np.flatnonzero(score >= least)
    if not len(kept):
        raise NothingToFit("no pattern is explained by a crystal of the bundle")
    columns = {name: columns[name][kept] for name in ("phase_id", "rotations")}
    return _make_sample(stack[kept], centers[kept], columns, plan, detector), kept


def _make_sample(
    stack: np.ndarray,
    centers: np.ndarray,
    columns: dict[str, np.ndarray],
    plan: IndexingPlan,
    detector: Detector,
) -> ScanPatterns:
    """Return patterns with their best answers, to be refined."""
    predictor = get_predictor(plan.bundle, plan.precision)
    spec = get_refinement_spec(plan.bundle.spec)
    refinement = RefinementPlan(
        make_sampler(detector, spec), spec, predictor.reflections, tuple(predictor.symmetry),
        plan.acquisition,
    )  # fmt: skip
    return ScanPatterns(
        stack, centers.astype(np.float32), columns["phase_id"].astype(int),
        columns["rotations"][:, :1], detector, refinement,
    )  # fmt: skip


def _index(
    stack: np.ndarray, centers: np.ndarray, detector: Detector, plan: IndexingPlan
) -> dict[str, np.ndarray]:
    """Return the columns of an indexing with another calibration, nothing rejected."""
    plan = dataclasses.replace(
        plan, sampler=make_sampler(detector, *get_specs(plan.bundle)), n_best=1, refine=True,
        regularize=False, n_overlaps=1, min_confidence=0.0,
    ).see(centers)  # fmt: skip
    rows = index_block(stack, np.asarray(centers, np.float32), plan, tilt=False)
    return split_rows(rows, plan)


def _compare(
    stack: np.ndarray, plan: IndexingPlan, *calibrations: tuple[np.ndarray, Detector]
) -> list[np.ndarray]:
    """Return each pattern's correlation with each calibration (centres, detector), (n,) each.

    That of the best of all calibrations' answers; 0 where there is none.
    """
    answers = [_index(stack, *calibration, plan) for calibration in calibrations]
    return [
        np.max(
            [
                refine_sample(_make_sample(stack, centers, columns, plan, detector))[1]
                for columns in answers
            ],
            axis=0,
        )
        for centers, detector in calibrations
    ]


# ------------------------------------------------------------------------- the drift


def _terms(index: np.ndarray, nav_shape: tuple[int, ...]) -> np.ndarray:
    """Return the terms of a plane over the scan, 1 and -1 to 1 along each axis, (n, 1 + axes)."""
    sides = np.maximum(np.array(nav_shape) - 1, 1)
    return np.column_stack([np.ones(len(index)), 2 * index / sides - 1])


def _all_positions(nav_shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.unravel_index(np.arange(int(np.prod(nav_shape))), nav_shape), axis=1)


def _fit_drift(
    sample: ScanPatterns, terms: np.ndarray, plane: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Return the plane, shape (1 + axes, 2), that the patterns' centres lie on, from those given.

    The sample's centres are off the given ones by a plane and a shift already. Slopes below three
    standard errors are left out.
    """
    offsets, _ = measure_offsets(sample)
    offsets = offsets + terms @ plane + shift
    keep = np.isfinite(offsets).all(axis=1)
    as_it_was = plane + np.outer(np.arange(len(plane)) == 0, shift)
    for _ in range(10):
        if keep.sum() < 4 * terms.shape[1]:
            return as_it_was
        found, *_ = np.linalg.lstsq(terms[keep], offsets[keep], rcond=None)
        away = np.linalg.norm(offsets - terms @ found, axis=1)
        spread = 1.4826 * np.median(away[keep])
        now = np.isfinite(away) & (away < max(3 * spread, 0.1))
        if np.array_equal(now, keep):
            break
        keep = now
    rest = (offsets - terms @ found)[keep]
    covariance = np.linalg.pinv(terms[keep].T @ terms[keep])
    error = np.sqrt(np.outer(np.diag(covariance), rest.var(axis=0, ddof=1)))
    found[1:][np.abs(found[1:]) < _SURE * error[1:]] = 0
    return found
