"""quantem's part of `benchmarks/peers.py`: runs in quantem's environment, knows nothing of ours.

    python benchmarks/peers_quantem.py INPUT.npz OUTPUT.npz [PLANS.pt]

Images with known scale and centre and crystals go in, orientations, phases and seconds come out.
The input's truth is of a few spot patterns only, which hold the convention of rotations; the truth
of the images is not there. Templates, which take minutes, are read from PLANS.pt, or kept there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from quantem.core.datastructures import Dataset4dstem, Vector
from quantem.diffraction import BraggVectors, Crystal, CrystalMap
from quantem.diffraction.rotations import qconj

ENERGY = 200e3  # eV
K_MAX = 1.8  # 1/angstrom
#: Detection: a Gaussian of the spots' width, a high-pass of three widths, and weak peaks dropped.
DETECTION = {"subpixel": "parabolic", "max_num_peaks": 150, "progressbar": False}
BACKGROUND = 3.0  # spot sigmas
#: What served best of some sixty settings tried with the truth at hand (shared notes on peers).
PLAN = {
    "angle_step_zone_axis_deg": 1.0,
    "corr_kernel_size": 0.08,
    "sigma_excitation": 0.018,
    "power_intensity": 0.25,
}
QUIET = {"progress_bar": False}
REPEAT = 2
BATCH = 32  # patterns matched at once: 128, its default, take 7 GB


def time_best(run: object, repeat: int = REPEAT) -> float:
    """Return the seconds of the fastest of some calls."""
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def make_crystals(given: dict) -> list[Crystal]:
    """Return crystals whose Cartesian axes are those of the base that is given, row by row."""
    crystals = []
    for k, name in enumerate(given["phases"]):
        atoms = Atoms(
            given[f"numbers_{k}"], scaled_positions=given[f"positions_{k}"],
            cell=given[f"base_{k}"], pbc=True,
        )  # fmt: skip
        crystals.append(Crystal.from_ase(atoms, name=str(name), verbose=False))
        crystals[-1].calculate_structure_factors(k_max=K_MAX)
    return crystals


def detect(images: np.ndarray, centers: np.ndarray, camera: dict) -> Vector:
    """Return peaks qx to the right, qy up in 1/angstrom, of images (n, rows, columns)."""
    side = images.shape[1]
    offset = np.arange(side) - side // 2
    profile = np.exp(-0.5 * (offset / camera["spot_sigma"]) ** 2)
    found = BraggVectors.from_dataset(Dataset4dstem.from_array(images[None].astype(np.float32)))
    found.make_template_from_probe(np.outer(profile, profile), center=(side // 2, side // 2))
    peaks = found.detect_disks(
        background_sigma=BACKGROUND * camera["spot_sigma"], min_spacing=2 * camera["spot_sigma"],
        min_abs_intensity=camera["least"], **DETECTION,
    )  # fmt: skip
    cells = []
    for i, (column, row) in enumerate(centers):
        at_row, at_column, intensity = peaks[0, i].numpy().astype(float).T
        qx, qy = (at_column - column) * camera["scale"], (row - at_row) * camera["scale"]
        cells.append(np.stack([qx, qy, intensity], axis=1))
    return Vector.from_data([cells], fields=["qx", "qy", "intensity"], dtype=torch.float64)


def share_plans(crystal_map: CrystalMap, plans: dict) -> None:
    """Let cameras share templates, which depend on the crystal alone; they take minutes."""
    for orientation_map in crystal_map:
        name, build = orientation_map.crystal.name, orientation_map._build_reference

        def build_once(*arguments, name=name, build=build, **options) -> torch.Tensor:
            if name not in plans:
                plans[name] = build(*arguments, **options)
            return plans[name]

        orientation_map._build_reference = build_once


def index(peaks: Vector, crystals: list[Crystal], camera: dict, plans: dict) -> dict:
    """Return orientations before and after refinement (n_phases, n, 4), phases and seconds."""
    crystal_map = CrystalMap.from_vectors(
        peaks, crystals, energy_ev=ENERGY, precession_deg=camera["precession"]
    )
    share_plans(crystal_map, plans)
    spent = {}

    def timed(stage: str, run: object) -> None:
        spent[stage] = time_best(run, 1 if stage.startswith("plan") else REPEAT)

    edge = camera["edge"]
    for om in crystal_map:
        timed(
            f"plan {om.crystal.name}",
            lambda om=om: om.build_plan(**PLAN, detector_q_max=edge, verbose=False, **QUIET),
        )
        timed(
            f"match {om.crystal.name}",
            lambda om=om: om.match_orientations(min_number_peaks=2, batch_size=BATCH, **QUIET),
        )
    # our rotations go from the laboratory to the crystal, quantem's from the crystal to it
    matched = np.stack([qconj(om.quats[0, :, 0]).numpy() for om in crystal_map])
    for om in crystal_map:
        found = om.quats.clone()

        def refine(om=om, found=found) -> None:
            om.quats = found.clone()
            om.refine_orientations(neighbor_rescue=False, **QUIET)  # positions are no neighbours

        timed(f"refine {om.crystal.name}", refine)
    refined = np.stack([qconj(om.quats[0, :, 0]).numpy() for om in crystal_map])
    fit = {"max_patterns": 1, "k_max": min(K_MAX, edge)}
    timed("phase", lambda: crystal_map.fit(**fit, **QUIET))
    phase = np.asarray(crystal_map.phases.phase_index)[0]
    return {"matched": matched, "refined": refined, "phase": phase, "spent": spent}


def check_convention(given: dict, crystals: list[Crystal]) -> np.ndarray:
    """Return the share of each known pattern's intensity whose spots quantem puts there.

    Within 0.01 1/angstrom, of Bloch-wave spots of known rotation (crystals, patterns).
    """
    shares = []
    for k, crystal in enumerate(crystals):
        for i in range(given["n_known"]):
            rotation = torch.as_tensor(given[f"known_rotation_{k}"][i])
            drawn = crystal.generate_pattern(qconj(rotation), ENERGY, 0.04, precession_deg=0.7)
            there = np.stack([drawn["qx"].numpy(), drawn["qy"].numpy()], axis=1)
            spots = given[f"known_spots_{k}_{i}"]
            near = np.linalg.norm(spots[:, None, :2] - there, axis=2).min(axis=1) < 0.01
            shares.append(spots[near, 2].sum() / spots[:, 2].sum())
    return np.reshape(shares, (len(crystals), -1))


def main() -> None:
    with np.load(sys.argv[1]) as file:
        given = dict(file)
    crystals = make_crystals(given)
    columns: dict[str, list] = {"matched": [], "refined": [], "phase": [], "n_peaks": []}
    spent: dict[str, float] = {}
    kept = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    plans = torch.load(kept) if kept and kept.exists() else {}
    read = bool(plans)
    for i in range(given["n_batches"]):
        camera = {name: float(given[name][i]) for name in ("scale", "spot_sigma", "precession")}
        camera["least"] = float(given["least"][i])
        images, centers = given[f"images_{i}"], given[f"centers_{i}"]
        camera["edge"] = 0.5 * (images.shape[1] - 1) * camera["scale"]
        peaks = detect(images, centers, camera)  # and what starts at the first call
        seconds = {
            "detect": time_best(lambda i=images, c=centers, k=camera: detect(i, c, k)),
        }
        found = index(peaks, crystals, camera, plans)
        for stage, value in (seconds | found["spent"]).items():
            spent[stage] = spent.get(stage, 0) + value
        for name in ("matched", "refined", "phase"):
            columns[name].append(found[name])
        columns["n_peaks"].append([len(peaks[0, j].numpy()) for j in range(len(images))])
        if kept and not kept.exists():
            torch.save(plans, kept)
        print(f"batch {i}: {seconds | found['spent']}", file=sys.stderr, flush=True)
    np.savez(
        sys.argv[2],
        matched=np.concatenate(columns["matched"], axis=1),
        refined=np.concatenate(columns["refined"], axis=1),
        phase=np.concatenate(columns["phase"]),
        read=read,
        n_peaks=np.concatenate(columns["n_peaks"]),
        known=check_convention(given, crystals),
        stages=list(spent),
        seconds=list(spent.values()),
    )


if __name__ == "__main__":
    main()
