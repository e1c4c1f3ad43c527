// The map on canvas: image and boundaries below, what follows the pointer above.

import { EDGE } from "./grains.js";

const MAX_ZOOM = 80; // screen pixels of a position
const LINE_HEIGHT = 90; // screen pixels of the strip of a line scan
const EDGE_STYLES = {
  [EDGE.twin]: ["#ffffff", 1],
  [EDGE.low]: ["#000000", 0.9],
  [EDGE.high]: ["#000000", 2],
  [EDGE.phase]: ["#000000", 2],
  [EDGE.sigma3]: ["#ff2d95", 2.4],
};
const CASED = String(EDGE.sigma3); // on black, as its colour is one of the maps' own

export class MapView {
  constructor(host, model, handlers) {
    this.model = model;
    this.handlers = handlers;
    this.base = host.querySelector(".nas-map-base");
    this.overlay = host.querySelector(".nas-map-overlay");
    this.host = host;
    this.image = document.createElement("canvas");
    this.image.width = model.nx;
    this.image.height = model.ny;
    const [dy, dx] = model.header.step;
    this.aspect = model.header.is_plane ? dy / dx : 0;
    this.kinds = null;
    this.boundaries = true;
    this.mode = "select"; // or "line"
    this.state = { hover: -1, selected: -1, shown: -1, line: null };
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => this.resize()).observe(host);
    this.resize();
  }

  // --------------------------------------------------------------- geometry

  resize() {
    const { nx, ny } = this.model;
    const wanted = this.aspect ? (this.host.clientWidth * ny * this.aspect) / nx + 2 : LINE_HEIGHT + 80;
    this.host.style.maxHeight = `${Math.max(220, Math.ceil(wanted))}px`; // no empty ground
    const { width, height } = this.host.getBoundingClientRect();
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    const isFirst = !this.width;
    const wasFit = isFirst || Math.abs(this.scale - this.fitScale()) < 1e-9;
    [this.width, this.height, this.ratio] = [width, height, ratio];
    for (const canvas of [this.base, this.overlay]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    if (wasFit) this.fit();
    else this.draw();
  }

  get cellHeight() {
    return this.aspect ? this.scale * this.aspect : LINE_HEIGHT;
  }

  fitScale() {
    const { nx, ny } = this.model;
    const across = this.width / nx;
    return this.aspect ? Math.min(across, this.height / (ny * this.aspect)) : across;
  }

  fit() {
    this.scale = this.fitScale();
    this.x = (this.width - this.model.nx * this.scale) / 2;
    this.y = (this.height - this.model.ny * this.cellHeight) / 2;
    this.draw();
  }

  // Zoom about a point of the screen, the middle by default.
  zoom(factor, cx = this.width / 2, cy = this.height / 2) {
    const old = this.scale;
    const oldHeight = this.cellHeight;
    this.scale = Math.min(MAX_ZOOM, Math.max(this.fitScale() * 0.8, old * factor));
    this.x = cx - ((cx - this.x) * this.scale) / old;
    this.y = cy - ((cy - this.y) * this.cellHeight) / oldHeight;
    this.keepInSight();
    this.draw();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.keepInSight();
    this.draw();
  }

  keepInSight() {
    const margin = 40;
    const w = this.model.nx * this.scale;
    const h = this.model.ny * this.cellHeight;
    this.x = Math.min(this.width - margin, Math.max(margin - w, this.x));
    this.y = Math.min(this.height - margin, Math.max(margin - h, this.y));
  }

  positionAt(px, py) {
    const column = Math.floor((px - this.x) / this.scale);
    const row = Math.floor((py - this.y) / this.cellHeight);
    if (column < 0 || row < 0 || column >= this.model.nx || row >= this.model.ny) return -1;
    return row * this.model.nx + column;
  }

  centerOf(position) {
    const { nx } = this.model;
    return [
      this.x + ((position % nx) + 0.5) * this.scale,
      this.y + (Math.floor(position / nx) + 0.5) * this.cellHeight,
    ];
  }

  // Bring a position into sight without zooming.
  reveal(position) {
    const [px, py] = this.centerOf(position);
    const margin = 20;
    const dx = Math.max(0, margin - px) + Math.min(0, this.width - margin - px);
    const dy = Math.max(0, margin - py) + Math.min(0, this.height - margin - py);
    if (dx || dy) this.pan(dx, dy);
  }

  // --------------------------------------------------------------- drawing

  setImage(image) {
    this.image.getContext("2d").putImageData(image, 0, 0);
    this.draw();
  }

  setBoundaries(kinds) {
    this.kinds = kinds;
    this.segments = kinds && collectSegments(this.model, kinds);
    this.draw();
  }

  set(changes) {
    Object.assign(this.state, changes);
    this.drawOverlay();
  }

  draw() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      this.drawBase();
      this.paintOverlay();
    });
  }

  drawOverlay() {
    if (this.waits || this.overlayWaits) return;
    this.overlayWaits = true;
    requestAnimationFrame(() => {
      this.overlayWaits = false;
      this.paintOverlay();
    });
  }

  drawBase() {
    const context = this.base.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.imageSmoothingEnabled = false;
    const { nx, ny } = this.model;
    context.drawImage(this.image, this.x, this.y, nx * this.scale, ny * this.cellHeight);
    if (this.boundaries && this.segments) this.drawBoundaries(context);
  }

  drawBoundaries(context) {
    const thin = Math.min(1, 0.35 + this.scale / 12);
    const inside = (value, offset, step, length) =>
      value * step + offset > -step && value * step + offset < length + step;
    context.lineCap = "square";
    for (const [kind, [color, width]] of Object.entries(EDGE_STYLES)) {
      context.beginPath();
      const { across, down } = this.segments[kind];
      // [column, from row, to row] and [row, from column, to column], in edges of positions
      for (let k = 0; k < down.length; k += 3) {
        if (!inside(down[k], this.x, this.scale, this.width)) continue;
        const x = this.x + down[k] * this.scale;
        context.moveTo(x, this.y + down[k + 1] * this.cellHeight);
        context.lineTo(x, this.y + down[k + 2] * this.cellHeight);
      }
      for (let k = 0; k < across.length; k += 3) {
        if (!inside(across[k], this.y, this.cellHeight, this.height)) continue;
        const y = this.y + across[k] * this.cellHeight;
        context.moveTo(this.x + across[k + 1] * this.scale, y);
        context.lineTo(this.x + across[k + 2] * this.scale, y);
      }
      for (const [ink, broad] of [["#000000", kind === CASED ? width + 2.6 : 0], [color, width]]) {
        if (!broad) continue;
        context.strokeStyle = ink;
        context.lineWidth = broad * thin;
        context.stroke();
      }
    }
  }

  paintOverlay() {
    const context = this.overlay.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const { hover, selected, shown, line } = this.state;
    if (line) drawLine(context, this.width, ...line.map((position) => this.centerOf(position)));
    if (hover >= 0) this.frame(context, hover, "#ffffff", 1);
    if (shown >= 0 && shown !== selected) this.ring(context, shown);
    if (selected >= 0) this.cross(context, selected);
    this.scaleBar(context);
  }

  frame(context, position, color, grow) {
    const [cx, cy] = this.centerOf(position);
    const w = Math.max(this.scale, 5) + 2 * grow;
    const h = Math.max(this.cellHeight, 5) + 2 * grow;
    outline(context, () => context.rect(cx - w / 2, cy - h / 2, w, h), color);
  }

  ring(context, position) {
    const [cx, cy] = this.centerOf(position);
    outline(context, () => context.arc(cx, cy, 7, 0, 2 * Math.PI), "#ffffff");
  }

  cross(context, position) {
    const [cx, cy] = this.centerOf(position);
    const gap = Math.max(5, this.scale / 2 + 2);
    const arm = gap + 9;
    outline(context, () => {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(cx + gap * dx, cy + gap * dy);
        context.lineTo(cx + arm * dx, cy + arm * dy);
      }
      context.rect(cx - gap + 2, cy - gap + 2, 2 * gap - 4, 2 * gap - 4);
    }, "#ffffff");
  }

  // A bar of a round length, about a fifth of what is seen.
  scaleBar(context) {
    const perPixel = this.model.header.step[1] / this.scale;
    const target = (this.width / 5) * perPixel;
    const decade = 10 ** Math.floor(Math.log10(target));
    const length = [5, 2, 1].find((f) => f * decade <= target) * decade;
    const label = `${Number(length.toPrecision(3))} ${this.model.header.unit}`;
    const width = length / perPixel;
    const bottom = this.height - 12;
    context.font = "12px system-ui, sans-serif";
    const box = Math.max(width, context.measureText(label).width) + 16;
    context.fillStyle = "rgba(255, 255, 255, 0.85)";
    context.fillRect(8, bottom - 24, box, 30);
    context.fillStyle = "#000000";
    context.fillRect(16, bottom - 3, width, 4);
    context.fillText(label, 16, bottom - 8);
  }

  // --------------------------------------------------------------- pointer

  listen() {
    const area = this.overlay;
    area.addEventListener("wheel", (event) => {
      event.preventDefault();
      const [px, py] = this.at(event);
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), px, py);
    }, { passive: false });
    area.addEventListener("pointerdown", (event) => this.press(event));
    area.addEventListener("pointermove", (event) => this.move(event));
    area.addEventListener("pointerup", (event) => this.release(event));
    area.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    area.addEventListener("pointerleave", () => {
      this.set({ hover: -1 });
      this.handlers.hover(-1);
    });
    area.addEventListener("dblclick", () => this.fit());
  }

  at(event) {
    const box = this.overlay.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  press(event) {
    if (event.button !== 0) return;
    this.overlay.setPointerCapture(event.pointerId);
    const [px, py] = this.at(event);
    this.pointers.set(event.pointerId, { px, py, moved: 0 });
    this.host.focus({ preventScroll: true });
    if (this.mode === "line") {
      const position = this.positionAt(px, py);
      if (position >= 0) this.lineStart = position;
    }
  }

  move(event) {
    const [px, py] = this.at(event);
    const pointer = this.pointers.get(event.pointerId);
    const position = this.positionAt(px, py);
    if (!pointer) {
      if (position !== this.state.hover) {
        this.set({ hover: position });
        this.handlers.hover(position);
      }
      return;
    }
    const [dx, dy] = [px - pointer.px, py - pointer.py];
    pointer.moved += Math.abs(dx) + Math.abs(dy);
    if (this.pointers.size === 2) this.pinch(event.pointerId, px, py);
    else if (this.mode === "line") {
      if (position >= 0 && this.lineStart >= 0) this.handlers.line(this.lineStart, position);
    } else if (pointer.moved > 4) this.pan(dx, dy);
    Object.assign(pointer, { px, py });
  }

  pinch(id, px, py) {
    const [[, other]] = [...this.pointers].filter(([key]) => key !== id);
    const { px: ox, py: oy } = this.pointers.get(id);
    const before = Math.hypot(ox - other.px, oy - other.py);
    const now = Math.hypot(px - other.px, py - other.py);
    if (before > 0) this.zoom(now / before, (px + other.px) / 2, (py + other.py) / 2);
  }

  release(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!pointer || pointer.moved > 4) return;
    const position = this.positionAt(...this.at(event));
    if (position >= 0) this.handlers.select(position);
  }
}

