"""The cameras that the accuracy benchmark looks through: a committed configuration.

`benchmarks/bloch.py` draws with them, `benchmarks/accuracy.py` indexes what they give. They span
scale 0.015 to 0.03 1/angstrom per pixel, spot sigma 1 to 2.5 pixels, 2,000 to 200,000 diffracted
electrons a pattern, background, centre, ellipticity, beam stop and camera response.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Camera:
    """One camera; see the comments for units. All patterns have 144 x 144 pixels of 8 bits."""

    name: str
    scale: float  # 1/angstrom per pixel
    spot_sigma: float  # pixels
    dose: float  # diffracted electrons a pattern
    background: float  # electrons of the smooth background, of the dose
    background_decay: float  # 1/angstrom
    saturation: float  # full scale, of the peak of a spot that holds a tenth of the dose
    gamma: float  # exponent of the response; 1 is linear
    readout: float  # standard deviation of the readout noise in counts
    center_offset: float = 2.0  # pixels: the beam's distance from the middle, at most
    center_error: float = 0.5  # pixels: error of the centre that the methods are given, at most
    ellipticity: float = 0.0  # axes' ratio minus 1; the scale is right on average
    ellipse_azimuth: float = 0.0  # degrees, counter-clockwise from +x, of the longer axis
    beam_stop: float = 0.0  # width of the bar in pixels, 0 is none
    beam_stop_azimuth: float = 0.0  # degrees, where the bar comes in from


CAMERAS = (
    Camera("bright", 0.024, 1.5, 200_000, 0.3, 0.35, 0.6, 0.6, 1.0),
    Camera("linear", 0.020, 1.2, 50_000, 0.5, 0.3, 0.5, 1.0, 1.0),
    Camera("dim", 0.026, 1.8, 2_000, 0.8, 0.3, 0.8, 0.8, 0.5),
    Camera("long", 0.015, 2.5, 20_000, 1.0, 0.25, 0.7, 0.7, 1.0),
    Camera("short", 0.030, 1.0, 30_000, 0.6, 0.5, 0.6, 0.5, 1.5),
    Camera(
        "elliptic", 0.022, 2.0, 40_000, 0.8, 0.3, 0.5, 0.7, 1.0,
        ellipticity=0.02, ellipse_azimuth=35.0,
    ),
    Camera(
        "beam stop", 0.023, 1.6, 10_000, 1.5, 0.25, 0.6, 0.7, 1.0,
        ellipticity=0.01, ellipse_azimuth=100.0, beam_stop=7.0, beam_stop_azimuth=215.0,
    ),
)  # fmt: skip
"""All cameras."""


DOSE_SWEEP = tuple(
    Camera(f"{dose} electrons", 0.024, 1.5, dose, 1.0, 0.3, 0.6, 0.7, 1.0)
    for dose in (300, 1_000, 3_000, 10_000, 30_000, 200_000)
)
"""One camera at several doses: where a method breaks, all else equal."""


def get_cameras(names: list[str] | None = None) -> list[Camera]:
    """Return cameras by name; None: `CAMERAS`, ["dose sweep"]: `DOSE_SWEEP`."""
    if names == ["dose sweep"]:
        return list(DOSE_SWEEP)
    by_name = {camera.name: camera for camera in CAMERAS}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise ValueError(f"there are no cameras {unknown!r}; there are {list(by_name)!r}")
    return list(CAMERAS) if names is None else [by_name[name] for name in names]
