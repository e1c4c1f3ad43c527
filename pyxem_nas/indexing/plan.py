"""The plan of an indexing: what a block needs beside its patterns, and what its rows will hold.

Owns `IndexingPlan` with the layout of result rows, the choice of branches and how a bundle wants
patterns described. `indexing.block` carries it out; `signals`, `live` and `posterior` make it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition
from pyxem_nas.indexing.refinement import get_refinement_spec
from pyxem_nas.indexing.runtime import Precision
from pyxem_nas.patterns import DescriptorSpec, PatternSpec, PolarSampler

Branch = str | Callable[..., tuple[np.ndarray, np.ndarray]]


PROPERTIES = (
    "phase_id", "phase_probability", "orientation_probability", "correlation", "reliability",
    "twin_reliability", "phase_reliability", "indexed_by",
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
        Branch of each phase: "hybrid", "network", "template" or a callable.
    acquisition
        Beam energy and precession.
    n_best
        Answers per position.
    refine
        Refine orientations in continuous orientation space.
    template_threshold, min_confidence
        Decisions; None: the bundle's.
    regularize
        Return the candidates of each position too, for `regularization`.
    n_overlaps
        2: look for a second crystal in what the first leaves over.
    precision
        Of the networks' arithmetic.
    """

    bundle: ModelBundle
    sampler: PolarSampler = field(repr=False)
    branches: tuple[Branch, ...]
    acquisition: Acquisition
    n_best: int = 1
    refine: bool = True
    template_threshold: float | None = None
    min_confidence: float | None = None
    regularize: bool = False
    n_overlaps: int = 1
    precision: Precision = "auto"

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
        by_networks = all(branch == "network" for branch in self.branches)
        return self.refine or self.n_overlaps > 1 or not (decided and by_networks)


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
        "hybrid". A phase without an orientation network is matched to templates.

    Raises
    ------
    ValueError
        If a branch or a phase is unknown, or "network" is asked for a phase without one.
    TypeError
        If `method` is neither a name nor a mapping.
    """
    known = ("hybrid", "network", "template")
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
        if branch != "template" and not bundle.has_orientation_network(k):
            if branch == "network":
                raise ValueError(
                    f"phase {bundle.phase_names[k]!r} has no orientation network; use "
                    'method="template" or train one with search_models'
                )
            chosen[k] = "template"
    return tuple(chosen)
