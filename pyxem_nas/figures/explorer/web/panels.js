// Texts and tables beside the map.

import { describeGrain, EDGE, EDGE_NAMES, neighboursOf } from "./grains.js";
import { disorientation, isSigma3 } from "./crystal.js";
import { NO_PHASE, formatValue, medianOf, valueAt } from "./model.js";
import { NAME_COLORS, shownRange } from "./layers.js";
import { toEuler, turnAboutBeam } from "./rotation.js";

const MIN_GRAIN = 3; // positions; smaller grains are noise more often than grains
const EDGE_SHOWN = {
  [EDGE.high]: "#000000 3px", [EDGE.low]: "#000000 1px", [EDGE.sigma3]: "#ff2d95 3px",
  [EDGE.twin]: "#ffffff 1px", [EDGE.phase]: "#000000 3px",
};

export function escapeHtml(text) {
  return String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

export function swatch(color) {
  return `<span class="nas-swatch" style="background:rgb(${color})"></span>`;
}

export function formatEuler(q) {
  return toEuler(q).map((angle) => `${angle.toFixed(1)}°`).join(", ");
}

export function formatPlace(model, position) {
  return `(${position % model.nx}, ${Math.floor(position / model.nx)})`;
}

export function phaseNameAt(model, position) {
  const crystal = model.crystalAt(position);
  if (crystal) return crystal.name;
  return model.phase[position] === 255 ? "left out" : "not indexed";
}

// One line for the pointer and the screen reader.
export function describePosition(model, position) {
  const parts = [`${formatPlace(model, position)} ${phaseNameAt(model, position)}`];
  if (!model.isIndexed(position)) return parts[0];
  parts.push(`Euler angles ${formatEuler(model.rotation(position))}`);
  for (const name of ["phase_probability", "orientation_probability", "n_plausible"]) {
    const property = model.property(name);
    if (property) parts.push(`${property.label} ${formatValue(property, valueAt(property, position))}`);
  }
  return parts.join("; ");
}

export function valuesTable(model, position, edges, grains) {
  const rows = [["Phase", phaseNameAt(model, position)]];
  if (model.isIndexed(position)) {
    rows.push(["Euler angles (Bunge)", formatEuler(model.rotation(position))]);
    for (const property of model.properties) {
      const value = formatValue(property, valueAt(property, position));
      rows.push([property.label, value, property.help]);
    }
    rows.push(["Boundaries", describeBoundaries(model, position, edges, grains)]);
  }
  return rows
    .map(([name, value, help]) =>
      `<tr><td${help ? ` title="${escapeHtml(help)}"` : ""}>${escapeHtml(name)}</td><td>${escapeHtml(value)}</td></tr>`)
    .join("");
}

// Angles of the boundaries around a position.
function describeBoundaries(model, position, edges, grains) {
  const { nx } = model;
  const sides = { right: [0, position], below: [1, position], left: [0, position - 1], above: [1, position - nx] };
  const names = { [EDGE.sigma3]: " (Σ3)", [EDGE.twin]: " (180° twin)" };
  const found = [];
  for (const [name, [side, i]] of Object.entries(sides)) {
    const kind = i >= 0 ? grains.kinds[side][i] : EDGE.none;
    if (kind === EDGE.phase) found.push(`${name}: other phase`);
    else if (kind) found.push(`${name} ${edges.angle[side][i].toFixed(1)}°${names[kind] ?? ""}`);
  }
  return found.join(", ") || "none around it";
}

export function tableOf(heads, rows) {
  const head = heads.map((text) => `<th scope="col">${text}</th>`).join("");
  const body = rows.map((row) => `<tr>${row.map((cell) => `<td>${cell}</td>`).join("")}</tr>`).join("");
  return `<thead><tr>${head}</tr></thead><tbody>${body}</tbody>`;
}

// Statistics of the selected positions by phase (mask null: all).
export function statisticsTable(model, mask, grains) {
  const shown = ["confidence", "correlation", "reliability", "n_plausible"]
    .map((name) => model.property(name)).filter(Boolean);
  const { counts, nothing, levels, ofGrain } = countSelected(model, mask, grains, shown);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const rows = model.crystals.map((crystal, k) => {
    const { count, size } = grainsOfPhase(model, grains, ofGrain, k);
    return [
      swatch(crystal.color) + escapeHtml(crystal.name),
      String(counts[k]),
      total ? `${((100 * counts[k]) / total).toFixed(1)} %` : "–",
      ...shown.map((property, j) => formatValue(property, medianOf(property, levels[k][j]))),
      String(count),
      count ? `${Number(size.toPrecision(3))} ${model.header.unit}` : "–",
    ];
  });
  rows.push(["not indexed", String(nothing), ...Array(shown.length + 3).fill("")]);
  const medians = shown.map((property) => `median ${property.label.toLowerCase()}`);
  const size = model.header.is_plane ? "median diameter" : "median length";
  return { html: tableOf(["Phase", "positions", "share", ...medians, "grains", size], rows), total };
}

// In one pass: selected positions and levels of properties by phase, and positions by grain.
function countSelected(model, mask, grains, properties) {
  const counts = new Uint32Array(model.crystals.length);
  const levels = model.crystals.map(() => properties.map(() => new Uint32Array(256)));
  const ofGrain = new Uint32Array(grains.sizes.length);
  let nothing = 0;
  for (let i = 0; i < model.n; i++) {
    const phase = model.phase[i];
    if (phase >= NO_PHASE) {
      if (phase === NO_PHASE) nothing++;
    } else if (!mask || mask[i]) {
      counts[phase]++;
      ofGrain[grains.label[i]]++;
      for (let j = 0; j < properties.length; j++) levels[phase][j][properties[j].levels[i]]++;
    }
  }
  return { counts, nothing, levels, ofGrain };
}

// Number and median size of the grains of a phase, as far as they are selected.
function grainsOfPhase(model, grains, ofGrain, phase) {
  const sizes = [];
  ofGrain.forEach((n, grain) => {
    const isOfPhase = model.phase[grains.order[grains.start[grain]]] === phase;
    if (n >= MIN_GRAIN && isOfPhase) sizes.push(sizeOf(model, n));
  });
  sizes.sort((a, b) => a - b);
  const middle = sizes.length >> 1;
  const size = sizes.length % 2 ? sizes[middle] : (sizes[middle - 1] + sizes[middle]) / 2;
  return { count: sizes.length, size };
}

// Diameter of the circle of the same area, or length on a line scan.
export function sizeOf(model, n) {
  const [dy, dx] = model.header.step;
  return model.header.is_plane ? 2 * Math.sqrt((n * dx * dy) / Math.PI) : n * dx;
}

// Length of the boundaries of each kind (on a line scan their number); those with a selected
// position on a side.
export function edgesTable(model, grains, mask) {
  const { nx, n } = model;
  const isPlane = model.header.is_plane;
  const [dy, dx] = isPlane ? model.header.step : [1, 1];
  const lengths = new Float64Array(6);
  for (const side of [0, 1]) {
    const [step, length] = side === 0 ? [1, dy] : [nx, dx];
    for (let i = 0; i + step < n; i++) {
      const kind = grains.kinds[side][i];
      if (kind && (!mask || mask[i] || mask[i + step])) lengths[kind] += length;
    }
  }
  const total = lengths.reduce((sum, value) => sum + value, 0);
  const order = [EDGE.high, EDGE.low, EDGE.sigma3, EDGE.twin, EDGE.phase];
  const rows = order
    .filter((kind) => kind !== EDGE.sigma3 || model.crystals.some((crystal) => crystal.sigma3))
    .map((kind) => {
      const [color, width] = EDGE_SHOWN[kind].split(" ");
      const sample = `<span class="nas-stroke"><i style="border-top:${width} solid ${color}"></i></span>`;
      const share = total ? `${((100 * lengths[kind]) / total).toFixed(1)} %` : "–";
      return [sample + EDGE_NAMES[kind], `${Number(lengths[kind].toPrecision(3))} ${isPlane ? model.header.unit : ""}`, share];
    });
  return tableOf(["Kind", isPlane ? "length" : "number", "share"], rows);
}

// What is known of a grain: rows of a table, and its neighbours.
export function grainPanel(model, grains, grain) {
  const info = describeGrain(model, grains, grain);
  const area = model.header.is_plane
    ? `${info.members.length} positions, diameter ${Number(sizeOf(model, info.members.length).toPrecision(3))} ${model.header.unit}`
    : `${info.members.length} positions`;
  const rows = [
    ["Phase", swatch(info.crystal.color) + escapeHtml(info.crystal.name)],
    ["Size", escapeHtml(area)],
    ["Mean orientation", formatEuler(info.mean)],
    ["Spread", `${info.spread.toFixed(2)}° mean, ${info.largest.toFixed(1)}° largest`],
    ["180° twins", `${(100 * info.twins).toFixed(0)} % of its positions`],
  ];
  const neighbours = neighboursOf(model, grains, grain).slice(0, 8).map((entry) => {
    const other = describeGrain(model, grains, entry.grain);
    return [
      `<button type="button" class="nas-link" data-grain="${entry.grain}">grain ${entry.grain + 1}</button>`,
      swatch(other.crystal.color) + escapeHtml(other.crystal.name),
      String(entry.length),
      relation(info, other),
    ];
  });
  return {
    info,
    rows: rows.map(([name, value]) => `<tr><td>${name}</td><td>${value}</td></tr>`).join(""),
    neighbours: neighbours.length
      ? tableOf(["Neighbour", "phase", "common edges", "angle"], neighbours)
      : "",
  };
}

// Angle between the mean orientations of two grains, and what is special about it.
function relation(a, b) {
  if (a.crystal !== b.crystal) return "other phase";
  const angle = disorientation(a.crystal, a.mean, b.mean);
  const twin = disorientation(a.crystal, turnAboutBeam(a.mean), b.mean);
  const name = twin < 5 ? ", 180° twin" : isSigma3(a.crystal, a.mean, b.mean) ? ", Σ3 twin" : "";
  return `${angle.toFixed(1)}°${name}`;
}

// The key of the layer that is shown.
export function layerKey(model, layer) {
  const dark = `${swatch([0, 0, 0])}not indexed`;
  if (layer.kind === "phase") {
    return [...model.crystals.map((c) => swatch(c.color) + escapeHtml(c.name)), dark].map(item).join("");
  }
  if (layer.kind === "ipf") return item("Colours: the inverse pole figure on the right") + item(dark);
  if (layer.kind === "grains") return item("Colours only tell neighbours apart") + item(dark);
  if (layer.kind === "names") {
    const { property } = layer;
    const present = property.names.filter((_, k) => property.levels.includes(k));
    return present.map((name) => item(swatch(NAME_COLORS[property.names.indexOf(name)]) + escapeHtml(name))).join("") + item(dark);
  }
  const [low, high] = shownRange(layer.property).map((v) => formatValue(layer.property, v));
  const stops = Array.from({ length: 9 }, (_, k) => `rgb(${model.colormap.slice(3 * Math.round((255 * k) / 8), 3 * Math.round((255 * k) / 8) + 3)})`);
  const ramp = `<span class="nas-ramp" style="background:linear-gradient(90deg,${stops})"></span>`;
  return item(`${low}${ramp}${high}`) + item(`${swatch([184, 184, 184])}no value`) + item(dark);
}

function item(html) {
  return `<span>${html}</span>`;
}
