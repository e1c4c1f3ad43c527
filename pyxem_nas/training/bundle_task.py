"""What a bundle is made for and how, as one value: `BundleTask`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyxem_nas.bundles import Architecture, phase_to_dict
from pyxem_nas.diffraction import Acquisition, check_phase
from pyxem_nas.patterns import DescriptorSpec, PatternSpec
from pyxem_nas.scans import Randomization
from pyxem_nas.training.network_training import TrainingSettings
from pyxem_nas.training.search import SearchSettings

if TYPE_CHECKING:
    from orix.crystal_map import Phase


@dataclass(frozen=True)
class BundleTask:
    """All that decides which bundle comes out, see `search_models` for each.

    Raises
    ------
    ValueError
        If a name is none of the phases', a phase is no checked crystal, or the phase network's
        input is unknown.
    """

    phases: tuple[Phase, ...]
    acquisition: Acquisition
    spec: DescriptorSpec
    randomization: Randomization
    n_samples: int | Mapping[str, int]
    searches: SearchSettings
    seed: int
    n_dynamical: int
    phase_input: Literal["descriptor", "pattern"]
    rotate: bool
    architecture: Architecture | None
    phase_architecture: Architecture | None
    search_phase: str | None
    shared_architecture: bool
    shared_trunk: bool

    def __post_init__(self) -> None:
        names = [phase.name for phase in self.phases]
        if isinstance(self.n_samples, Mapping) and set(self.n_samples) != set(names):
            raise ValueError(
                f"n_samples must name the phases {names!r}, got {sorted(self.n_samples)!r}"
            )
        if self.search_phase is not None and self.search_phase not in names:
            raise ValueError(f"search_phase must be one of {names!r}, got {self.search_phase!r}")
        if self.phase_input not in ("descriptor", "pattern"):
            raise ValueError(
                f'phase_input must be "descriptor" or "pattern", got {self.phase_input!r}'
            )
        for phase in self.phases:
            check_phase(phase)

    @property
    def order(self) -> list[int]:
        """Phases in the order in which they are searched and trained."""
        order = list(range(len(self.phases)))
        if self.search_phase is not None:
            order.sort(key=lambda k: self.phases[k].name != self.search_phase)
        return order

    @property
    def pattern_spec(self) -> PatternSpec | None:
        """The phase network's images; None: it sees descriptors."""
        return PatternSpec(blur=self.spec.blur) if self.phase_input == "pattern" else None

    def get_training(self, k: int) -> TrainingSettings:
        """Return how the orientation network of a phase is trained."""
        n = self.n_samples
        n = n if isinstance(n, int) else n[self.phases[k].name]
        return TrainingSettings(n_samples=n, samples_per_epoch=min(25_600, n), seed=self.seed)

    def get_shared_training(self) -> TrainingSettings:
        """Return how trunk and heads are trained: a pattern more in `n` of none of the phases."""
        every = [self.get_training(k).n_samples for k in range(len(self.phases))]
        n = sum(every) + max(every)
        return TrainingSettings(n_samples=n, samples_per_epoch=min(25_600, n), seed=self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they are kept in directory and provenance, JSON-ready."""
        phase_architecture = self.phase_architecture
        return {
            # atoms and group too: a corrected CIF file is another crystal
            "phases": [phase_to_dict(phase) | {"color": None} for phase in self.phases],
            "acquisition": self.acquisition.to_dict(),
            "max_trials": self.searches.max_trials,
            "epochs": self.searches.epochs,
            "n_samples": self.n_samples,
            "seed": self.seed,
            "tuner": self.searches.tuner,
            "objective": self.searches.objective,
            "min_patterns_per_second": self.searches.min_patterns_per_second,
            "search_phase": self.search_phase,
            "phase_input": self.phase_input,
            "rotate": self.rotate,
            "architecture": None if self.architecture is None else self.architecture.to_dict(),
            "phase_architecture": phase_architecture and phase_architecture.to_dict(),
            "shared_architecture": self.shared_architecture,
            "shared_trunk": self.shared_trunk,
            "spec": self.spec.to_dict(),
            "randomization": self.randomization.to_dict(),
            "n_dynamical": self.n_dynamical,
        }
