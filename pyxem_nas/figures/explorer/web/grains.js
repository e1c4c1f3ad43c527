// Boundaries between neighbours, and grains: what hangs together without crossing one.

import { disorientation, isSigma3, nearestEquivalent } from "./crystal.js";
import { normalise, turnAboutBeam } from "./rotation.js";

export const EDGE = { none: 0, low: 1, high: 2, sigma3: 3, twin: 4, phase: 5 };
export const EDGE_NAMES = {
  1: "low angle", 2: "high angle", 3: "Σ3 twin", 4: "180° twin about the beam", 5: "phase",
};
const HIGH_ANGLE = 15; // degrees

// Angles of all edges: to the right (kind 0) and below (kind 1), in degrees; -1 where the phases
// differ, NaN between two positions without an answer.
export function measureEdges(model) {
  const { ny, nx, n } = model;
  const edges = { angle: [], twinAngle: [], sigma3: [] };
  for (const step of [1, nx]) {
    const angle = new Float32Array(n).fill(NaN);
    const twinAngle = new Float32Array(n).fill(NaN);
    const sigma3 = new Uint8Array(n);
    for (let row = 0; row < (step === 1 ? ny : ny - 1); row++) {
      let a = null; // along a row, the right one of a pair is the left one of the next
      for (let column = 0; column < (step === 1 ? nx - 1 : nx); column++) {
        const i = row * nx + column;
        const j = i + step;
        if (model.phase[i] !== model.phase[j]) {
          if (model.isIndexed(i) || model.isIndexed(j)) angle[i] = -1;
          a = null;
          continue;
        }
        if (!model.isIndexed(i)) continue;
        const crystal = model.crystals[model.phase[i]];
        a = step === 1 && a ? a : model.rotation(i);
        const b = model.rotation(j);
        angle[i] = disorientation(crystal, a, b);
        if (angle[i] > 1) {
          twinAngle[i] = disorientation(crystal, turnAboutBeam(a), b);
          if (angle[i] > 45 && isSigma3(crystal, a, b)) sigma3[i] = 1;
        }
        a = b;
      }
    }
    edges.angle.push(angle);
    edges.twinAngle.push(twinAngle);
    edges.sigma3.push(sigma3);
  }
  return edges;
}

export function kindOfEdge(edges, side, i, threshold) {
  const angle = edges.angle[side][i];
  if (angle === -1) return EDGE.phase;
  if (!(angle > threshold)) return EDGE.none;
  if (edges.twinAngle[side][i] <= threshold) return EDGE.twin;
  if (edges.sigma3[side][i]) return EDGE.sigma3;
  return angle < HIGH_ANGLE ? EDGE.low : EDGE.high;
}

// Kinds of all edges, and grains: numbers by falling size, -1 without a phase. A 180-degree twin
// about the beam parts no grain: patterns often cannot tell it.
export function findGrains(model, edges, threshold) {
  const { nx, n } = model;
  const parent = new Int32Array(n);
  for (let i = 0; i < n; i++) parent[i] = i;
  const root = (i) => {
    while (parent[i] !== i) {
      parent[i] = parent[parent[i]];
      i = parent[i];
    }
    return i;
  };
  const kinds = [new Uint8Array(n), new Uint8Array(n)];
  for (const side of [0, 1]) {
    const step = side === 0 ? 1 : nx;
    for (let i = 0; i < n; i++) {
      if (Number.isNaN(edges.angle[side][i])) continue;
      const kind = kindOfEdge(edges, side, i, threshold);
      kinds[side][i] = kind;
      if (kind === EDGE.none || kind === EDGE.twin) parent[root(i)] = root(i + step);
    }
  }
  const size = new Int32Array(n);
  for (let i = 0; i < n; i++) if (model.isIndexed(i)) size[root(i)]++;
  const roots = [];
  for (let i = 0; i < n; i++) if (size[i]) roots.push(i);
  roots.sort((a, b) => size[b] - size[a]);
  const number = new Int32Array(n).fill(-1);
  roots.forEach((r, k) => (number[r] = k));
  const label = new Int32Array(n).fill(-1);
  for (let i = 0; i < n; i++) if (model.isIndexed(i)) label[i] = number[root(i)];
  const sizes = Int32Array.from(roots, (r) => size[r]);
  return { label, sizes, kinds, threshold, ...sortByGrain(label, sizes) };
}

// Positions grain by grain, and where each grain begins.
function sortByGrain(label, sizes) {
  const start = new Int32Array(sizes.length + 1);
  sizes.forEach((size, grain) => (start[grain + 1] = start[grain] + size));
  const next = start.slice();
  const order = new Int32Array(start.at(-1));
  for (let i = 0; i < label.length; i++) if (label[i] >= 0) order[next[label[i]]++] = i;
  return { start, order };
}

export function membersOf(grains, grain) {
  return grains.order.subarray(grains.start[grain], grains.start[grain + 1]);
}

// Mean orientation of a grain, the mean and largest angle to it, and the share of 180-degree twins.
export function describeGrain(model, grains, grain) {
  const members = membersOf(grains, grain);
  const crystal = model.crystalAt(members[0]);
  let mean = model.rotation(members[Math.floor(members.length / 2)]);
  let turned = 0;
  const angles = new Float32Array(members.length);
  for (let pass = 0; pass < 3; pass++) {
    const sum = [0, 0, 0, 0];
    turned = 0;
    members.forEach((i, at) => {
      const q = model.rotation(i);
      const twin = turnAboutBeam(q);
      const [direct, other] = [q, twin].map((p) => disorientation(crystal, p, mean));
      if (other < direct) turned++;
      const equivalent = nearestEquivalent(crystal, other < direct ? twin : q, mean);
      for (let k = 0; k < 4; k++) sum[k] += equivalent[k];
      angles[at] = Math.min(direct, other);
    });
    mean = normalise(sum);
    if (2 * turned > members.length) mean = turnAboutBeam(mean); // the more frequent of the two
  }
  if (2 * turned > members.length) turned = members.length - turned;
  return {
    grain,
    members,
    crystal,
    mean,
    spread: angles.reduce((sum, angle) => sum + angle, 0) / angles.length,
    largest: angles.reduce((most, angle) => Math.max(most, angle), 0),
    twins: turned / members.length,
  };
}

// Grains that touch one, by falling length of the common boundary, in edges.
export function neighboursOf(model, grains, grain) {
  const { nx, n } = model;
  const found = new Map();
  // the edges of a position: to the right, below, and those of its left and upper neighbour
  const sides = [[0, 0, 1], [1, 0, nx], [0, -1, -1], [1, -nx, -nx]];
  for (const position of membersOf(grains, grain)) {
    for (const [side, from, to] of sides) {
      const i = position + from;
      if (i < 0 || position + to >= n) continue;
      const kind = grains.kinds[side][i];
      if (kind === EDGE.none || kind === EDGE.twin) continue;
      const other = grains.label[position + to];
      if (other < 0 || other === grain) continue;
      found.set(other, (found.get(other) ?? 0) + 1);
    }
  }
  return Array.from(found, ([other, length]) => ({ grain: other, length })).sort(
    (a, b) => b.length - a.length,
  );
}
