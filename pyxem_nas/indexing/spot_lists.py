"""Spots of an orientation near the Ewald sphere, and a polar pattern at them; for compiled code.

Owns how refinement lays out a pattern, the lists of spots that a search can excite, and the
pattern's height at each spot, turned by any angle. float32 throughout, loops that fit vector
registers. What is searched is `refinement_kernel`'s.
"""

from __future__ import annotations

import numba
import numpy as np

from pyxem_nas.indexing.vector_loops import list_near

_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
LANES = 16  # numbers in a vector register: lists are padded to it
MAX_SPOTS = 1024  # reflections near the Ewald sphere, within the reach of a search
# where what is known of spots begins, in one flat array: the compiler sees that none overlap
ERROR, BY_X, BY_Y, AMPLITUDE, SHARPNESS, RING, AZIMUTH = range(0, 7 * MAX_SPOTS, MAX_SPOTS)


@numba.njit(cache=True, nogil=True)
def mark(start, stop, polar, centers, offsets, reaches, normalisation):
    """Set the bins that the detector does not show to -1, in place.

    `reaches` are the rings' largest offsets, in pixels along x and y, (2, n_radial); with no masked
    pixel, rings that lie wholly on the detector are passed over.
    """
    ny, nx = normalisation.shape
    masked = False
    for y in range(ny):
        for x in range(nx):
            masked |= normalisation[y, x] <= 0
    for i in range(start, stop):
        x_room = min(centers[i, 0], nx - 1 - centers[i, 0])
        y_room = min(centers[i, 1], ny - 1 - centers[i, 1])
        for r in range(polar.shape[1]):
            if not masked and reaches[0, r] <= x_room and reaches[1, r] <= y_room:
                continue
            for a in range(polar.shape[2]):
                x, y = centers[i, 0] + offsets[0, r, a], centers[i, 1] + offsets[1, r, a]
                if not (x >= 0 and y >= 0 and x <= nx - 1 and y <= ny - 1):
                    polar[i, r, a] = -1
                elif normalisation[int(y + 0.5), int(x + 0.5)] <= 0:
                    polar[i, r, a] = -1


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def wrap(polar, per_saturation, margin, wrapped):
    """Copy a polar pattern as it counts, its last azimuths before the first, the first behind.

    Return the number of rings from the inside that the detector shows wholly.
    """
    n_azimuthal = polar.shape[1]
    n_shown = polar.shape[0]
    for r in range(polar.shape[0]):
        n_hidden = 0
        for a in range(n_azimuthal):  # no slices: their checks take seconds to compile
            value = polar[r, a]
            n_hidden += 1 if value < 0 else 0
            value /= np.float32(1) + max(value, np.float32(0)) * per_saturation
            wrapped[r, margin + a] = value
        for a in range(margin):
            wrapped[r, a] = wrapped[r, n_azimuthal + a]
        for a in range(margin + 2):
            wrapped[r, margin + n_azimuthal + a] = wrapped[r, margin + a]
        if n_hidden:
            n_shown = min(n_shown, r)
    return n_shown


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def measure_peaks(wrapped, margin):
    """Return the root of the summed squares of a polar pattern's local maxima, and their number.

    The number is that of equal peaks: ``sum(p^2)^2 / sum(p^4)``.
    """
    n_radial, n_azimuthal = wrapped.shape[0], wrapped.shape[1] - 2 * margin - 2
    edge = np.zeros(wrapped.shape[1], np.float32)
    first, last = margin, margin + n_azimuthal
    total, fourth = np.float32(0), np.float32(0)
    for r in range(n_radial):
        above = wrapped[r - 1] if r > 0 else edge
        below = wrapped[r + 1] if r + 1 < n_radial else edge
        row = wrapped[r]
        left, here, right = row[first:last], row[first + 1 : last + 1], row[first + 2 : last + 2]
        above_left, above_right = above[first:last], above[first + 2 : last + 2]
        below_left, below_right = below[first:last], below[first + 2 : last + 2]
        above_here, below_here = above[first + 1 : last + 1], below[first + 1 : last + 1]
        for a in range(n_azimuthal):
            value = here[a]
            # of two equal neighbours the later one counts
            earlier = max(max(left[a], above_left[a]), max(above_here[a], above_right[a]))
            later = max(max(right[a], below_left[a]), max(below_here[a], below_right[a]))
            peak = (value > 0) & (value >= earlier) & (value > later)
            power = value * value if peak else np.float32(0)
            total += power
            fourth += power * power
    return np.sqrt(total), total * total / max(fourth, np.float32(1e-30))


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def list_spots(pattern, q, table, reach, geometry, work):
    """List the spots that the search can excite; return their number, a multiple of `LANES`.

    Fills `work`: of each spot the excitation error, its change by a tilt about x and y, amplitude,
    half the inverse variance of its rocking curve; its ring (whole and fraction) and its azimuth in
    bins. Spots that the detector does not show get the amplitude 0.
    """
    wrapped, margin, n_shown = pattern
    near, spots, rings, weights, heights, profiles = work
    wavenumber, inner, per_step, per_radian = geometry
    w, x, y, z = q[0], q[1], q[2], q[3]
    n_near = list_near(
        table.ravel(),
        table.shape[1],
        np.float32(2 * (x * z + w * y)),
        np.float32(2 * (y * z - w * x)),
        np.float32(1 - 2 * (x * x + y * y)),
        reach,
        near,
        MAX_SPOTS - 2 * LANES,
    )
    n = (n_near + LANES - 1) // LANES * LANES
    near[n_near:n] = near[0]
    w, x, y, z = q[0], q[1], q[2], q[3]
    m00, m01 = np.float32(1 - 2 * (y * y + z * z)), np.float32(2 * (x * y - w * z))
    m10, m11 = np.float32(2 * (x * y + w * z)), np.float32(1 - 2 * (x * x + z * z))
    m20, m21 = np.float32(2 * (x * z - w * y)), np.float32(2 * (y * z + w * x))
    m02, m12 = np.float32(2 * (x * z + w * y)), np.float32(2 * (y * z - w * x))
    m22 = np.float32(1 - 2 * (x * x + y * y))
    g_x, g_y, g_z, amplitudes, sharpness = table[0], table[1], table[2], table[4], table[5]
    for j in range(n):
        i = np.uint64(near[j])
        spots[ERROR + j], spots[BY_X + j], spots[BY_Y + j] = g_x[i], g_y[i], g_z[i]
        spots[AMPLITUDE + j], spots[SHARPNESS + j] = amplitudes[i], sharpness[i]
    per_wavenumber, last = np.float32(1) / wavenumber, np.float32(wrapped.shape[0] - 1.001)
    for j in range(n):
        g_x, g_y, g_z = spots[ERROR + j], spots[BY_X + j], spots[BY_Y + j]
        x = g_x * m00 + g_y * m10 + g_z * m20
        y = g_x * m01 + g_y * m11 + g_z * m21
        z = g_x * m02 + g_y * m12 + g_z * m22
        radius2 = x * x + y * y
        # the sphere to fourth order: better than 1e-5 1/angstrom here
        ratio = radius2 * per_wavenumber * per_wavenumber
        gain = np.float32(1) + z * per_wavenumber
        spots[ERROR + j] = (
            np.float32(0.5) * wavenumber * ratio * (np.float32(1) + np.float32(0.25) * ratio) - z
        )
        spots[BY_X + j] = -gain * y
        spots[BY_Y + j] = gain * x
        ring = (np.sqrt(radius2) - inner) * per_step - np.float32(0.5)
        inside = (ring >= 0) & (ring <= last)
        spots[AMPLITUDE + j] *= np.float32(1) if inside else np.float32(0)
        ring = min(max(ring, np.float32(0)), last)
        rings[j] = np.int32(ring)
        spots[RING + j] = ring - np.float32(np.int32(ring))
        spots[AZIMUTH + j] = _azimuth(x, y) * per_radian
    spots[AMPLITUDE + n_near : AMPLITUDE + n] = np.float32(0)
    if n_shown < wrapped.shape[0]:
        _hide_unseen(wrapped, margin, n_shown, spots, rings, n_near)
    return n


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy", inline="always")
def _azimuth(x, y):
    """Return the angle of (x, y) in 0 to 2 pi, float32, better than 1e-5 (and quicker)."""
    a, b = abs(x), abs(y)
    t = min(a, b) / max(max(a, b), np.float32(1e-9))
    s = t * t
    r = np.float32(-0.01172120) * s + np.float32(0.05265332)
    r = r * s - np.float32(0.11643287)
    r = r * s + np.float32(0.19354346)
    r = r * s - np.float32(0.33262347)
    r = (r * s + np.float32(0.99997726)) * t
    r = np.float32(np.pi / 2) - r if b > a else r
    r = np.float32(np.pi) - r if x < 0 else r
    return np.float32(2 * np.pi) - r if y < 0 else r


