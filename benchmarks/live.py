"""A simulated acquisition: whether indexing keeps up with the camera, and its latency.

    uv run --extra live --with libertem-live python benchmarks/live.py --rate 500 --seconds 20

LiberTEM-live's simulator of a Merlin camera, in a process of its own, sends 256 x 256 patterns over
the network protocol of the camera, at a fixed rate; `PhaseOrientationUDF` indexes them in
LiberTEM's pipelined executor. The latency of a pattern is the time from its arrival, by the
camera's clock, to the partial map that holds it. There is no backlog where the latency does not
grow: that of the last tenth of the scan is compared with that of the second.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

METHODS = {
    "fast": {"method": "network", "refine": False},
    "network": {"method": "network", "refine": True},
    "hybrid": {"method": "hybrid", "refine": True},
}
SIDE = 256
SCALE = 0.0246 * 144 / SIDE
N_DIFFERENT = 400  # simulated patterns, repeated over the scan


def write_mib(folder: Path, shape: tuple[int, int], bundle) -> Path:
    """Write a scan as the camera does: .mib frames and a .hdr file."""
    import numpy as np

    from pyxem_nas import simulate_scan

    some, _ = simulate_scan(
        bundle.phase_list,
        (N_DIFFERENT,),
        bundle.acquisition,
        seed=1,
        pattern_shape=(SIDE, SIDE),
        scale=SCALE,
    )
    patterns = np.asarray(some.data)
    n = shape[0] * shape[1]
    with (folder / "scan.mib").open("wb") as file:
        for k in range(n):
            header = (
                f"MQ1,{k + 1:06d},00384,01,{SIDE:04d},{SIDE:04d},U08,   1x1,01,"
                "2026-01-01 00:00:00.000000,0.002000,0,0,0,1.200000E+2,5.110000E+2,"
                + "0.000000E+0,"
                * 6
                + "3RX,175,511,000,000,000,000,000,000,125,255,125,125,100,100,082,100,087,030,"
                "128,004,255,129,128,176,168,511,511,MQ1A,2026-01-01T00:00:00.000000000Z,"
                "2000000ns,6,"
            )
            file.write(header.encode().ljust(384, b"\0"))
            file.write(patterns[k % N_DIFFERENT].tobytes())
    path = folder / "scan.hdr"
    path.write_text(
        f"HDR,\t\nFrames in Acquisition (Number):\t{n}\nFrames per Trigger (Number):\t{shape[1]}\n"
        "Counter Depth (number):\t6\nEnd\t"
    )
    return path


def start_camera(path: Path, rate: float) -> tuple[subprocess.Popen, int, int]:
    """Start the camera's simulator; return its process and the ports for control and data."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    code = "from libertem_live.detectors.merlin.sim import main; main()"
    command = [sys.executable, "-c", code, str(path), "--host", "127.0.0.1", "--wait-trigger"]
    command += ["--dwelltime", str(round(1e6 / rate))]
    for name, port in zip(("control", "data", "trigger"), ports, strict=True):
        command += [f"--{name}-port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", ports[0]), timeout=1).close()
            return process, ports[0], ports[1]
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise RuntimeError("the camera's simulator did not start")


def acquire(ctx, connection, udf, shape, frames_per_partition: int, rate: float):
    """Run one acquisition; return the latency of every pattern in s and the last results."""
    import numpy as np
    from libertem_live.api import Hooks

    triggered = []

    class Trigger(Hooks):
        def on_ready_for_data(self, env) -> None:
            with connection.control() as control:
                control.cmd("STARTACQUISITION")
                triggered.append(time.perf_counter())
                control.cmd("SOFTTRIGGER")

    scan = ctx.make_acquisition(
        conn=connection,
        nav_shape=shape,
        hooks=Trigger(),
        frames_per_partition=frames_per_partition,
    )
    n = shape[0] * shape[1]
    answered = np.full(n, np.nan)
    for part in ctx.run_udf_iter(dataset=scan, udf=udf):
        known = part.buffers[0]["phase_id"].valid_mask.ravel()
        answered[known & np.isnan(answered)] = time.perf_counter()
    return answered - triggered[0] - np.arange(n) / rate, part.buffers[0]


def main() -> None:
    """Run the acquisition and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="patterns a second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--bundle", default="steel")
    parser.add_argument("--method", choices=METHODS, default="fast")
    parser.add_argument("--frames-per-partition", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()

    import numpy as np
    from libertem_live.api import LiveContext
    from report import describe_run

    from pyxem_nas import ModelBundle
    from pyxem_nas.live.libertem import PhaseOrientationUDF

    run = describe_run(arguments)
    bundle = ModelBundle.load(arguments.bundle)
    width = 100
    shape = (max(2, round(arguments.rate * arguments.seconds / width)), width)
    center = ((SIDE - 1) / 2, (SIDE - 1) / 2)
    udf = PhaseOrientationUDF(
        bundle, scale=SCALE, center=center, follow_beam=True, **METHODS[arguments.method]
    )
    with tempfile.TemporaryDirectory() as folder:
        camera, control, data = start_camera(write_mib(Path(folder), shape, bundle), arguments.rate)
        try:
            with LiveContext.make_with("pipelined", cpus=arguments.workers) as ctx:
                warm_up = PhaseOrientationUDF(**udf._kwargs)
                few = np.zeros((2 * arguments.workers, 8, SIDE, SIDE), np.uint8)
                few[..., 128, 100:200:7] = 50
                start = time.perf_counter()
                memory = ctx.load("memory", data=few, num_partitions=len(few))
                ctx.run_udf(dataset=memory, udf=warm_up)  # loads and compiles
                start_up = time.perf_counter() - start
                address = {"api_host": "127.0.0.1", "data_host": "127.0.0.1"}
                with ctx.make_connection("merlin").open(
                    api_port=control, data_port=data, **address
                ) as connection:
                    latency, results = acquire(
                        ctx, connection, udf, shape, arguments.frames_per_partition, arguments.rate
                    )
        finally:
            camera.terminate()
            camera.wait()
    machine = run["machine"]
    print(f"{run['date']}, commit {run['commit']}, {machine['cpu']}, {machine['cores']} cores,")
    print(f"load at the start {machine['load']:.1f}; {arguments.rate:g} patterns/s of {SIDE} x")
    print(f"{SIDE} for {arguments.seconds:g} s, bundle {arguments.bundle}, {arguments.method},")
    print(f"{arguments.frames_per_partition} frames per partition, start-up {start_up:.1f} s.\n")
    tenth = len(latency) // 10
    early, late = np.median(latency[tenth : 2 * tenth]), np.median(latency[-tenth:])
    growth = (late - early) / arguments.seconds
    print("| latency | median / s | 95 % / s | most / s |\n| --- | --- | --- | --- |")
    for name, part in (
        ("all patterns", latency),
        ("second tenth", latency[tenth : 2 * tenth]),
        ("last tenth", latency[-tenth:]),
    ):
        print(
            f"| {name} | {np.median(part):.2f} | {np.quantile(part, 0.95):.2f} | {part.max():.2f} |"
        )
    indexed = np.mean(results["phase_id"].data >= 0)
    verdict = "no backlog" if late < early + 1 else f"backlog grows by {growth:.2f} s a second"
    rate = len(latency) / (latency + np.arange(len(latency)) / arguments.rate).max()
    print(f"\n{verdict}; {rate:.0f} patterns/s done, {100 * indexed:.0f} % indexed")
    if late >= early + 1:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
