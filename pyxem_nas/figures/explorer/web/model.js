// The map in the browser: positions, their phase, orientations and properties.

import { makeCrystal } from "./crystal.js";

export const NO_PHASE = 254;
export const LEFT_OUT = 255;
export const MISSING = 255;

export function makeModel({ header, arrays }) {
  const [ny, nx] = header.shape;
  const n = ny * nx;
  const crystals = header.phases.map((phase, k) => makeCrystal(phase, arrays, k));
  const rotations = arrays.rotations;
  const properties = header.properties.map((property, k) => ({
    ...property,
    levels: arrays[`property_${k}`],
  }));
  return {
    header,
    ny,
    nx,
    n,
    phase: arrays.phase,
    crystals,
    properties,
    colormap: arrays.colormap,
    nSolutions: header.n_solutions,
    property: (name) => properties.find((entry) => entry.name === name),
    // unit quaternion of a solution (0 is the answer) at a position
    rotation(position, solution = 0) {
      const at = 4 * solution * n + position;
      const q = [rotations[at], rotations[at + n], rotations[at + 2 * n], rotations[at + 3 * n]];
      const norm = Math.hypot(q[0], q[1], q[2], q[3]) || 1;
      return [q[0] / norm, q[1] / norm, q[2] / norm, q[3] / norm];
    },
    isIndexed: (position) => arrays.phase[position] < NO_PHASE,
    crystalAt(position) {
      return crystals[arrays.phase[position]] ?? null;
    },
  };
}

// Value of a property at a position, NaN where there is none.
export function valueAt(property, position) {
  const level = property.levels[position];
  if (level === MISSING) return NaN;
  return property.low + ((property.high - property.low) * level) / 254;
}

export function formatValue(property, value) {
  if (!Number.isFinite(value)) return "–";
  if (property.names) return property.names[Math.round(value)] ?? String(Math.round(value));
  const range = property.high - property.low;
  if (range === 254) return String(Math.round(value));
  return value.toFixed(range > 20 ? 0 : range > 2 ? 1 : 2);
}

// Median of a property, from how often each of its levels occurs.
export function medianOf(property, counts) {
  let total = 0;
  for (let level = 0; level < MISSING; level++) total += counts[level];
  if (!total) return NaN;
  let seen = 0;
  for (let level = 0; level < MISSING; level++) {
    seen += counts[level];
    if (2 * seen >= total) return property.low + ((property.high - property.low) * level) / 254;
  }
  return NaN;
}
