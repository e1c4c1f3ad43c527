// One phase: its symmetry, colours and sector of directions, reflections and their spots.

import { DEGREE, conjugate, multiply, rotate } from "./rotation.js";

const BRANDON = 15; // degrees: deviation that is allowed is this over the root of sigma
const CUBIC = ["m-3", "m-3m"];
const N_BEAM_TILTS = 8; // as in diffraction/kinematical.py

export function makeCrystal(phase, arrays, k) {
  const crystal = {
    ...phase,
    index: k,
    operations: Float64Array.from(phase.operations.flat()),
    colors: arrays[`colors_${phase.laue}`],
    hkl: arrays[`hkl_${k}`],
    intensities: arrays[`intensity_${k}`],
    // in the axes of the sector and its colours
    sectorOperations: phase.operations.map((q) => multiply(multiply(phase.turn, q), conjugate(phase.turn))),
    sigma3: CUBIC.includes(phase.laue) ? sigma3Variants(phase.operations) : null,
  };
  if (crystal.colors) crystal.colorSide = Math.round(Math.sqrt(crystal.colors.length / 3));
  if (crystal.hkl && phase.base) crystal.vectors = reciprocalVectors(crystal.hkl, phase.base);
  return crystal;
}

function reciprocalVectors(hkl, base) {
  const vectors = new Float64Array(hkl.length);
  for (let i = 0; i < hkl.length; i += 3) {
    for (let j = 0; j < 3; j++) {
      vectors[i + j] = hkl[i] * base[0][j] + hkl[i + 1] * base[1][j] + hkl[i + 2] * base[2][j];
    }
  }
  return vectors;
}

// All misorientations that are 60 degrees about a three-fold axis, up to symmetry on both sides.
function sigma3Variants(operations) {
  const threefold = operations.find((q) => Math.abs(Math.abs(q[0]) - 0.5) < 1e-6);
  if (!threefold) return null;
  const norm = Math.hypot(threefold[1], threefold[2], threefold[3]);
  const twin = [Math.cos(30 * DEGREE), ...threefold.slice(1).map((c) => (0.5 * c) / norm)];
  const found = [];
  for (const left of operations) {
    for (const right of operations) {
      const q = multiply(multiply(left, twin), right);
      const isNew = !found.some(
        (p) => Math.abs(p[0] * q[0] + p[1] * q[1] + p[2] * q[2] + p[3] * q[3]) > 1 - 1e-6,
      );
      if (isNew) found.push(q);
    }
  }
  return Float64Array.from(found.flat());
}

function largestCosine(list, w, x, y, z) {
  let best = 0;
  for (let i = 0; i < list.length; i += 4) {
    const c = Math.abs(list[i] * w + list[i + 1] * x + list[i + 2] * y + list[i + 3] * z);
    if (c > best) best = c;
  }
  return Math.min(best, 1);
}

// Smallest rotation angle in degrees between two orientations, up to symmetry.
export function disorientation(crystal, a, b) {
  const m = multiply(a, conjugate(b));
  if (Math.abs(m[0]) > 0.9915) return (2 * Math.acos(Math.min(1, Math.abs(m[0])))) / DEGREE;
  return (2 * Math.acos(largestCosine(crystal.operations, ...m))) / DEGREE;
}

// Whether two orientations are twins of sigma 3 by Brandon's criterion (1966).
export function isSigma3(crystal, a, b) {
  if (!crystal.sigma3) return false;
  const m = multiply(a, conjugate(b));
  const deviation = (2 * Math.acos(largestCosine(crystal.sigma3, ...m))) / DEGREE;
  return deviation <= BRANDON / Math.sqrt(3);
}

// The equivalent of q that is nearest to a reference.
export function nearestEquivalent(crystal, q, reference) {
  let best = null;
  let cosine = -1;
  const { operations } = crystal;
  for (let i = 0; i < operations.length; i += 4) {
    const p = multiply(operations.subarray(i, i + 4), q);
    const c = p[0] * reference[0] + p[1] * reference[1] + p[2] * reference[2] + p[3] * reference[3];
    if (Math.abs(c) > cosine) {
      cosine = Math.abs(c);
      best = c < 0 ? p.map((value) => -value) : p;
    }
  }
  return best;
}

