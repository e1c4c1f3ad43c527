"""Fit the network by which spots vote for the last tilt of an orientation, and measure it.

    python benchmarks/make_tilt.py patterns --folder work
    python benchmarks/make_tilt.py fit --folder work

Bloch-wave patterns of the package's own simulator, of crystals of all systems through random
cameras, start at the truth turned by up to 1.2 degrees and are refined; the network learns the tilt
that is left (`indexing.tilt`). It is judged on the crystals of `refinement_settings.py` through
that benchmark's cameras, and on ferrite, NbC and cementite there: none took part in the fit, and
nothing of the sets that `accuracy.py` judges by is seen. Writes ``indexing/shipped/tilt.npz`` and
``results/make_tilt.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from harm import CAMERA
from judge_crystals import make_crystals
from refinement_settings import CAMERAS, CRYSTALS, N_PIXELS, disturb
from report import _table, describe_run

from pyxem_nas import Acquisition, Randomization, example_phases
from pyxem_nas.diffraction import (
    SpotLibrary,
    disorientation_angles,
    draw_dynamical_spots,
    get_reflections,
    laue_operations,
    multiply_quaternions,
)
from pyxem_nas.indexing import mark_unseen, refine_candidates
from pyxem_nas.indexing.refinement import REFINEMENT_SPEC
from pyxem_nas.indexing.tilt import WEIGHTS, correct_tilts, describe_tilts
from pyxem_nas.patterns import Detector, make_sampler
from pyxem_nas.scans.source import DescriptorSource

N_SPOTS = 96  # the shortest, in the fit
N_ORIENTATIONS, N_FITTED, N_JUDGED = 150, 220, 150  # of a crystal and camera
ANGLES = (0.0, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)  # of precession, degrees
UNIT = 0.01  # radians, of votes and tilts
SOFT = 0.2  # of these, where errors begin to count by their size, not their square
MOST = 2.0  # degrees that may be left, and less: refinement found another orientation
WIDTH = 16
#: Where cameras of the fit are not as those of `refinement_settings.py`.
RANDOM = {
    "dose": (500.0, 3e5), "spot_width": (0.02, 0.055), "background": (0.1, 3.0),
    "center_error": (0.0, 0.5), "ellipticity": (0.0, 0.005), "scale_error": (-0.003, 0.003),
}  # fmt: skip


def draw(phase, camera: tuple, n: int, seed: tuple[int, ...], **ranges) -> dict:
    """Return polar patterns of a phase, refined orientations and the truth.

    The camera is precession in degrees, dose, scale and spot width in 1/angstrom.
    """
    angle, dose, scale, width = camera
    acquisition = Acquisition(200.0, angle)
    fields = {name: (v, v) for name, v in CAMERA.items()}
    fields |= {"dose": (dose, dose), "scale": (scale, scale), "spot_width": (width, width)}
    fields |= {"precession_angle": (angle, angle), "gamma": (0.5, 1.0), "saturation": (0.3, 3.0)}
    fields |= ranges
    spots = draw_dynamical_spots(
        phase, N_ORIENTATIONS, acquisition, np.random.default_rng(seed), thickness=(100.0, 900.0),
        precession_angle=(angle, angle), n_thicknesses=2,
    )  # fmt: skip
    reflections = get_reflections([phase])
    source = DescriptorSource(
        reflections, 1, acquisition, REFINEMENT_SPEC,
        dataclasses.replace(Randomization(), **fields), SpotLibrary([spots]),
    )  # fmt: skip
    polar, _, truth = source.simulate(n, np.random.default_rng((*seed, 1)), phase_id=0)
    sampler = make_sampler(Detector((N_PIXELS, N_PIXELS), (scale, scale)), REFINEMENT_SPEC)
    centers = np.full((n, 2), 0.5 * (N_PIXELS - 1))
    polar = mark_unseen(polar, centers, sampler, REFINEMENT_SPEC)
    start = disturb(truth, np.random.default_rng((*seed, 2)))[:, None]
    optics = {"wavelength": acquisition.wavelength, "precession_angle": angle}
    refined = refine_candidates(polar, start, reflections, 0, **optics).quaternions[:, 0]
    return {
        "polar": polar, "refined": refined, "truth": truth, "reflections": reflections,
        "optics": optics,
    }  # fmt: skip


def get_tilt(refined: np.ndarray, truth: np.ndarray, operations: np.ndarray) -> np.ndarray:
    """Return the turns about x, y, z in radians by which refined orientations become the truth."""
    back = refined * [1, -1, -1, -1]
    turns, nearest = np.zeros((len(refined), 3)), np.full(len(refined), -1.0)
    for operation in operations:
        image = multiply_quaternions(np.broadcast_to(operation, truth.shape), truth)
        step = multiply_quaternions(back, image)
        step = step * np.where(step[:, :1] < 0, -1, 1)
        nearer = step[:, 0] > nearest
        nearest[nearer] = step[nearer, 0]
        turns[nearer] = -2 * step[nearer, 1:]
    return turns


def make_patterns(folder: Path) -> None:
    """Write what the network sees of patterns of each crystal, and the tilts that are left."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, phase in enumerate(make_crystals()):
        path = folder / f"tilt_{k:02d}.npz"
        if phase.name in CRYSTALS or path.exists():
            continue
        rng, parts = np.random.default_rng((7, k)), []
        for i in range(3):
            camera = (rng.choice(ANGLES), 1.0, np.exp(rng.uniform(*np.log((0.018, 0.036)))), 1.0)
            found = draw(phase, camera, N_FITTED, (7, k, i), **RANDOM)
            seen = describe_tilts(
                found["polar"], found["refined"], found["reflections"], 0, **found["optics"],
                n_spots=N_SPOTS,
            )  # fmt: skip
            tilts = get_tilt(found["refined"], found["truth"], laue_operations(phase))
            parts.append((*seen, tilts))
        features, changes, tilts = (np.concatenate(part) for part in zip(*parts, strict=True))
        np.savez_compressed(
            path, features=features.astype(np.float16), changes=changes, tilts=tilts
        )
        print(phase.name, flush=True)


