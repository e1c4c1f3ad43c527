"""Whether center="auto" finds the direct beam, where that is hard, and knows when it is open.

Dynamical patterns (`bloch_precession.npz`, without precession and with) drawn through the cameras
of the benchmarks: single patterns, scans of one crystal and of many; the beam as bright as the
Bloch waves say, 3 % or a thousandth of it, or by a stop; up to 25 pixels off the middle along each
axis, drifting by up to 2 over the scan.

    python benchmarks/beam.py --seed 1

"found" is within 1.5 pixels in at least 95 % of a scan's patterns. "brightest" is what
center="auto" did before: the brightest spot of the blurred mean, then the centre of mass near it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from bloch import PHASES, SIZE, _draw, _expose, get_beam_stop, load_bloch
from cameras import CAMERAS

from pyxem_nas.patterns.beam import beam_position, search_beam

_CLOSE = 1.5  # pixels
_SIDE = 6
_KINDS = {0: "one pattern", 1: "one crystal", 12: "12 crystals"}
_CAMERAS = (
    *CAMERAS,
    dataclasses.replace(CAMERAS[1], name="no background", background=0.0, saturation=2.0),
)
_BEAMS = {1.0: "as it is", 0.03: "3 %", 1e-3: "0.1 %"}


def draw_scan(bloch, camera, n_crystals, factor, rng):
    """Return images (6, 6, ny, nx) of a drifting scan, or one (ny, nx), and the true centres."""
    n = 1 if n_crystals == 0 else _SIDE**2
    rows = rng.choice(len(bloch.spots), max(n_crystals, 1), replace=False)
    rows = rows[np.arange(n) % len(rows)]
    base = 0.5 * (SIZE - 1) + rng.uniform(-25, 25, 2)
    slope = rng.uniform(-2, 2, (2, 2))
    y, x = np.indices((_SIDE, _SIDE)).reshape(2, -1)[:, :n] / (_SIDE - 1) - 0.5
    centers = base + np.stack([x, y], axis=1) @ slope if n > 1 else base[None]
    data = np.empty((n, SIZE, SIZE), np.uint8)
    for i, row in enumerate(rows):
        spots = bloch.spots[row].copy()
        spots[np.hypot(*spots[:, :2].T) < 1e-3, 2] *= factor
        spots[:, 2] *= rng.lognormal(0, 0.2, len(spots))  # thickness changes over a crystal
        data[i] = _expose(_draw(spots, camera, centers[i])[0], camera, rng)
    shape = (_SIDE, _SIDE) if n > 1 else ()
    return data.reshape(*shape, SIZE, SIZE), centers.reshape(*shape, 2)


def follow_brightest(data, scale):
    """Return the centres that center="auto" found before."""
    from skimage.filters import gaussian

    stack = data.reshape(-1, SIZE, SIZE)
    blurred = gaussian(stack.mean(axis=0), sigma=0.03 / scale)
    row, column = np.unravel_index(np.argmax(blurred), blurred.shape)
    reach = max(2, round(0.12 / scale))
    first = beam_position(stack.mean(axis=0), column, row, reach)
    row, column = round(first[1]), round(first[0])
    return np.array([beam_position(p, column, row, reach) for p in stack])


def make_scans(options):
    """Yield kind, images, true centres, camera and mask of each scan."""
    rng = np.random.default_rng([options.seed, 77])
    for phase in PHASES:
        bloch = load_bloch(phase, which=options.which)
        for precession in np.unique(np.round(bloch.precession, 3)):
            of = np.flatnonzero(np.isclose(bloch.precession, precession))[options.half :: 2]
            part = dataclasses.replace(bloch, spots=[bloch.spots[i] for i in of])
            for camera in (c for c in _CAMERAS if c.name in options.cameras):
                mask = get_beam_stop(camera) if camera.beam_stop else None
                for n_crystals, kind in _KINDS.items():
                    for factor, beam in _BEAMS.items():
                        beam = beam if mask is None else "by a stop"
                        for _ in range(options.repeats):
                            data, centers = draw_scan(part, camera, n_crystals, factor, rng)
                            yield (kind, f"{precession:g}", beam), data, centers, camera, mask


def fit_weights(scans):
    """Return the weights of a conditional logit: which of the places is the beam."""
    from scipy.optimize import minimize

    from pyxem_nas.patterns import beam_places as beam

    sets = []
    for key, data, centers, camera, mask in scans:
        stack = beam.read_sample(data)
        shown = np.ones((SIZE, SIZE), bool) if mask is None else ~mask
        scale = (camera.scale, camera.scale)
        spots = [beam.locate_spots(pattern, shown, scale) for pattern in stack]
        places = beam.list_places(spots, shown.shape, scale)
        away = np.linalg.norm(places - centers.reshape(-1, 2).mean(axis=0), axis=1)
        if away.min() < 4 and len(places) > 1:
            x = beam.describe_places(places, spots, stack, shown, scale)
            # at microscopes the beam is most often as bright as it is
            sets.append((x, int(away.argmin()), 3.0 if key[2] == _BEAMS[1.0] else 1.0))

    def loss(weights):
        total = 0.02 * np.sum(weights**2)
        for x, k, share in sets:
            score = x @ weights
            total += share * (np.log(np.exp(score - score.max()).sum()) + score.max() - score[k])
        return total

    print(f"{len(sets)} scans with the beam among the places")
    return minimize(loss, np.array([1.0, 1, 1, -1, 1])).x.round(3).tolist()


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="scans of each kind")
    parser.add_argument(
        "--half", type=int, default=1, choices=(0, 1), help="of the patterns: 0 is fitted to"
    )
    parser.add_argument("--which", default="precession", help="set of patterns")
    parser.add_argument("--cameras", nargs="*", default=[camera.name for camera in _CAMERAS])
    parser.add_argument("--fit", action="store_true", help="print weights fitted to these scans")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    options = parser.parse_args(arguments)
    from pyxem.signals import ElectronDiffraction2D

    if options.fit:
        print(fit_weights(make_scans(options)))
        return ""
    tally = defaultdict(list)
    for key, data, centers, camera, mask in make_scans(options):
        found = search_beam(ElectronDiffraction2D(data), (camera.scale, camera.scale), mask)
        away = np.linalg.norm(found.centers - centers, axis=-1)
        before = follow_brightest(data, camera.scale)
        away_before = np.linalg.norm(before - centers.reshape(-1, 2), axis=-1)
        row = (
            (away < _CLOSE).mean() >= 0.95,
            (away_before < _CLOSE).mean() >= 0.95,
            not found.is_open,
            float(np.median(away)),
        )
        tally[key].append(row)
    lines = [
        "| scan | precession | beam | scans | found, % | brightest, % | sure, % | found of sure, % "
        "| median, pixels |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    everything = [row for rows in tally.values() for row in rows]
    for key, rows in [*sorted(tally.items()), (("all", "", ""), everything)]:
        a = np.array(rows, float)
        sure = a[:, 2] > 0
        of_sure = f"{100 * a[sure, 0].mean():.0f}" if sure.any() else "-"
        right = a[a[:, 0] > 0, 3]
        lines.append(
            f"| {' | '.join(key)} | {len(a)} | {100 * a[:, 0].mean():.0f} | "
            f"{100 * a[:, 1].mean():.0f} | {100 * sure.mean():.0f} | {of_sure} | "
            f"{np.median(right) if right.size else np.nan:.2f} |"
        )
    text = "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text)
    return text


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
