"""Model bundles: all that indexing needs, in one file.

Owns `ModelBundle` and its file, a zip of JSON and Keras models with hashes. Knows what is in a
bundle, not how it was made (`search`, `adaptation`) nor how it is used (`prediction`). Nothing that
is loaded can execute: no pickle, no Lambda layer, no class that is not listed here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.descriptors import DescriptorSpec, PatternSpec
from pyxem_nas.file_writing import replacing
from pyxem_nas.orientation import OrientationCells
from pyxem_nas.simulation import Acquisition

if TYPE_CHECKING:
    from orix.crystal_map import Phase, PhaseList

SCHEMA_VERSION = 1
_SHIPPED = Path(__file__).parent / "bundles"
_MAX_SIZE = 200 * 2**20  # bytes, unpacked: a bundle holds a few small networks
_MAX_MEMBERS = 1000
_MAX_NUMBER = 2**20  # in a network's configuration: a layer's width is far below
_allowed: set[str] = set()  # hashes of networks that passed `_check_network`
_KERAS_MEMBERS = frozenset({"config.json", "metadata.json", "model.weights.h5"})
_LAYERS = frozenset(
    {
        "Functional", "InputLayer", "Permute", "Dense", "Activation", "Add", "Multiply", "Flatten",
        "Concatenate", "Reshape", "Dropout", "SpatialDropout1D", "BatchNormalization",
        "LayerNormalization", "GlobalAveragePooling1D", "GlobalMaxPooling1D",
        "GlobalAveragePooling2D", "Conv2D", "MaxPooling2D", "RandomRotation",
    }
)  # fmt: skip
_OTHER_CLASSES = frozenset(
    {"DTypePolicy", "HeNormal", "GlorotUniform", "Zeros", "Ones", "SeedGenerator", "__tuple__",
     "__keras_tensor__"}
)  # fmt: skip


class BundleError(ValueError):
    """A bundle file that is damaged, foreign or not safe to load."""


@dataclass(frozen=True)
class Thresholds:
    """Calibrated decisions of a bundle.

    Parameters
    ----------
    template
        Positions whose probability of a right orientation is below go to template matching.
    confidence
        Positions whose final probability (phase and orientation) is below are not indexed.
    phase
        Positions whose phase probability by the phase network is below are tried with every
        phase, and the physical scores join the network's word.
    """

    template: float = 0.0
    confidence: float = 0.0
    phase: float = 0.8


@dataclass(frozen=True)
class Judge:
    """Weights by which candidates of one phase are judged, fitted on validation data.

    The utility of candidate j is ``log_posterior * log p_j + correlation * c_j``; that of "the
    truth is none of them" is `none`. The softmax over all is the probability of each (a
    conditional logit model; McFadden 1974).

    Parameters
    ----------
    log_posterior
        Weight of the network's log-posterior.
    correlation
        Weight of the correlation of the refined candidate, 0 where candidates are not refined.
    none
        Utility of "none of them"; None where the bundle is not calibrated.
    """

    log_posterior: float = 1.0
    correlation: float = 20.0
    none: float | None = None


@dataclass(frozen=True)
class PhaseJudge:
    """Weights by which phases are compared, one common set for all phases.

    The utility of a phase is the weighted sum of its scores (`phase_scores.score_phase`); that of
    "none of these" is `none`. The softmax over all is the probability of each (a conditional logit
    model; McFadden 1974). The defaults were fitted by ``benchmarks/phase_judge.py`` on held-out
    simulations of four phases and of foreign crystals.

    Parameters
    ----------
    correlation, explained, missing
        Weights of the scores.
    none
        Utility of "none of these".
    network
        Weight of the logarithm of the phase network's probability, where there is a network.
    """

    correlation: float = 8.0
    explained: float = 5.5
    missing: float = -1.75
    none: float = 5.0
    network: float = 0.8


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
        Keras files as bytes: "phase", and "orientation_k" for phase k. Any may be missing.
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
        foreign = sorted(set(self.models) - {"phase", *(f"orientation_{k}" for k in ids)})
        if foreign:
            raise ValueError(f"models of unknown purpose: {foreign!r}")
        missing = [k for k in ids if self.has_orientation_network(k) and k not in self.cells]
        if missing:
            raise ValueError(f"phases {missing!r} have an orientation network but no cells")

    def __repr__(self) -> str:
        lines = [f"ModelBundle {self.name!r}: descriptors {self.spec.shape} -> phase, orientation"]
        for k, phase in self.phase_list:
            branch = "template matching"
            if self.has_orientation_network(k):
                cells = self.cells[k]
                branch = f"network, {cells.n_directions} x {cells.n_inplane} cells"
            lines.append(f"  {k} {phase.name} ({phase.space_group.short_name}): {branch}")
        a = self.acquisition
        lines.append(f"  {a.beam_energy:g} kV, precession {self._precession_text}")
        lines.append(
            f"  thresholds: template matching below {self.thresholds.template:.2f}, "
            f"not indexed below {self.thresholds.confidence:.2f}"
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

    @cached_property
    def hash(self) -> str:
        """Hash of the whole content, the key of loaded models."""
        digest = hashlib.sha256(json.dumps(self._header(), sort_keys=True).encode())
        return digest.hexdigest()

    @classmethod
    def from_phases(
        cls, phase_list: PhaseList, acquisition: Acquisition, *, name: str = "templates"
    ) -> ModelBundle:
        """Return a bundle without networks: every branch is template matching.

        Parameters
        ----------
        phase_list
            Phases with structures; they are numbered 0 to n - 1 in their order.
        acquisition
            Beam energy and precession of the templates.
        name
            Name of the bundle.
        """
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

        Orientation networks and judges stay those of each phase. No phase network knows the
        phases of another bundle, so all are dropped and physical scores decide the phase.

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
        if len(bundles) < 2 or not all(isinstance(b, ModelBundle) for b in bundles):
            raise TypeError(
                "merge takes two or more bundles, got "
                f"{[type(bundle).__name__ for bundle in bundles]!r}"
            )
        _check_mergeable(bundles)
        first = bundles[0]
        precession = _common_precession(bundles)
        angle = first.acquisition.precession_angle
        if precession is not None:
            angle = min(max(angle, precession[0]), precession[1])
        offsets = np.cumsum([0, *(len(bundle.phases) for bundle in bundles)])[:-1].tolist()
        numbered = list(zip(offsets, bundles, strict=True))
        phase_list = number_phases([phase for bundle in bundles for phase in bundle.phases])
        _tell_colors_apart(phase_list)
        return ModelBundle(
            name="+".join(bundle.name for bundle in bundles) if name is None else name,
            phase_list=phase_list,
            acquisition=dataclasses.replace(first.acquisition, precession_angle=angle),
            spec=first.spec,
            models={
                f"orientation_{start + k}": bundle.models[f"orientation_{k}"]
                for start, bundle in numbered
                for k in range(len(bundle.phases))
                if bundle.has_orientation_network(k)
            },
            cells={start + k: c for start, bundle in numbered for k, c in bundle.cells.items()},
            judges={start + k: j for start, bundle in numbered for k, j in bundle.judges.items()},
            thresholds=Thresholds(
                max(bundle.thresholds.template for bundle in bundles),
                min(bundle.thresholds.confidence for bundle in bundles),
                max(bundle.thresholds.phase for bundle in bundles),
            ),
            precession_range=precession,
            provenance={
                "merged": [
                    {
                        "name": bundle.name,
                        "hash": bundle.hash,
                        "phases": bundle.phase_names,
                        "provenance": dict(bundle.provenance),
                    }
                    for bundle in bundles
                ]
            },
            search_report=[trial for bundle in bundles for trial in bundle.search_report],
        )

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
        header = json.dumps(self._header(), indent=1)
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
                files = _read_archive(archive)
            header = json.loads(files["bundle.json"])
            return _from_header(header, files)
        except BundleError as error:
            raise BundleError(f"{str(path)!r}: {error}") from None
        except PermissionError:
            raise
        except Exception as error:  # whatever a reader stumbles upon in a foreign file
            raise BundleError(
                f"{str(path)!r} is damaged or no bundle ({type(error).__name__}: {error})"
            ) from error

    def _header(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "phases": [_phase_to_dict(phase) for phase in self.phases],
            "acquisition": self.acquisition.to_dict(),
            "spec": self.spec.to_dict(),
            "pattern_spec": self.pattern_spec and self.pattern_spec.to_dict(),
            "cells": {
                str(k): {"directions": c.directions.tolist(), "n_inplane": c.n_inplane}
                for k, c in self.cells.items()
            },
            "judges": {
                str(k): {kind: dataclasses.asdict(judge) for kind, judge in judges.items()}
                for k, judges in self.judges.items()
            },
            "thresholds": dataclasses.asdict(self.thresholds),
            "phase_judge": self.phase_judge and dataclasses.asdict(self.phase_judge),
            "precession_range": self.precession_range and list(self.precession_range),
            "phase_temperature": self.phase_temperature,
            "provenance": dict(self.provenance),
            "search_report": self.search_report,
            "hashes": {
                name: hashlib.sha256(content).hexdigest() for name, content in self.models.items()
            },
        }


def _check_mergeable(bundles: tuple[ModelBundle, ...]) -> None:
    """Raise ValueError where bundles cannot become one."""
    first = bundles[0]
    owner: dict[str, str] = {}
    for bundle in bundles:
        for name in bundle.phase_names:
            if name in owner:
                raise ValueError(
                    f"bundles {owner[name]!r} and {bundle.name!r} both have a phase {name!r}; "
                    "leave one out with select_phases"
                )
            owner[name] = bundle.name
        if bundle.spec != first.spec:
            raise ValueError(
                f"bundles {first.name!r} and {bundle.name!r} take different descriptors, "
                f"{first.spec!r} and {bundle.spec!r}; train one of them with the other's spec"
            )
        energies = first.acquisition.beam_energy, bundle.acquisition.beam_energy
        if abs(energies[1] / energies[0] - 1) > 1e-3:
            raise ValueError(
                f"bundles {first.name!r} and {bundle.name!r} are for different beam energies, "
                f"{energies[0]:g} and {energies[1]:g} kV; train one for the other's energy"
            )


def _common_precession(bundles: tuple[ModelBundle, ...]) -> tuple[float, float] | None:
    """Return the precession angles in degrees that all bundles know; None: any."""
    known = [bundle for bundle in bundles if bundle.precession_range is not None]
    if not known:
        return None
    low = max(bundle.precession_range[0] for bundle in known)
    high = min(bundle.precession_range[1] for bundle in known)
    if low > high:
        ranges = {bundle.name: "{:g} to {:g}".format(*bundle.precession_range) for bundle in known}
        raise ValueError(
            f"the bundles' precession ranges in degrees have nothing in common: {ranges!r}; train "
            "one of them for the other's precession"
        )
    return low, high


def _tell_colors_apart(phase_list: PhaseList) -> None:
    """Give a phase whose colour another has already a colour of its own, in place."""
    free = [f"tab:{c}" for c in ("blue", "orange", "green", "red", "purple", "brown", "pink")]
    used: set[str] = set()
    own = {phase.color for _, phase in phase_list}
    for _, phase in phase_list:
        if phase.color in used:
            spare = [color for color in free if color not in used | own]
            phase.color = spare[0] if spare else phase.color
        used.add(phase.color)


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


def load_keras(content: bytes) -> Any:
    """Return the Keras model in the bytes of a .keras file, after looking at what it would load.

    Raises
    ------
    BundleError
        If the file names a class that no network of ours has.
    """
    import keras

    from pyxem_nas.networks import circular_convolution_class

    circular_convolution_class()
    try:
        _check_network(content)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            path.write_bytes(content)
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except BundleError:
        raise
    except Exception as error:  # whatever Keras stumbles upon in a foreign file
        raise BundleError(
            f"a network is damaged or not allowed ({type(error).__name__}: {error})"
        ) from error


def dump_keras(model: Any) -> bytes:
    """Return a Keras model without its optimizer as the bytes of a .keras file."""
    import keras

    # not clone_model: it would keep how the network was trained
    plain = keras.Model.from_config(model.get_config())
    plain.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        plain.save(path)
        return path.read_bytes()


def _read_archive(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Return the members of an archive, or refuse it."""
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise BundleError(f"it has {len(members)} members, over {_MAX_MEMBERS}")
    if sum(member.file_size for member in members) > _MAX_SIZE:
        raise BundleError(f"unpacked it would hold over {_MAX_SIZE >> 20} MiB")
    for member in members:
        name = member.filename
        if name.startswith("/") or ".." in name.split("/") or set(name) & set(":\\"):
            raise BundleError(f"a member has the forbidden name {name!r}")
    if len({member.filename for member in members}) < len(members):
        raise BundleError("it has two members of one name")
    return {member.filename: archive.read(member) for member in members}