def build(n_features: int):
    """Return a Keras model from features and changes to tilts in `UNIT`s, see `correct_tilts`."""
    import keras
    from keras import layers, ops

    class Solve(layers.Layer):
        """Weighted least squares of the spots' votes, with a prior."""

        def __init__(self) -> None:
            super().__init__(name="solve")
            self.log_prior = self.add_weight(shape=(1,), initializer="zeros", name="log_prior")

        def call(self, votes, changes, shown):
            weight = ops.exp(ops.clip(votes[..., 1], -6, 6)) * shown
            x, y, prior = changes[..., 0], changes[..., 1], ops.exp(self.log_prior)
            xx, yy = (prior + ops.sum(weight * v * v, axis=1) for v in (x, y))
            xy = ops.sum(weight * x * y, axis=1)
            pulls = [ops.sum(weight * votes[..., 0] * v, axis=1) for v in (x, y)]
            first, second = yy * pulls[0] - xy * pulls[1], xx * pulls[1] - xy * pulls[0]
            return ops.stack([first, second], axis=-1) / (xx * yy - xy * xy)[:, None]

    features = keras.Input((N_SPOTS, n_features))
    changes = keras.Input((N_SPOTS, 2))
    shown = ops.cast(ops.any(changes != 0, axis=-1), "float32")
    hidden = layers.Dense(WIDTH, "relu", name="layer_0")(features)
    hidden = layers.Dense(WIDTH, "relu", name="layer_1")(hidden)
    count = ops.maximum(ops.sum(shown, axis=1), 1)[:, None]
    mean = ops.sum(hidden * shown[..., None], axis=1) / count
    around = ops.repeat(ops.expand_dims(mean, 1), N_SPOTS, axis=1)
    hidden = layers.Dense(WIDTH, "relu", name="layer_2")(ops.concatenate([hidden, around], axis=-1))
    votes = layers.Dense(2, name="layer_3")(ops.concatenate([hidden, features], axis=-1))
    return keras.Model([features, changes], Solve()(votes, changes, shown))


