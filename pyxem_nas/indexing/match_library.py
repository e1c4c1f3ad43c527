"""Libraries of exhaustive matching: a phase's templates as Fourier coefficients along azimuth.

Owns the library of a phase, reduced in rank, made once, kept in memory and on disk. What a template
is belongs to `template_drawing`, what is done with the library to `matching`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import threading
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs

from pyxem_nas.diffraction import (
    Acquisition,
    get_reflections,
    laue_operations,
    multiply_quaternions,
)
from pyxem_nas.file_writing import replacing
from pyxem_nas.indexing import matching_kernel as kernel
from pyxem_nas.indexing.template_drawing import (
    MatchingSettings,
    count_harmonics,
    draw_templates,
    order_harmonics,
    sample_directions,
    take_harmonics,
    turn_to_directions,
)
from pyxem_nas.patterns import DescriptorSpec

if TYPE_CHECKING:
    from orix.crystal_map import Phase

_logger = logging.getLogger(__name__)

_SCHEMA = 5  # of the files on disk: raise it when the meaning of an array changes
_MEMORY = 2**29  # bytes of libraries that are kept
_ARRAYS = ("references", "symmetry", "bases", "coefficients", "ranks")  # kept on disk
_CHUNK = 512  # templates drawn at once: 15 MB
_libraries: OrderedDict[str, MatchLibrary] = OrderedDict()
_libraries_lock = threading.Lock()


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