// Where the colour of a direction (in the axes of the sector) is in crystal.colors: the nearest
// node of the octahedral table.
export function colorOfDirection(crystal, x, y, z) {
  const total = Math.abs(x) + Math.abs(y) + Math.abs(z);
  let u = x / total;
  let v = y / total;
  if (z < 0) {
    [u, v] = [(u < 0 ? -1 : 1) * (1 - Math.abs(v)), (v < 0 ? -1 : 1) * (1 - Math.abs(u))];
  }
  const last = crystal.colorSide - 1;
  return 3 * (Math.round(((v + 1) / 2) * last) * crystal.colorSide + Math.round(((u + 1) / 2) * last));
}

// The direction of the crystal, in the axes of the sector and inside of it, along one of the sample.
export function intoSector(crystal, orientation, axis) {
  const { normals } = crystal.sector;
  const direction = rotate(multiply(crystal.turn, orientation), axis);
  let best = direction;
  let depth = -Infinity;
  for (const operation of crystal.sectorOperations) {
    const turned = rotate(operation, direction);
    for (const sign of [1, -1]) {
      const v = turned.map((c) => sign * c);
      const inside = Math.min(...normals.map((n) => n[0] * v[0] + n[1] * v[1] + n[2] * v[2]));
      if (inside > depth) [best, depth] = [v, inside];
    }
  }
  return best;
}

export function isInSector(crystal, v) {
  return crystal.sector.normals.every((n) => n[0] * v[0] + n[1] * v[1] + n[2] * v[2] > -1e-9);
}

// Spots of an orientation in pixels of the camera, strongest first: locate_spots of figures/spots.py.
export function simulateSpots(crystal, orientation, simulation, center) {
  const half = (simulation.scan_rotation * DEGREE) / 2;
  const q = multiply(orientation, [Math.cos(half), 0, 0, Math.sin(half)]);
  const inverse = conjugate(q);
  const { vectors, hkl, intensities } = crystal;
  const [[a, b], [c, d]] = simulation.matrix;
  const [ny, nx] = simulation.detector_shape;
  const spots = [];
  for (let i = 0; i < vectors.length; i += 3) {
    const [x, y, z] = rotate(inverse, [vectors[i], vectors[i + 1], vectors[i + 2]]);
    const factor = rockingFactor(x, y, z, simulation);
    if (factor <= 0) continue;
    const column = center[0] + a * x + b * y;
    const row = center[1] + c * x + d * y;
    if (column < -0.5 || row < -0.5 || column > nx - 0.5 || row > ny - 0.5) continue;
    const intensity = factor * intensities[i / 3];
    spots.push({ column, row, intensity, hkl: [hkl[i], hkl[i + 1], hkl[i + 2]] });
  }
  if (!spots.length) return spots;
  spots.sort((first, second) => second.intensity - first.intensity);
  const strongest = spots[0].intensity;
  for (const spot of spots) spot.intensity /= strongest;
  return spots.slice(0, simulation.max_spots).filter((s) => s.intensity >= simulation.min_intensity);
}

// Share of the full intensity, 0 where not excited; a Gaussian rod over the precession circle.
function rockingFactor(x, y, z, simulation) {
  const radius = Math.hypot(x, y);
  if (radius > simulation.reciprocal_radius) return 0;
  const limit = simulation.max_excitation_error;
  const wavenumber = 1 / simulation.wavelength;
  const precession = simulation.precession_angle * DEGREE;
  const error = wavenumber - Math.sqrt(wavenumber ** 2 - radius ** 2) - z;
  if (precession === 0) {
    if (Math.abs(error) >= limit) return 0;
  } else {
    const tilt = wavenumber * Math.sin(precession);
    const height = wavenumber * Math.cos(precession);
    const upper = height - Math.sqrt(wavenumber ** 2 - (radius + tilt) ** 2);
    const lower = height - Math.sqrt(wavenumber ** 2 - (radius - tilt) ** 2);
    if (z - limit > upper || z + limit < lower) return 0;
  }
  const swing = radius * precession;
  const n = swing < 0.25 * limit ? 1 : N_BEAM_TILTS;
  let total = 0;
  for (let k = 0; k < n; k++) {
    const s = n === 1 ? error : error + swing * Math.cos((Math.PI * (k + 0.5)) / n);
    total += Math.exp(-0.5 * (s / limit) ** 2);
  }
  return total / n;
}
