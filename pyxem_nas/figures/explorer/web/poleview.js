// Where an orientation lies: inverse pole figure with its colours, and a pole figure.

import { colorOfDirection, intoSector, isInSector } from "./crystal.js";
import { AXES } from "./layers.js";
import { conjugate, rotate } from "./rotation.js";

const MAX_DOTS = 1500;
const READ = { willReadFrequently: true }; // the key is painted pixel by pixel

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d", READ);
  context.scale(ratio, ratio);
  return { context, width, height, ratio };
}

function mark(context, x, y, ink) {
  for (const [style, width] of [["#ffffff", 4.5], ["#000000", 2]]) {
    context.beginPath();
    context.arc(x, y, 5.5, 0, 2 * Math.PI);
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  }
  context.beginPath();
  context.arc(x, y, 1.6, 0, 2 * Math.PI);
  context.fillStyle = ink;
  context.fill();
}

// The key of a crystal with the direction along a sample axis marked; returns that direction.
export function drawInversePoleFigure(canvas, crystal, orientation, axis, ink) {
  const { context, width, height, ratio } = prepare(canvas);
  if (!crystal?.colors) return null;
  const { outline, corners } = crystal.sector;
  const xs = outline.flat().map((p) => p[0]);
  const ys = outline.flat().map((p) => p[1]);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const margin = 22;
  const zoom = Math.min((width - 2.4 * margin) / (right - left), (height - 2 * margin) / (high - low));
  const x0 = (width - zoom * (right - left)) / 2 - zoom * left;
  const y0 = (height + zoom * (high - low)) / 2 + zoom * low;
  const toScreen = ([x, y]) => [x0 + zoom * x, y0 - zoom * y];
  paintKey(canvas, crystal, x0, y0, zoom, ratio);
  context.strokeStyle = ink;
  context.lineWidth = 1.2;
  context.beginPath();
  for (const arc of outline) arc.forEach((p, k) => context[k ? "lineTo" : "moveTo"](...toScreen(p)));
  context.stroke();
  context.fillStyle = ink;
  context.font = "12px system-ui, sans-serif";
  for (const { at, label } of corners) {
    const [x, y] = toScreen(at);
    context.textAlign = x > width / 2 + 8 ? "right" : x < width / 2 - 8 ? "left" : "center";
    const isLow = y > height / 2;
    context.fillText(label, x + (context.textAlign === "right" ? 12 : context.textAlign === "left" ? -12 : 0), isLow ? y + 16 : y - 7);
  }
  if (!orientation) return null;
  const direction = intoSector(crystal, orientation, AXES[axis]);
  const [x, y] = toScreen([direction[0] / (1 + direction[2]), direction[1] / (1 + direction[2])]);
  mark(context, x, y, "#000000");
  return direction;
}

function paintKey(canvas, crystal, x0, y0, zoom, ratio) {
  const context = canvas.getContext("2d", READ);
  const [w, h] = [canvas.width, canvas.height];
  const image = context.getImageData(0, 0, w, h);
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      const x = ((column + 0.5) / ratio - x0) / zoom;
      const y = (y0 - (row + 0.5) / ratio) / zoom;
      const r2 = x * x + y * y;
      if (r2 > 1) continue;
      const v = [(2 * x) / (1 + r2), (2 * y) / (1 + r2), (1 - r2) / (1 + r2)];
      if (!isInSector(crystal, v)) continue;
      const from = colorOfDirection(crystal, ...v);
      const at = 4 * (row * w + column);
      for (let k = 0; k < 3; k++) image.data[at + k] = crystal.colors[from + k];
      image.data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

// Poles of one family in the sample: of an orientation, large, and of others, as dots.
export function drawPoleFigure(canvas, crystal, family, orientation, others, ink) {
  const { context, width, height } = prepare(canvas);
  const poles = crystal?.poles[family];
  if (!poles) return;
  const radius = Math.min(width, height) / 2 - 20;
  const [cx, cy] = [width / 2, height / 2];
  context.strokeStyle = ink;
  context.lineWidth = 1.2;
  context.beginPath();
  context.arc(cx, cy, radius, 0, 2 * Math.PI);
  context.moveTo(cx - 4, cy);
  context.lineTo(cx + 4, cy);
  context.moveTo(cx, cy - 4);
  context.lineTo(cx, cy + 4);
  context.stroke();
  context.fillStyle = ink;
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillText("y", cx, cy - radius - 6);
  context.textAlign = "left";
  context.fillText("x", cx + radius + 6, cy + 4);
  const project = (q, visit) => {
    const inverse = conjugate(q);
    for (const pole of poles.vectors) {
      const v = rotate(inverse, pole);
      if (v[2] < -1e-9) continue;
      visit(cx + (radius * v[0]) / (1 + v[2]), cy - (radius * v[1]) / (1 + v[2]));
    }
  };
  context.fillStyle = `rgba(${crystal.color}, 0.35)`;
  const step = Math.max(1, Math.ceil(others.length / MAX_DOTS));
  for (let k = 0; k < others.length; k += step) {
    project(others[k], (x, y) => context.fillRect(x - 1, y - 1, 2, 2));
  }
  if (orientation) project(orientation, (x, y) => mark(context, x, y, ink));
}
