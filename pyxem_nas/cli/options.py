"""Options that several commands share.

Owns their names, help and types, so that they read the same everywhere, and what is made of their
values. A command takes a group of them, `ScanOptions` or `IndexingOptions`, as one argument:
`spread_options` makes an option of each field. Those that only one command has, and the texts that
differ, are in the command's module.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from pyxem_nas.cli.console import collected_warnings, say

if TYPE_CHECKING:
    import numpy as np
    from orix.crystal_map import PhaseList
    from pyxem.signals import ElectronDiffraction2D

    from pyxem_nas.bundles import ModelBundle
    from pyxem_nas.diffraction import Acquisition

__all__ = [
    "AsJson",
    "Axis",
    "Bundle",
    "BundleOrNone",
    "Cif",
    "IndexingOptions",
    "Overwrite",
    "PhaseInput",
    "Precision",
    "PrecisionName",
    "ScanOptions",
    "Seed",
    "check_map_names",
    "load_phases",
    "option",
    "read_crystals",
    "spread_options",
]

_MAP_SUFFIXES = (".ang", ".ctf", ".h5", ".hdf5")


class Axis(StrEnum):
    """Axis of the camera."""

    x = "x"
    y = "y"


class PhaseInput(StrEnum):
    """What the phase classifier looks at."""

    descriptor = "descriptor"
    pattern = "pattern"


class Objective(StrEnum):
    """What architectures are searched for."""

    alone = "alone"
    with_matching = "with matching"


class PrecisionName(StrEnum):
    """Arithmetic of the networks."""

    auto = "auto"
    int8 = "int8"
    float32 = "float32"


def option(help_text: str, *names: str, **settings: Any) -> Any:
    """Return an option; without a default of its own if the text states it."""
    return typer.Option(
        *names, help=help_text, show_default="[default" not in help_text, **settings
    )


def spread_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose groups of options, dataclasses, are spread: an option per field.

    Parameters
    ----------
    command
        Its parameters annotated with a dataclass are filled from the options.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _field_parameters(groups[name])
        else:
            parameters.append(
                parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            )

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            own = {field.name: values.pop(field.name) for field in dataclasses.fields(group)}
            values[name] = group(**own)
        command(**values)

    # typer reads both
    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _field_parameters(group: type) -> list[inspect.Parameter]:
    """Return the fields of a group of options as parameters of a function."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]


AsJson = Annotated[bool, option("Print JSON, for scripts.", "--json")]
Overwrite = Annotated[bool, option("Replace files that exist.", "--overwrite")]
Bundle = Annotated[str, option("Name of a shipped bundle, or a .nas file.")]
BundleOrNone = Annotated[
    str | None,
    option(
        "Name of a shipped bundle, or a .nas file. [default: the one set as default]", "--bundle"
    ),
]
Cif = Annotated[
    list[Path] | None,
    option("CIF file of a phase that may be there; can be given several times. Needs no bundle."),
]
Seed = Annotated[int, option("Seed of all that is random.")]
Precision = Annotated[
    PrecisionName,
    option(
        "Arithmetic of the networks: int8 is faster on a CPU, float32 is TensorFlow's own; auto "
        "takes int8 unless there is a GPU."
    ),
]


