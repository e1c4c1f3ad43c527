"""Synthetic scans of known truth.

Owns what a demo, a test or a benchmark needs when no microscope is at hand: whole scans of a
polycrystal as a camera records them. Phases are `specimens`', spots come from `diffraction`, image
and shot noise from `camera`; the intensities are two-beam ones of a specimen of varying thickness,
not the templates' kinematical ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
from orix.crystal_map import CrystalMap, PhaseList
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.special import ndtr

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import (
    Acquisition,
    excitation_error,
    get_reflections,
    multiply_quaternions,
    quaternions_to_matrices,
    random_quaternions,
    rocking_factor,
)
from pyxem_nas.maps import NOT_INDEXED, make_crystal_map
from pyxem_nas.scans.camera import (
    _draw_background,
    _draw_spot,
    _expose,
    _next,
    _noise_tables,
)
from pyxem_nas.scans.randomization import Randomization

if TYPE_CHECKING:
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["simulate_scan"]

_RECIPROCAL_RADIUS = 1.85  # 1/angstrom
_INELASTIC_MEAN_FREE_PATH = 900.0  # angstrom
_SCRAMBLING = 0.35  # sigma of the log-normal factor of each reflection in each grain
_SPREAD = 0.3  # root mean square deviation of an orientation from its grain's, degrees
_BOUNDARY = 0.5  # sigma in positions of the probe and of the inclination of a grain boundary
_PEDESTAL, _READOUT = 16.0, 2.5  # counts of an unlit NanoMEGAS camera and their noise
_MAX_SPOTS = 1024


def simulate_scan(
    phase_list: PhaseList,
    shape: tuple[int, ...],
    acquisition: Acquisition,
    *,
    seed: int,
    n_grains: int | None = None,
    pattern_shape: tuple[int, int] = (144, 144),
    scale: float = 0.0246,
    step: float = 5.0,
    n_electrons: float = 5e4,
    spot_sigma: float = 1.6,
    thickness: tuple[float, float] = (200.0, 600.0),
    gamma: float = 0.6,
    vacuum_share: float = 0.02,
) -> tuple[ElectronDiffraction2D, CrystalMap]:
    """Simulate a diffraction scan of a polycrystal as a camera records it, and its truth.

    Each grain has one phase and one orientation, with a spread of 0.3 degrees inside it. At its
    boundary two grains share a pattern. Thickness, and with it the intensities, changes over the
    scan; the direct beam stands off the centre and drifts; a part of the scan is a hole.

    Parameters
    ----------
    phase_list
        Phases with the IDs 0 to n - 1; each gets the same number of grains, give or take one.
    shape
        Positions of the scan, (nx,) or (ny, nx).
    acquisition
        Beam energy and precession.
    seed
        The same seed gives the same bytes.
    n_grains
        Number of grains. None is one for 100 positions, but at least one for each phase.
    pattern_shape
        Pixels of a pattern, (ny, nx).
    scale
        Size of a pixel in 1/angstrom.
    step
        Distance of neighbouring positions in nm.
    n_electrons
        Electrons that fall on each position of the specimen.
    spot_sigma
        Standard deviation of a spot in pixels.
    thickness
        Thinnest and thickest part of the specimen in angstrom.
    gamma
        Exponent of the camera's response; 1 is linear.
    vacuum_share
        Share of the scan that is a hole.

    Returns
    -------
    signal
        Patterns of shape (..., ny, nx), uint8, y down, calibrated in 1/angstrom; the
        calibration's centre is the mean position of the direct beam to within half a pixel.
    truth
        Phase and orientation of the crystal that has the greater part of each position, phase -1
        in the hole. Properties: `grain` (-1 in the hole), `overlap` (share of the other crystal,
        0 to 0.5) and `thickness` in angstrom.

    Raises
    ------
    ValueError
        If the shape has not one or two axes, or the grains are fewer than 1 or more than the
        positions.

    Notes
    -----
    A reflection at the excitation error s diffracts (pi t / xi)^2 sinc^2(pi t s_eff) of the beam,
    averaged over precession, with t the thickness, xi its extinction distance and s_eff^2 = s^2 +
    xi^-2 (Williams and Carter 2009, eqs. 13.47 and 13.48). All of them compete for the beam, and
    many-beam interaction is imitated by a log-normal factor, fixed for a reflection in a grain.

    Examples
    --------
    >>> from pyxem_nas import example_phases
    >>> s, truth = simulate_scan(example_phases(), (8, 9), Acquisition(), seed=1)
    >>> s, truth.shape
    (<ElectronDiffraction2D, title: Simulated scan, dimensions: (9, 8|144, 144)>, (8, 9))
    """
    n_grains = _count_grains(shape, n_grains, len(phase_list.ids))
    rng = np.random.default_rng(seed)
    grain, weight = _grow_grains(shape, n_grains, rng)
    grain_phase = rng.permutation(np.arange(n_grains) % len(phase_list.ids))
    spread = np.deg2rad(_SPREAD / 3**0.5) / 2 * _smooth_fields(shape, 3, rng)
    turn = np.concatenate([np.sqrt(1 - (spread**2).sum(axis=1, keepdims=True)), spread], axis=1)
    quaternions = multiply_quaternions(random_quaternions(n_grains, rng)[grain], turn[:, None])
    hole = _make_hole(shape, vacuum_share, rng)
    weight[hole] = 0
    low, high = thickness
    depth = low + (high - low) * ndtr(_smooth_fields(shape, 1, rng)[:, 0])
    depth[hole] = 0
    center = (np.array(pattern_shape[::-1]) - 1) / 2 + rng.uniform(-3, 3, 2)  # x, y
    centers = center + 0.4 * _smooth_fields(shape, 2, rng)
    reflections = get_reflections(
        [phase_list[i] for i in phase_list.ids], reciprocal_radius=_RECIPROCAL_RADIUS
    )
    scrambling = _SCRAMBLING * rng.standard_normal((n_grains, len(reflections.hkl)))
    camera = {"dose": n_electrons, "scale": scale, "spot_width": spot_sigma * scale, "gamma": gamma}
    patterns = _draw_scan(
        (reflections.vectors, reflections.extinction, np.asarray(reflections.bounds)),
        np.exp(scrambling).astype(np.float32),
        grain,
        grain_phase[grain],
        weight,
        quaternions_to_matrices(quaternions),
        _make_parameters(acquisition, depth, camera, rng),
        centers,
        rng.integers(1, 2**63, len(grain), dtype=np.uint64),
        1 / acquisition.wavelength,
        tuple(int(n) for n in pattern_shape),
    )
    signal = _make_signal(patterns.reshape(*shape, *pattern_shape), acquisition, step, scale)
    signal.calibration.center = tuple(np.round(centers.mean(axis=0) + rng.uniform(-0.2, 0.2, 2), 2))
    columns = {
        "phase_id": np.where(hole, NOT_INDEXED, grain_phase[grain[:, 0]]),
        "rotations": quaternions[:, :1],
        "grain": np.where(hole, -1, grain[:, 0]),
        "overlap": weight[:, 1],
        "thickness": depth,
    }
    return signal, make_crystal_map(columns, phase_list, shape=shape, step=(step,) * len(shape))


def _count_grains(shape: tuple[int, ...], n_grains: int | None, n_phases: int) -> int:
    """Return the number of grains, one in a hundred positions if it is not stated."""
    if len(shape) not in (1, 2) or min(shape) < 1:
        raise ValueError(f"shape must be (nx,) or (ny, nx) without zeros, got {shape!r}")
    n_positions = int(np.prod(shape))
    n_grains = max(n_phases, n_positions // 100) if n_grains is None else n_grains
    if not 1 <= n_grains <= n_positions:
        raise ValueError(f"n_grains must be 1 to {n_positions} for {shape!r}, got {n_grains!r}")
    return n_grains


def _grow_grains(
    shape: tuple[int, ...], n_grains: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two nearest grains of each position and their shares, shapes (n, 2)."""
    positions = np.indices(shape).reshape(len(shape), -1).T.astype(float)
    # seeds on distinct positions, so that no grain is empty
    seeds = positions[rng.choice(len(positions), n_grains, replace=False)]
    seeds += rng.uniform(-0.25, 0.25, seeds.shape)
    distance, grain = cKDTree(seeds).query(positions, k=min(2, n_grains))
    if n_grains == 1:
        return np.zeros((len(positions), 2), int), np.tile([1.0, 0.0], (len(positions), 1))
    between = np.linalg.norm(seeds[grain[:, 0]] - seeds[grain[:, 1]], axis=1)
    to_boundary = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * between)
    share = ndtr(to_boundary / _BOUNDARY)
    return grain, np.stack([share, 1 - share], axis=1)


