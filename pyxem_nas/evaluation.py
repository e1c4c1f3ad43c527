"""How right a crystal map is, and how sure one can be of that.

Owns the comparison of a map with a reference: phases, disorientations, the 180-degree ambiguity,
calibration of probabilities, intervals. Everything but :func:`evaluate` works on plain arrays.
Maps come from :mod:`pyxem_nas.crystal_map`; nothing here draws.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from orix.crystal_map import CrystalMap
from orix.quaternion import Symmetry

from pyxem_nas.crystal_map import NOT_INDEXED, best_rotations

__all__ = [
    "CalibrationCurve",
    "Evaluation",
    "PhaseEvaluation",
    "calibration_curve",
    "disorientation_angles",
    "evaluate",
    "expected_calibration_error",
    "paired_interval",
    "turned_about_beam",
    "wilson_interval",
]

_NO_PHASE = "not_indexed"


# ------------------------------------------------------------------------- orientations


def disorientation_angles(
    quaternions_a: np.ndarray, quaternions_b: np.ndarray, point_group: Symmetry
) -> np.ndarray:
    """Return the smallest rotation angle between orientations of one phase, pair by pair.

    Parameters
    ----------
    quaternions_a, quaternions_b
        Unit quaternions lab2crystal, scalar first, shapes (n, 4).
    point_group
        Point group of the phase; its proper operations act on the crystal, from the left.

    Returns
    -------
    angles
        Disorientation angles in degrees, shape (n,).

    Examples
    --------
    >>> import numpy as np
    >>> from orix.quaternion.symmetry import Oh, D2h
    >>> a, b = np.array([[1.0, 0, 0, 0]]), np.array([[0.0, 0, 0, 1]])  # 180 degrees about z
    >>> disorientation_angles(a, b, Oh).tolist(), disorientation_angles(a, b, D2h).tolist()
    ([0.0], [0.0])
    """
    a = np.asarray(quaternions_a, dtype=float).reshape(-1, 4)
    b = np.asarray(quaternions_b, dtype=float).reshape(-1, 4)
    misorientation = _product(a, b * np.array([1.0, -1.0, -1.0, -1.0]))
    cosine = np.zeros(len(misorientation))
    # cos(angle / 2) is the scalar part of operation * a * conjugate(b); one pass per operation
    # keeps the memory at n numbers
    for operation in point_group.proper_subgroup.data * np.array([1.0, -1.0, -1.0, -1.0]):
        np.maximum(cosine, np.abs(misorientation @ operation), out=cosine)
    return np.rad2deg(2 * np.arccos(np.minimum(cosine, 1.0)))


def turned_about_beam(quaternions: np.ndarray) -> np.ndarray:
    """Return the orientations whose zero-order-Laue-zone pattern is turned by 180 degrees.

    Parameters
    ----------
    quaternions
        Unit quaternions lab2crystal, scalar first, shape (n, 4).

    Returns
    -------
    turned
        Quaternions of R * Rz(180 degrees), where the turn about the beam acts first, on vectors
        of the laboratory; shape (n, 4).

    Examples
    --------
    >>> import numpy as np
    >>> turned_about_beam(np.array([[1.0, 0, 0, 0]])).tolist()
    [[0.0, 0.0, 0.0, 1.0]]
    """
    q = np.asarray(quaternions, dtype=float).reshape(-1, 4)
    return _product(q, np.array([[0.0, 0.0, 0.0, 1.0]]))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Hamilton products of quaternions, shapes (n, 4) and (n or 1, 4)."""
    a0, a1, a2, a3 = a.T
    b0, b1, b2, b3 = b.T
    return np.stack(
        [
            a0 * b0 - a1 * b1 - a2 * b2 - a3 * b3,
            a0 * b1 + a1 * b0 + a2 * b3 - a3 * b2,
            a0 * b2 - a1 * b3 + a2 * b0 + a3 * b1,
            a0 * b3 + a1 * b2 - a2 * b1 + a3 * b0,
        ],
        axis=-1,
    )


# ------------------------------------------------------------------------- proportions