@numba.njit(cache=True, error_model="numpy")
def _hide_unseen(wrapped, margin, n_shown, spots, rings, n):
    """Set the amplitude of spots to 0 where a bin around them is marked as unseen."""
    for j in range(n):
        r, a = rings[j], margin + int(spots[AZIMUTH + j])
        if r + 1 < n_shown:
            continue
        lowest = min(
            min(wrapped[r, a], wrapped[r, a + 1]), min(wrapped[r + 1, a], wrapped[r + 1, a + 1])
        )
        if lowest < 0:
            spots[AMPLITUDE + j] = np.float32(0)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def take_profiles(pattern, spots, rings, n, n_bins, profiles):
    """Fill `profiles` (n_bins, n) with the pattern along azimuth at the ring of each spot.

    Between rings; the bins are the last one before the spot and its neighbours to both sides. From
    then on the azimuth in `spots` is what lies between that bin and the spot.
    """
    wrapped, margin, _ = pattern
    first = margin + 1 - n_bins // 2
    width = wrapped.shape[1]
    flat = wrapped.ravel()
    for j in range(n):
        azimuth = spots[AZIMUTH + j]
        a = np.int32(azimuth)
        spots[AZIMUTH + j] = azimuth - np.float32(a)
        fraction = spots[RING + j]
        at = np.int64(rings[j]) * width + a + first
        for k in range(n_bins):
            low, high = flat[at + k], flat[at + width + k]
            profiles[k, j] = low + fraction * (high - low)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def sample(profiles, spots, n, n_bins, shift, heights):
    """Fill `heights` with the pattern at each spot, turned by `shift` azimuthal bins."""
    whole = int(np.floor(shift))
    at = min(max(n_bins // 2 - 1 + whole, 0), n_bins - 3)
    rest = np.float32(shift - whole)
    fractions, out = spots[AZIMUTH : AZIMUTH + n], heights[:n]
    first, second, third = profiles[at, :n], profiles[at + 1, :n], profiles[at + 2, :n]
    for j in range(n):
        along = fractions[j] + rest
        over = along >= 1
        low = second[j] if over else first[j]
        high = third[j] if over else second[j]
        along -= np.float32(1) if over else np.float32(0)
        # a bin marked as unseen holds -1
        out[j] = max(low + along * (high - low), np.float32(0))
