"""What the first use of an installed package costs: import, first index, each kernel's compilation.

    python benchmarks/first_use.py [--bundle steel] [--method hybrid] [--output FILE.md]

Each process starts with an empty folder for numba's cache, then runs again with what the first
left there. The scan is made beforehand, in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

MAKE = """
import sys
import numpy as np
from pyxem_nas import Acquisition, example_phases, simulate_scan
scan, _ = simulate_scan(example_phases("steel"), (8, 8), Acquisition(200, 0.7), seed=0)
np.save(sys.argv[1], scan.data)
"""
COMMANDS = (["--help"], ["--version"], ["--wrong"], ["index", "--help"])
IMPORTS = ("import pyxem.signals", "import pyxem_nas", "import pyxem_nas, pyxem.signals")


class CompileClock:
    """Seconds that each function took numba to compile, without those that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.count: dict[str, int] = defaultdict(int)
        self._running: list[list] = []

    def start(self, event) -> None:
        """Begin a function."""
        function = event.data["dispatcher"].py_func
        self._running.append([f"{function.__module__}.{function.__qualname__}", time.time(), 0.0])

    def end(self, event) -> None:
        """End it; its caller waited so long."""
        name, started, inner = self._running.pop()
        passed = time.time() - started
        self.seconds[name] += passed - inner
        self.count[name] += 1
        if self._running:
            self._running[-1][2] += passed

    def listen(self) -> None:
        """Take part in numba's events from now on."""
        from numba.core import event

        clock = self

        class Listener(event.Listener):
            def on_start(self, event):
                clock.start(event)

            def on_end(self, event):
                clock.end(event)

        event.register("numba:compile", Listener())


def measure_in_this_process(path: str, bundle: str, method: str) -> dict:
    """Return seconds of import, of the first and of the second index, and of each compilation."""
    marks = [(time.perf_counter(), time.process_time())]

    def mark() -> None:
        marks.append((time.perf_counter(), time.process_time()))

    import pyxem.signals

    mark()
    import pyxem_nas  # noqa: F401

    mark()
    import numpy as np

    clock = CompileClock()
    clock.listen()
    scan = pyxem.signals.ElectronDiffraction2D(np.load(path))
    scan.calibration.scale, scan.calibration.units = 0.0246, "$A^{-1}$"
    for _ in range(2):
        scan.index_phase_orientation(bundle, method=method, center="auto", show_progressbar=False)
        mark()
    steps = [[b - a for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(marks)]
    result = dict(zip(("hosts", "import", "first", "second"), steps, strict=True))
    return result | {"kernels": {k: [v, clock.count[k]] for k, v in clock.seconds.items()}}


def run(arguments: list[str], cache: str) -> str:
    """Return what a process with its own cache of numba prints last."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        stdout=subprocess.PIPE, text=True, env=environment, check=True,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def time_command(arguments: list[str]) -> float:
    """Return the median seconds of three processes."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", *arguments], capture_output=True)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[1]


def format_tables(cold: dict, warm: dict, command: str) -> str:
    """Return the tables as Markdown."""
    lines = [
        f"`{command}`\n",
        "| seconds (of them processor time) | empty cache | second process |",
        "|---|---|---|",
    ]
    names = {
        "hosts": "`import pyxem.signals`",
        "import": "`import pyxem_nas`",
        "first": "first index of 8 x 8 patterns",
        "second": "the same once more",
    }
    for name, words in names.items():
        cells = (f"{wall:.1f} ({cpu:.1f})" for wall, cpu in (cold[name], warm[name]))
        lines.append(f"| {words} | {' | '.join(cells)} |")
    kernels = sorted(cold["kernels"].items(), key=lambda item: -item[1][0])
    ours = sum(v for k, (v, _) in kernels if k.startswith("pyxem_nas"))
    total = sum(v for _, (v, _) in kernels)
    lines += [
        f"\nCompiled in the first index: {len(kernels)} functions, {total:.1f} s, of them "
        f"pyxem_nas' own {ours:.1f} s.\n",
        "| function | times | s |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {n} | {v:.2f} |" for name, (v, n) in kernels[:25]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--method", default="hybrid")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="leave out commands and imports")
    parser.add_argument("--scan", help=argparse.SUPPRESS)  # in the processes that are measured
    options = parser.parse_args()
    if options.scan:
        print(json.dumps(measure_in_this_process(options.scan, options.bundle, options.method)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/scan.npy"
        run(["-c", MAKE, path], f"{folder}/other")
        arguments = [__file__, "--scan", path, "--bundle", options.bundle, "--method"]
        cold, warm = (
            json.loads(run([*arguments, options.method], f"{folder}/empty")) for _ in range(2)
        )
    command = f"python benchmarks/first_use.py --bundle {options.bundle} --method {options.method}"
    text = format_tables(cold, warm, command)
    if not options.quick:
        rows = [f"| `{code}` | {time_command(['-c', code]):.2f} |" for code in IMPORTS]
        rows += [
            f"| `pyxem-nas {' '.join(words)}` | "
            f"{time_command(['-m', 'pyxem_nas.cli', *words]):.2f} |"
            for words in COMMANDS
        ]
        text += "\n| process, median of three | s |\n|---|---|\n" + "\n".join(rows) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