def wilson_interval(n_right: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion.

    Parameters
    ----------
    n_right, n
        Number of successes and of trials.
    confidence
        Coverage, between 0 and 1.

    Returns
    -------
    low, high
        Bounds; (0, 1) without trials.

    Raises
    ------
    ValueError
        If not 0 <= n_right <= n.

    References
    ----------
    Wilson, J. Am. Stat. Assoc. 22 (1927) 209, doi:10.1080/01621459.1927.10502953.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson_interval(81, 263)]
    [0.255, 0.366]
    """
    if not 0 <= n_right <= n:
        raise ValueError(f"n_right must lie between 0 and n, got {n_right!r} of {n!r}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = n_right / n
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # exact at the ends, where rounding would leave 1e-17
    low = 0.0 if n_right == 0 else float((centre - half) / scale)
    high = 1.0 if n_right == n else float((centre + half) / scale)
    return low, high


def paired_interval(
    correct_a: np.ndarray, correct_b: np.ndarray, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the difference of two proportions on the same patterns, and its interval.

    Parameters
    ----------
    correct_a, correct_b
        Whether each method was right, pattern by pattern, boolean, shapes (n,).
    confidence
        Coverage, between 0 and 1.

    Returns
    -------
    difference, low, high
        Share of ``correct_a`` minus share of ``correct_b`` and the bounds of its interval.

    Raises
    ------
    ValueError
        If the arrays are empty or differ in length.

    Notes
    -----
    Newcombe's square-and-add interval from Wilson bounds (his method 10, with the continuity
    correction of the correlation). It takes patterns as independent: positions of one grain are
    not, so give one row per grain, or read the interval as too narrow.

    References
    ----------
    Newcombe, Stat. Med. 17 (1998) 2635,
    doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.repeat([True, True, False], [36, 12, 2])  # an example of the paper
    >>> b = np.repeat([True, False, True], [36, 12, 2])
    >>> [round(value, 4) for value in paired_interval(a, b)]
    [0.2, 0.0569, 0.3404]
    """
    a, b = np.asarray(correct_a, dtype=bool).ravel(), np.asarray(correct_b, dtype=bool).ravel()
    if a.size != b.size or a.size == 0:
        raise ValueError(
            f"correct_a and correct_b must judge the same patterns, got {a.size} and {b.size}"
        )
    n, n_a, n_b = a.size, int(a.sum()), int(b.sum())
    share_a, share_b = n_a / n, n_b / n
    low_a, high_a = wilson_interval(n_a, n, confidence=confidence)
    low_b, high_b = wilson_interval(n_b, n, confidence=confidence)
    both = int(np.count_nonzero(a & b))
    covariance = both * (n - n_a - n_b + both) - (n_a - both) * (n_b - both)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0)
    norm = np.sqrt(float(n_a) * (n - n_a) * n_b * (n - n_b))
    phi = covariance / norm if norm else 0.0

    def width(first: float, second: float) -> float:
        return float(np.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0.0)))

    difference = share_a - share_b
    low = difference - width(share_a - low_a, high_b - share_b)
    high = difference + width(high_a - share_a, share_b - low_b)
    return difference, low, high


class CalibrationCurve(NamedTuple):
    """Stated probability against observed share, bin by bin; arrays of shape (n_bins,)."""

    probability: np.ndarray
    """Mean stated probability, NaN in empty bins."""
    accuracy: np.ndarray
    """Share that was right, NaN in empty bins."""
    count: np.ndarray
    """Number of answers."""


