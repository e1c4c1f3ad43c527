"""Options that several commands share.

Owns their names, help and types, so that they read the same everywhere, and what is made of their
values: those that only one command has, and the texts that differ, are in the command's module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyxem_nas.maps import read_mask

if TYPE_CHECKING:
    from pyxem.signals import ElectronDiffraction2D

    from pyxem_nas.bundles import ModelBundle
    from pyxem_nas.diffraction import Acquisition

__all__ = [
    "AsJson",
    "Axis",
    "BeamEnergy",
    "Bundle",
    "Center",
    "Flip",
    "Mask",
    "Method",
    "MinConfidence",
    "Overwrite",
    "PhaseInput",
    "Precession",
    "Precision",
    "PrecisionName",
    "Refine",
    "Scale",
    "ScanRotation",
    "Seed",
    "Units",
    "calibrate",
    "check_map_names",
    "collect_settings",
    "known_center",
    "option",
    "parse_center",
    "parse_method",
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


AsJson = Annotated[bool, option("Print JSON, for scripts.", "--json")]
Overwrite = Annotated[bool, option("Replace files that exist.", "--overwrite")]
Bundle = Annotated[str, option("Name of a shipped bundle, or a .nas file.")]
Seed = Annotated[int, option("Seed of all that is random.")]

# what a file may not say of its patterns
Scale = Annotated[float | None, option("Size of a detector pixel. [default: the file's]")]
Units = Annotated[str | None, option("Units of the scale, 1/nm or mrad. [default: 1/angstrom]")]
Center = Annotated[
    str | None,
    option(
        "Direct beam in pixels, or auto to find it. [default: the file's, else auto]",
        metavar="X,Y|auto",
    ),
]
Mask = Annotated[Path | None, option("Image .npy, True = detector pixel left out.")]
Flip = Annotated[Axis | None, option("Axis along which the camera mirrors.")]
ScanRotation = Annotated[float, option("Degrees from diffraction to scan frame.")]
BeamEnergy = Annotated[float | None, option("In kV. [default: the file's, else the bundle's]")]
Precession = Annotated[float | None, option("In degrees. [default: the file's, else the bundle's]")]

# how it is indexed
Method = Annotated[
    list[str] | None,
    option(
        "hybrid, network or template; PHASE=METHOD for one phase, can be given several times. "
        "[default: hybrid]"
    ),
]
Refine = Annotated[bool, option("Refine the orientations.")]
MinConfidence = Annotated[
    float | None, option("Answers below are rejected. [default: the bundle's]", min=0, max=1)
]
Precision = Annotated[
    PrecisionName,
    option(
        "Arithmetic of the networks: int8 is faster on a CPU, float32 is TensorFlow's own; auto "
        "takes int8 unless there is a GPU."
    ),
]


def check_map_names(templates: Sequence[str]) -> None:
    """Raise unless each --output is a map that can be written."""
    wrong = [text for text in templates if Path(text).suffix.lower() not in _MAP_SUFFIXES]
    if wrong:
        raise ValueError(f"a map's name ends in .ctf, .ang or .h5, got {wrong!r}")


def collect_settings(
    bundle: ModelBundle,
    *,
    mask: Path | None,
    flip: Axis | None,
    scan_rotation: float,
    beam_energy: float | None,
    precession: float | None,
) -> dict[str, Any]:
    """Return what was stated of camera and microscope, as the package's functions take it."""
    return {
        "acquisition": _parse_acquisition(bundle, beam_energy, precession),
        "mask": None if mask is None else read_mask(mask),
        "detector_flip": None if flip is None else flip.value,
        "scan_rotation": scan_rotation,
    }


def parse_center(text: str | None) -> str | tuple[float, float] | None:
    """Return what --center says: None, "auto" or x and y in pixels."""
    if text is None or text == "auto":
        return text
    try:
        x, y = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(f"--center takes X,Y in pixels or auto, got {text!r}") from None
    return x, y


def parse_method(texts: Sequence[str]) -> str | dict[str, str]:
    """Return what --method says: one method, or methods by phase."""
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    if not all("=" in text for text in texts):
        raise ValueError(f"--method takes one method, or PHASE=METHOD each time, got {texts!r}")
    return dict(text.rsplit("=", 1) for text in texts)


def _parse_acquisition(
    bundle: ModelBundle, beam_energy: float | None, precession: float | None
) -> Acquisition | None:
    """Return the acquisition as stated, the rest the bundle's; None if nothing was stated."""
    stated = {"beam_energy": beam_energy, "precession_angle": precession}
    stated = {name: value for name, value in stated.items() if value is not None}
    return dataclasses.replace(bundle.acquisition, **stated) if stated else None


def calibrate(scan: ElectronDiffraction2D, scale: float | None, units: str | None) -> None:
    """Set what was stated of the calibration."""
    if scale is None and units is None:
        _check_calibrated(scan)
        return
    if scale is not None:
        if not scale > 0:
            raise ValueError(f"--scale must be positive, got {scale!r}")
        scan.calibration.scale = scale
    scan.calibration.units = units or "1/angstrom"


def _check_calibrated(scan: ElectronDiffraction2D) -> None:
    """Raise an error that says how to calibrate on the command line."""
    from pyxem_nas.patterns import get_scale

    try:
        get_scale(scan, 200.0)  # the energy matters to the value, not to whether there is one
    except ValueError:
        units = [str(axis.units) for axis in scan.axes_manager.signal_axes]
        raise ValueError(
            f"the patterns are not calibrated in reciprocal units, got {units!r}; give the size "
            "of a detector pixel in 1/angstrom, e.g. --scale 0.0123"
        ) from None


def known_center(scan: ElectronDiffraction2D) -> str | None:
    """Return None where the file has a beam centre, else "auto"."""
    # a centre on the corner of the detector is no centre: nobody set it
    return None if any(axis.offset for axis in scan.axes_manager.signal_axes) else "auto"
