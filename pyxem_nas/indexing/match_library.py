"""Libraries of exhaustive matching: a phase's templates as Fourier coefficients along azimuth.

Owns what a template is (`MatchingSettings`), the beam directions that templates stand for, and the
library of a phase, made once, kept in memory and on disk. What is done with it belongs to
`matching`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import threading
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
from scipy.fft import rfft
from scipy.spatial import cKDTree

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import (
    Acquisition,
    fibonacci_sphere,
    get_reflections,
    laue_operations,
    multiply_quaternions,
    quaternions_to_matrices,
    rotate_vectors,
)
from pyxem_nas.file_writing import replacing
from pyxem_nas.indexing import match_coefficients
from pyxem_nas.indexing import matching_kernel as kernel
from pyxem_nas.indexing.vector_loops import PLACES
from pyxem_nas.patterns import DescriptorSpec

if TYPE_CHECKING:
    from orix.crystal_map import Phase

_logger = logging.getLogger(__name__)

_SCHEMA = 5  # of the files on disk: raise it when the meaning of an array changes
_MEMORY = 2**29  # bytes of libraries that are kept
_ARRAYS = ("references", "symmetry", "bases", "coefficients", "ranks")  # kept on disk
_LEAST_SEEN = 0.25  # of a ring, for it to be compared
_CHUNK = 512  # templates drawn at once: 15 MB
_libraries: OrderedDict[str, MatchLibrary] = OrderedDict()
_libraries_lock = threading.Lock()


@dataclass(frozen=True)
class MatchingSettings:
    """How templates are drawn and compared.

    Parameters
    ----------
    spacing
        Distance between neighbouring beam directions in degrees. None: 2 for Laue groups of 24 and
        more operations, which have few spots and small libraries, 2.5 for the others.
    n_harmonics
        Harmonics along azimuth that are compared, 1 to this; a multiple of 8, below half the
        number of azimuthal bins.
    n_angles
        In-plane angles at which the correlation is looked at; a multiple of 16 up to 256.
    spot_sigma
        Standard deviation of a spot in 1/angstrom.
    intensity_exponent
        Spots weigh as their intensity to this power, which is the structure factor's modulus
        squared times the rocking curve.
    rod_width
        Standard deviation of the rocking curve in 1/angstrom; it ends at three of them.
    tolerance
        Share of the templates' power, at most, that the reduction of their rank may lose; 0 keeps
        all.

    Notes
    -----
    Sigma, exponent and rod width are those of the prototype that the design began with, found on
    Bloch-wave patterns of steel. That the power is of the intensity, rocking curve and all, and not
    of the structure factor alone, was decided on simulations of five other crystals
    (``benchmarks/match_judge.py``): at the grid 72.5 against 68.5 % right. Spacing, harmonics and
    angles are the design's compromises of accuracy and time. `tolerance` changes scores by less
    than 1e-3.

    Raises
    ------
    ValueError
        If the number of angles is another one.
    """

    spacing: float | None = None
    n_harmonics: int = 56
    n_angles: int = 144
    spot_sigma: float = 0.04
    intensity_exponent: float = 0.22
    rod_width: float = 0.02
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.n_angles % 16 or not 16 <= self.n_angles <= 4 * PLACES:
            raise ValueError(
                f"n_angles must be a multiple of 16 up to {4 * PLACES}, got {self.n_angles!r}"
            )

    def get_spacing(self, n_operations: int) -> float:
        """Return the spacing for a proper point group of so many operations."""
        if self.spacing is not None:
            return self.spacing
        return 2.0 if n_operations >= 12 else 2.5


@dataclass(frozen=True, eq=False, repr=False)
class MatchLibrary:
    """Templates of one phase, ready to be compared.

    Parameters
    ----------
    references
        Orientations of the templates at in-plane angle 0, and of their mirror images, shape
        (2, n_templates, 4), lab2crystal, scalar first.
    symmetry
        Operations of the proper group of the Laue group, shape (n_operations, 4).
    bases
        Radial profiles of each harmonic, orthonormal, shape (n_harmonics, n_radial, n_ranks),
        float32; columns beyond `ranks` are 0, so that their number is a multiple of 16.
    coefficients
        Fourier coefficients of the templates in these profiles, as `matching_kernel` wants them:
        tiles of templates, in each the ranks of one harmonic after the other, in each the real
        parts and then the imaginary parts; shape (n_tiles, n_rows, 2 * TILE), float32.
    ranks
        Number of profiles of each harmonic, a multiple of 4, shape (n_harmonics,). Even harmonics
        come first.
    n_angles
        In-plane angles.
    """

    references: np.ndarray
    symmetry: np.ndarray
    bases: np.ndarray
    coefficients: np.ndarray
    ranks: np.ndarray
    n_angles: int

    @property
    def n_templates(self) -> int:
        """Number of templates, mirror images left out."""
        return self.references.shape[1]

    @property
    def n_harmonics(self) -> int:
        """Number of harmonics."""
        return len(self.ranks)

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def __repr__(self) -> str:
        return (
            f"MatchLibrary({self.n_templates} templates and their mirror images, "
            f"{self.n_angles} angles, {self.n_bytes / 2**20:.0f} MiB)"
        )


def get_match_library(
    phase: Phase,
    acquisition: Acquisition,
    spec: DescriptorSpec,
    settings: MatchingSettings | None = None,
    *,
    visible: np.ndarray | None = None,
    fingerprint: bytes | None = None,
    disk_cache: bool = True,
) -> MatchLibrary:
    """Return the library of a phase, making it if no cache has it.

    Parameters
    ----------
    phase
        Phase with a point group and all atoms of the unit cell.
    acquisition
        Beam energy and precession.
    spec
        The descriptors that it is compared with.
    settings
        None: the defaults.
    visible
        Share of each ring that the detector shows, shape (n_radial,). What it does not show is no
        evidence against a template. None: all of all rings.
    fingerprint
        `make_fingerprint` of the phase, where it is known. None: it is made.
    disk_cache
        Whether to read and keep libraries in the user's cache folder (that of platformdirs).

    Raises
    ------
    ValueError
        If the phase has no point group or no atoms.

    Notes
    -----
    A library takes 8 bytes a template, harmonic and profile: 3 MB for a cubic phase, 12 for an
    orthorhombic, 60 for a triclinic one. Making it takes four times as much for a moment. Libraries
    of up to 512 MB together stay in memory.
    """
    settings = settings or MatchingSettings()
    visible = np.ones(spec.n_radial) if visible is None else np.asarray(visible, float)
    visible = np.round(8 * visible) / 8  # cameras that are nearly alike share a library
    fingerprint = fingerprint or make_fingerprint(phase, spec)
    key = _get_key(fingerprint, acquisition, spec, settings, visible)
    with _libraries_lock:  # held while making: other threads wait for the same library
        library = _libraries.pop(key, None)
        if library is None and disk_cache:
            library = _load_library(key, settings)
        if library is None:
            library = _make_library(phase, acquisition, spec, settings, visible)
            if disk_cache:
                _save_library(key, library)
        _libraries[key] = library
        while sum(kept.n_bytes for kept in _libraries.values()) > _MEMORY and len(_libraries) > 1:
            _libraries.popitem(last=False)
    return library


def sample_directions(symmetry: np.ndarray, spacing: float) -> np.ndarray:
    """Return beam directions over the sector of a Laue group, unit vectors (n, 3).

    Parameters
    ----------
    symmetry
        Operations of its proper group, quaternions (n_operations, 4).
    spacing
        Distance between neighbours in degrees.

    Notes
    -----
    A Fibonacci lattice, relaxed (Lloyd's algorithm) under the proper operations and the inversion:
    seen along the opposite direction a crystal gives the mirrored pattern (Friedel's law).
    """
    area = 4 * np.pi * np.rad2deg(1) ** 2 / (2 * len(symmetry))
    n_directions = max(1, round(area / (np.sqrt(3) / 2 * spacing**2)))
    sphere = fibonacci_sphere(2 * 24 * n_directions * len(symmetry))
    general = np.array([0.31, 0.22, 0.92]) / np.linalg.norm([0.31, 0.22, 0.92])
    images = rotate_vectors(symmetry, general)
    nearest = np.abs(sphere @ images.T).max(axis=1)
    sector = sphere[nearest <= sphere @ general + 1e-12]
    directions = sector[:: max(1, len(sector) // n_directions)][:n_directions].copy()
    inverse = symmetry * [1, -1, -1, -1]
    for _ in range(15):
        turned = rotate_vectors(inverse[:, None], directions[None])
        images = np.stack([turned, -turned]).reshape(-1, 3)
        image, owner = np.divmod(cKDTree(images).query(sector)[1], len(directions))
        sign, operation = np.divmod(image, len(symmetry))
        moved = rotate_vectors(symmetry[operation], sector) * np.where(sign, -1, 1)[:, None]
        sums = np.stack(
            [np.bincount(owner, moved[:, i], minlength=len(directions)) for i in range(3)], axis=1
        )
        norm = np.linalg.norm(sums, axis=1, keepdims=True)
        directions = np.where(norm > 0, sums / np.maximum(norm, 1e-12), directions)
    return directions


def _make_library(
    phase: Phase,
    acquisition: Acquisition,
    spec: DescriptorSpec,
    settings: MatchingSettings,
    visible: np.ndarray,
) -> MatchLibrary:
    symmetry = np.ascontiguousarray(laue_operations(phase), np.float64)
    directions = sample_directions(symmetry, settings.get_spacing(len(symmetry)))
    references = turn_to_directions(directions)
    harmonics = order_harmonics(count_harmonics(settings, spec))
    _logger.info("Drawing %d templates of %s", len(references), phase.name)
    spectra = np.concatenate(
        [
            take_harmonics(
                draw_templates(phase, references[k : k + _CHUNK], acquisition, spec, settings),
                spec, harmonics, visible,
            )
            for k in range(0, len(references), _CHUNK)
        ]
    )  # fmt: skip
    bases, ranks = _reduce_rank(spectra, settings.tolerance)
    mirrored = multiply_quaternions(references, np.array([0.0, 0.0, 1.0, 0.0]))
    return MatchLibrary(
        np.stack([references, mirrored]),
        symmetry,
        bases,
        _tile(spectra, bases, ranks),
        ranks,
        settings.n_angles,
    )


def turn_to_directions(directions: np.ndarray) -> np.ndarray:
    """Return quaternions that turn +z onto each direction (n, 3) by the shortest way."""
    x, y, z = directions.T
    quaternions = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)
    quaternions[z < -1 + 1e-12] = (0, 1, 0, 0)
    return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


def count_harmonics(settings: MatchingSettings, spec: DescriptorSpec) -> int:
    """Return the number of harmonics that a descriptor has and the settings want."""
    return max(8, min(settings.n_harmonics, (spec.n_azimuthal - 1) // 2 // 8 * 8))


def order_harmonics(n_harmonics: int) -> np.ndarray:
    """Return the harmonics 1 to n, even ones first: half a turn leaves them and negates the odd."""
    return np.concatenate([np.arange(2, n_harmonics + 1, 2), np.arange(1, n_harmonics + 1, 2)])


def draw_templates(
    phase: Phase,
    quaternions: np.ndarray,
    acquisition: Acquisition,
    spec: DescriptorSpec,
    settings: MatchingSettings,
) -> np.ndarray:
    """Return templates on the descriptor's grid, shape (n, n_radial, n_azimuthal), float32."""
    reach = spec.radial_range[1] + 3 * settings.spot_sigma
    reflections = get_reflections([phase], reciprocal_radius=reach)
    intensity = reflections.intensities
    templates = np.zeros((len(quaternions), *spec.shape), np.float32)
    run_rows(
        match_coefficients.draw,
        len(templates),
        quaternions_to_matrices(quaternions),
        reflections.vectors,
        intensity / intensity.max(),
        settings.intensity_exponent,
        1 / acquisition.wavelength,
        math.radians(acquisition.precession_angle),
        settings.rod_width,
        settings.spot_sigma,
        spec.radii,
        templates,
    )
    return templates


def take_harmonics(
    templates: np.ndarray, spec: DescriptorSpec, harmonics: np.ndarray, visible: np.ndarray
) -> np.ndarray:
    """Return Fourier coefficients along azimuth, shape (n, n_harmonics, n_radial), complex64.

    Bins weigh as their area, which is as their radius; templates are scaled so that the sum of the
    squared and weighed bins that are seen is 1, and coefficients so that the correlation of two
    patterns is the real part of the sum of the product of theirs.
    """
    shown = visible >= _LEAST_SEEN
    weighed = templates * np.where(shown, np.sqrt(spec.radii), 0).astype(np.float32)[:, None]
    norm = np.sqrt(np.einsum("nra,nra,r->n", weighed, weighed, visible))
    scale = np.sqrt(2 / spec.n_azimuthal) / np.maximum(norm, 1e-20)
    spectra = rfft(weighed, axis=2)[:, :, harmonics].transpose(0, 2, 1)
    return (spectra * scale[:, None, None]).astype(np.complex64)


def _reduce_rank(spectra: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the radial profiles (n_harmonics, n_radial, n_ranks) that span templates, and ranks.

    The profiles are real, so that a template and its mirror image, its conjugate, share them.
    """
    n, n_harmonics, n_radial = spectra.shape
    powers, vectors = [], []
    for h in range(n_harmonics):
        parts = np.concatenate([spectra[:, h].real, spectra[:, h].imag]).astype(np.float64)
        power, vector = np.linalg.eigh(parts.T @ parts)
        powers.append(np.maximum(power[::-1], 0))
        vectors.append(vector[:, ::-1])
    # the weakest profiles of all harmonics go, as many as the tolerance allows
    ordered = np.sort(np.concatenate(powers))
    lost = np.cumsum(ordered) <= tolerance * n
    least = ordered[lost][-1] if lost.any() else -1.0
    ranks = np.array([(power > least).sum() for power in powers])
    ranks = (ranks + 3) // 4 * 4
    padded = (n_radial + 3) // 4 * 4
    n_ranks = max(16, -(-ranks.max() // 16) * 16)  # as wide as vectors
    bases = np.zeros((n_harmonics, padded, n_ranks), np.float32)
    for h, (vector, rank) in enumerate(zip(vectors, ranks, strict=True)):
        kept = min(rank, n_radial)
        bases[h, :n_radial, :kept] = vector[:, :kept]
    return bases, ranks.astype(np.int64)


def _tile(spectra: np.ndarray, bases: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return coefficients in the order in which the kernel reads them."""
    n, n_harmonics, _ = spectra.shape
    n_tiles = -(-n // kernel.TILE)
    tiles = np.zeros((n_tiles * kernel.TILE, ranks.sum(), 2), np.float32)
    row = 0
    for h in range(n_harmonics):
        reduced = spectra[:, h] @ bases[h, : spectra.shape[2], : ranks[h]]
        tiles[:n, row : row + ranks[h], 0] = reduced.real
        tiles[:n, row : row + ranks[h], 1] = reduced.imag
        row += ranks[h]
    tiles = tiles.reshape(n_tiles, kernel.TILE, -1, 2).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(tiles.reshape(n_tiles, -1, 2 * kernel.TILE))


def make_fingerprint(phase: Phase, spec: DescriptorSpec) -> bytes:
    """Return a hash of what a library depends on of its phase."""
    reflections = get_reflections([phase], reciprocal_radius=spec.radial_range[1])
    digest = hashlib.sha256(np.round(laue_operations(phase), 6).tobytes())
    for values in (reflections.vectors, reflections.intensities):
        digest.update(values.astype(np.float32).tobytes())
    return digest.digest()


def _get_key(
    fingerprint: bytes,
    acquisition: Acquisition,
    spec: DescriptorSpec,
    settings: MatchingSettings,
    visible: np.ndarray,
) -> str:
    """Return a hash of all that a library depends on."""
    content = [
        _SCHEMA, kernel.TILE, acquisition.to_dict(), spec.to_dict(), dataclasses.asdict(settings),
        visible.tolist(),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    digest.update(fingerprint)
    return digest.hexdigest()[:32]


def _get_cache_path(key: str) -> Path:
    """Return the file of a library."""
    return platformdirs.user_cache_path("pyxem_nas") / "matching" / f"{key}.npz"


def _load_library(key: str, settings: MatchingSettings) -> MatchLibrary | None:
    """Return a library from disk, None where there is none that can be read."""
    path = _get_cache_path(key)
    try:
        with np.load(path, allow_pickle=False) as file:
            return MatchLibrary(*(file[name] for name in _ARRAYS), settings.n_angles)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        _logger.warning("Cannot read a library from %s (%s); it is made again", path, error)
        return None


def _save_library(key: str, library: MatchLibrary) -> None:
    """Write a library to disk; a folder that cannot be written to is no error."""
    path = _get_cache_path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{name: getattr(library, name) for name in _ARRAYS})
    except OSError as error:
        _logger.warning("Cannot keep a library at %s (%s)", path, error)
