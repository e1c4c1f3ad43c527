"""Classical template matching: pyxem's matcher behind plain arrays.

Owns the template library of a phase (simulated once, kept in memory and on disk) and
the meaning of what pyxem's ``PolarDiffraction2D.get_orientation`` returns. Leaves the making of
polar patterns to `patterns`, the choice of rows that come here to ``indexing.block``, and
orientations finer than the template grid to `refinement`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import tempfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import platformdirs
from orix.crystal_map import Phase
from orix.quaternion import Rotation
from orix.sampling import get_sample_reduced_fundamental
from pyxem.signals import LazyPolarDiffraction2D

from pyxem_nas.diffraction import (
    Acquisition,
    get_reflections,
    get_unit_cell,
    multiply_quaternions,
    simulate_spots,
    to_orix,
)

__all__ = ["TemplateLibrary", "TemplateSettings", "get_template_library", "match_templates"]

_logger = logging.getLogger(__name__)

_SCHEMA = 3  # of the files on disk: raise it when the meaning of an array changes
_N_LIBRARIES = 8  # kept in memory; a phase of group mmm at 1 degree takes about 6 MB
_N_PATTERNS_PER_CHUNK = 4  # pyxem computes the first chunk twice, to learn the output's shape
_ARRAYS = ("quaternions", "spot_radius", "spot_azimuth", "spot_intensity")  # kept on disk
_libraries: OrderedDict[str, TemplateLibrary] = OrderedDict()
_libraries_lock = threading.Lock()
# numba's fallback threading layer ends the process if two threads start a parallel kernel at once.
_matching_lock = threading.Lock()


@dataclass(frozen=True)
class TemplateSettings:
    """Specify how the templates of a phase are simulated; see :func:`get_template_library`."""

    beam_energy: float
    precession_angle: float
    angular_resolution: float
    reciprocal_radius: float
    max_excitation_error: float
    minimum_intensity: float
    intensity_exponent: float

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("precession_angle", "minimum_intensity") and not value > 0:
                raise ValueError(f"{field.name} must be positive, got {value!r}")


@dataclass(frozen=True, eq=False, repr=False)
class TemplateLibrary:
    """Hold the simulated spots of one phase for all beam directions, in-plane angle left out.

    Parameters
    ----------
    phase_name
        Name of the phase.
    settings
        How the templates were simulated.
    quaternions
        Orientations of the templates, shape (n_templates, 4), float64, lab2crystal, scalar first.
    spot_radius, spot_azimuth, spot_intensity
        Spots of shape (n_templates, n_spots), float32, padded with zero intensity: distance from
        the beam in 1/angstrom, azimuth in radians (counter-clockwise from +x, y up) and intensity
        raised to ``settings.intensity_exponent``.
    """

    phase_name: str
    settings: TemplateSettings
    quaternions: np.ndarray
    spot_radius: np.ndarray
    spot_azimuth: np.ndarray
    spot_intensity: np.ndarray

    @property
    def n_templates(self) -> int:
        """Number of templates."""
        return len(self.quaternions)

    def __repr__(self) -> str:
        return (
            f"TemplateLibrary({self.phase_name!r}, {self.n_templates} templates, "
            f"at most {self.spot_radius.shape[1]} spots, {self.settings})"
        )

    def get_bins(self, radii: np.ndarray, n_azimuthal: int) -> BinnedTemplates:
        """Return the spots as indices into polar patterns that have one empty bin before `radii`.

        Notes
        -----
        Replaces ``diffsims.simulations.Simulation2D.polar_flatten_simulations``, which loses spots
        on the negative x axis (it clips azimuths instead of wrapping them and leaves out the last
        bin) and piles those nearer than the first radius into the first bin. pyxem's kernel stops
        at the first spot of radial index 0: padding has to be 0 and to come last.
        """
        radial_step = (radii[-1] - radii[0]) / (len(radii) - 1)
        radial = np.rint((self.spot_radius - radii[0]) / radial_step).astype(int) + 1
        azimuthal = np.rint(self.spot_azimuth * n_azimuthal / (2 * np.pi)).astype(int) % n_azimuthal
        outside = (self.spot_intensity <= 0) | (radial < 1) | (radial > len(radii))
        n_spots = max(1, (~outside).sum(axis=1).max())
        order = np.argsort(outside, axis=1, kind="stable")[:, :n_spots]
        bins = BinnedTemplates(
            *(
                np.take_along_axis(np.where(outside, 0, values), order, axis=1)
                for values in (radial, azimuthal, self.spot_intensity.astype(float))
            )
        )
        # A template without spots would be normalised to NaN, which wins every comparison.
        bins.intensity[bins.radial_index[:, 0] == 0, 0] = 1
        return bins


@dataclass(frozen=True, eq=False, repr=False)
class BinnedTemplates:
    """Hold templates as bin indices, each array of shape (n_templates, n_spots)."""

    radial_index: np.ndarray
    azimuthal_index: np.ndarray
    intensity: np.ndarray

    def polar_flatten_simulations(
        self, radial_axes: np.ndarray, azimuthal_axes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the three arrays: this is what pyxem asks of a simulation."""
        return self.radial_index, self.azimuthal_index, self.intensity


