"""The report of the accuracy benchmark as Markdown, and what ran where."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from bloch import PHASES

PACKAGES = ("pyxem-nas", "pyxem", "orix", "diffsims", "hyperspy", "numpy", "numba")
PACKAGES += ("keras", "tensorflow")


def describe_run(options: argparse.Namespace) -> dict:
    """Return date, versions, machine and command."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "machine": {"cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        # not where the results went: that is this machine's business
        "options": {key: str(value) for key, value in vars(options).items() if key != "output"},
    }


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f}"


def _difference(figures: dict, name: str) -> str:
    if "minus_peer" not in figures:
        return "-"
    difference, low, high = (100 * value for value in figures["minus_peer"][name])
    return f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"


def write_main_table(scores: dict) -> str:
    """Return the figures by phase and pooled as Markdown."""
    head = ["phase", "method", "n", "phase right / %", "minus template (95 %)", "< 2 deg / %"]
    head += [
        "< 5 deg / %",
        "minus template (95 %)",
        "< 5 deg, twin forgiven / %",
        "minus template (95 %)",
    ]
    head += ["median of < 5 deg / deg"]
    rows = []
    for kind, key in [*(("phase", name) for name in PHASES), ("pooled", "all")]:
        for method, parts in scores.items():
            f = parts[kind][key]
            rows.append(
                [key, method, str(f["n"]), _percent(f["phase_right"])]
                + [_difference(f, "phase_right"), _percent(f["within_2"])]
                + [_percent(f["within_5"]), _difference(f, "within_5")]
                + [_percent(f["within_5_twin_forgiven"])]
                + [_difference(f, "within_5_twin_forgiven"), f"{f['median_of_within_5']:.2f}"]
            )
    return _table(head, rows)


def write_side_tables(scores: dict, few_spots: dict) -> str:
    """Return speed, calibration, the cameras one by one and the patterns of few spots."""
    head = ["method", "phase", "patterns/s", "ECE phase", "ECE orientation", "P > 0.9 / %"]
    head += ["of them off by > 15 deg / %"]
    rows = []
    for method, parts in scores.items():
        for phase, f in {**parts["pooled"], **parts["phase"]}.items():
            if phase != "all" and np.isnan([f["ece_phase"], f["ece_orientation"]]).all():
                continue  # it tells no probability
            eces = []
            for key in ("ece_phase", "ece_orientation"):
                mean, most = f[f"{key}_of_chance"]
                known = f"{f[key]:.3f} ({mean:.3f}, {most:.3f})"
                eces.append("-" if np.isnan(f[key]) else known)
            rate = f"{parts['patterns_per_second']:.1f}" if phase == "all" else ""
            rows.append([method, phase, rate, *eces])
            rows[-1] += [_percent(f["sure"]), _percent(f["sure_but_off_by_15"])]
    text = (
        "Speed with all phases, and probabilities. In brackets the ECE of probabilities that are "
        "exactly right, with as many patterns: its mean and its 95th percentile.\n\n"
    )
    text += _table(head, rows)
    first = next(iter(scores.values()))
    kinds = [kind for kind in ("camera", "precession") if kind in first]
    for kind in kinds:
        head = [kind, *(f"{m}: phase right, < 5 deg / %" for m in scores)]
        rows = [
            [key]
            + [
                f"{_percent(parts[kind][key]['phase_right'])}, "
                f"{_percent(parts[kind][key]['within_5'])}"
                for parts in scores.values()
            ]
            for key in first[kind]
        ]
        text += f"\nBy {kind}:\n\n" + _table(head, rows)
    text += "\nFewer than three visible spots off one line (no more than a row of spots):\n\n"
    for name, part in few_spots.items():
        text += f"- {name}: {_percent(part['share'])} % of the patterns"
        for method, figures in part["methods"].items():
            text += f"; {_percent(figures['of_misses'])} % of what {method} misses, which gets "
            text += f"{_percent(figures['within_5_of_others'])} % of the others"
        text += "\n"
    return text


def write_report(run: dict, scores: dict, few_spots: dict) -> str:
    """Return the whole report as Markdown."""
    machine = run["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    head = f"# Accuracy on dynamical patterns\n\n{run['date']}, commit {run['commit']}, "
    head += f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f} at the end. "
    head += f"{versions}.\n\n    {run['command']}\n\n"
    head += "Orientations with the phase known; the phase out of all three; rejection off. "
    head += "Intervals take patterns as"
    head += " independent, which they are while cameras times patterns is at most 500 a phase.\n\n"
    return head + write_main_table(scores) + "\n" + write_side_tables(scores, few_spots)
