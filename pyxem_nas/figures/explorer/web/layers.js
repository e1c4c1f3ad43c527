// Colours of the map: one layer at a time, and what is not selected dimmed.

import { colorOfDirection } from "./crystal.js";
import { multiply } from "./rotation.js";
import { NO_PHASE, LEFT_OUT, MISSING, valueAt } from "./model.js";

export const AXES = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1] };
const NO_VALUE = [184, 184, 184];
const DIMMED = 0.2; // share of the colour that is left outside of the selection

export function listLayers(model) {
  const layers = [{ name: "phase", label: "Phase", kind: "phase" }];
  if (model.crystals.some((crystal) => crystal.colors)) {
    const meanings = { x: "to the right", y: "up", z: "out of the map" };
    for (const axis of ["x", "y", "z"]) {
      const label = `IPF-${axis.toUpperCase()} (${meanings[axis]})`;
      layers.push({ name: `ipf-${axis}`, label, kind: "ipf", axis });
    }
  }
  for (const property of model.properties) {
    if (property.names) layers.push({ name: property.name, label: property.label, kind: "names", property });
    else layers.push({ name: property.name, label: property.label, kind: "value", property });
  }
  layers.push({ name: "grains", label: "Grains", kind: "grains" });
  return layers;
}

// Range of a layer's colours, from what its property holds.
export function shownRange(property) {
  return property.shown ?? [property.low, property.high];
}

export const NAME_COLORS = [[0, 114, 178], [230, 159, 0], [204, 121, 167], [0, 158, 115]];

// RGB of every position, three bytes each.
export function colorLayer(model, layer, grains) {
  const { n, phase } = model;
  const rgb = new Uint8Array(3 * n);
  const paint = painters[layer.kind](model, layer, grains);
  for (let i = 0; i < n; i++) {
    if (phase[i] === LEFT_OUT) rgb.fill(255, 3 * i, 3 * i + 3);
    else if (phase[i] !== NO_PHASE) paint(i, rgb, 3 * i);
  }
  return rgb;
}

function put(rgb, at, color) {
  rgb[at] = color[0];
  rgb[at + 1] = color[1];
  rgb[at + 2] = color[2];
}

const painters = {
  phase: (model) => (i, rgb, at) => put(rgb, at, model.crystals[model.phase[i]].color),

  ipf: (model, { axis }) => {
    const [ax, ay, az] = AXES[axis];
    return (i, rgb, at) => {
      const crystal = model.crystals[model.phase[i]];
      if (!crystal.colors) return;
      const q = model.rotation(i);
      const [w, x, y, z] = crystal.turn[0] === 1 ? q : multiply(crystal.turn, q);
      // the axis turned into the crystal, written out: this runs for every position
      const tx = 2 * (y * az - z * ay);
      const ty = 2 * (z * ax - x * az);
      const tz = 2 * (x * ay - y * ax);
      const from = colorOfDirection(
        crystal,
        ax + w * tx + y * tz - z * ty,
        ay + w * ty + z * tx - x * tz,
        az + w * tz + x * ty - y * tx,
      );
      put(rgb, at, crystal.colors.subarray(from, from + 3));
    };
  },

  value: (model, { property }) => {
    const [low, high] = shownRange(property);
    const table = new Uint8Array(3 * 256);
    for (let level = 0; level < MISSING; level++) {
      const value = property.low + ((property.high - property.low) * level) / 254;
      const share = Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
      const from = 3 * Math.round(255 * share);
      put(table, 3 * level, model.colormap.subarray(from, from + 3));
    }
    put(table, 3 * MISSING, NO_VALUE);
    return (i, rgb, at) => {
      const from = 3 * property.levels[i];
      rgb[at] = table[from];
      rgb[at + 1] = table[from + 1];
      rgb[at + 2] = table[from + 2];
    };
  },

  names: (model, { property }) => (i, rgb, at) => {
    const value = valueAt(property, i);
    put(rgb, at, Number.isFinite(value) ? NAME_COLORS[Math.round(value) % 4] : NO_VALUE);
  },

  grains: (model, layer, grains) => (i, rgb, at) => {
    // steps of the golden section: neighbours in size differ in colour
    const share = (0.12 + grains.label[i] * 0.6180339887) % 1;
    const from = 3 * Math.round(255 * share);
    put(rgb, at, model.colormap.subarray(from, from + 3));
  },
};

// RGBA image of a layer; positions outside of the mask (null: none) fade into the background.
export function shadeLayer(rgb, mask, background, image) {
  const data = image.data;
  for (let i = 0, at = 0; i < rgb.length / 3; i++, at += 4) {
    const inside = !mask || mask[i];
    for (let k = 0; k < 3; k++) {
      const color = rgb[3 * i + k];
      data[at + k] = inside ? color : DIMMED * color + (1 - DIMMED) * background[k];
    }
    data[at + 3] = 255;
  }
  return image;
}