@dataclass(frozen=True)
class ScanOptions:
    """What a file may not say of its patterns."""

    reader: Annotated[
        str | None,
        option("HyperSpy's name of the format, where several might fit. [default: by content]"),
    ] = None
    scan_shape: Annotated[
        str | None,
        option(
            "Shape of the scan, for files that hold one line of patterns. [default: the file's]",
            metavar="ROWS,COLUMNS",
        ),
    ] = None
    scale: Annotated[float | None, option("Size of a detector pixel. [default: the file's]")] = None
    units: Annotated[
        str | None, option("Units of the scale, 1/nm or mrad. [default: 1/angstrom]")
    ] = None
    center: Annotated[
        str | None,
        option(
            "Direct beam in pixels, or auto to find it. [default: the file's, else auto]",
            metavar="X,Y|auto",
        ),
    ] = None
    mask: Annotated[Path | None, option("Image .npy, True = detector pixel left out.")] = None
    flip: Annotated[Axis | None, option("Axis along which the camera mirrors.")] = None
    scan_rotation: Annotated[
        float | None, option("Degrees from diffraction to scan frame. [default: 0]")
    ] = None
    beam_energy: Annotated[
        float | None, option("In kV. [default: the file's, else the bundle's]")
    ] = None
    precession: Annotated[
        float | None, option("In degrees. [default: the file's, else the bundle's]")
    ] = None

    def check(self) -> None:
        """Raise for what is wrong whatever the scan: once, before the work, not once a file."""
        self.parse_center()
        self._parse_shape()
        self._read_mask()

    def read(self, path: Path, *, lazy: bool = True) -> ElectronDiffraction2D:
        """Return the scan in a file, calibrated as stated."""
        from pyxem_nas.patterns import read_scan

        scan = read_scan(path, lazy=lazy, reader=self.reader, scan_shape=self._parse_shape())
        self.calibrate(scan)
        return scan

    def choose_bundle(
        self, phases: ModelBundle | PhaseList, scan: ElectronDiffraction2D
    ) -> ModelBundle:
        """Return the bundle of `load_phases`; of phases alone, one for the scan's microscope."""
        from pyxem_nas.bundles import ModelBundle
        from pyxem_nas.diffraction import Acquisition
        from pyxem_nas.patterns import get_beam_energy

        if isinstance(phases, ModelBundle):
            return phases
        if self.beam_energy is None and get_beam_energy(scan) is None:
            raise ValueError(
                "the file does not tell the beam energy, which --cif needs; give it in kV, e.g. "
                "--beam-energy 200"
            )
        bundle = ModelBundle.from_phases(phases, Acquisition(self.beam_energy or 200.0))
        return dataclasses.replace(bundle, acquisition=self._get_acquisition(bundle, scan))

    def collect_settings(self, bundle: ModelBundle, scan: ElectronDiffraction2D) -> dict[str, Any]:
        """Return what was stated of camera and microscope, as the package's functions take it."""
        return {
            "acquisition": self._get_acquisition(bundle, scan),
            "center": self.get_center(scan),
            "mask": self._read_mask(),
            "detector_flip": None if self.flip is None else self.flip.value,
            "scan_rotation": self.scan_rotation,
        }

    def _read_mask(self) -> np.ndarray | None:
        """Return the detector's mask."""
        from pyxem_nas.maps import read_mask

        return None if self.mask is None else read_mask(self.mask)

    def _parse_shape(self) -> tuple[int, int] | None:
        """Return what --scan-shape says: rows and columns."""
        if self.scan_shape is None:
            return None
        try:
            rows, columns = (int(part) for part in re.split("[,x ]+", self.scan_shape.strip()))
        except ValueError:
            raise ValueError(
                f"--scan-shape takes ROWS,COLUMNS, two whole numbers, got {self.scan_shape!r}"
            ) from None
        return rows, columns

    def _get_acquisition(self, bundle: ModelBundle, scan: ElectronDiffraction2D) -> Acquisition:
        """Return the acquisition as stated, the rest the scan's, else the bundle's."""
        from pyxem_nas.patterns import get_beam_energy, get_precession

        # what is stated is not looked for in the file, where it may be wrong
        energy, precession = self.beam_energy, self.precession
        found = {
            "beam_energy": get_beam_energy(scan) if energy is None else energy,
            "precession_angle": get_precession(scan) if precession is None else precession,
        }
        found = {name: value for name, value in found.items() if value is not None}
        return dataclasses.replace(bundle.acquisition, **found)

    def parse_center(self) -> str | tuple[float, float] | None:
        """Return what --center says: None, "auto" or x and y in pixels."""
        if self.center is None or self.center == "auto":
            return self.center
        try:
            x, y = (float(part) for part in self.center.replace(",", " ").split())
        except ValueError:
            raise ValueError(f"--center takes X,Y in pixels or auto, got {self.center!r}") from None
        return x, y

    def get_center(self, scan: ElectronDiffraction2D) -> str | tuple[float, float] | None:
        """Return the stated centre; else None where the file has one, and "auto" where not."""
        # a centre on the corner of the detector is no centre: nobody set it
        known = any(axis.offset for axis in scan.axes_manager.signal_axes)
        return self.parse_center() or (None if known else "auto")

    def calibrate(self, scan: ElectronDiffraction2D) -> None:
        """Set what was stated of the calibration."""
        if self.scale is None and self.units is None:
            _check_calibrated(scan)
            return
        if self.scale is not None:
            if not self.scale > 0:
                raise ValueError(f"--scale must be positive, got {self.scale!r}")
            scan.calibration.scale = self.scale
        scan.calibration.units = self.units or "1/angstrom"


