"""An architecture search by one chief and two workers on this machine, as KerasTuner does it.

    python benchmarks/chief_worker.py --trials 4

Starts three processes with the environment variables of a search on several machines, each of which
calls `search_models` with the same arguments and the same folder; prints who ran which trial and
whether all three returned the same networks, and writes it to ``benchmarks/results``. Tiny
settings: it shows the way, not a good network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import _table, describe_run


def run_member(arguments: argparse.Namespace) -> None:
    """Run one of the three: the same call as on one machine."""
    import keras_tuner

    from pyxem_nas import Acquisition, example_phases, search_models

    ran = []
    end = keras_tuner.engine.base_tuner.BaseTuner.on_trial_end

    def note(tuner, trial):
        ran.append(trial.trial_id)
        return end(tuner, trial)

    keras_tuner.engine.base_tuner.BaseTuner.on_trial_end = note
    bundle = search_models(
        example_phases("silver"),
        Acquisition(200, 0.7),
        max_trials=arguments.trials,
        epochs=1,
        n_samples=512,
        n_dynamical=0,
        directory=arguments.directory,
        seed=1,
    )
    digest = hashlib.sha256(b"".join(content for _, content in sorted(bundle.models.items())))
    best = [(r["target"], r["trials"][0]["trial"], len(r["trials"])) for r in bundle.search_report]
    print(json.dumps({"ran": ran, "models": digest.hexdigest()[:12], "best": best}))


def main() -> None:
    """Start chief and workers and print what each did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--directory", default=None, help=argparse.SUPPRESS)
    output = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=output, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.directory:
        run_member(arguments)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--trials", str(arguments.trials)]
        members = {}
        for name in ("chief", "worker-1", "worker-2"):
            environment = {
                "KERASTUNER_TUNER_ID": name,
                "KERASTUNER_ORACLE_IP": "127.0.0.1",
                "KERASTUNER_ORACLE_PORT": str(port),
                "TF_CPP_MIN_LOG_LEVEL": "3",
            }
            members[name] = subprocess.Popen(
                [*command, "--directory", directory],
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        rows = []
        for name, process in members.items():
            out, _ = process.communicate()
            if process.returncode:
                raise SystemExit(f"{name} failed with code {process.returncode}:\n{out}")
            did = json.loads(out.splitlines()[-1])
            best = ", ".join(f"{target}: {k} of {n}" for target, k, n in did["best"])
            rows.append([name, " ".join(did["ran"]) or "-", best, did["models"]])
    run = describe_run(arguments)
    head = ["process", "trials run", "best trial of each search", "networks (hash)"]
    text = (
        f"# An architecture search by a chief and two workers\n\n{run['date']}, commit "
        f"{run['commit']}, {run['machine']['cores']} cores, {time.perf_counter() - started:.0f} s."
        f"\n\n    {run['command']}\n\n" + _table(head, rows)
    )
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "chief_worker.md").write_text(text)


if __name__ == "__main__":
    main()