def _check_network(content: bytes) -> None:
    """Raise unless the bytes are a .keras file of known classes and plain weights.

    Needs no Keras, so that a bundle is refused when it is loaded and not when it is first used.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _read_archive(archive)
        foreign = sorted(set(members) - _KERAS_MEMBERS)
        if foreign:
            raise BundleError(f"a network holds {foreign!r}, which is not allowed")
        _refuse_foreign_classes(json.loads(members["config.json"]))
        _check_weights(members["model.weights.h5"])
    except BundleError:
        raise
    except Exception as error:  # as in `ModelBundle.load`
        raise BundleError(
            f"a network is damaged or not allowed ({type(error).__name__}: {error})"
        ) from error


def _check_weights(content: bytes) -> None:
    """Raise unless an HDF5 file holds plain numbers of a bearable size and leads nowhere else."""
    import h5py

    n_bytes = 0

    def visit(_: str, item: Any) -> None:
        nonlocal n_bytes
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual or item.dtype.kind not in "fiub":
                raise BundleError("a network's weights are no plain numbers, which is not allowed")
            n_bytes += item.nbytes
        else:
            kinds = {type(item.get(name, getlink=True)) for name in item}
            if kinds - {h5py.HardLink}:
                raise BundleError("a network's weights link elsewhere, which is not allowed")

    with h5py.File(io.BytesIO(content), "r") as file:
        visit("/", file)
        file.visititems(visit)
    if n_bytes > _MAX_SIZE:
        raise BundleError(f"a network's weights hold over {_MAX_SIZE >> 20} MiB")


def _refuse_foreign_classes(config: Any) -> None:
    """Raise unless every class that a Keras configuration names is known to be harmless."""
    if isinstance(config, dict):
        name = config.get("class_name")
        if name is not None:
            module = config.get("module") or "keras"
            ours = name == "CircularConv1D" and module == "pyxem_nas.networks"
            known = str(name) in _LAYERS | _OTHER_CLASSES
            if not (ours or (known and module.split(".")[0] == "keras")):
                raise BundleError(f"a network names the class {name!r}, which is not allowed")
        for key, value in config.items():
            if key != "seed":
                _refuse_foreign_classes(value)
    elif isinstance(config, list):
        for value in config:
            _refuse_foreign_classes(value)
    elif isinstance(config, int | float) and not abs(config) <= _MAX_NUMBER:
        raise BundleError(f"a network's configuration holds the number {config!r}")


def _from_header(header: dict[str, Any], files: dict[str, bytes]) -> ModelBundle:
    version = header["schema_version"]
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise BundleError(
            f"schema version {version!r} is newer than this package's {SCHEMA_VERSION}; upgrade "
            "pyxem-nas"
        )
    models = {}
    for name, digest in header["hashes"].items():
        content = files.get(f"models/{name}.keras")
        if content is None:
            raise BundleError(f"the network {name!r} is missing")
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(f"the network {name!r} is damaged: its hash differs")
        if digest not in _allowed:  # looked at once in a process
            _check_network(content)
            _allowed.add(digest)
        models[name] = content
    phases = [_phase_from_dict(fields) for fields in header["phases"]]
    return ModelBundle(
        name=str(header["name"]),
        phase_list=number_phases(phases),
        acquisition=Acquisition(**header["acquisition"]),
        spec=DescriptorSpec.from_dict(header["spec"]),
        models=models,
        cells={int(k): _cells_from_dict(c, phases[int(k)]) for k, c in header["cells"].items()},
        judges={
            int(k): {kind: Judge(**_finite(fields)) for kind, fields in judges.items()}
            for k, judges in header["judges"].items()
        },
        thresholds=Thresholds(**_finite(header["thresholds"])),
        precession_range=_precession_range(header["precession_range"]),
        phase_temperature=_finite({"phase_temperature": header["phase_temperature"]})[
            "phase_temperature"
        ],
        provenance=dict(header["provenance"]),
        search_report=[dict(report) for report in header["search_report"]],
        pattern_spec=header["pattern_spec"] and PatternSpec(**header["pattern_spec"]),
        # bundles of version 0.1.0 have none
        phase_judge=PhaseJudge(**_finite(header["phase_judge"]))
        if header.get("phase_judge")
        else None,
    )


def _finite(fields: dict[str, Any]) -> dict[str, float | None]:
    """Return numbers by name; JSON knows NaN and infinity, a bundle does not.

    "none" (the utility of "none of them") and "phase_temperature" may be None: not calibrated.
    """
    for name, value in fields.items():
        if value is None and name in ("none", "phase_temperature"):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and np.isfinite(value)):
            raise BundleError(f"{name} must be a number, got {value!r}")
    return fields


def _precession_range(values: Any) -> tuple[float, float] | None:
    if values is None:
        return None
    low, high = _finite(dict(zip(("lowest", "highest precession"), values, strict=True))).values()
    return low, high


def _cells_from_dict(fields: dict[str, Any], phase: Phase) -> OrientationCells:
    from pyxem_nas.orientation import laue_proper_group

    group = laue_proper_group(phase)
    directions = np.array(fields["directions"], np.float64).reshape(-1, 3)
    # `not` with `<=`: NaN is refused, too
    if not np.all(np.abs(np.linalg.norm(directions, axis=1) - 1) <= 1e-3) or not len(directions):
        raise BundleError("the directions of orientation cells must be unit vectors")
    if not 1 <= fields["n_inplane"] <= 3600:
        raise BundleError(f"n_inplane must be 1 to 3600, got {fields['n_inplane']!r}")
    return OrientationCells(
        group.name,
        directions,
        int(fields["n_inplane"]),
        np.ascontiguousarray(group.data.reshape(-1, 4), np.float64),
    )


def _phase_to_dict(phase: Phase) -> dict[str, Any]:
    if phase.space_group is None:
        raise ValueError(f"phase {phase.name!r} has no space group; set phase.space_group")
    return {
        "name": phase.name,
        "space_group": int(phase.space_group.number),
        "color": phase.color,
        "lattice": [float(v) for v in phase.structure.lattice.abcABG()],
        "atoms": [
            [atom.element, *(float(v) for v in atom.xyz), float(atom.occupancy)]
            for atom in phase.structure
        ],
    }


def _phase_from_dict(fields: dict[str, Any]) -> Phase:
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    lattice = [float(v) for v in fields["lattice"]]
    if len(lattice) != 6 or not all(0 < v <= 500 for v in lattice):
        raise BundleError(f"no lattice: {lattice!r}")
    atoms = [Atom(a[0], [float(v) for v in a[1:4]], occupancy=a[4]) for a in fields["atoms"]]
    structure = Structure(atoms=atoms, lattice=Lattice(*lattice))
    return Phase(
        name=fields["name"],
        space_group=fields["space_group"],
        structure=structure,
        color=fields["color"],
    )
