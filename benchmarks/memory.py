"""Peak memory while a scan is indexed that is larger than memory.

    python benchmarks/memory.py generated --gigabytes 0.2 1          # a quick look
    python benchmarks/memory.py generated --gigabytes 5 50           # the targets of issue 5
    python benchmarks/memory.py blo zspy --gigabytes 5 --folder DIR  # real files, written first
    python benchmarks/memory.py generated --gigabytes 0.2 2.07 --method match   # 100,000 patterns

Each size runs in a process of its own. Its memory is read from /proc 50 times a second (Linux):
"own" is what it holds alone (RssAnon), the figure to plan with; "resident" adds the pages of mapped
files, libraries and scan, which the system takes back when others need them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

METHODS = {
    "fast": {"method": "network", "refine": False},
    "network": {"method": "network", "refine": True},
    "hybrid": {"method": "hybrid", "refine": True},
    "match": {"method": "match", "refine": True},  # of phases alone, no networks
}
SIDE, SCALE = 144, 0.0246  # of the shipped bundle's simulated camera
N_DIFFERENT = 400  # simulated patterns, repeated over the scan


class MemoryWatch(threading.Thread):
    """Peak of this process' memory in GiB, sampled."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.resident = 0.0

    def sample(self) -> tuple[float, float]:
        """Return own and resident memory now."""
        fields = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        return tuple(int(fields[name].split()[0]) / 2**20 for name in ("RssAnon", "VmRSS"))

    def run(self) -> None:
        """Sample until the process ends."""
        while True:
            own, resident = self.sample()
            self.own, self.resident = max(self.own, own), max(self.resident, resident)
            time.sleep(0.02)


def make_scan(n_bytes: float, side: int):
    """Return a lazy scan of so many bytes, whose blocks are generated when they are read."""
    import dask.array as da
    import numpy as np
    from pyxem.signals import LazyElectronDiffraction2D

    from pyxem_nas import ModelBundle, simulate_scan

    bundle = ModelBundle.load("steel")
    some, _ = simulate_scan(
        bundle.phase_list, (N_DIFFERENT,), bundle.acquisition, seed=1, pattern_shape=(side, side),
        scale=SCALE * SIDE / side, spot_sigma=1.6 * side / SIDE,
    )  # fmt: skip
    templates = np.asarray(some.data)
    n_columns = 1000 if n_bytes > 1e9 else 200
    n_rows = max(2, round(n_bytes / (n_columns * side**2)))

    def generate(block_info=None) -> np.ndarray:
        (y0, y1), (x0, x1), *_ = block_info[None]["array-location"]
        position = np.arange(y0, y1)[:, None] * n_columns + np.arange(x0, x1)
        return templates[position % N_DIFFERENT]

    rows = max(1, 1024 * SIDE**2 // (n_columns * side**2))
    chunks = da.core.normalize_chunks(
        (rows, n_columns, -1, -1), (n_rows, n_columns, side, side), dtype="uint8"
    )
    data = da.map_blocks(generate, chunks=chunks, dtype="uint8", meta=np.empty((0,) * 4, "uint8"))
    scan = LazyElectronDiffraction2D(data)
    calibrate(scan)
    return scan


def calibrate(scan) -> None:
    """Set scale and centre of the simulated camera."""
    for axis in scan.axes_manager.signal_axes:
        axis.scale, axis.units = SCALE * SIDE / axis.size, "$A^{-1}$"
        axis.offset = -0.5 * (axis.size - 1) * axis.scale


def run_one(kind: str, gigabytes: float, method: str, side: int, path: Path) -> dict:
    """Index one scan in this process and return figures."""
    import hyperspy.api as hs

    from pyxem_nas import ModelBundle

    bundle = ModelBundle.load("steel")
    if method == "match":
        bundle = ModelBundle.from_phases(bundle.phase_list, bundle.acquisition)
    if kind == "generated":
        scan = make_scan(gigabytes * 1e9, side)
    else:
        scan = hs.load(path, lazy=True, signal_type="electron_diffraction")
        calibrate(scan)
    options = METHODS[method] | {"show_progressbar": False, "center": (0.5 * (side - 1),) * 2}
    started = time.perf_counter()
    scan.inav[:20, :2].index_phase_orientation(bundle, **options)
    start_up = time.perf_counter() - started
    watch = MemoryWatch()
    before, _ = watch.sample()
    watch.start()
    started = time.perf_counter()
    xmap = scan.index_phase_orientation(bundle, **options)
    seconds = time.perf_counter() - started
    return {
        "patterns": int(xmap.size),
        "gigabytes": scan.data.nbytes / 1e9,
        "before": before,
        "own": watch.own,
        "resident": watch.resident,
        "start_up": start_up,
        "patterns_per_second": xmap.size / seconds,
    }


def write_file(gigabytes: float, side: int, path: Path) -> None:
    """Write a scan to disk, block by block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a .blo file keeps its scale in cm
        make_scan(gigabytes * 1e9, side).save(path, overwrite=True)


def run_apart(arguments: argparse.Namespace, kind: str, gigabytes: float, path: Path) -> dict:
    """Run one size in a process of its own, after writing its file in another."""
    common = [sys.executable, __file__, kind, "--gigabytes", str(gigabytes)]
    common += ["--method", arguments.method, "--side", str(arguments.side), "--path", str(path)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if kind != "generated" and not path.exists():
        subprocess.run([*common, "--child", "write"], check=True, env=environment)
    done = subprocess.run(
        [*common, "--child", "index"],
        check=True,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="+", choices=("generated", "blo", "zspy", "hspy"))
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.2, 1.0])
    parser.add_argument("--method", choices=METHODS, default="fast")
    parser.add_argument("--side", type=int, default=SIDE, help="pixels of a pattern's side")
    parser.add_argument("--folder", type=Path, default=None, help="for the files, kept there")
    parser.add_argument("--limit", type=float, default=2.5, help="GiB of own memory allowed")
    parser.add_argument("--output", type=Path, help="file that the report is added to")
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=("write", "index"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "write":
        write_file(arguments.gigabytes[0], arguments.side, arguments.path)
        return
    if arguments.child == "index":
        child = (arguments.kinds[0], arguments.gigabytes[0], arguments.method, arguments.side)
        print(json.dumps(run_one(*child, arguments.path)))
        return
    from report import _table, describe_run

    run = describe_run(arguments)
    machine = run["machine"]
    head = ["scan", "GB", "patterns", "own before", "peak own", "peak resident", "patterns/s"]
    rows = []
    worst = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for kind in arguments.kinds:
            for gigabytes in arguments.gigabytes:
                path = folder / f"memory-{gigabytes:g}GB.{kind}"
                f = run_apart(arguments, kind, gigabytes, path)
                worst = max(worst, f["own"])
                figures = [f"{f[name]:.2f}" for name in ("before", "own", "resident")]
                rate = f"{f['patterns_per_second']:.0f}"
                rows.append([kind, f"{f['gigabytes']:.1f}", str(f["patterns"]), *figures, rate])
                print(*rows[-1], flush=True)
    report = (
        f"{run['date']}, commit {run['commit']}, {machine['cpu']}, {machine['cores']} cores, load "
        f"at the start {machine['load']:.1f}; steel, method {arguments.method}, memory in GiB.\n\n"
        f"    {run['command']}\n\n{_table(head, rows)}"
    )
    print(report)
    if arguments.output is not None:
        with arguments.output.open("a") as file:
            file.write(report + "\n")
    if worst > arguments.limit:
        raise SystemExit(f"peak own memory {worst:.2f} GiB is over {arguments.limit:g} GiB")


if __name__ == "__main__":
    main()
