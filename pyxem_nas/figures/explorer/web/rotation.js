// Rotations as [w, x, y, z], lab2crystal as in orix: v_crystal = R v_lab.

export const DEGREE = Math.PI / 180;

export function multiply(a, b) {
  return [
    a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
    a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
    a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
    a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
  ];
}

export function conjugate(q) {
  return [q[0], -q[1], -q[2], -q[3]];
}

export function normalise(q) {
  const norm = Math.hypot(...q) || 1;
  return q.map((value) => value / norm);
}

export function rotate(q, v) {
  const [w, x, y, z] = q;
  const tx = 2 * (y * v[2] - z * v[1]);
  const ty = 2 * (z * v[0] - x * v[2]);
  const tz = 2 * (x * v[1] - y * v[0]);
  return [
    v[0] + w * tx + y * tz - z * ty,
    v[1] + w * ty + z * tx - x * tz,
    v[2] + w * tz + x * ty - y * tx,
  ];
}

// The orientation whose pattern of the zero-order Laue zone is turned by 180 degrees.
export function turnAboutBeam(q) {
  return multiply(q, [0, 0, 0, 1]);
}

// Bunge's Euler angles in degrees, as orix gives them for lab2crystal rotations.
export function toEuler(q) {
  const [a, b, c, d] = q;
  const ad = a * a + d * d;
  const bc = b * b + c * c;
  const chi = Math.sqrt(ad * bc);
  let angles;
  if (chi < 1e-9) {
    angles = bc < ad
      ? [Math.atan2(-2 * a * d, a * a - d * d), 0, 0]
      : [Math.atan2(2 * b * c, b * b - c * c), Math.PI, 0];
  } else {
    angles = [
      Math.atan2((b * d - a * c) / chi, (-a * b - c * d) / chi),
      Math.atan2(2 * chi, ad - bc),
      Math.atan2((a * c + b * d) / chi, (c * d - a * b) / chi),
    ];
  }
  return angles.map((angle) => (angle / DEGREE + 720) % 360);
}