def fit(folder: Path, epochs: int) -> tuple[int, int]:
    """Fit the network and ship its weights; return the number of crystals and of patterns."""
    import keras
    from keras import ops

    parts = [np.load(path) for path in sorted(folder.glob("tilt_*.npz"))]
    features, changes, tilts = (
        np.concatenate([part[name] for part in parts]).astype(np.float32)
        for name in ("features", "changes", "tilts")
    )
    near = np.linalg.norm(tilts, axis=1) < np.deg2rad(MOST)
    keras.utils.set_random_seed(0)
    model = build(features.shape[2])
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, epochs * -(-near.sum() // 128))

    def distance(truth, answer):
        return ops.mean(ops.sqrt(ops.sum(ops.square(truth - answer), axis=-1) + SOFT**2))

    model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4), distance)
    model.fit(
        [features[near], changes[near]], tilts[near, :2] / UNIT, batch_size=128, epochs=epochs,
        verbose=2,
    )  # fmt: skip
    weights = [w for k in range(4) for w in model.get_layer(f"layer_{k}").get_weights()]
    WEIGHTS.parent.mkdir(exist_ok=True)
    np.savez_compressed(WEIGHTS, *weights, *model.get_layer("solve").get_weights())
    return len(parts), int(near.sum())


def measure() -> list[list[str]]:
    """Return a row for each group of crystals and camera: medians before and after."""
    groups = {"eleven others": [c for c in make_crystals() if c.name in CRYSTALS]}
    groups |= {phase.name: [phase] for _, phase in example_phases("steel")}
    rows = []
    for group, phases in groups.items():
        for i, camera in enumerate(CAMERAS):
            medians = []
            for k, phase in enumerate(phases):
                n = N_JUDGED if len(phases) > 1 else 4 * N_JUDGED
                found = draw(phase, camera, n, (8, k, i))
                corrected = correct_tilts(
                    found["polar"], found["refined"][:, None], found["reflections"], 0,
                    **found["optics"],
                )[:, 0]  # fmt: skip
                operations = laue_operations(phase)
                turns = [
                    np.rad2deg(get_tilt(q, found["truth"], operations))
                    for q in (found["refined"], corrected)
                ]
                whole = [
                    disorientation_angles(q, found["truth"], operations)
                    for q in (found["refined"], corrected)
                ]
                medians.append(
                    [*map(np.median, whole), *(np.median(np.hypot(*t.T[:2])) for t in turns)]
                )
            before, after, tilt_before, tilt_after = np.exp(np.log(medians).mean(axis=0))
            rows.append(
                [group, f"{camera[0]:g} deg, {camera[1]:,.0f} electrons",
                 f"{before:.3f}", f"{after:.3f}", f"{tilt_before:.3f}", f"{tilt_after:.3f}"]
            )  # fmt: skip
            print(*rows[-1], sep=" | ", flush=True)
    return rows


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("patterns", "fit", "measure"))
    parser.add_argument("--folder", type=Path, default=Path("bundle_training/tilt"))
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.step == "patterns":
        make_patterns(options.folder)
        return
    fitted = ""
    if options.step == "fit":
        n_crystals, n_patterns = fit(options.folder, options.epochs)
        fitted = f"Fitted to {n_patterns} patterns of {n_crystals} crystals. "
    run = describe_run(options)
    head = ["crystal", "precession, dose", "refined / deg", "corrected", "tilt alone", "corrected"]
    text = (
        f"# The last tilt, by the votes of spots\n\n{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\n{fitted}Median disorientation of Bloch-wave patterns of crystals "
        "that took no part in the fit, and the part of it that is tilt; of the eleven the "
        "geometric mean.\n\n" + _table(head, measure())
    )
    (options.output / "make_tilt.md").write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
