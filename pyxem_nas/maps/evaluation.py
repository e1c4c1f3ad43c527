"""How right a crystal map is, and how sure one can be of that.

Owns the comparison of a map with a reference: phases, disorientations, the 180-degree ambiguity.
Intervals and calibration of probabilities belong to `statistics`; nothing here draws.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np
from orix.crystal_map import CrystalMap, Phase

from pyxem_nas.diffraction import (
    disorientation_angles,
    get_lattice_parameters,
    laue_operations,
    name_laue_group,
    turned_about_beam,
)
from pyxem_nas.maps.crystal_map import NOT_INDEXED, best_rotations

__all__ = ["Evaluation", "PhaseEvaluation", "evaluate"]

_NO_PHASE = "not_indexed"


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
        a phase of both has different Laue groups, or axes, or no group.

    Warns
    -----
    UserWarning
        If a phase of the reference is unknown to the map: its positions count as wrong.

    Notes
    -----
    Phases are matched by name. Orientations are compared where the phase is right, up to the
    proper rotations of the phase's Laue group in its own axes: patterns, by Friedel's law, tell no
    more than that, whatever the point group. To judge a map with rejection off, index it with
    ``min_confidence=0``: a rejected position keeps no answer to look at.

    Examples
    --------
    >>> import numpy as np
    >>> from orix.crystal_map import PhaseList
    >>> from pyxem_nas import make_crystal_map
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
    operations = _checked_phases(xmap, reference, set(true))
    reference_phases = list(operations)
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
            found = angles(q_answered[right], q_true[right], operations[name])
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


def _angles_twin_forgiven(a: np.ndarray, b: np.ndarray, operations: np.ndarray) -> np.ndarray:
    """Return the smaller disorientation of a and of a turned about the beam from b, degrees."""
    return np.minimum(
        disorientation_angles(a, b, operations),
        disorientation_angles(turned_about_beam(a), b, operations),
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


def _checked_phases(
    xmap: CrystalMap, reference: CrystalMap, present: set[str]
) -> dict[str, np.ndarray]:
    """Return the Laue operations of the reference phases that occur, if they can be compared."""
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
    return {
        name: _common_operations(
            [a_map.phases[name] for a_map in (reference, xmap)[: 1 if name in missing else 2]]
        )
        for name in wanted
    }


def _common_operations(phases: list[Phase]) -> np.ndarray:
    """Return the Laue operations that a phase has in the reference and in xmap."""
    found = [laue_operations(phase) for phase in phases]
    groups = [name_laue_group(operations) for operations in found]
    if len(set(groups)) > 1:
        raise ValueError(
            f"phase {phases[0].name!r} has the Laue groups {groups!r} in the reference and in "
            "xmap; both need the same crystal"
        )
    _check_same_cell(phases)
    # a map from a file has no atoms: of two settings of one group it cannot know the right one
    knowing = [k for k, phase in enumerate(phases) if len(phase.structure)] or [0]
    if len(knowing) == 2:
        same = np.abs(found[0] @ found[1].T).max(axis=1) > 1 - 1e-4
        if not same.all():
            raise ValueError(
                f"phase {phases[0].name!r} has its symmetry axes elsewhere in the reference than "
                "in xmap; both need the same cell and setting"
            )
    return found[knowing[0]]


def _check_same_cell(phases: list[Phase]) -> None:
    """Raise ValueError where the orientations of a phase belong to different cells."""
    cells = np.array([get_lattice_parameters(phase) for phase in phases])
    if len(cells) < 2 or np.any(np.all(np.abs(cells[:, :3] - 1) < 1e-6, axis=1)):
        return  # of a phase that was made without a lattice nothing is known
    lengths, angles = np.abs(cells[0, :3] / cells[1, :3] - 1), np.abs(cells[0, 3:] - cells[1, 3:])
    if lengths.max() > 0.03 or angles.max() > 2:
        raise ValueError(
            f"phase {phases[0].name!r} has the cells {cells.round(3).tolist()!r} (angstrom, "
            "degrees) in the reference and in xmap, whose frames differ; bring both to one cell"
        )


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