@dataclass(frozen=True)
class IndexingOptions:
    """How a scan is indexed."""

    method: Annotated[
        list[str] | None,
        option(
            "hybrid, match, network or template; PHASE=METHOD for one phase, can be given several "
            "times. [default: hybrid]"
        ),
    ] = None
    refine: Annotated[bool, option("Refine the orientations.")] = True
    calibrate: Annotated[
        bool,
        option(
            "Find scale, ellipse, centre and its drift in the patterns; used where other positions "
            "are explained better.",
            "--calibrate",
        ),
    ] = False
    min_confidence: Annotated[
        float | None, option("Answers below are rejected. [default: the bundle's]", min=0, max=1)
    ] = None
    precision: Precision = PrecisionName.auto

    def collect_settings(self) -> dict[str, Any]:
        """Return the options as `index_phase_orientation` takes them."""
        return {
            "method": self._parse_method(),
            "refine": self.refine,
            "calibrate": "auto" if self.calibrate else None,
            "min_confidence": self.min_confidence,
            "precision": self.precision.value,
        }

    def _parse_method(self) -> str | dict[str, str]:
        """Return what --method says: one method, or methods by phase."""
        texts = self.method or ["hybrid"]
        if len(texts) == 1 and "=" not in texts[0]:
            return texts[0]
        if not all("=" in text for text in texts):
            raise ValueError(f"--method takes one method, or PHASE=METHOD each time, got {texts!r}")
        return dict(text.rsplit("=", 1) for text in texts)


def read_crystals(paths: Sequence[Path]) -> PhaseList:
    """Return the phases of CIF files, and say what has to be said about them."""
    from pyxem_nas.diffraction import read_phases

    with collected_warnings() as messages:
        phase_list = read_phases(*paths)
    for message in messages:
        say(f"Warning: {message}", style="yellow")
    return phase_list


def load_phases(bundle: str | None, cif: Sequence[Path] | None) -> ModelBundle | PhaseList:
    """Return what --bundle or --cif say: a bundle, or phases that need none.

    Raises
    ------
    ValueError
        If both are given, or a file cannot be read.
    """
    from pyxem_nas.bundles import ModelBundle, get_default_bundle

    if bundle is not None and cif:
        raise ValueError(
            f"give the phases by --cif or a bundle by --bundle, not both, got {bundle!r} and "
            f"{len(cif)} CIF files"
        )
    if cif:
        return read_crystals(cif)
    if bundle is None:
        try:
            bundle = get_default_bundle()
        except ValueError:
            raise ValueError(
                "nothing tells which phases there may be; give their CIF files, --cif a.cif --cif "
                "b.cif, or a bundle, --bundle steel"
            ) from None
    return ModelBundle.load(bundle)


def check_map_names(templates: Sequence[str]) -> None:
    """Raise unless each --output is a map that can be written."""
    wrong = [text for text in templates if Path(text).suffix.lower() not in _MAP_SUFFIXES]
    if wrong:
        raise ValueError(f"a map's name ends in .ctf, .ang or .h5, got {wrong!r}")


def _check_calibrated(scan: ElectronDiffraction2D) -> None:
    """Raise an error that says how to calibrate on the command line."""
    from pyxem_nas.patterns import get_scale

    try:
        get_scale(scan, 200.0)  # the energy matters to the value, not to whether there is one
    except ValueError as error:
        units = [str(axis.units) for axis in scan.axes_manager.signal_axes]
        why = str(error).partition(";")[0]  # what follows is of signals in Python
        raise ValueError(
            f"the patterns are not calibrated in reciprocal units, got {units!r} ({why}); give the "
            "size of a detector pixel in 1/angstrom, e.g. --scale 0.0123"
        ) from None
