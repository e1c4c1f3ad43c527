"""Model bundles: all that indexing needs, in one file.

Owns `ModelBundle` and its file, a zip of JSON (`header`) and Keras models with hashes
(`network_files`, which see that nothing that is loaded can execute). Knows what is in a bundle, not
how it was made (`training`) nor how it is used (`indexing.block`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyxem_nas.bundles.header import make_header, read_header
from pyxem_nas.bundles.judges import Judge, PhaseJudge, Thresholds
from pyxem_nas.bundles.network_files import BundleError, read_archive
from pyxem_nas.bundles.shared_trunk import TRUNK, join_files
from pyxem_nas.diffraction import Acquisition, OrientationCells, check_phase
from pyxem_nas.file_writing import replacing
from pyxem_nas.patterns import DescriptorSpec, PatternSpec

if TYPE_CHECKING:
    from orix.crystal_map import Phase, PhaseList

_SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """Phases, networks and calibration for indexing.

    Parameters
    ----------
    name
        Short name.
    phase_list
        Phases with structures, ids 0 to n - 1; "none of these" is class n of the phase network.
    acquisition
        Microscope that the bundle was made for.
    spec
        Descriptor that the networks take.
    models
        Keras files as bytes: "phase", and "orientation_k" for phase k. Any may be missing. With a
        "trunk" these are heads on its features, but for a phase network on Cartesian patterns.
    cells
        Orientation cells of phase k, for each orientation network.
    judges
        For each phase the weights by kind: "refined" (network and refinement), "fast" (network
        alone) and "template" (template matching and refinement).
    thresholds
        Calibrated decisions.
    precession_range
        Precession angles in degrees that the networks were trained for; None: any.
    phase_temperature
        The phase network's logits are divided by this (Guo et al. 2017, arXiv:1706.04599);
        None where it is not calibrated.
    provenance
        How, when and from what the bundle was made: versions, seeds, settings, figures.
    search_report
        What the architecture search tried.
    pattern_spec
        Cartesian pattern that the phase network takes, the founding paper's input; None: it takes
        descriptors.
    phase_judge
        Weights by which physical scores decide the phase; None: the default ones, as of bundles
        that were merged.

    See Also
    --------
    search_models, ModelBundle.from_phases
    """

    name: str
    phase_list: PhaseList
    acquisition: Acquisition
    spec: DescriptorSpec = field(default_factory=DescriptorSpec)
    models: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    cells: Mapping[int, OrientationCells] = field(default_factory=dict, repr=False)
    judges: Mapping[int, Mapping[str, Judge]] = field(default_factory=dict, repr=False)
    thresholds: Thresholds = field(default_factory=Thresholds)
    precession_range: tuple[float, float] | None = None
    phase_temperature: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    search_report: list[dict[str, Any]] = field(default_factory=list, repr=False)
    pattern_spec: PatternSpec | None = None
    phase_judge: PhaseJudge | None = None

    def __post_init__(self) -> None:
        ids = list(self.phase_list.ids)
        if ids != list(range(len(ids))) or not ids:
            raise ValueError(f"phase ids must be 0 to n - 1 in order, got {ids!r}")
        known = {"phase", TRUNK, *(f"orientation_{k}" for k in ids)}
        foreign = sorted(set(self.models) - known)
        if foreign:
            raise ValueError(f"models of unknown purpose: {foreign!r}")
        missing = [k for k in ids if self.has_orientation_network(k) and k not in self.cells]
        if missing:
            raise ValueError(f"phases {missing!r} have an orientation network but no cells")

    def __repr__(self) -> str:
        lines = [f"ModelBundle {self.name!r}: descriptors {self.spec.shape} -> phase, orientation"]
        for k, phase in self.phase_list:
            branch = "exhaustive matching"
            if self.has_orientation_network(k):
                cells = self.cells[k]
                branch = f"network, {cells.n_directions} x {cells.n_inplane} cells"
            lines.append(f"  {k} {phase.name} ({phase.space_group.short_name}): {branch}")
        if self.has_trunk:
            lines.append("  one trunk for all networks")
        a = self.acquisition
        lines.append(f"  {a.beam_energy:g} kV, precession {self._precession_text}")
        lines.append(
            f"  thresholds: template matching below {self.thresholds.template:.2f}, "
            f"not indexed below {self.thresholds.confidence:.2f} "
            f"(phase: {self.thresholds.phase_confidence:.2f})"
        )
        return "\n".join(lines)

    @property
    def _precession_text(self) -> str:
        if self.precession_range is None:
            return f"{self.acquisition.precession_angle:g} deg"
        low, high = self.precession_range
        return f"{low:g} to {high:g} deg"

    @property
    def phases(self) -> list[Phase]:
        """Phases in the order of their ids."""
        return [phase for _, phase in self.phase_list]

    @property
    def phase_names(self) -> list[str]:
        """Names of the phases in the order of their ids."""
        return [phase.name for phase in self.phases]

    def has_orientation_network(self, phase_id: int) -> bool:
        """Return whether a phase has an orientation network."""
        return f"orientation_{phase_id}" in self.models

    @property
    def has_trunk(self) -> bool:
        """Whether the networks are heads on one trunk's features."""
        return TRUNK in self.models

    def is_head(self, name: str) -> bool:
        """Return whether a network, by its name in `models`, takes the trunk's features."""
        on_patterns = name == "phase" and self.pattern_spec is not None
        return self.has_trunk and name != TRUNK and not on_patterns

    def with_whole_networks(self) -> ModelBundle:
        """Return a bundle whose networks each have a trunk of their own; same answers, slower.

        For what changes one network alone: fine-tuning, merging with another bundle.
        """
        if not self.has_trunk:
            return self
        trunk = self.models[TRUNK]
        models = {
            name: join_files(trunk, content) if self.is_head(name) else content
            for name, content in self.models.items()
            if name != TRUNK
        }
        return dataclasses.replace(self, models=models)

    @cached_property
    def hash(self) -> str:
        """Hash of the whole content, the key of loaded models."""
        digest = hashlib.sha256(json.dumps(make_header(self), sort_keys=True).encode())
        return digest.hexdigest()

    @classmethod
    def from_phases(
        cls, phase_list: PhaseList, acquisition: Acquisition, *, name: str = "templates"
    ) -> ModelBundle:
        """Return a bundle without networks or training: every branch is exhaustive matching.

        Phases are told apart by physical scores, orientations by `DEFAULT_JUDGES`.

        Parameters
        ----------
        phase_list
            Phases with structures; they are numbered 0 to n - 1 in their order.
        acquisition
            Beam energy and precession.
        name
            Name of the bundle.

        Raises
        ------
        ValueError
            If a phase has no atoms or no space group, or atoms that cannot be a crystal of that
            group; see `read_phases`, which reads phases that pass.
        """
        for _, phase in phase_list:
            check_phase(phase)
        return cls(name, number_phases([p for _, p in phase_list]), acquisition)

    def select_phases(self, names: list[str]) -> ModelBundle:
        """Return a bundle of some phases, by name; the phase network goes with all phases only.

        Raises
        ------
        ValueError
            If a name is not a phase of the bundle.
        """
        unknown = [name for name in names if name not in self.phase_names]
        if unknown:
            raise ValueError(f"no phase {unknown!r} in the bundle; it has {self.phase_names!r}")
        old = [k for k, name in enumerate(self.phase_names) if name in names]
        if len(old) == len(self.phase_names):
            return self
        models = {}
        for new, k in enumerate(old):
            if self.has_orientation_network(k):
                models[f"orientation_{new}"] = self.models[f"orientation_{k}"]
        if models and self.has_trunk:
            models[TRUNK] = self.models[TRUNK]
        return dataclasses.replace(
            self,
            phase_list=number_phases([self.phases[k] for k in old]),
            models=models,
            cells={new: self.cells[k] for new, k in enumerate(old) if k in self.cells},
            judges={new: self.judges[k] for new, k in enumerate(old) if k in self.judges},
            phase_temperature=None,
            pattern_spec=None,
        )

    @staticmethod
    def merge(*bundles: ModelBundle, name: str | None = None) -> ModelBundle:
        """Return one bundle with the phases of several; nothing is trained again.

        Orientation networks and judges stay those of each phase, on their trunk where all bundles
        share one, else each as a whole. No phase network knows the phases of another bundle, so all
        are dropped and physical scores decide the phase.

        Parameters
        ----------
        *bundles
            Two or more bundles of the same beam energy and descriptor. Their phases are numbered
            on in the order given.
        name
            Name of the new bundle; None joins their names by "+".

        Returns
        -------
        bundle
            Its precession range is what all ranges have in common. The template threshold is the
            highest of theirs, the confidence threshold the lowest.

        Raises
        ------
        TypeError
            If there are fewer than two bundles, or something else than bundles.
        ValueError
            If a phase name occurs twice, or beam energies, descriptors or precession ranges clash.

        See Also
        --------
        ModelBundle.select_phases

        Examples
        --------
        >>> from pyxem_nas import Acquisition, ModelBundle, example_phases
        >>> steel, silver = (
        ...     ModelBundle.from_phases(example_phases(name), Acquisition(200))
        ...     for name in ("steel", "silver")
        ... )
        >>> ModelBundle.merge(steel, silver).phase_names
        ['ferrite', 'NbC', 'cementite', 'silver']
        """
        from pyxem_nas.bundles.merging import merge_bundles

        return merge_bundles(bundles, name)

    def save(self, path: Path | str, overwrite: bool = False) -> None:
        """Write the bundle to one file, conventionally ``.nas``.

        The file is written beside its place and moved there when complete.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is False.
        OSError
            If it cannot be written, on a full disk say; an older file stays as it was.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise FileExistsError(f"{str(path)!r} exists; pass overwrite=True to replace it")
        header = json.dumps(make_header(self), indent=1)
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr("bundle.json", header, zipfile.ZIP_DEFLATED)
            for name, content in sorted(self.models.items()):
                archive.writestr(f"models/{name}.keras", content, zipfile.ZIP_DEFLATED)

    @classmethod
    def load(cls, path_or_name: Path | str) -> ModelBundle:
        """Load a bundle from a file, or a shipped one by name.

        Parameters
        ----------
        path_or_name
            Path of a file, or the name of a shipped bundle.

        Raises
        ------
        FileNotFoundError
            If there is neither such a file nor such a shipped bundle.
        BundleError
            If the file is damaged, of a newer version, or holds what a bundle must not.
        """
        path = Path(path_or_name)
        if not path.is_file():
            shipped = _SHIPPED / f"{path_or_name}.nas"
            if not shipped.is_file():
                raise FileNotFoundError(
                    f"no file {str(path_or_name)!r} and no shipped bundle of that name; shipped "
                    f"are {shipped_bundles()!r}"
                )
            path = shipped
        try:
            with zipfile.ZipFile(path) as archive:
                files = read_archive(archive)
            header = json.loads(files["bundle.json"])
            fields = read_header(header, files)
            return cls(phase_list=number_phases(fields.pop("phases")), **fields)
        except BundleError as error:
            raise BundleError(f"{str(path)!r}: {error}") from None
        except PermissionError:
            raise
        except Exception as error:  # whatever a reader stumbles upon in a foreign file
            raise BundleError(
                f"{str(path)!r} is damaged or no bundle ({type(error).__name__}: {error})"
            ) from error


def shipped_bundles() -> list[str]:
    """Return the names of the bundles that come with the package."""
    return sorted(path.stem for path in _SHIPPED.glob("*.nas"))


def number_phases(phases: list[Phase]) -> PhaseList:
    """Return a phase list with ids 0 to n - 1 in the given order."""
    from orix.crystal_map import PhaseList

    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise ValueError(f"phases must have different names, got {names!r}")
    return PhaseList(phases=[phase.deepcopy() for phase in phases], ids=list(range(len(phases))))
