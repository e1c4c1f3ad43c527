"""The compiled search of `refinement`: one polar pattern, its candidates, their best scores.

Owns the lists of spots near the Ewald sphere, the score of a tilted list and the two searches over
it. float32 throughout, loops that fit vector registers. Row i depends on pattern i alone.
"""

from __future__ import annotations

import numba
import numpy as np

_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
_LANES = 16  # numbers in a vector register: lists are padded to it
_CUT = np.float32(6)  # rocking curves end at exp(-6)
_LEAST_WEIGHT = np.float32(0.1)  # of the strongest spot's, for a spot to be predicted
_MAX_SPOTS = 1024  # reflections near the Ewald sphere, within the reach of a search
N_TILTS = 3  # steps of the coarse search to each side
_N_TURNS = 7  # in-plane angles of the coarse search


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
def _wrap(polar, per_saturation, wrapped):
    """Copy a polar pattern as it counts, its first two azimuths once more behind the last."""
    n_azimuthal = polar.shape[1]
    for r in range(polar.shape[0]):
        for a in range(n_azimuthal):  # no slices: their checks take seconds to compile
            value = polar[r, a]
            wrapped[r, a] = value / (np.float32(1) + max(value, np.float32(0)) * per_saturation)
        for a in range(2):
            wrapped[r, n_azimuthal + a] = wrapped[r, a]


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _measure_peaks(wrapped):
    """Return the root of the summed squares of a polar pattern's local maxima, and their number.

    The number is that of equal peaks: ``sum(p^2)^2 / sum(p^4)``.
    """
    n_radial, n_azimuthal = wrapped.shape[0], wrapped.shape[1] - 2
    edge = np.zeros(n_azimuthal + 2, np.float32)
    total, fourth = np.float32(0), np.float32(0)
    for r in range(n_radial):
        above = wrapped[r - 1] if r > 0 else edge
        below = wrapped[r + 1] if r + 1 < n_radial else edge
        left, here, right = wrapped[r, :-2], wrapped[r, 1:-1], wrapped[r, 2:]
        above_left, above_here, above_right = above[:-2], above[1:-1], above[2:]
        below_left, below_here, below_right = below[:-2], below[1:-1], below[2:]
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
def _list_near(q, table, reach, distance, near):
    """List the reflections within their reach of the Ewald sphere; return their number."""
    w, x, y, z = q[0], q[1], q[2], q[3]
    beam_x = np.float32(2 * (x * z + w * y))
    beam_y = np.float32(2 * (y * z - w * x))
    beam_z = np.float32(1 - 2 * (x * x + y * y))
    g_x, g_y, g_z, half = table[0], table[1], table[2], table[3]
    for j in range(distance.size):
        z = g_x[j] * beam_x + g_y[j] * beam_y + g_z[j] * beam_z
        distance[j] = abs(half[j] - z) - reach[j]
    n = 0
    for j in range(distance.size):
        near[n] = j
        n += 1 if distance[j] < 0 else 0
        if n == near.size - _LANES:
            break
    return n


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _list_spots(wrapped, q, table, reach, geometry, work):
    """List the spots that the search can excite; return their number, a multiple of `_LANES`.

    Fills `work`: of each spot the excitation error, its change by a tilt about x and y, amplitude,
    half the inverse variance of its rocking curve; its ring (whole and fraction) and its azimuth in
    bins. Spots that the detector does not show get the amplitude 0.
    """
    distance, near, spots, rings, weights, heights = work
    wavenumber, inner, per_step, per_radian = geometry
    n_near = _list_near(q, table, reach, distance, near)
    n = (n_near + _LANES - 1) // _LANES * _LANES
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
        x = g_x[i] * m00 + g_y[i] * m10 + g_z[i] * m20
        y = g_x[i] * m01 + g_y[i] * m11 + g_z[i] * m21
        z = g_x[i] * m02 + g_y[i] * m12 + g_z[i] * m22
        radius2 = x * x + y * y
        # the sphere to fourth order: better than 1e-5 1/angstrom here
        per_wavenumber = np.float32(1) / wavenumber
        ratio = radius2 * per_wavenumber * per_wavenumber
        gain = np.float32(1) + z * per_wavenumber
        spots[0, j] = (
            np.float32(0.5) * wavenumber * ratio * (np.float32(1) + np.float32(0.25) * ratio) - z
        )
        spots[1, j] = -gain * y
        spots[2, j] = gain * x
        ring = (np.sqrt(radius2) - inner) * per_step - np.float32(0.5)
        last = np.float32(wrapped.shape[0] - 1.001)
        inside = (ring >= 0) & (ring <= last)
        ring = min(max(ring, np.float32(0)), last)
        rings[j] = np.int32(ring)
        spots[3, j] = amplitudes[i] if inside else np.float32(0)
        spots[4, j] = sharpness[i]
        spots[5, j] = ring - np.float32(np.int32(ring))
        spots[6, j] = _azimuth(x, y) * per_radian
    spots[3, n_near:n] = np.float32(0)
    _hide_unseen(wrapped, spots, rings, n_near)
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
def _hide_unseen(wrapped, spots, rings, n):
    """Set the amplitude of spots to 0 where a bin around them is marked as unseen."""
    for j in range(n):
        r, a = rings[j], int(spots[6, j])
        lowest = min(
            min(wrapped[r, a], wrapped[r, a + 1]), min(wrapped[r + 1, a], wrapped[r + 1, a + 1])
        )
        if lowest < 0:
            spots[3, j] = np.float32(0)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _sample(wrapped, spots, rings, n, shift, heights):
    """Fill `heights` with the pattern at each spot, turned by `shift` azimuthal bins."""
    width = np.int32(wrapped.shape[1])
    n_azimuthal = np.float32(width - 2)
    flat = wrapped.ravel()
    fractions, azimuths = spots[5, :n], spots[6, :n]
    rings, out = rings[:n], heights[:n]
    shift = np.float32(shift)
    for j in range(n):
        turn = azimuths[j] + shift
        turn = turn + n_azimuthal if turn < 0 else turn
        turn = turn - n_azimuthal if turn >= n_azimuthal else turn
        a = np.int32(turn)
        along = turn - np.float32(a)
        i = np.uint64(rings[j] * width + a)
        low0, low1 = flat[i], flat[i + np.uint64(1)]
        i += np.uint64(width)
        high0, high1 = flat[i], flat[i + np.uint64(1)]
        low = low0 + along * (low1 - low0)
        high = high0 + along * (high1 - high0)
        # a bin marked as unseen holds -1
        out[j] = max(low + fractions[j] * (high - low), np.float32(0))


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _weigh(spots, n, tilt_x, tilt_y, weights):
    """Fill `weights` for an orientation tilted about x and y, in radians; return their power."""
    error, by_x, by_y = spots[0, :n], spots[1, :n], spots[2, :n]
    amplitude, sharpness, out = spots[3, :n], spots[4, :n], weights[:n]
    x, y = np.float32(tilt_x), np.float32(tilt_y)
    power = np.float32(0)
    for j in range(n):
        e = error[j] + x * by_x[j] + y * by_y[j]
        u = e * e * sharpness[j]
        # exp(-u) as the eighth power of a series: better than 1e-4 of 1 up to the cut
        v = min(u, _CUT) * np.float32(-1 / 8)
        s = np.float32(1 / 24) + v * np.float32(1 / 120)
        s = np.float32(1 / 2) + v * (np.float32(1 / 6) + v * s)
        s = np.float32(1) + v * (np.float32(1) + v * s)
        s2 = s * s
        s4 = s2 * s2
        weight = amplitude[j] * s4 * s4
        weight = weight if u < _CUT else np.float32(0)
        out[j] = weight
        power += weight * weight
    return power


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _dot(weights, heights, n):
    weights, heights = weights[:n], heights[:n]
    total = np.float32(0)
    for j in range(n):
        total += weights[j] * heights[j]
    return total


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _score(spots, n, tilt_x, tilt_y, weights, heights):
    """Return sum(w p) / sqrt(sum(w^2)) over the spots of a tilted orientation."""
    power = _weigh(spots, n, tilt_x, tilt_y, weights)
    return _dot(weights, heights, n) / np.sqrt(power) if power > 0 else np.float32(0)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _search_coarsely(wrapped, work, n, spacing, per_radian, turn):
    """Search a grid of tilts and turns; return the score of the orientation as it is.

    Fills `turn` with the best angles about x, y, z in radians.
    """
    distance, near, spots, rings, weights, heights = work
    n_turns = heights.shape[0]
    for m in range(n_turns):
        shift = (m - n_turns // 2) * spacing * per_radian
        _sample(wrapped, spots, rings, n, shift, heights[m])
    turn[:] = 0.0
    best, before = np.float32(-1), np.float32(0)
    for i in range(-N_TILTS, N_TILTS + 1):
        for j in range(-N_TILTS, N_TILTS + 1):
            if i * i + j * j > N_TILTS * N_TILTS + 1:
                continue
            power = _weigh(spots, n, i * spacing, j * spacing, weights)
            if power <= 0:
                continue
            factor = np.float32(1) / np.sqrt(power)
            for m in range(n_turns):
                value = factor * _dot(weights, heights[m], n)
                if i == 0 and j == 0 and m == n_turns // 2:
                    before = value
                if value > best:
                    best = value
                    turn[0], turn[1] = i * spacing, j * spacing
                    turn[2] = (m - n_turns // 2) * spacing
    return before


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _search_finely(wrapped, work, n, first_step, last_step, per_radian, turn):
    """Climb from the listed orientation by tilts and turns of falling size.

    Fills `turn` with the best angles about x, y, z in radians.
    """
    distance, near, spots, rings, weights, heights = work
    turn[:] = 0.0
    _sample(wrapped, spots, rings, n, 0.0, heights[0])
    angle = first_step
    n_rounds = 0
    while angle >= last_step:
        _climb_tilts(spots, n, angle, weights, heights[0], turn)
        _weigh(spots, n, turn[0], turn[1], weights)
        here = _dot(weights, heights[0], n)
        _sample(wrapped, spots, rings, n, (turn[2] - angle) * per_radian, heights[1])
        left = _dot(weights, heights[1], n)
        _sample(wrapped, spots, rings, n, (turn[2] + angle) * per_radian, heights[2])
        right = _dot(weights, heights[2], n)
        vertex = _vertex(left, here, right)
        turn[2] += angle * vertex
        _sample(wrapped, spots, rings, n, turn[2] * per_radian, heights[0])
        n_rounds += 1
        # tilts and turns hang together: once more at this size if the turn was large
        if abs(vertex) < 0.5 or n_rounds >= 3:
            angle *= 0.5
            n_rounds = 0


@numba.njit(cache=True, error_model="numpy")
def _vertex(left, here, right):
    """Return where the parabola through three points is highest, in -1 to 1."""
    curvature = 2 * here - left - right
    if curvature <= 0:
        return 0.0 if here >= max(left, right) else (-1.0 if left > right else 1.0)
    return min(max(0.5 * (right - left) / curvature, -1.0), 1.0)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _climb_tilts(spots, n, angle, weights, heights, turn):
    """Tilt in steps of `angle`, to the nearest maximum of the score."""
    best = _score(spots, n, turn[0], turn[1], weights, heights)
    for _ in range(8):
        improved = False
        for axis in range(2):
            start = turn[axis]
            for sign in (-1.0, 1.0):
                turn[axis] = start + sign * angle
                value = _score(spots, n, turn[0], turn[1], weights, heights)
                if value > best:
                    best = value
                    improved = True
                    break
                turn[axis] = start
        if not improved:
            return


@numba.njit(cache=True, error_model="numpy")
def _set_unit(q, source):
    """Fill `q` with a quaternion of unit length; return whether there is one: all 0 is none."""
    norm = np.sqrt(source[0] ** 2 + source[1] ** 2 + source[2] ** 2 + source[3] ** 2)
    if norm == 0:
        return False
    for c in range(4):
        q[c] = source[c] / norm
    return True


@numba.njit(cache=True, error_model="numpy")
def _turn_crystal(q, turn):
    """Turn an orientation, in place, so that its spots turn about the laboratory's axes."""
    w, x, y, z = q[0], q[1], q[2], q[3]
    # half angles, negative: v_crystal = q v_lab
    a, b, c = -0.5 * turn[0], -0.5 * turn[1], -0.5 * turn[2]
    q[0] = w - x * a - y * b - z * c
    q[1] = x + w * a + y * c - z * b
    q[2] = y + w * b + z * a - x * c
    q[3] = z + w * c + x * b - y * a
    _set_unit(q, q)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _broaden(spots, n, broadening):
    """Add to the variance of the listed spots' rocking curves; their height falls with the width.

    The amplitude holds the root of one over the width, up to a factor common to all spots.
    """
    amplitude, sharpness = spots[3, :n], spots[4, :n]
    for j in range(n):
        ratio = np.float32(1) / (np.float32(1) + np.float32(2) * broadening * sharpness[j])
        sharpness[j] *= ratio
        amplitude[j] *= np.sqrt(np.sqrt(ratio))


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _describe(weights, heights, n):
    """Return the number of predicted spots, of equal ones, and the power of the pattern there."""
    weights, heights = weights[:n], heights[:n]
    strongest = np.float32(0)
    for j in range(n):
        strongest = max(strongest, weights[j])
    least = _LEAST_WEIGHT * strongest
    second, fourth, power = np.float32(0), np.float32(0), np.float32(0)
    for j in range(n):
        square = weights[j] * weights[j]
        second += square
        fourth += square * square
        power += heights[j] * heights[j] if weights[j] > least else np.float32(0)
    return second * second / max(fourth, np.float32(1e-30)), power


@numba.njit(cache=True, error_model="numpy")
def _rate(wrapped, q, table, reach, geometry, work, broadening):
    """Return the score of an orientation as it is and with broadened rocking curves.

    And of the latter the number of spots and the power of the pattern at them.
    """
    distance, near, spots, rings, weights, heights = work
    n = _list_spots(wrapped, q, table, reach, geometry, work)
    _sample(wrapped, spots, rings, n, 0.0, heights[0])
    narrow = _score(spots, n, 0.0, 0.0, weights, heights[0])
    _broaden(spots, n, broadening)
    tolerant = _score(spots, n, 0.0, 0.0, weights, heights[0])
    n_spots, power = _describe(weights, heights[0], n)
    return narrow, tolerant, n_spots, power


@numba.njit(cache=True, nogil=True, error_model="numpy")
def refine(
    begin, end, polar, quaternions, table, reaches, geometry, first_step, last_step, broadening,
    per_saturation, refined, scores, tolerant, spots, explained, peaks,
):  # fmt: skip
    """Fill in refined candidates (n, k, 4) and five scores (n, k); see `refine_candidates`.

    `table` and `reaches` tell of the reflections, `geometry` is wavenumber, inner radius, radial
    bins per 1/angstrom and azimuthal bins per radian; steps in radians, first_step 0 only scores.
    A height h counts as ``h / (1 + h * per_saturation)``.
    The second score is with the variance of all rocking curves raised by `broadening`.
    """
    per_radian = geometry[3]
    wrapped = np.empty((polar.shape[1], polar.shape[2] + 2), np.float32)
    work = (
        np.empty(table.shape[1], np.float32), np.empty(_MAX_SPOTS, np.int32),
        np.zeros((7, _MAX_SPOTS), np.float32), np.zeros(_MAX_SPOTS, np.int32),
        np.empty(_MAX_SPOTS, np.float32), np.empty((_N_TURNS, _MAX_SPOTS), np.float32),
    )  # fmt: skip
    turn = np.zeros(3)
    q = np.empty(4)
    last = wrapped, q, table, reaches[2], geometry, work, broadening
    for i in range(begin, end):
        _wrap(polar[i], per_saturation, wrapped)
        norm, n_peaks = _measure_peaks(wrapped)
        if norm <= 0:
            continue
        peaks[i] = n_peaks
        for j in range(quaternions.shape[1]):
            if not _set_unit(q, quaternions[i, j]):
                continue
            if first_step <= 0:
                value, broad, n_spots, power = _rate(*last)
            else:
                n_listed = _list_spots(wrapped, q, table, reaches[0], geometry, work)
                before = _search_coarsely(wrapped, work, n_listed, first_step, per_radian, turn)
                _turn_crystal(q, turn)
                n_listed = _list_spots(wrapped, q, table, reaches[1], geometry, work)
                _search_finely(
                    wrapped, work, n_listed, 0.5 * first_step, last_step, per_radian, turn
                )
                _turn_crystal(q, turn)
                value, broad, n_spots, power = _rate(*last)
                if value > before:
                    for c in range(4):
                        refined[i, j, c] = q[c]
                else:
                    value = before
                    _set_unit(q, quaternions[i, j])
                    _, broad, n_spots, power = _rate(*last)
            scores[i, j] = min(max(value / norm, 0.0), 1.0)
            tolerant[i, j] = min(max(broad / norm, 0.0), 1.0)
            spots[i, j] = n_spots
            explained[i, j] = min(np.sqrt(power) / norm, 1.0)