def calibration_curve(
    probability: np.ndarray, correct: np.ndarray, n_bins: int = 15
) -> CalibrationCurve:
    """Return the observed share of right answers for bins of stated probability.

    Parameters
    ----------
    probability
        Stated probabilities of being right, shape (n,). NaN (not calibrated) is left out.
    correct
        Whether the answer was right, boolean, shape (n,).
    n_bins
        Number of bins of equal width over [0, 1], closed on the right.

    Returns
    -------
    curve
        Mean probability, accuracy and number of each bin.

    Raises
    ------
    ValueError
        If the shapes differ, or a probability lies outside [0, 1].

    References
    ----------
    Guo et al., ICML 2017, arXiv:1706.04599, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> calibration_curve(np.array([0.2, 0.9, 0.9]), np.array([False, True, False]), 2).accuracy
    array([0. , 0.5])
    """
    p, right = np.asarray(probability, dtype=float).ravel(), np.asarray(correct, bool).ravel()
    if p.size != right.size:
        raise ValueError(f"probability has {p.size} rows, correct has {right.size}")
    p, right = p[~np.isnan(p)], right[~np.isnan(p)]
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"probability must lie in [0, 1], found {p.min()!r} to {p.max()!r}")
    bins = np.clip(np.ceil(p * n_bins).astype(int) - 1, 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 of an empty bin is the NaN wanted
        mean = np.bincount(bins, weights=p, minlength=n_bins) / count
        accuracy = np.bincount(bins, weights=right, minlength=n_bins) / count
    return CalibrationCurve(mean, accuracy, count)


def expected_calibration_error(
    probability: np.ndarray, correct: np.ndarray, n_bins: int = 15
) -> float:
    """Return the mean distance of stated probability from observed share, weighted by number.

    Parameters
    ----------
    probability, correct, n_bins
        As for :func:`calibration_curve`.

    Returns
    -------
    error
        Between 0 and 1; NaN without a probability.

    References
    ----------
    Guo et al., ICML 2017, arXiv:1706.04599, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> expected_calibration_error(np.array([0.75, 0.75]), np.array([True, False]))
    0.25
    """
    curve = calibration_curve(probability, correct, n_bins)
    filled = curve.count > 0
    if not filled.any():
        return float("nan")
    distance = np.abs(curve.accuracy - curve.probability)[filled]
    return float(np.average(distance, weights=curve.count[filled]))


# ------------------------------------------------------------------------- maps


@dataclass(frozen=True)
class PhaseEvaluation:
    """Orientations of one reference phase; shares lie in [0, 1], NaN without a position."""

    n_reference: int
    """Positions of this phase in the reference."""
    n_right_phase: int
    """Those of them where the map has this phase too: the positions compared below."""
    median: float
    """Median disorientation, degrees."""
    within_2: float
    """Share of the compared positions within 2 degrees."""
    within_5: float
    """Share of the compared positions within 5 degrees."""
    within_5_of_all: float
    """Share of all reference positions; a wrong phase and a rejected position are misses."""
    median_of_within_5: float
    """Median disorientation of the compared positions within 5 degrees, degrees."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A map compared with its reference; made by :func:`evaluate`."""

    reference_phases: tuple[str, ...]
    """Rows of ``confusion``: phases of the reference, ``not_indexed`` last if it occurs."""
    answered_phases: tuple[str, ...]
    """Columns of ``confusion``: phases of the map, ``not_indexed`` last."""
    confusion: np.ndarray
    """Number of positions, shape (reference phases, answered phases), int."""
    phase_accuracy: float
    """Share with the right phase; a rejected (not indexed) position counts as wrong."""
    phase_accuracy_indexed: float
    """The same with rejected positions left out."""
    n_positions: int
    """Positions with a phase in the reference; the others have no part in the accuracies."""
    n_rejected: int
    """Those of them that the map has as not indexed."""
    orientation: dict[str, PhaseEvaluation]
    """Per reference phase, the 180-degree twin counted as an error."""
    orientation_twin_forgiven: dict[str, PhaseEvaluation]
    """The same with the better of the answer and its 180-degree twin."""

    def __repr__(self) -> str:
        lines = [self._summary()]
        for title, head, rows in self._tables():
            table = [head, *rows]
            widths = [max(len(row[i]) for row in table) for i in range(len(head))]
            lines += ["", title]
            for row in table:
                cells = [row[0].ljust(widths[0])]
                cells += [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
                lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self._summary())}</p>"]
        for title, head, rows in self._tables():
            head_cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
            body = "".join(
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in rows
            )
            parts.append(
                f"<table><caption>{escape(title)}</caption>"
                f"<thead><tr>{head_cells}</tr></thead><tbody>{body}</tbody></table>"
            )
        return "".join(parts)

    def _summary(self) -> str:
        text = f"Phase right in {_percent(self.phase_accuracy)} of {self.n_positions} positions"
        if self.n_rejected:
            text += (
                f" ({self.n_rejected} rejected, counted as wrong; "
                f"{_percent(self.phase_accuracy_indexed)} of the others)"
            )
        return text

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return title, head and rows of each table as text."""
        confusion_rows = [
            [name, *(str(int(n)) for n in numbers)]
            for name, numbers in zip(self.reference_phases, self.confusion, strict=True)
        ]
        tables = [
            ("Phases: reference \\ map", ["reference", *self.answered_phases], confusion_rows)
        ]
        head = ["phase", "positions", "right phase", "median / deg", "within 2 deg"]
        head += ["within 5 deg", "median of those / deg", "within 5 deg of all"]
        for title, scores in (
            ("Orientations", self.orientation),
            ("Orientations, 180-degree twin forgiven", self.orientation_twin_forgiven),
        ):
            tables.append((title, head, [_score_row(name, s) for name, s in scores.items()]))
        return tables


def evaluate(xmap: CrystalMap, reference: CrystalMap) -> Evaluation:
    """Compare a crystal map with a reference, position by position.

    Parameters
    ----------
    xmap
        Map to judge. The best solution of each position counts.
    reference
        True map of the same positions. Positions that are not in the data of both maps are left
        out; those not indexed in the reference appear in the confusion matrix only.

    Returns
    -------
    evaluation
        Phase accuracy, confusion matrix and, per phase, disorientations with and without the
        180-degree twin (:func:`turned_about_beam`). It prints as tables.

    Raises
    ------
    ValueError
        If the maps differ in size or shape, share no phase name, have two phases of one name, or
        a phase of both has different point groups or none.

    Warns
    -----
    UserWarning
        If a phase of the reference is unknown to the map: its positions count as wrong.

    Notes
    -----
    Phases are matched by name. Orientations are compared where the phase is right, up to the
    proper point group of the reference phase. To judge a map with rejection off, index it with
    ``min_confidence=0``: a rejected position keeps no answer to look at.

    Examples
    --------
    >>> import numpy as np
    >>> from orix.crystal_map import PhaseList
    >>> from pyxem_nas.crystal_map import make_crystal_map
    >>> phases = PhaseList(names=["ferrite"], point_groups=["m-3m"])
    >>> rows = {"phase_id": np.array([0, 0]), "rotations": np.tile([1.0, 0, 0, 0], (2, 1, 1))}
    >>> truth = make_crystal_map(rows, phases, shape=(2,), step=(1,))
    >>> evaluate(truth, truth).phase_accuracy
    1.0
    """
    _check_same_grid(xmap, reference)
    both = np.intersect1d(xmap.id, reference.id)
    answered, q_answered = _rows(xmap, both)
    true, q_true = _rows(reference, both)
    reference_phases = _checked_phases(xmap, reference, set(true))
    columns = [p.name for i, p in xmap.phases if i != NOT_INDEXED]
    columns += [name for name in reference_phases if name not in columns] + [_NO_PHASE]
    rows = [*reference_phases, *([_NO_PHASE] if _NO_PHASE in true else [])]
    confusion = np.array(
        [[np.count_nonzero((true == r) & (answered == c)) for c in columns] for r in rows],
        dtype=int,
    ).reshape(len(rows), len(columns))
    known = true != _NO_PHASE
    n_positions, n_right = int(known.sum()), int((known & (true == answered)).sum())
    n_rejected = int((known & (answered == _NO_PHASE)).sum())

    def scores(angles: Callable[..., np.ndarray]) -> dict[str, PhaseEvaluation]:
        result = {}
        for name in reference_phases:
            right = (true == name) & (answered == name)
            group = reference.phases[name].point_group
            found = angles(q_answered[right], q_true[right], group)
            result[name] = _phase_evaluation(found, int((true == name).sum()))
        return result

    return Evaluation(
        reference_phases=tuple(rows),
        answered_phases=tuple(columns),
        confusion=confusion,
        phase_accuracy=_share(n_right, n_positions),
        phase_accuracy_indexed=_share(n_right, n_positions - n_rejected),
        n_positions=n_positions,
        n_rejected=n_rejected,
        orientation=scores(disorientation_angles),
        orientation_twin_forgiven=scores(_angles_twin_forgiven),
    )


def _angles_twin_forgiven(a: np.ndarray, b: np.ndarray, point_group: Symmetry) -> np.ndarray:
    """Return the smaller disorientation of a and of a turned about the beam from b, degrees."""
    return np.minimum(
        disorientation_angles(a, b, point_group),
        disorientation_angles(turned_about_beam(a), b, point_group),
    )


def _check_same_grid(xmap: CrystalMap, reference: CrystalMap) -> None:
    """Raise ValueError if the maps cannot hold the same positions."""
    sizes = xmap.is_in_data.size, reference.is_in_data.size
    complete = xmap.is_in_data.all() and reference.is_in_data.all()
    if sizes[0] != sizes[1] or (complete and xmap.shape != reference.shape):
        raise ValueError(
            f"xmap has {sizes[0]} positions (shape {xmap.shape!r}), the reference {sizes[1]} "
            f"(shape {reference.shape!r}); both must be maps of one scan"
        )


def _rows(xmap: CrystalMap, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return phase names, shape (n,), and best quaternions, shape (n, 4), at positions."""
    rows = np.searchsorted(xmap.id, positions)
    names = {int(i): phase.name for i, phase in xmap.phases} | {NOT_INDEXED: _NO_PHASE}
    ids, inverse = np.unique(xmap.phase_id[rows], return_inverse=True)
    phase_names = np.array([names[int(i)] for i in ids], dtype=object)[inverse]
    return phase_names, best_rotations(xmap).data[rows]