def get_template_library(
    phase: Phase,
    acquisition: Acquisition,
    *,
    angular_resolution: float = 1.0,
    reciprocal_radius: float = 1.8,
    max_excitation_error: float = 0.02,
    minimum_intensity: float = 1e-2,
    intensity_exponent: float = 0.5,
    disk_cache: bool = True,
) -> TemplateLibrary:
    """Return the templates of a phase, simulating them if no cache has them.

    Parameters
    ----------
    phase
        Phase with all atoms of the unit cell.
    acquisition
        Anything with ``beam_energy`` in kV and ``precession_angle`` in degrees.
    angular_resolution
        Distance between neighbouring beam directions in degrees.
    reciprocal_radius
        Longest reciprocal lattice vector in 1/angstrom.
    max_excitation_error
        Largest distance of a reflection from the Ewald sphere, and width of its rod, in 1/angstrom.
    minimum_intensity
        Weakest reflection kept, relative to the strongest diffracted one of the same template.
    intensity_exponent
        Power applied to the simulated intensities; 0.5 goes with square-rooted patterns.
    disk_cache
        Whether to read and keep templates in the user's cache folder (that of platformdirs).

    Returns
    -------
    library
        Templates over the beam directions of the sector of the crystal's Laue group, in its own
        axes.

    Raises
    ------
    ValueError
        If the phase has no atoms, or a setting is not positive.

    Notes
    -----
    A template stands for its whole cell of the grid. Tilting the crystal within the cell moves
    reflections through the Ewald sphere as precession does: the standard deviation of the tilt,
    ``angular_resolution / sqrt(12)``, is added in quadrature to the precession angle.

    Examples
    --------
    >>> library = get_template_library(phase, acquisition)  # doctest: +SKIP
    >>> quaternions, scores = match_templates(polar, radii, library)  # doctest: +SKIP
    """
    if len(phase.structure) == 0:
        raise ValueError(
            f"templates need a phase with atoms, got {phase!r} with none; read its CIF file with "
            "pyxem_nas.read_phases"
        )
    settings = TemplateSettings(
        float(acquisition.beam_energy),
        float(acquisition.precession_angle),
        angular_resolution,
        reciprocal_radius,
        max_excitation_error,
        minimum_intensity,
        intensity_exponent,
    )
    key = _get_key(phase, settings)
    with _libraries_lock:  # held while simulating: other threads wait for the same library
        library = _libraries.pop(key, None)
        if library is None and disk_cache:
            library = _load_library(key, phase.name, settings)
        if library is None:
            library = _simulate_library(phase, settings)
            if disk_cache:
                _save_library(key, library)
        _libraries[key] = library
        while len(_libraries) > _N_LIBRARIES:
            _libraries.popitem(last=False)
    return library


