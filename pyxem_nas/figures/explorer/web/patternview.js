// The pattern of a position with the spots of an answer, or what the answer leaves over.

import { simulateSpots } from "./crystal.js";

const N_LABELS = 18;
const BEAM = 0.12; // 1/angstrom: the direct beam is left out of what is compared
const WIDTHS = [0.8, 1.1, 1.5, 2, 2.7]; // of a spot, pixels: the one that fits best is taken

// Square root of the intensity, smoothed, above what the noise of its ring reaches; direct beam 0.
export function flattenPattern(pattern, simulation) {
  const [ny, nx] = pattern.shape;
  const [cx, cy] = centerIn(pattern);
  const beam = Math.max(2, BEAM / Math.max(...simulation.detector_scale) / pattern.factor);
  const smooth = smoothed(pattern.levels, nx, ny);
  const radius = new Int32Array(nx * ny);
  const rings = [];
  for (let i = 0; i < nx * ny; i++) {
    radius[i] = Math.round(Math.hypot((i % nx) - cx, Math.floor(i / nx) - cy));
    // a frame of zeros around what the camera saw would pull the median down
    if (smooth[i] > 0) (rings[radius[i]] ??= []).push(smooth[i]);
  }
  const floors = rings.map((values) => {
    const middle = medianIn(values);
    const noise = 1.48 * medianIn(values.map((value) => Math.abs(value - middle)));
    return middle + Math.min(2.5 * noise, 0.3 * pattern.highest);
  });
  const flat = new Float32Array(nx * ny);
  for (let i = 0; i < nx * ny; i++) {
    if (radius[i] > beam) flat[i] = Math.max(0, smooth[i] - (floors[radius[i]] ?? 0));
  }
  return { flat, radius, beam };
}

function medianIn(values) {
  return Float32Array.from(values).sort()[values.length >> 1];
}

// Mean over 3 x 3 pixels with the weights 1 2 1.
function smoothed(levels, nx, ny) {
  const along = (from, step, length, at) => {
    const k = Math.floor(at / step) % length;
    return (from[k ? at - step : at] + 2 * from[at] + from[k < length - 1 ? at + step : at]) / 4;
  };
  const once = Float32Array.from(levels, (_, i) => along(levels, 1, nx, i));
  return once.map((_, i) => along(once, nx, ny, i));
}

// What a set of spots explains of a pattern: correlation, share left over, difference image.
export function compareWithSpots(pattern, spots, simulation) {
  const [ny, nx] = pattern.shape;
  const { flat, radius, beam } = flattenPattern(pattern, simulation);
  const norm = Math.sqrt(flat.reduce((sum, value) => sum + value * value, 0));
  let best = { correlation: 0, drawn: new Float32Array(nx * ny), height: 0, width: WIDTHS[1] };
  for (const width of WIDTHS) {
    const drawn = drawSpots(pattern, spots, width);
    let product = 0;
    let square = 0;
    for (let i = 0; i < flat.length; i++) {
      if (radius[i] <= beam) drawn[i] = 0;
      product += drawn[i] * flat[i];
      square += drawn[i] * drawn[i];
    }
    const correlation = square && norm ? product / Math.sqrt(square) / norm : 0;
    if (correlation > best.correlation) {
      best = { correlation, drawn, height: product / square, width };
    }
  }
  const near = new Uint8Array(nx * ny);
  const reach = 2.5 * best.width;
  for (const { column, row } of spots) {
    forEachNear(toPattern(pattern, column), toPattern(pattern, row), reach, nx, ny, (i) => (near[i] = 1));
  }
  let total = 0;
  let left = 0;
  for (let i = 0; i < flat.length; i++) {
    total += flat[i];
    if (!near[i]) left += flat[i];
  }
  return {
    correlation: best.correlation,
    unexplained: total ? left / total : NaN,
    difference: flat.map((value, i) => value - best.height * best.drawn[i]),
  };
}

