"""What calibrate="auto" brings back of a wrong calibration; a right one it lets be.

Dynamical patterns of the benchmarks' cameras, 3 phases, as one scan of rows; the calibration is
wrong by what is drawn into the images: a scale, an ellipse, a centre that drifts along a line.
"lost" are positions that the right calibration indexes within 5 degrees (180-degree twins forgiven)
and the wrong one does not; "back" is the share of them that calibrate="auto" has right again, on
positions that it neither fitted nor tested with. Some answers hang on so little that any change
turns them: "limit" is the share that comes back with the right calibration moved by 0.1 % and 0.05
pixels. Seconds are those of the calibration alone, in the call of `index_phase_orientation`: by the
clock, which means little where other work runs, and of the processor, summed over all threads.

    python benchmarks/calibration.py --bundle steel --seed 1
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import numpy as np
from bloch import PHASES, SIZE, _draw, _expose, get_beam_stop, load_bloch
from cameras import CAMERAS
from report import describe_run

from pyxem_nas import Acquisition, ModelBundle, signals
from pyxem_nas.diffraction import disorientation_angles, laue_operations, multiply_quaternions
from pyxem_nas.indexing.self_calibration import _choose_positions

_AZIMUTH = 35.0  # degrees, of the ellipse's longer axis
CASES = {  # scale error, ellipticity, drift in pixels over the scan
    "right": (0.0, 0.0, 0.0),
    "scale +3 %, ellipse 2 %": (0.03, 0.02, 0.0),
    "scale -3 %, ellipse 2 %": (-0.03, 0.02, 0.0),
    "scale +1 %": (0.01, 0.0, 0.0),
    "ellipse 3 %": (0.0, 0.03, 0.0),
    "drift 4 pixels": (0.0, 0.0, 4.0),
    "scale +3 %, ellipse 2 %, drift 4": (0.03, 0.02, 4.0),
}


def make_scan(camera, case, n_per_phase, seed):
    """Return images (rows, 30, ny, nx), truth, phases, centre as stated, true centres, matrix."""
    scale_error, ellipticity, drift = case
    shown = dataclasses.replace(
        camera, scale=camera.scale / (1 + scale_error), ellipticity=ellipticity,
        ellipse_azimuth=_AZIMUTH,
    )  # fmt: skip
    rng = np.random.default_rng([seed, crc32(camera.name.encode())])
    sets = [load_bloch(phase, n_per_phase, start=30 * seed, seed=seed) for phase in PHASES]
    spots = [pattern for bloch in sets for pattern in bloch.spots]
    n_columns = 30
    n_rows = len(spots) // n_columns
    order = rng.permutation(len(spots))[: n_rows * n_columns]
    truth = np.concatenate([bloch.rotations for bloch in sets])[order]
    phase_id = np.repeat(np.arange(len(PHASES)), n_per_phase)[order]
    center = 0.5 * (SIZE - 1) + rng.uniform(-2, 2, 2)
    rows, columns = np.divmod(np.arange(len(order)), n_columns)
    angle = rng.uniform(0, 2 * np.pi, 2)
    along = np.cos(angle[0]) * (rows / (n_rows - 1) - 0.5)
    along += np.sin(angle[0]) * (columns / (n_columns - 1) - 0.5)
    along *= drift / np.ptp(along)
    centers = center + along[:, None] * [np.cos(angle[1]), np.sin(angle[1])]
    data = np.empty((len(order), SIZE, SIZE), np.uint8)
    for i, k in enumerate(order):
        data[i] = _expose(_draw(spots[k], shown, centers[i])[0], shown, rng)
    ratio = np.sqrt(1 + ellipticity)
    angle = np.deg2rad(_AZIMUTH)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = (1 + scale_error) * axes.T @ np.diag([ratio, 1 / ratio]) @ axes
    return data.reshape(n_rows, n_columns, SIZE, SIZE), truth, phase_id, center, centers, matrix


def is_right(xmap, truth, phase_id, bundle):
    """Return which positions have the right phase and orientation, twins forgiven."""
    answer = xmap.rotations.data
    half_turn = np.array([0.0, 0, 0, 1.0])
    right = np.zeros(len(truth), bool)
    for k, phase in enumerate(bundle.phases):
        rows = np.flatnonzero((phase_id == k) & (xmap.phase_id == k))
        group = laue_operations(phase)
        for candidate in (answer[rows], multiply_quaternions(answer[rows], half_turn)):
            right[rows] |= disorientation_angles(candidate, truth[rows], group) < 5
    return right


def compare(camera, name, bundle, settings, options):
    """Return a line of the table, and the numbers of positions lost, back, and back at best."""
    from pyxem.signals import ElectronDiffraction2D

    data, truth, phase_id, center, centers, right = make_scan(
        camera, CASES[name], options.n_per_phase, options.seed
    )
    signal = ElectronDiffraction2D(data)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = camera.scale, "1/angstrom"
    mask = get_beam_stop(camera)
    settings = {**settings, "mask": mask if mask.any() else None}
    held = np.ones(len(truth), bool)
    held[_choose_positions(data.shape[:2])[0]] = False
    centers = centers.reshape(*data.shape[:2], 2)
    index = signal.index_phase_orientation
    index(bundle, center=center, **settings)  # compiles
    best = [
        index(bundle, center=centers + shift, distortion=factor * right, **settings)
        for factor, shift in ((1, 0), (1.001, 0.05))
    ]
    maps = [index(bundle, center=center, **settings)]
    with timed_calibration() as seconds:
        maps.append(index(bundle, center=center, calibrate="auto", **settings))
    auto = maps[1]
    ok, limit, given, found = (
        is_right(xmap, truth, phase_id, bundle)[held] for xmap in (*best, *maps)
    )
    lost = ok & ~given
    counts = np.array([lost.sum(), (lost & found).sum(), (lost & limit).sum()])
    matrix = auto.prop["distortion"][0].reshape(2, 2)
    used = np.stack([auto.prop["beam_column"], auto.prop["beam_row"]], axis=1)
    changed = not np.allclose(matrix, np.eye(2), atol=1e-12) or np.abs(used - center).max() > 1e-3
    error = 100 * np.abs(matrix @ np.linalg.inv(right) - np.eye(2)).max()
    away = np.linalg.norm(used - centers.reshape(-1, 2), axis=1).max()
    shares = [f"{100 * n / counts[0]:.0f}" if counts[0] else "-" for n in counts[1:]]
    cells = [
        camera.name, name, held.sum(), *(f"{100 * v.mean():.1f}" for v in (ok, given, found)),
        counts[0], *shares, "yes" if changed else "no", f"{error:.2f}", f"{away:.2f}",
        f"{seconds[0]:.1f}", f"{seconds[1]:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |", counts


@contextmanager
def timed_calibration():
    """Measure what a call of `index_phase_orientation` spends in calibrating: a list of two."""
    seconds, calibrate = [], signals.calibrate_scan

    def timed(*args):
        started = time.perf_counter(), time.process_time()
        found = calibrate(*args)
        seconds.extend((time.perf_counter() - started[0], time.process_time() - started[1]))
        return found

    signals.calibrate_scan = timed
    try:
        yield seconds
    finally:
        signals.calibrate_scan = calibrate


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--method", default="hybrid")
    parser.add_argument(
        "--cameras", nargs="*", default=["linear", "short", "beam stop", "elliptic"]
    )
    parser.add_argument("--n-per-phase", type=int, default=300)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    options = parser.parse_args(arguments)
    bundle = ModelBundle.load(options.bundle)
    acquisition = Acquisition(200, 0.7)
    settings = {"method": options.method, "acquisition": acquisition, "min_confidence": 0,
                "show_progressbar": False}  # fmt: skip
    lines = [
        "| camera | case | positions | right, % | as given, % | auto, % | lost | back, % "
        "| limit, % | changed | error of the matrix left, % | of the centre, pixels | seconds "
        "| of the processor |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    longest = 0.0
    totals = {name: np.zeros(3, int) for name in options.cases}
    for camera in (c for c in CAMERAS if c.name in options.cameras):
        for name in options.cases:
            line, counts = compare(camera, name, bundle, settings, options)
            totals[name] += counts
            lines.append(line)
            print(line, flush=True)
            longest = max(longest, float(line.split("|")[-3]))
    for name, (lost, back, limit) in totals.items():
        shares = " | ".join(f"{100 * n / lost:.0f}" if lost else "-" for n in (back, limit))
        lines.append(f"| all | {name} | | | | | {lost} | {shares} | | | | | |")
    about = describe_run(options)
    head = f"`{about['command']}`, {about['date']}, {about['machine']['cpu']}, load "
    head += f"{about['machine']['load']:.1f}; the slowest calibration took {longest:.1f} s"
    text = f"{head}\n\n" + "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text)
    return text


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