def _checked_phases(xmap: CrystalMap, reference: CrystalMap, present: set[str]) -> list[str]:
    """Return the names of the reference phases that occur, in order, if they can be compared."""
    names = {}
    for which, a_map in (("xmap", xmap), ("the reference", reference)):
        names[which] = [phase.name for i, phase in a_map.phases if i != NOT_INDEXED]
        if len(set(names[which])) < len(names[which]):
            raise ValueError(f"two phases of {which} have one name: {names[which]!r}; rename one")
    wanted = [name for name in names["the reference"] if name in present]
    missing = [name for name in wanted if name not in names["xmap"]]
    if wanted and len(missing) == len(wanted) and names["xmap"]:
        raise ValueError(
            f"no phase of the reference, {wanted!r}, is a phase of xmap, {names['xmap']!r}; "
            "phases are matched by name: rename them"
        )
    if missing:
        warnings.warn(
            f"xmap does not know the reference phases {missing!r}, only {names['xmap']!r}; "
            "their positions count as wrong",
            stacklevel=3,
        )
    for name in wanted:
        groups = [m.phases[name].point_group for m in (reference, xmap) if name not in missing]
        if any(g is None for g in groups) or len({g.laue.name for g in groups}) > 1:
            raise ValueError(
                f"phase {name!r} has the point groups {[g and g.name for g in groups]!r} in the "
                "reference and in xmap; both need the same Laue group"
            )
    return wanted


def _phase_evaluation(angles: np.ndarray, n_reference: int) -> PhaseEvaluation:
    """Return the statistics of disorientation angles in degrees, shape (n,)."""
    good = angles[angles <= 5]
    return PhaseEvaluation(
        n_reference=n_reference,
        n_right_phase=angles.size,
        median=float(np.median(angles)) if angles.size else float("nan"),
        within_2=_share(np.count_nonzero(angles <= 2), angles.size),
        within_5=_share(good.size, angles.size),
        within_5_of_all=_share(good.size, n_reference),
        median_of_within_5=float(np.median(good)) if good.size else float("nan"),
    )


def _share(part: int, whole: int) -> float:
    """Return part / whole, NaN for 0 / 0."""
    return part / whole if whole else float("nan")


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"


def _score_row(name: str, score: PhaseEvaluation) -> list[str]:
    """Return one row of the orientation table as text."""

    def degrees(value: float) -> str:
        return "-" if np.isnan(value) else f"{value:.2f}"

    return [
        name,
        str(score.n_reference),
        str(score.n_right_phase),
        degrees(score.median),
        _percent(score.within_2),
        _percent(score.within_5),
        degrees(score.median_of_within_5),
        _percent(score.within_5_of_all),
    ]
