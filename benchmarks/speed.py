"""Raw patterns to CrystalMap: patterns a second of each method, on one simulated steel scan.

    python benchmarks/speed.py --shape 50 50

The first call of each method, on a few patterns, is left out: it loads and compiles.
"""

from __future__ import annotations

import argparse
import time

from report import describe_run

from pyxem_nas import ModelBundle, evaluate, simulate_scan

METHODS = {
    "network": {"method": "network", "refine": False},
    "network + refinement": {"method": "network", "refine": True},
    "hybrid": {"method": "hybrid", "refine": True},
}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--shape", type=int, nargs=2, default=(50, 50))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    bundle = ModelBundle.load(arguments.bundle)
    scan, truth = simulate_scan(bundle.phase_list, arguments.shape, bundle.acquisition, seed=1)
    run = describe_run(arguments)
    print(f"{run['date']}, commit {run['commit']}, {run['machine']['cpu']}, load at the start")
    print(f"{run['machine']['load']:.1f}, scan {arguments.shape[0]} x {arguments.shape[1]}.\n")
    print("| method | patterns/s | phase right / % |\n| --- | --- | --- |")
    for name in arguments.methods:
        options = METHODS[name] | {"min_confidence": 0, "show_progressbar": False}
        scan.inav[::10, ::10].index_phase_orientation(bundle, **options)
        started = time.perf_counter()
        xmap = scan.index_phase_orientation(bundle, **options)
        rate = xmap.size / (time.perf_counter() - started)
        right = 100 * evaluate(xmap, truth).phase_accuracy
        print(f"| {name} | {rate:.0f} | {right:.1f} |", flush=True)


if __name__ == "__main__":
    main()
