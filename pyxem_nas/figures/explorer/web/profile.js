// A line over the map: misorientation along it.

import { disorientation } from "./crystal.js";
import { turnAboutBeam } from "./rotation.js";

// Positions under a line from one position to another.
export function positionsOnLine(model, from, to) {
  const { nx } = model;
  const [x0, y0, x1, y1] = [from % nx, Math.floor(from / nx), to % nx, Math.floor(to / nx)];
  const n = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
  const positions = [];
  for (let k = 0; k <= n; k++) {
    const column = Math.round(x0 + ((x1 - x0) * k) / n);
    const row = Math.round(y0 + ((y1 - y0) * k) / n);
    positions.push(row * nx + column);
  }
  return positions;
}

// Distance along the line, and angles in degrees to its first position and to the one before; NaN
// between phases or without an answer.
export function measureProfile(model, from, to) {
  const { nx } = model;
  const [dy, dx] = model.header.step;
  const positions = positionsOnLine(model, from, to);
  const angle = (i, j) => {
    const crystal = model.crystalAt(i);
    if (!crystal || model.phase[i] !== model.phase[j]) return [NaN, NaN];
    const [a, b] = [model.rotation(i), model.rotation(j)];
    return [disorientation(crystal, a, b), disorientation(crystal, turnAboutBeam(a), b)];
  };
  return positions.map((position, k) => {
    const before = positions[Math.max(0, k - 1)];
    const [toFirst] = angle(from, position);
    const [toBefore, twin] = angle(before, position);
    const across = ((position % nx) - (from % nx)) * dx;
    const down = (Math.floor(position / nx) - Math.floor(from / nx)) * dy;
    return {
      position,
      distance: Math.hypot(across, down),
      toFirst,
      toBefore,
      isTwin: toBefore > 5 && twin < 5, // of the method: the pattern may not tell the two
    };
  });
}

export function drawProfile(canvas, model, profile, colors) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const [left, right, top, bottom] = [44, width - 10, 12, height - 34];
  const longest = profile.at(-1).distance || 1;
  const finite = profile.flatMap((p) => [p.toFirst, p.toBefore]).filter(Number.isFinite);
  const highest = Math.max(5, ...finite) * 1.08;
  const toX = (distance) => left + ((right - left) * distance) / longest;
  const toY = (angle) => bottom - ((bottom - top) * angle) / highest;
  context.font = "12px system-ui, sans-serif";
  drawAxes(context, { left, right, top, bottom, longest, highest, toX, toY, unit: model.header.unit, ink: colors.ink });
  for (const [name, color, dash] of [["toFirst", colors.first, []], ["toBefore", colors.before, [5, 3]]]) {
    context.beginPath();
    context.setLineDash(dash);
    let isDown = false;
    for (const point of profile) {
      if (!Number.isFinite(point[name])) {
        isDown = false;
        continue;
      }
      context[isDown ? "lineTo" : "moveTo"](toX(point.distance), toY(point[name]));
      isDown = true;
    }
    context.strokeStyle = color;
    context.lineWidth = 2;
    context.stroke();
  }
  context.setLineDash([]);
  for (const { isTwin, distance, toBefore } of profile) {
    if (!isTwin) continue;
    context.beginPath();
    context.arc(toX(distance), toY(toBefore), 4, 0, 2 * Math.PI);
    context.strokeStyle = colors.before;
    context.stroke();
  }
}

function drawAxes(context, { left, right, top, bottom, longest, highest, toX, toY, unit, ink }) {
  context.strokeStyle = ink;
  context.fillStyle = ink;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(left, top);
  context.lineTo(left, bottom);
  context.lineTo(right, bottom);
  const step = roundStep(highest / 4);
  context.textAlign = "right";
  for (let value = 0; value <= highest; value += step) {
    context.moveTo(left - 4, toY(value));
    context.lineTo(left, toY(value));
    context.fillText(`${Number(value.toPrecision(3))}°`, left - 6, toY(value) + 4);
  }
  context.textAlign = "center";
  const along = roundStep(longest / 6);
  for (let value = 0; value <= longest * 1.001; value += along) {
    context.moveTo(toX(value), bottom);
    context.lineTo(toX(value), bottom + 4);
    context.fillText(String(Number(value.toPrecision(3))), toX(value), bottom + 16);
  }
  context.stroke();
  context.fillText(`Distance from A (${unit})`, (left + right) / 2, bottom + 31);
}

function roundStep(target) {
  const decade = 10 ** Math.floor(Math.log10(target));
  return [1, 2, 5, 10].find((f) => f * decade >= target) * decade;
}
