"""What calibrate="auto" brings back of a wrong calibration; a right one it lets be.

Dynamical patterns of the benchmarks' cameras, 3 phases, as one scan of rows; the calibration is
wrong by what is drawn into the images: a scale, an ellipse, a drifting centre. "lost" are positions
that the right calibration indexes within 5 degrees (180-degree twins forgiven) and the wrong one
does not; "back" is the share of them that calibrate="auto" has right again, on positions that it
neither fitted nor tested with. Seconds by the clock mean little where other work runs; those of the
processor are the sum over all threads.

    python benchmarks/calibration.py --bundle steel --seed 1
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
from bloch import PHASES, draw_images, load_bloch
from cameras import CAMERAS
from report import describe_run

from pyxem_nas import Acquisition, ModelBundle
from pyxem_nas.diffraction import disorientation_angles, laue_operations, multiply_quaternions
from pyxem_nas.indexing.self_calibration import _choose_positions

CASES = {  # scale error, ellipticity, drift in pixels over the scan
    "right": (0.0, 0.0, 0.0),
    "scale +3 %, ellipse 2 %": (0.03, 0.02, 0.0),
    "scale -3 %, ellipse 2 %": (-0.03, 0.02, 0.0),
    "scale +1 %": (0.01, 0.0, 0.0),
    "ellipse 3 %": (0.0, 0.03, 0.0),
    "drift 4 pixels": (0.0, 0.0, 4.0),
    "scale +3 %, ellipse 2 %, drift 4": (0.03, 0.02, 4.0),
}


def make_scan(bundle, camera, case, n_per_phase, seed):
    """Return signal, truth, the centres that are stated, and the camera's right distortion."""
    from pyxem.signals import ElectronDiffraction2D

    scale_error, ellipticity, drift = case
    shown = dataclasses.replace(
        camera, scale=camera.scale / (1 + scale_error), ellipticity=ellipticity,
        ellipse_azimuth=35.0, center_error=0.0, center_offset=1.0,
    )  # fmt: skip
    images, truth, phase_id, centers = [], [], [], []
    for k, phase in enumerate(PHASES):
        bloch = load_bloch(phase, n_per_phase, start=30 * seed, seed=seed)
        drawn = draw_images(bloch, shown, seed)
        images.append(drawn.data)
        truth.append(bloch.rotations)
        centers.append(drawn.true_centers)
        phase_id.append(np.full(n_per_phase, k))
    order = np.random.default_rng(seed).permutation(len(PHASES) * n_per_phase)
    data, rotations = np.concatenate(images)[order], np.concatenate(truth)[order]
    phase_id, centers = np.concatenate(phase_id)[order], np.concatenate(centers)[order]
    n_columns = 30
    rows = len(data) // n_columns
    n = rows * n_columns
    if drift:  # whole pixels: images are shifted
        steps = np.round(np.linspace(-drift / 2, drift / 2, n)).astype(int)
        data = np.stack([np.roll(p, s, axis=1) for p, s in zip(data[:n], steps, strict=True)])
    signal = ElectronDiffraction2D(data[:n].reshape(rows, n_columns, *data.shape[1:]))
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = camera.scale, "1/angstrom"
    ratio = np.sqrt(1 + ellipticity)
    angle = np.deg2rad(35.0)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    right = (1 + scale_error) * axes.T @ np.diag([ratio, 1 / ratio]) @ axes
    true_centers = centers[:n].copy()
    if drift:
        true_centers[:, 0] += steps
    return signal, rotations[:n], phase_id[:n], centers[:n].mean(axis=0), true_centers, right


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


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--method", default="hybrid")
    parser.add_argument("--cameras", nargs="*", default=["bright", "linear", "long"])
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
        "| camera | case | positions | right, % | as given, % | auto, % | lost | back, % | changed "
        "| error of the matrix left, % | seconds more | processor seconds more |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    totals = {name: [0, 0] for name in options.cases}
    for camera in (c for c in CAMERAS if c.name in options.cameras):
        for name in options.cases:
            signal, truth, phase_id, center, true_centers, right_matrix = make_scan(
                bundle, camera, CASES[name], options.n_per_phase, options.seed
            )
            shape = signal.axes_manager._navigation_shape_in_array
            held = np.ones(len(truth), bool)
            held[_choose_positions(shape)[0]] = False
            index = signal.index_phase_orientation
            stated = true_centers.reshape(*shape, 2)
            index(bundle, center=center, **settings)  # compiles
            right = index(bundle, center=stated, distortion=right_matrix, **settings)
            seconds, processor = [], []
            maps = []
            for more in ({}, {"calibrate": "auto"}):
                started = time.perf_counter(), time.process_time()
                maps.append(index(bundle, center=center, **more, **settings))
                seconds.append(time.perf_counter() - started[0])
                processor.append(time.process_time() - started[1])
            wrong, auto = maps
            ok = [is_right(x, truth, phase_id, bundle)[held] for x in (right, wrong, auto)]
            lost = ok[0] & ~ok[1]
            totals[name][0] += lost.sum()
            totals[name][1] += (lost & ok[2]).sum()
            matrix = auto.prop["distortion"][0].reshape(2, 2)
            changed = not np.allclose(matrix, np.eye(2), atol=1e-12) or not np.allclose(
                np.stack([auto.prop["beam_column"], auto.prop["beam_row"]], axis=1), center,
                atol=1e-3,
            )  # fmt: skip
            left = 100 * np.abs(matrix @ np.linalg.inv(right_matrix) - np.eye(2)).max()
            back = f"{100 * (lost & ok[2]).sum() / lost.sum():.0f}" if lost.sum() else "-"
            lines.append(
                f"| {camera.name} | {name} | {held.sum()} | "
                + " | ".join(f"{100 * v.mean():.1f}" for v in ok)
                + f" | {lost.sum()} | {back} | {'yes' if changed else 'no'} | {left:.2f} | "
                f"{seconds[1] - seconds[0]:.1f} | {processor[1] - processor[0]:.1f} |"
            )
            print(lines[-1], flush=True)
    for name, (lost, back) in totals.items():
        share = f"{100 * back / lost:.0f}" if lost else "-"
        lines.append(f"| all | {name} | | | | | {lost} | {share} | | | | |")
    about = describe_run(options)
    head = f"`{about['command']}`, {about['date']}, {about['machine']['cpu']}, load "
    text = f"{head}{about['machine']['load']:.1f}\n\n" + "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text)
    return text


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