// A line that shows on any ground: coloured, on a dark one that is wider.
function outline(context, path, color) {
  for (const [style, width] of [["#000000", 4], [color, 1.8]]) {
    context.beginPath();
    path();
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  }
}

function drawLine(context, width, [x0, y0], [x1, y1]) {
  outline(context, () => {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }, "#ffffff");
  for (const [label, x, y] of [["A", x0, y0], ["B", x1, y1]]) {
    context.font = "bold 13px system-ui, sans-serif";
    context.lineWidth = 3;
    context.strokeStyle = "#000000";
    const left = x > width - 24 ? x - 16 : x + 6;
    context.strokeText(label, left, y - 6);
    context.fillStyle = "#ffffff";
    context.fillText(label, left, y - 6);
  }
}

// Edges of each kind, those in one line joined: fewer to draw.
function collectSegments(model, kinds) {
  const { nx, ny } = model;
  const segments = {};
  for (const kind of Object.keys(EDGE_STYLES)) segments[kind] = { across: [], down: [] };
  for (let column = 0; column < nx - 1; column++) {
    for (let row = 0; row < ny; ) {
      const kind = kinds[0][row * nx + column];
      const start = row++;
      while (row < ny && kinds[0][row * nx + column] === kind) row++;
      if (kind !== EDGE.none) segments[kind].down.push(column + 1, start, row);
    }
  }
  for (let row = 0; row < ny - 1; row++) {
    for (let column = 0; column < nx; ) {
      const kind = kinds[1][row * nx + column];
      const start = column++;
      while (column < nx && kinds[1][row * nx + column] === kind) column++;
      if (kind !== EDGE.none) segments[kind].across.push(row + 1, start, column);
    }
  }
  return segments;
}
