"""What a session of a thousand million patterns needs, computed from measured figures.

    python benchmarks/scaling.py --fast 1570 --refined 615 --hybrid 75 > benchmarks/SCALING.md

Takes the patterns/s of `results/speed.md`; the other defaults are measured by the commands that the
page names. Renew the page when one of them changes.
"""

# ruff: noqa: E501 (the lines of a page)

from __future__ import annotations

import argparse

N = 1e9  # patterns of a session
SCAN = 1e6  # positions of one scan
BLOCK = 1024  # patterns of a task
LINKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}
CAMERAS = {"144 x 144, 8 bit": 144**2, "256 x 256, 8 bit": 256**2, "256 x 256, 16 bit": 2 * 256**2}


def hours(seconds: float) -> str:
    """Return a time in the unit that one says it in."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", type=float, default=347, help="patterns/s, network alone")
    parser.add_argument("--refined", type=float, default=247, help="patterns/s, with refinement")
    parser.add_argument("--hybrid", type=float, default=44, help="patterns/s, hybrid")
    parser.add_argument("--cores", type=int, default=2, help="cores of these measurements")
    parser.add_argument("--gibibytes", type=float, default=2.5, help="memory of a worker")
    parser.add_argument("--start-up", type=float, default=60, help="s until a worker indexes")
    parser.add_argument("--bundle", type=float, default=5.9, help="MB of the bundle")
    parser.add_argument("--row", type=float, default=96, help="bytes of a result row")
    parser.add_argument("--map", type=float, default=160, help="bytes of a map's position")
    parser.add_argument("--task", type=float, default=1e-3, help="s of dask's scheduler per task")
    a = parser.parse_args()
    speeds = {"fast": a.fast, "refined": a.refined, "hybrid": a.hybrid}
    per_core = {name: rate / a.cores for name, rate in speeds.items()}
    work = table(
        ["method", "patterns/s on one core", "core hours", "on 2 cores", "64", "1,000", "10,000"],
        [
            [name, f"{rate:.0f}", f"{N / rate / 3600:,.0f}"]
            + [hours(N / rate / n) for n in (2, 64, 1000, 10000)]
            for name, rate in per_core.items()
        ],
    )
    data = table(
        ["camera", "session / TB", *(f"once over {link}" for link in LINKS)]
        + [f"cores that fill 10 Gbit/s, {name}" for name in ("fast", "refined")],
        [
            [camera, f"{N * size / 1e12:.0f}", *(hours(N * size / v) for v in LINKS.values())]
            + [f"{1.25e9 / size / per_core[name]:,.0f}" for name in ("fast", "refined")]
            for camera, size in CAMERAS.items()
        ],
    )
    tasks = N / BLOCK
    print(f"""# A session of 10^9 patterns

Arithmetic from measured figures; written by

    python benchmarks/scaling.py --fast {a.fast:g} --refined {a.refined:g} --hybrid {a.hybrid:g}

Measured, `results/speed.md` (marked *): the three speeds on {a.cores} cores of this kind of machine, three
steel phases, 144 x 144 patterns: fast {a.fast:g}/s*, refined {a.refined:g}/s*, hybrid {a.hybrid:g}/s*. Taken as linear in
cores: blocks do not talk to each other (`tests/indexing/test_distributed.py`), but this was not measured beyond two processes.
Memory of a worker: {a.gibibytes:g} GiB, the limit that `benchmarks/memory.py` checks. Start-up of a worker, imports and
compilation: about {a.start_up:g} s, and dask's scheduler: about {1e3 * a.task:g} ms per task; both assumed.

10^9 patterns are a thousand scans of 1000 x 1000 positions.

## Computing*

{work}

At {a.hybrid:g}/s the hybrid method is not for a whole session: run fast or refined, and hybrid where the confidence is
low. No figure for GPUs is given: none was measured.

## Storage and network

{data}

The last two columns* say when adding cores stops helping, if all patterns come through one 10 Gbit/s link. Where the
network is slower than the cores, index where the data are: a worker on each storage node reads its own scans, and
{a.row:g} bytes a position come back instead of {144**2:,} to {2 * 256**2:,}. Lossless compression in `.zspy`
(blosc) shrinks sparse patterns, at the price of decoding; by how much was not measured here.

## Memory, results, scheduler

- A worker needs {a.gibibytes:g} GiB whatever the scan's size: 16 workers of four cores fit a node of 64 cores and 64 GiB.
- A scan of 10^6 positions gives {SCAN * a.row / 1e6:.0f} MB of rows and a map of about {SCAN * a.map / 1e6:.0f} MB. All
  10^9 at once would be {N * a.row / 1e9:.0f} GB of rows and a map of {N * a.map / 1e9:.0f} GB in one process.
- One call over all would make {tasks:,.0f} blocks, some {4 * tasks / 1e6:.0f} million tasks: at about {1e3 * a.task:g} ms
  each the scheduler alone needs {hours(4 * tasks * a.task)} and holds them all in its memory. A scan has
  {SCAN / BLOCK:,.0f} blocks and {4 * SCAN / BLOCK * a.task:.0f} s of it.
- The scheduler's {1 / a.task:,.0f} tasks/s feed {BLOCK / a.task / 4:,.0f} patterns/s at four tasks a block: over
  {BLOCK / a.task / 4 / per_core["fast"]:,.0f} cores* in fast mode.
- The bundle, {a.bundle:g} MB, goes to each worker once per call: {a.bundle:g} GB for 1,000 workers, which pass it on among
  themselves.
- A worker's start-up of {a.start_up:g} s is {1e2 * a.start_up / (a.start_up + SCAN / speeds["fast"]):.1f} % of one scan on
  {a.cores} cores*, and is paid once per session: keep the cluster between scans.

## What breaks first

1. **One call for the whole session**: the map in the client's memory, then the scheduler's graph. So: one call per
   scan, a thousand maps; nothing is lost, since positions of different scans have nothing to tell each other.
2. **The way to the data**: over one 10 Gbit/s link, at {1.25e9 / 144**2 / per_core["fast"]:,.0f} cores* of fast mode for small
   patterns and {1.25e9 / (2 * 256**2) / per_core["fast"]:,.0f}* for large ones. The faster the networks become, the sooner. So:
   several links, or workers beside the disks.
3. **The scheduler**, at some {BLOCK / a.task / 4:,.0f} patterns/s. So: several clusters, each with scans of its own, or
   larger blocks.
4. Not the networks, the bundle or the workers' memory: these do not grow with the session.

A camera of 10,000 patterns/s fills the session in {hours(N / 1e4)}; to keep up with it takes
{1e4 / per_core["fast"]:,.0f} cores* in fast mode and {1e4 / per_core["refined"]:,.0f}* refined.
""")


if __name__ == "__main__":
    main()
