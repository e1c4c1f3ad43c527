"""Load: one million patterns in one call, many calls, threads, processes, a worker killed.

    uv run python benchmarks/load.py --n 1000000          # one fast call; memory must stay flat
    uv run python benchmarks/load.py --calls 20           # one call after another
    uv run python benchmarks/load.py --together 2         # threads, then processes, at a time
    uv run python benchmarks/load.py --kill-worker        # one worker of a LocalCluster is killed

Run it while nothing else does. Prints one JSON object per check; exits with 1 where a check fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BUNDLE = "steel"
MAX_GROWTH = 50  # MiB over twenty calls
CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "3GiB"}
MAX_PEAK = 2000  # MiB over what the first block needs, for a million patterns


class MemoryWatch(threading.Thread):
    """Samples the resident memory of this process, in MiB, twice a second."""

    def __init__(self) -> None:
        import psutil

        super().__init__(daemon=True)
        self.process, self.samples, self.ended = psutil.Process(), [], threading.Event()
        self.sample()

    def sample(self) -> float:
        """Return the memory now, and keep it."""
        self.samples.append(self.process.memory_info().rss / 2**20)
        return self.samples[-1]

    def run(self) -> None:
        """Sample until the end is set."""
        while not self.ended.wait(0.5):
            self.sample()


def make_scan(shape: tuple[int, int], seed: int = 0) -> Any:
    """Return a lazy scan of any size: 1024 simulated patterns, over and over."""
    import dask.array as da

    import pyxem_nas

    bundle = pyxem_nas.ModelBundle.load(BUNDLE)
    small, _ = pyxem_nas.simulate_scan(bundle.phase_list, (32, 32), bundle.acquisition, seed=seed)
    patterns = small.data.reshape(-1, *small.data.shape[2:])

    def block(block_info: dict) -> np.ndarray:
        (rows, columns, *_) = block_info[None]["array-location"]
        index = np.add.outer(np.arange(*rows) * shape[1], np.arange(*columns)) % len(patterns)
        return patterns[index]

    signal = small.as_lazy()
    rows = max(1, 1024 // shape[1])
    chunks = (rows, shape[1], *patterns.shape[1:])
    chunks = da.core.normalize_chunks(chunks, (*shape, *patterns.shape[1:]))
    data = da.map_blocks(block, chunks=chunks, dtype=patterns.dtype, meta=patterns[:0, None])
    return type(signal)(data, axes=[
        {"name": n, "size": m, "scale": 1.0, "units": "nm", "navigate": True}
        for n, m in zip(("y", "x"), shape, strict=True)
    ] + [axis.get_axis_dictionary() for axis in small.axes_manager.signal_axes[::-1]])  # fmt: skip


def index(scan: Any, **options: Any) -> Any:
    """Index in fast mode: networks only, nothing refined."""
    options = {"method": "network", "refine": False, "show_progressbar": False, **options}
    return scan.index_phase_orientation(BUNDLE, **options)


def fingerprint(xmap: Any) -> str:
    """Return a hash of phases and orientations."""
    digest = hashlib.sha256(np.ascontiguousarray(xmap.phase_id).tobytes())
    digest.update(np.ascontiguousarray(xmap.rotations.data).tobytes())
    return digest.hexdigest()[:16]


def check_many_patterns(n: int) -> dict[str, Any]:
    """Index n patterns in one call and watch the memory."""
    side = max(32, round(n**0.5))
    scan = make_scan((max(1, n // side), side))
    index(scan.inav[:32, :4])  # networks and compiled code are loaded before the clock starts
    few = scan.inav[:, : max(1, 1000 // side)]
    processor = [time.process_time()]
    for _ in range(4):
        index(few)
    processor.append(time.process_time())
    watch = MemoryWatch()
    watch.start()
    started = time.perf_counter()
    xmap = index(scan)
    seconds = time.perf_counter() - started
    processor.append(time.process_time())
    watch.ended.set()
    n_few = 4 * few.axes_manager.navigation_size
    microseconds = 1e6 * np.diff(processor) / [n_few, xmap.size]
    half = watch.samples[len(watch.samples) // 2 :]
    growth = max(watch.samples) - watch.samples[0]
    return {
        "check": "patterns in one call", "n": int(xmap.size), "seconds": round(seconds, 1),
        "patterns_per_second": round(xmap.size / seconds),
        "processor_us_a_pattern": round(microseconds[1]),
        "processor_us_of_1000": round(microseconds[0]), "mib_before": round(watch.samples[0]),
        "mib_peak_growth": round(growth), "mib_growth_second_half": round(half[-1] - half[0]),
        "passed": growth < MAX_PEAK,
    }  # fmt: skip


def check_many_calls(n: int) -> dict[str, Any]:
    """Index a small scan again and again."""
    scan, watch = make_scan((16, 16)), MemoryWatch()
    for _ in range(5):
        index(scan)
    before = watch.sample()
    prints = {fingerprint(index(scan)) for _ in range(n)}
    growth = watch.sample() - before
    return {
        "check": "calls one after another", "n": n, "mib_growth": round(growth, 1),
        "passed": growth < MAX_GROWTH and len(prints) == 1,
    }  # fmt: skip


def check_together(n: int) -> list[dict[str, Any]]:
    """Index with one bundle in several threads, then in several processes, at a time."""
    scan = make_scan((16, 16))
    expected = fingerprint(index(scan))
    with ThreadPoolExecutor(n) as pool:
        prints = list(pool.map(lambda _: fingerprint(index(scan)), range(n)))
    threads = {"check": "threads", "n": n, "passed": set(prints) == {expected}}
    command = [sys.executable, __file__, "--print-fingerprint"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    prints = [process.communicate()[0].split()[-1] for process in running]
    return [threads, {"check": "processes", "n": n, "passed": set(prints) == {expected}}]


def check_killed_worker() -> dict[str, Any]:
    """Kill one of two workers in the midst; the map must be as without."""
    import signal

    from distributed import Client, LocalCluster

    scan = make_scan((64, 64))
    expected = fingerprint(index(scan))
    with LocalCluster(**CLUSTER) as cluster, Client(cluster) as client:
        pids = client.run(os.getpid)
        killed = next(iter(pids.values()))

        def kill_soon() -> None:
            for _ in range(6000):  # until a worker has results
                if any(client.has_what().values()):
                    break
                time.sleep(0.02)
            os.kill(killed, signal.SIGKILL)

        killer = threading.Thread(target=kill_soon)
        killer.start()
        found = fingerprint(index(scan))
        killer.join()
    return {"check": "worker killed", "same_map": found == expected, "passed": found == expected}


def main() -> None:
    """Run the checks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, help="patterns in one call")
    parser.add_argument("--calls", type=int)
    parser.add_argument("--together", type=int)
    parser.add_argument("--kill-worker", action="store_true")
    parser.add_argument("--print-fingerprint", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.print_fingerprint:
        print(fingerprint(index(make_scan((16, 16)))))
        return
    chosen: list[Callable[[], Any]] = []
    if options.n:
        chosen.append(lambda: [check_many_patterns(options.n)])
    if options.calls:
        chosen.append(lambda: [check_many_calls(options.calls)])
    if options.together:
        chosen.append(lambda: check_together(options.together))
    if options.kill_worker:
        chosen.append(lambda: [check_killed_worker()])
    results = []
    for check in chosen or [parser.print_help]:
        for result in check() or []:
            print(json.dumps(result), flush=True)
            results.append(result)
    sys.exit(not all(result["passed"] for result in results))


if __name__ == "__main__":
    main()