function drawSpots(pattern, spots, width) {
  const [ny, nx] = pattern.shape;
  const drawn = new Float32Array(nx * ny);
  for (const { column, row, intensity } of spots) {
    const height = Math.sqrt(intensity);
    forEachNear(toPattern(pattern, column), toPattern(pattern, row), 3 * width, nx, ny, (i, r2) => {
      drawn[i] = Math.max(drawn[i], height * Math.exp((-0.5 * r2) / width ** 2));
    });
  }
  return drawn;
}

function forEachNear(x, y, reach, nx, ny, visit) {
  for (let row = Math.max(0, Math.ceil(y - reach)); row <= Math.min(ny - 1, y + reach); row++) {
    for (let col = Math.max(0, Math.ceil(x - reach)); col <= Math.min(nx - 1, x + reach); col++) {
      const r2 = (col - x) ** 2 + (row - y) ** 2;
      if (r2 <= reach * reach) visit(row * nx + col, r2);
    }
  }
}

// Pixels of the camera to pixels of the binned pattern; pixel 0 is centred at 0 in both.
export function toPattern(pattern, pixel) {
  return (pixel + 0.5) / pattern.factor - 0.5;
}

export function centerIn(pattern) {
  return pattern.center.map((pixel) => toPattern(pattern, pixel));
}

