"""The plan of an indexing: what a block needs beside its patterns, and what its rows will hold.

Owns `IndexingPlan` with the layout of result rows, the choice of branches and how a bundle wants
patterns described. `indexing.block` carries it out; `signals`, `live` and `posterior` make it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition
from pyxem_nas.indexing.matching import N_CANDIDATES
from pyxem_nas.indexing.refinement import get_refinement_spec
from pyxem_nas.indexing.runtime import Precision, choose_precision
from pyxem_nas.patterns import DescriptorSpec, PatternSpec, PolarSampler

Branch = str | Callable[..., tuple[np.ndarray, np.ndarray]]


PROPERTIES = (
    "phase_id", "phase_probability", "orientation_probability", "correlation", "reliability",
    "twin_reliability", "phase_reliability", "indexed_by", "n_plausible",
)  # fmt: skip
_N_CANDIDATES = 8  # of each position, that its neighbours choose from
PER_CANDIDATE = 7  # columns: phase, probability, correlation, quaternion
SECOND = ("phase_id_2", "probability_2", "correlation_2")  # and a quaternion


@dataclass(frozen=True)
class IndexingPlan:
    """All that a block needs beside its patterns.

    Parameters
    ----------
    bundle
        Phases, networks, calibration.
    sampler
        Sampling of the detector for `get_specs` of the bundle.
    branches
        Branch of each phase: "hybrid", "network", "match", "template" or a callable.
    acquisition
        Beam energy and precession.
    n_best
        Answers per position.
    refine
        Refine orientations in continuous orientation space.
    template_threshold
        Positions of hybrid branches whose probability is below go to pyxem's matcher, too.
    min_confidence
        Positions whose confidence is below are not indexed; None: the bundle's.
    regularize
        Return the candidates of each position too, for `regularization`.
    n_overlaps
        2: look for a second crystal in what the first leaves over.
    precision
        Of the networks' arithmetic.
    visible
        Share of each ring of the descriptor that the detector shows; None: all of all rings.
    n_matches
        Peaks of exhaustive matching that are refined and judged.
    """

    bundle: ModelBundle
    sampler: PolarSampler = field(repr=False)
    branches: tuple[Branch, ...]
    acquisition: Acquisition
    n_best: int = 1
    refine: bool = True
    template_threshold: float = 0.0
    min_confidence: float | None = None
    regularize: bool = False
    n_overlaps: int = 1
    precision: Precision = "auto"
    visible: tuple[float, ...] | None = None
    n_matches: int = N_CANDIDATES

    def see(self, centers: np.ndarray) -> IndexingPlan:
        """Return the plan for patterns whose direct beams are at `centers`, shape (..., 2).

        What the detector does not show is then no evidence against an orientation.
        """
        center = np.reshape(centers, (-1, 2)).mean(axis=0)
        return replace(self, visible=measure_visible(self.sampler, center))

    @property
    def reach(self) -> float:
        """Radius in 1/angstrom of the last ring of which the detector shows half."""
        radii = self.bundle.spec.radii
        shown = np.ones(len(radii)) if self.visible is None else np.array(self.visible)
        return float(radii[shown >= 0.5].max(initial=radii[0]))

    @property
    def n_candidates(self) -> int:
        """Number of candidates that rows hold beside their answers."""
        return _N_CANDIDATES if self.regularize else 0

    @property
    def n_columns(self) -> int:
        """Number of columns of a block of result rows."""
        n_second = len(SECOND) + 4 if self.n_overlaps > 1 else 0
        n_first = len(PROPERTIES) + 4 * self.n_best
        return n_first + PER_CANDIDATE * self.n_candidates + n_second

    @property
    def needs_polar(self) -> bool:
        """Whether anything looks at the finer polar pattern; if not, it is not computed."""
        decided = "phase" in self.bundle.models or len(self.bundle.phases) == 1
        coarse = all(branch in ("network", "match", "hybrid") for branch in self.branches)
        coarse &= not self.template_threshold
        return self.refine or self.n_overlaps > 1 or not (decided and coarse)


def make_plan(
    bundle: ModelBundle,
    sampler: PolarSampler,
    *,
    method: str | Mapping[str, Branch] = "hybrid",
    acquisition: Acquisition | None = None,
    n_best: int = 1,
    refine: bool = True,
    template_threshold: float | None = None,
    min_confidence: float | None = None,
    regularize: bool = False,
    n_overlaps: int = 1,
    precision: Precision = "auto",
) -> IndexingPlan:
    """Return the plan of an indexing; the one place that knows what is left out.

    Parameters
    ----------
    bundle
        Phases, networks, calibration.
    sampler
        Sampling of the detector for `get_specs` of the bundle.
    method
        As in `resolve_branches`.
    acquisition
        None: the bundle's.
    n_best, refine, min_confidence, regularize, n_overlaps, precision
        As in `IndexingPlan`.
    template_threshold
        None: pyxem's matcher is not asked. Of 99 in 100 patterns the truth is among the candidates
        of exhaustive matching already, so that it has little to add (``benchmarks/RESULTS.md``).

    Raises
    ------
    ValueError
        If a number or a name is none that can be.
    TypeError
        If `method` is neither a name nor a mapping.
    """
    if n_best < 1:
        raise ValueError(f"n_best must be at least 1, got {n_best!r}")
    if n_overlaps not in (1, 2):
        raise ValueError(f"n_overlaps must be 1 or 2 crystals in a pattern, got {n_overlaps!r}")
    return IndexingPlan(
        bundle=bundle,
        sampler=sampler,
        branches=resolve_branches(bundle, method),
        acquisition=bundle.acquisition if acquisition is None else acquisition,
        n_best=n_best,
        refine=refine,
        template_threshold=0.0 if template_threshold is None else template_threshold,
        min_confidence=min_confidence,
        regularize=regularize,
        n_overlaps=n_overlaps,
        precision=choose_precision(precision),
    )


def measure_visible(sampler: PolarSampler, center: np.ndarray) -> tuple[float, ...]:
    """Return the share of each ring of the first spec that the detector shows, to an eighth."""
    ny, nx = sampler.normalisation.shape
    columns, rows = (center[i] + sampler.offsets[0][i] for i in range(2))
    inside = (columns >= 0) & (rows >= 0) & (columns <= nx - 1) & (rows <= ny - 1)
    at = np.clip(rows + 0.5, 0, ny - 1).astype(int), np.clip(columns + 0.5, 0, nx - 1).astype(int)
    seen = inside & (sampler.normalisation[at] > 0)
    return tuple(float(v) for v in np.round(8 * seen.mean(axis=1)) / 8)


def get_specs(bundle: ModelBundle) -> tuple[DescriptorSpec | PatternSpec, ...]:
    """Return how a bundle wants patterns described: for networks, for refinement, for the phase."""
    specs = (bundle.spec, get_refinement_spec(bundle.spec))
    return specs if bundle.pattern_spec is None else (*specs, bundle.pattern_spec)


def resolve_branches(bundle: ModelBundle, method: str | Mapping[str, Branch]) -> tuple[Branch, ...]:
    """Return the branch of each phase of a bundle.

    Parameters
    ----------
    bundle
        The bundle.
    method
        One branch for all phases, or a mapping from phase names; phases that it leaves out are
        "hybrid". A hybrid branch without an orientation network is one of exhaustive matching.

    Raises
    ------
    ValueError
        If a branch or a phase is unknown, or "network" is asked for a phase without one.
    TypeError
        If `method` is neither a name nor a mapping.
    """
    known = ("hybrid", "network", "match", "template")
    if not isinstance(method, str | Mapping):
        raise TypeError(
            f"method must be a name or a mapping from phase names, got {type(method).__name__}"
        )
    if isinstance(method, Mapping):
        unknown = sorted(set(method) - set(bundle.phase_names))
        if unknown:
            raise ValueError(
                f"method names no phase of the bundle: {unknown!r}; it has {bundle.phase_names!r}"
            )
        chosen = [method.get(name, "hybrid") for name in bundle.phase_names]
    else:
        chosen = [method] * len(bundle.phase_names)
    for k, branch in enumerate(chosen):
        if callable(branch):
            continue
        if branch not in known:
            raise ValueError(f"method must be one of {known!r} or a callable, got {branch!r}")
        if bundle.has_orientation_network(k):
            continue
        if branch == "network":
            raise ValueError(
                f"phase {bundle.phase_names[k]!r} has no orientation network; use "
                'method="match" or train one with search_models'
            )
        chosen[k] = "match" if branch == "hybrid" else branch
    return tuple(chosen)
