"""Measure the explorer in Chromium: size, time to open, frames per second under the pointer.

    uv run python benchmarks/explorer.py --output benchmarks/results/explorer.md

Scans of 60 x 60 and 500 x 500 positions of a simulated steel (the large one repeats the patterns of
the small one, not the numbers), with three answers a position. Needs the system's chromium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
from report import describe_run

import pyxem_nas
from pyxem_nas.diffraction import multiply_quaternions

SIDES = (60, 500)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-sync", "--disable-component-update"]  # fmt: skip
SECONDS = 3.0
MARK = "performance.getEntriesByName('nas-explorer-drawn')"
COUNT = """
() => { window.counted = { frames: 0, longest: 0, last: performance.now(), start: performance.now(),
                           texts: 0, text: "" };
  const readout = document.querySelector('[data-c="readout"]');
  const tick = (now) => { const c = window.counted; if (!c.isOn && c.frames) return;
    c.isOn = true; c.frames += 1; c.longest = Math.max(c.longest, now - c.last); c.last = now;
    if (readout.textContent !== c.text) { c.text = readout.textContent; c.texts += 1; }
    if (!c.stop) requestAnimationFrame(tick); else c.end = now; };
  requestAnimationFrame(tick); }
"""


def make_small(side: int) -> tuple:
    """Return a scan, result columns and the bundle."""
    bundle = pyxem_nas.ModelBundle.load("steel")
    s, truth = pyxem_nas.simulate_scan(
        bundle.phase_list, (side, side), bundle.acquisition, seed=0, n_grains=40
    )
    columns = {"phase_id": np.asarray(truth.phase_id), "rotations": truth.rotations.data}
    return s, columns, bundle


def add_answers(columns: dict, rng: np.random.Generator) -> dict:
    """Return the columns with scatter of 0.1 degrees, two runners-up and every property.

    Drawn for each position: what repeats would compress better than a map does.
    """
    n = len(columns["phase_id"])
    noise = np.concatenate([np.ones((n, 1)), 0.001 * rng.standard_normal((n, 3))], axis=1)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    best = multiply_quaternions(columns["rotations"].reshape(n, 4), noise)
    turns = 0.5 * rng.standard_normal((2, n, 1))
    about_x = np.concatenate([np.cos(turns), np.sin(turns), 0 * turns, 0 * turns], axis=2)
    others = [multiply_quaternions(best, turn) for turn in about_x]
    return {
        "phase_id": columns["phase_id"], "rotations": np.stack([best, *others], axis=1),
        **{name: rng.beta(5, 1, n) for name in ("phase_probability", "orientation_probability")},
        "correlation": rng.beta(5, 2, n), "reliability": 40 * rng.random(n),
        "twin_reliability": 20 * rng.random(n), "n_plausible": rng.integers(1, 6, n),
    }  # fmt: skip


def repeat(s, columns: dict, side: int, small: int) -> tuple:
    """Return a lazy scan and columns of side x side positions."""
    from pyxem.signals import LazyElectronDiffraction2D

    index = np.arange(side) % small
    grid = (index[:, np.newaxis] * small + index).ravel()
    data = da.from_array(s.data, chunks=(20, 20, -1, -1))
    times = -(-side // small)
    large = LazyElectronDiffraction2D(da.tile(data, (times, times, 1, 1))[:side, :side])
    pairs = zip(large.axes_manager.signal_axes, s.axes_manager.signal_axes, strict=True)
    for axis, known in pairs:
        axis.scale, axis.offset, axis.units = known.scale, known.offset, known.units
    return large, {name: values[grid] for name, values in columns.items()}


def follow(page, act) -> dict[str, float]:
    """Return frames per second and the longest frame while something happens for some seconds."""
    page.evaluate(COUNT)
    started = time.perf_counter()
    k = 0
    while time.perf_counter() - started < SECONDS:
        act(k)
        k += 1
    page.evaluate("window.counted.stop = true")
    page.wait_for_function("window.counted.end > 0")
    counted = page.evaluate("window.counted")
    seconds = (counted["end"] - counted["start"]) / 1000
    return {
        "frames": counted["frames"] / seconds,
        "longest": counted["longest"],
        "readouts": counted["texts"] / seconds,
    }


def measure(browser, path: Path) -> dict[str, object]:
    """Return what a page takes, on a fresh page of the browser."""
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.goto(f"file://{path}")
    page.wait_for_function(f"{MARK}.length > 0", timeout=120_000)
    opening = page.evaluate(f"{MARK}[0].startTime")
    box = page.locator('[data-c="map"]').bounding_box()
    rng = np.random.default_rng(1)

    def at(k: int) -> tuple[float, float]:
        angle = 0.21 * k
        radius = 0.45 * min(box["width"], box["height"]) * (0.3 + 0.7 * ((k * 7) % 50) / 50)
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        return middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle)

    pointer = follow(page, lambda k: page.mouse.move(*at(k)))
    page.evaluate("nasExplorer.map.zoom(3)")
    page.mouse.move(*at(0))
    page.mouse.down()
    drag = follow(page, lambda k: page.mouse.move(*at(k)))
    page.mouse.up()
    page.evaluate("nasExplorer.map.fit()")
    clicks = []
    n = page.evaluate("nasExplorer.model.n")
    for position in rng.integers(0, n, 20).tolist():
        took = page.evaluate(
            f"(async () => {{ const t = performance.now(); await nasExplorer.select({position});"
            "return performance.now() - t; })()"
        )
        clicks.append(took)
    slide = page.evaluate(
        "(() => { const t = performance.now(); nasExplorer.selection.setThreshold(127);"
        "return performance.now() - t; })()"
    )
    heap = page.evaluate("performance.memory.usedJSHeapSize / 1e6")
    page.close()
    return {
        "opening": opening, "pointer": pointer, "drag": drag, "click": float(np.median(clicks)),
        "selection": slide, "heap": heap,
    }  # fmt: skip


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("explorer.md"))
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    small, columns, bundle = make_small(SIDES[0])
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for side in SIDES:
            s, part = repeat(small, columns, side, SIDES[0])
            xmap = pyxem_nas.make_crystal_map(
                add_answers(part, np.random.default_rng(0)),
                bundle.phase_list,
                shape=(side, side),
                step=(10.0, 10.0),
            )
            started = time.perf_counter()
            path = pyxem_nas.write_report(Path(folder) / f"{side}.html", xmap, s, bundle)
            wrote = time.perf_counter() - started
            rows.append((side, path.stat().st_size / 1e6, wrote, measure(browser, path)))
            print(rows[-1])
        name = browser.version
        browser.close()
    options.output.write_text(_write(rows, name, describe_run(options)), encoding="utf-8")


def _write(rows: list[tuple], browser: str, run: dict) -> str:
    """Return the figures as Markdown."""
    machine = run["machine"]
    lines = [
        "# The explorer in the browser", "",
        f"{run['date']}, commit {run['commit']}, {machine['cpu']}, {machine['cores']} cores, load "
        f"{machine['load']:.1f} at the end; Chromium {browser}, headless, drawn without a graphics "
        "card; the machine was shared. A report with all patterns or as many as fit, three answers "
        "a position (500 x 500 repeats the patterns of 60 x 60, not the numbers).", "",
        f"    {run['command']}", "",
        "| positions | file, MB | written in, s | opens in, s | pointer: frames/s | longest frame, "
        "ms | drag at 3 x zoom: frames/s | longest, ms | click to spots, ms | selection, ms | "
        "memory, MB |", "|" + "---|" * 11,
    ]  # fmt: skip
    for side, size, wrote, m in rows:
        lines.append(
            f"| {side} × {side} | {size:.1f} | {wrote:.0f} | {m['opening'] / 1000:.2f} | "
            f"{m['pointer']['frames']:.0f} | {m['pointer']['longest']:.0f} | "
            f"{m['drag']['frames']:.0f} | {m['drag']['longest']:.0f} | {m['click']:.0f} | "
            f"{m['selection']:.0f} | {m['heap']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