export class PatternView {
  constructor(canvas, simulation) {
    this.canvas = canvas;
    this.simulation = simulation;
    this.options = { spots: true, labels: true, residual: false, contrast: 1, isDark: false };
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  // Show a pattern (null: none) with the spots of an orientation of a crystal.
  show(pattern, crystal, orientation) {
    this.pattern = pattern;
    this.crystal = crystal;
    this.spots = pattern && crystal && orientation
      ? simulateSpots(crystal, orientation, this.simulation, pattern.center)
      : [];
    this.comparison = pattern ? compareWithSpots(pattern, this.spots, this.simulation) : null;
    this.draw();
  }

  draw() {
    const { canvas, pattern } = this;
    const size = canvas.parentElement.clientWidth;
    if (!size) return;
    const ratio = window.devicePixelRatio || 1;
    const [ny, nx] = pattern ? pattern.shape : [1, 1];
    const height = Math.min(1.2 * size, (size * ny) / nx);
    canvas.width = Math.round(size * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.clearRect(0, 0, size, height);
    if (!pattern) return;
    this.zoom = size / nx;
    const image = document.createElement("canvas");
    [image.width, image.height] = [nx, ny];
    const pixels = this.options.residual ? this.residualPixels() : this.patternPixels();
    image.getContext("2d").putImageData(new ImageData(pixels, nx, ny), 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, 0, size, height);
    if (this.options.spots) this.drawMarks(context, size, height);
  }

  patternPixels() {
    const { levels, highest } = this.pattern;
    const sorted = Uint8Array.from(levels).sort();
    const low = sorted[sorted.length >> 1]; // half of a pattern is background
    const pixels = new Uint8ClampedArray(4 * levels.length);
    for (let i = 0; i < levels.length; i++) {
      const share = Math.max(0, (levels[i] - low) / Math.max(1, highest - low));
      const grey = 255 * share ** this.options.contrast;
      pixels.fill(this.options.isDark ? grey : 255 - grey, 4 * i, 4 * i + 3);
      pixels[4 * i + 3] = 255;
    }
    return pixels;
  }

  // Orange: measured, not simulated; blue: simulated, not measured.
  residualPixels() {
    const { difference } = this.comparison;
    const largest = difference.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
    const ground = this.options.isDark ? [20, 20, 20] : [255, 255, 255];
    const pixels = new Uint8ClampedArray(4 * difference.length);
    for (let i = 0; i < difference.length; i++) {
      const color = difference[i] > 0 ? [213, 94, 0] : [0, 114, 178];
      const share = Math.min(1, Math.abs(difference[i]) / largest) ** this.options.contrast;
      for (let k = 0; k < 3; k++) pixels[4 * i + k] = ground[k] + share * (color[k] - ground[k]);
      pixels[4 * i + 3] = 255;
    }
    return pixels;
  }

  // Where a pixel of the camera lies on the canvas, in CSS pixels.
  toScreen(column, row) {
    return [toPattern(this.pattern, column), toPattern(this.pattern, row)].map(
      (value) => (value + 0.5) * this.zoom,
    );
  }

  drawMarks(context, width, height) {
    const [bx, by] = this.toScreen(...this.pattern.center);
    const base = this.crystal ? this.crystal.color : [128, 128, 128];
    const color = `rgb(${this.options.isDark ? base.map((c) => 0.6 * c + 0.4 * 255) : base})`;
    const halo = this.options.isDark ? "rgba(0,0,0,0.75)" : "rgba(255,255,255,0.8)";
    const marks = this.spots.map((spot) => {
      const [x, y] = this.toScreen(spot.column, spot.row);
      return { x, y, radius: 3.5 + 5 * spot.intensity ** 0.25, hkl: spot.hkl };
    });
    for (const [style, line] of [[halo, 3.4], [color, 1.8]]) {
      context.strokeStyle = style;
      context.lineWidth = line;
      context.beginPath();
      for (const { x, y, radius } of marks) {
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, 2 * Math.PI);
      }
      for (const [dx, dy] of [[1, 0], [0, 1]]) {
        context.moveTo(bx - 6 * dx, by - 6 * dy);
        context.lineTo(bx + 6 * dx, by + 6 * dy);
      }
      context.stroke();
    }
    if (this.options.labels) this.drawLabels(context, marks, bx, by, width, height);
  }

  // Indices outside of the strongest spots, none over another or the frame.
  drawLabels(context, marks, bx, by, width, height) {
    context.font = "12px system-ui, sans-serif";
    const taken = marks.map(({ x, y, radius }) => [x - radius, y - radius, x + radius, y + radius]);
    let n = 0;
    for (const { x, y, radius, hkl } of marks) {
      if (n >= N_LABELS) break;
      const length = Math.hypot(x - bx, y - by);
      if (length < 1) continue;
      const w = widthOfIndices(context, hkl);
      for (const side of [1, -1]) {
        const reach = side * (radius + 4 + (w / 2) * Math.abs((x - bx) / length) + 6 * Math.abs((y - by) / length));
        const cx = x + (reach * (x - bx)) / length;
        const cy = y + (reach * (y - by)) / length;
        const box = [cx - w / 2, cy - 8, cx + w / 2, cy + 7];
        const isFree = box[0] > 0 && box[1] > 0 && box[2] < width && box[3] < height &&
          !taken.some((o) => box[0] < o[2] && o[0] < box[2] && box[1] < o[3] && o[1] < box[3]);
        if (!isFree) continue;
        taken.push(box);
        n++;
        this.writeIndices(context, hkl, box[0], cy + 4);
        break;
      }
    }
  }

  writeIndices(context, hkl, left, baseline) {
    const ink = this.options.isDark ? "#ffffff" : "#111111";
    const halo = this.options.isDark ? "#000000" : "#ffffff";
    context.lineJoin = "round";
    let x = left;
    const gap = hkl.some((index) => Math.abs(index) > 9) ? 3 : 0;
    for (const index of hkl) {
      const text = String(Math.abs(index));
      const w = context.measureText(text).width;
      context.lineWidth = 3;
      context.strokeStyle = halo;
      context.strokeText(text, x, baseline);
      context.fillStyle = ink;
      context.fillText(text, x, baseline);
      if (index < 0) context.fillRect(x + 0.5, baseline - 11, w - 1, 1.2);
      x += w + gap;
    }
  }
}

function widthOfIndices(context, hkl) {
  const gap = hkl.some((index) => Math.abs(index) > 9) ? 6 : 0;
  return context.measureText(hkl.map((index) => Math.abs(index)).join("")).width + gap;
}