def _smooth_fields(shape: tuple[int, ...], n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n smooth random fields over the scan, zero mean, unit variance, shape (points, n)."""
    sigma = max(shape) / 6
    fields = rng.standard_normal((n, *shape))
    fields = gaussian_filter(fields, (0, *(sigma,) * len(shape)), mode="reflect").reshape(n, -1).T
    fields -= fields.mean(axis=0)
    return fields / np.maximum(fields.std(axis=0), 1e-12)


def _make_hole(shape: tuple[int, ...], share: float, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of a round hole that takes a share of the scan, boolean, shape (n,)."""
    positions = np.indices(shape).reshape(len(shape), -1).T
    distance = np.linalg.norm(positions - rng.uniform(0.2, 0.8, len(shape)) * shape, axis=1)
    hole = np.zeros(len(positions), bool)
    hole[np.argsort(distance, kind="stable")[: round(share * len(positions))]] = True
    return hole


def _make_parameters(
    acquisition: Acquisition, depth: np.ndarray, camera: dict[str, float], rng: np.random.Generator
) -> np.ndarray:
    """Return what the kernels of `camera` want to know of each pattern, shape (n,), structured."""
    parameters = np.repeat(Randomization().draw(1, rng), len(depth))
    parameters["precession_angle"] = acquisition.precession_angle
    parameters["thickness"] = depth
    parameters["background"] = 1 - np.exp(-depth / _INELASTIC_MEAN_FREE_PATH)
    parameters["background_decay"], parameters["halo_share"] = 0.25, 0.1
    parameters["debye_waller"] = 0.4
    for name, value in camera.items():
        parameters[name] = value
    return parameters


def _make_signal(
    patterns: np.ndarray, acquisition: Acquisition, step: float, scale: float
) -> ElectronDiffraction2D:
    """Return patterns of shape (..., ny, nx) as a signal with axes and metadata."""
    from pyxem.signals import ElectronDiffraction2D

    signal = ElectronDiffraction2D(patterns)
    signal.metadata.General.title = "Simulated scan"
    for axis, name in zip(signal.axes_manager.navigation_axes, "xy", strict=False):
        axis.name, axis.scale, axis.units = name, step, "nm"
    for axis, name in zip(signal.axes_manager.signal_axes, ("kx", "ky"), strict=True):
        axis.name, axis.scale, axis.units = name, scale, "$A^{-1}$"
    signal.set_experimental_parameters(
        beam_energy=acquisition.beam_energy,
        rocking_angle=float(1000 * np.deg2rad(acquisition.precession_angle)),  # mrad
    )
    return signal


def _draw_scan(
    reflections, scrambling, grain, phase_id, weight, matrices, parameters, centers, seeds,
    wavenumber, pattern_shape,
) -> np.ndarray:  # fmt: skip
    """Return the patterns of all positions, shape (n, ny, nx), uint8."""
    specimen = (*reflections, scrambling, grain, phase_id, weight, matrices, parameters)
    some = np.unique(np.linspace(0, len(grain) - 1, 200).astype(int))
    peaks = _strongest_peaks(*specimen, wavenumber, some)
    peaks = peaks[peaks > 0]
    # one gain for the whole scan: the brighter half of the patterns may saturate
    full_scale = max(1.2 * np.median(peaks), 1.0) if peaks.size else parameters["dose"][0] / 100
    patterns = np.empty((len(grain), *pattern_shape), np.uint8)
    run_rows(
        _draw_patterns,
        len(patterns),
        *specimen, wavenumber, full_scale, centers, seeds, *_noise_tables(), patterns,
    )  # fmt: skip
    return patterns


@numba.njit(cache=True, error_model="numpy")
def _excite(
    vectors, extinction, start, stop, scrambling, matrix, p, weight, wavenumber, spots, n_spots
):  # fmt: skip
    """Append one crystal's spots (x, y, electrons); return (their number, undiffracted share)."""
    precession = np.deg2rad(p.precession_angle)
    reach = max(4 / p.thickness, 0.01)  # the fourth fringe of the rocking curve
    first = n_spots
    total = 0.0
    for j in range(start, stop):
        gx, gy, gz = vectors[j, 0], vectors[j, 1], vectors[j, 2]
        length2 = gx * gx + gy * gy + gz * gz
        x = gx * matrix[0, 0] + gy * matrix[1, 0] + gz * matrix[2, 0]
        y = gx * matrix[0, 1] + gy * matrix[1, 1] + gz * matrix[2, 1]
        z = gx * matrix[0, 2] + gy * matrix[1, 2] + gz * matrix[2, 2]
        radius = np.sqrt(x * x + y * y)
        error = excitation_error(x, y, z, wavenumber)
        if abs(error) > reach + radius * precession or n_spots == _MAX_SPOTS:
            continue
        share = rocking_factor(error, radius, precession, 0.01, 2, extinction[j], p.thickness)
        share *= (np.pi * p.thickness * extinction[j]) ** 2 * scrambling[j]
        share *= np.exp(-0.5 * p.debye_waller * length2)
        spots[n_spots, 0], spots[n_spots, 1], spots[n_spots, 2] = x, y, share
        total += share
        n_spots += 1
    elastic = weight * p.dose * (1 - p.background)
    for j in range(first, n_spots):
        spots[j, 2] *= elastic / (1 + total)
    return n_spots, weight / (1 + total)


@numba.njit(cache=True, error_model="numpy")
def _excite_both(
    vectors, extinction, bounds, scrambling, grain, phase_id, weight, matrices, p, wavenumber, spots
):  # fmt: skip
    """Fill in the spots of a position's crystals; return (their number, undiffracted share)."""
    n_spots, direct = 0, 1.0
    for crystal in range(2):
        if weight[crystal] > 0.01:
            k = phase_id[crystal]
            n_spots, undiffracted = _excite(
                vectors, extinction, bounds[k], bounds[k + 1], scrambling[grain[crystal]],
                matrices[crystal], p, weight[crystal], wavenumber, spots, n_spots,
            )  # fmt: skip
            direct += undiffracted - weight[crystal]
    return n_spots, direct


@numba.njit(cache=True, error_model="numpy")
def _strongest_peaks(
    vectors, extinction, bounds, scrambling, grain, phase_id, weight, matrices, parameters,
    wavenumber, rows,
):  # fmt: skip
    """Return the height of the strongest spot of some positions, electrons a pixel."""
    peaks = np.zeros(len(rows))
    spots = np.empty((_MAX_SPOTS, 3))
    for k in range(len(rows)):
        i = rows[k]
        p = parameters[i]
        n_spots, _ = _excite_both(
            vectors, extinction, bounds, scrambling, grain[i], phase_id[i], weight[i], matrices[i],
            p, wavenumber, spots,
        )  # fmt: skip
        for j in range(n_spots):
            peaks[k] = max(peaks[k], spots[j, 2] / (2 * np.pi * (p.spot_width / p.scale) ** 2))
    return peaks


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _draw_patterns(
    start, stop, vectors, extinction, bounds, scrambling, grain, phase_id, weight, matrices,
    parameters, wavenumber, full_scale, centers, seeds, poisson, normal, patterns,
):  # fmt: skip
    """Draw and expose the pattern of each position into `patterns`."""
    _, ny, nx = patterns.shape
    for i in range(start, stop):
        p = parameters[i]
        spots = np.empty((_MAX_SPOTS, 3))
        image = np.empty((max(ny, nx), max(ny, nx)), np.float32)
        n_spots, direct = _excite_both(
            vectors, extinction, bounds, scrambling, grain[i], phase_id[i], weight[i], matrices[i],
            p, wavenumber, spots,
        )  # fmt: skip
        x, y = centers[i]
        sigma = p.spot_width / p.scale
        p.direct_beam = direct * (1 - p.background)
        _draw_background(image, x, y, p, p.scale)
        _draw_spot(image, x, y, 1.5 * sigma, p.direct_beam * p.dose)
        for j in range(n_spots):
            row = y - spots[j, 1] / p.scale
            _draw_spot(image, x + spots[j, 0] / p.scale, row, sigma, spots[j, 2])
        state = _expose(image, full_scale, p.gamma, poisson, normal, seeds[i])
        for row in range(ny):
            for column in range(nx):
                state, bits = _next(state)
                unlit = _PEDESTAL + _READOUT * normal[bits >> np.uint64(55)]
                value = image[row, column] + unlit + 0.5
                patterns[i, row, column] = np.uint8(min(max(value, 0.0), 255.0))