def match_templates(
    polar: np.ndarray,
    radii: np.ndarray,
    library: TemplateLibrary,
    *,
    n_best: int = 1,
    frac_keep: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the orientations of the templates most like each polar pattern.

    Parameters
    ----------
    polar
        Patterns of shape (m, n_radial, n_azimuthal), float32, not negative, background subtracted,
        square root of counts. Bin k of azimuth is centred at k * 360 / n_azimuthal degrees,
        counter-clockwise from +x with y up.
    radii
        Centres of the radial bins, shape (n_radial,), evenly spaced, in 1/angstrom.
    library
        Templates of one phase.
    n_best
        Number of templates to return for each pattern. Each gives its best in-plane angle only.
    frac_keep
        Share of the templates compared in full, chosen by their radial profiles.

    Returns
    -------
    quaternions
        Orientations of shape (m, k, 4), float64, unit, lab2crystal, scalar first and not negative,
        with k the lesser of `n_best` and the number of templates.
    scores
        Shape (m, k), float32, descending: scalar product of template and pattern, both of unit
        norm (spots wider than a bin keep it well below 1). An empty pattern scores 0, and its
        orientation means nothing.

    Raises
    ------
    ValueError
        If the arrays' shapes do not fit, radii are uneven, or an option is out of range.

    Notes
    -----
    pyxem returns template, correlation, in-plane angle and factor. The angle is its azimuth axis
    *looked up at the number of bins by which the template was turned*: an axis that starts at -180
    degrees, as pyxem's own do, gives angles 180 degrees short. Here both axes count bins from 0.
    :func:`_compose_quaternions` tells what becomes of mirrored templates (factor -1).

    References
    ----------
    N. Cautaerts et al., Ultramicroscopy 237, 113517 (2022), doi:10.1016/j.ultramic.2022.113517.
    """
    polar, radii = np.asarray(polar, dtype=np.float32), np.asarray(radii, dtype=float)
    _check_arguments(polar, radii, n_best, frac_keep)
    k = min(n_best, library.n_templates)
    if len(polar) == 0:
        return np.zeros((0, k, 4)), np.zeros((0, k), dtype=np.float32)
    # Axes are left in bins: with unequal scales HyperSpy would warn at every call. An empty bin
    # goes first (see get_bins). Lazy, as pyxem's second map would show a progress bar.
    padded = np.pad(np.maximum(polar, 0), ((0, 0), (1, 0), (0, 0)))
    signal = LazyPolarDiffraction2D(da.from_array(padded, chunks=(_N_PATTERNS_PER_CHUNK, -1, -1)))
    templates = library.get_bins(radii, polar.shape[2])
    # Synchronous: the kernel itself is parallel, and we may be inside a task of a dask worker.
    with _matching_lock, dask.config.set(scheduler="synchronous"):
        matches = signal.get_orientation(templates, n_best=k, frac_keep=frac_keep).data.compute()
    index, correlation, angle_deg, factor = np.moveaxis(matches, -1, 0)
    n_bins_turned = np.rint(np.deg2rad(angle_deg))  # pyxem took our bins for radians
    norm = np.linalg.norm(padded.astype(float), axis=(1, 2))[:, np.newaxis]
    scores = np.divide(correlation, norm, out=np.zeros_like(correlation), where=norm > 0)
    angle = n_bins_turned * 2 * np.pi / polar.shape[2]
    template_quaternions = library.quaternions[index.astype(int)]
    quaternions = _compose_quaternions(template_quaternions, angle, factor < 0)
    return quaternions, scores.astype(np.float32)


def _check_arguments(polar: np.ndarray, radii: np.ndarray, n_best: int, frac_keep: float) -> None:
    """Raise if the arguments of `match_templates` cannot be used."""
    if polar.ndim != 3 or radii.shape != polar.shape[1:2] or len(radii) < 2:
        raise ValueError(
            "polar must have shape (m, n_radial, n_azimuthal) and radii (n_radial,), n_radial > 1, "
            f"got {polar.shape} and {radii.shape}"
        )
    steps = np.diff(radii)
    if not np.allclose(steps, steps.mean(), rtol=1e-3, atol=0) or steps[0] <= 0:
        raise ValueError(f"radii must rise in even steps, got steps {steps!r} 1/angstrom")
    if n_best < 1 or not 0 < frac_keep <= 1:
        raise ValueError(
            f"n_best must be at least 1 and frac_keep in (0, 1], got {n_best!r} and {frac_keep!r}"
        )


def _compose_quaternions(
    template: np.ndarray, angle: np.ndarray, mirrored: np.ndarray
) -> np.ndarray:
    """Return the orientations of turned, and where asked mirrored, templates.

    `template` has shape (..., 4), `angle` (radians, counter-clockwise turn of the pattern) and
    `mirrored` (whether y was first turned to -y) have shape (...).

    Notes
    -----
    A reflection g (crystal) is seen at v = R^-1 g (lab). Turning the pattern by d gives
    v' = Rz(d) R^-1 g, hence R' = R Rz(-d). Mirroring gives v' = Rz(d) My R^-1 g, hence
    R' = S R My Rz(-d), with S improper and |F(S g)| = |F(g)|. The inversion is such an S in every
    Laue group, with or without mirrors (Friedel), and turns My into a half turn about y:
    R' = R Ry(180) Rz(-d), the crystal seen along the opposite beam direction. So the sector of the
    Laue group and its mirrored templates cover all orientations, in every Laue group.
    """
    cosine, sine, zero = np.cos(angle / 2), np.sin(angle / 2), np.zeros_like(angle)
    turn = np.stack([cosine, zero, zero, -sine], axis=-1)
    half_turn_and_turn = np.stack([zero, -sine, cosine, zero], axis=-1)  # Ry(180) Rz(-d)
    in_plane = np.where(mirrored[..., np.newaxis], half_turn_and_turn, turn)
    quaternions = (Rotation(template) * Rotation(in_plane)).data
    return np.where(quaternions[..., :1] < 0, -quaternions, quaternions)


def _simulate_library(phase: Phase, settings: TemplateSettings) -> TemplateLibrary:
    """Simulate the templates of a phase; `diffraction` agrees with diffsims and is faster."""
    # orix' sector is right in the axes of its own group, which need not be the crystal's
    laue, turn = to_orix(phase)
    sector = get_sample_reduced_fundamental(settings.angular_resolution, point_group=laue)
    rotations = multiply_quaternions(turn * [1, -1, -1, -1], sector.data)
    _logger.info("Simulating %d templates of %s", len(rotations), phase.name)
    cell_tilt = settings.angular_resolution / np.sqrt(12)
    acquisition = Acquisition(
        settings.beam_energy, float(np.hypot(settings.precession_angle, cell_tilt))
    )
    spots = simulate_spots(
        get_reflections([phase], reciprocal_radius=settings.reciprocal_radius),
        rotations,
        acquisition,
        max_excitation_error=settings.max_excitation_error,
        reciprocal_radius=settings.reciprocal_radius,
    )
    polar = [_get_polar(positions, intensity, settings) for positions, intensity, _ in spots]
    padded = np.zeros((3, len(polar), max(1, *(s.shape[1] for s in polar))), dtype=np.float32)
    for i, values in enumerate(polar):
        padded[:, i, : values.shape[1]] = values
    return TemplateLibrary(phase.name, settings, rotations.astype(float), *padded)


def _get_polar(
    positions: np.ndarray, intensity: np.ndarray, settings: TemplateSettings
) -> np.ndarray:
    """Return radius, azimuth and weight, shape (3, n), of a template's spots."""
    kept = intensity > intensity.max(initial=0) * settings.minimum_intensity
    x, y = positions[kept].T
    weight = intensity[kept] ** settings.intensity_exponent
    return np.stack([np.hypot(x, y), np.arctan2(y, x), weight])


def _get_key(phase: Phase, settings: TemplateSettings) -> str:
    """Return a hash of all that the templates depend on."""
    cell = get_unit_cell(phase)
    atoms = [cell.positions, cell.occupancy, cell.displacement]
    content = [_SCHEMA, version("diffsims"), version("orix"), phase.name, cell.elements]
    content += [np.round(array, 6).tolist() for array in (cell.base, *atoms)]
    content += [dataclasses.asdict(settings)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _get_cache_path(key: str) -> Path:
    """Return the file of a library."""
    return platformdirs.user_cache_path("pyxem_nas") / "templates" / f"{key}.npz"


def _load_library(key: str, phase_name: str, settings: TemplateSettings) -> TemplateLibrary | None:
    """Return a library from disk, None where there is none that can be read."""
    path = _get_cache_path(key)
    try:
        with np.load(path, allow_pickle=False) as file:
            return TemplateLibrary(phase_name, settings, *(file[name] for name in _ARRAYS))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        _logger.warning("Cannot read templates from %s (%s); they are made again", path, error)
        return None


def _save_library(key: str, library: TemplateLibrary) -> None:
    """Write a library to disk; a folder that cannot be written to is no error."""
    path = _get_cache_path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez_compressed(file, **{name: getattr(library, name) for name in _ARRAYS})
        os.replace(file.name, path)  # whole or not at all, for other processes
    except OSError as error:
        _logger.warning("Cannot keep templates at %s (%s)", path, error)
