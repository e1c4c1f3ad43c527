"""A folder into which scans are written, and the command that watches it."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from pyxem_nas import example_phases, simulate_scan
from pyxem_nas.bundles.bundle import ModelBundle
from pyxem_nas.cli import app as cli
from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.live import watcher
from pyxem_nas.live.watcher import watch_folder

ACQUISITION = Acquisition(beam_energy=200, precession_angle=0.7)
QUICK = {"patterns": ["*.blo"], "settle": 0.3, "poll": 0.02}


class Clock:
    """Time that passes only while the watcher sleeps, and what happens in the folder meanwhile."""

    def __init__(self):
        self.now = 0.0
        self.happen = lambda: None

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.happen()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watcher, "time", clock)
    return clock


def test_a_file_is_yielded_when_it_has_stopped_growing(tmp_path, clock):
    path = tmp_path / "scan.blo"
    written = []  # at which times

    def write():
        if len(written) < 8 and clock.now >= (len(written) + 1) * 0.1:
            with path.open("ab") as file:
                file.write(bytes(100))
            written.append(clock.now)

    clock.happen = write
    found = next(watch_folder(tmp_path, idle_timeout=5, **QUICK))
    assert found == path and path.stat().st_size == 800
    assert QUICK["settle"] <= clock.now - written[-1] <= QUICK["settle"] + 3 * QUICK["poll"]


def test_a_file_under_a_temporary_name_is_passed_over_until_renamed(tmp_path, clock):
    temporary = tmp_path / "scan.blo.part"
    temporary.write_bytes(bytes(10))
    (tmp_path / ".hidden.blo").write_bytes(bytes(10))
    quick = QUICK | {"patterns": ["*.blo*"], "settle": 0}
    assert list(watch_folder(tmp_path, idle_timeout=0.1, **quick)) == []
    os.replace(temporary, tmp_path / "scan.blo")
    assert list(watch_folder(tmp_path, idle_timeout=0.1, **quick)) == [tmp_path / "scan.blo"]


def test_scans_come_once_in_their_order_and_again_when_changed(tmp_path, clock):
    for k, name in enumerate(("b.blo", "a.blo", "c.txt")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (k, k))
    found = []
    for path in watch_folder(tmp_path, idle_timeout=1, **QUICK):
        found.append(path.name)
        if found == ["b.blo", "a.blo"]:
            (tmp_path / "b.blo").write_bytes(bytes(20))
    assert found == ["b.blo", "a.blo", "b.blo"]


def test_a_folder_of_chunks_is_one_scan(tmp_path, clock):
    (tmp_path / "scan.zspy").mkdir()
    (tmp_path / "scan.zspy" / "0.0").write_bytes(bytes(10))
    quick = QUICK | {"patterns": ["*.zspy"]}
    assert list(watch_folder(tmp_path, idle_timeout=0.5, **quick)) == [tmp_path / "scan.zspy"]


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(NotADirectoryError, match="no folder"):
        next(watch_folder(tmp_path / "nothing"))


# ------------------------------------------------------------------------- pyxem-nas live


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Return a folder with a bundle without networks and a scan of 2 x 3 positions."""
    folder = tmp_path_factory.mktemp("scans")
    phases = example_phases("silver")
    ModelBundle.from_phases(phases, ACQUISITION).save(folder / "silver.nas")
    scan, _ = simulate_scan(phases, (2, 3), ACQUISITION, seed=3, vacuum_share=0)
    scan.save(folder / "scan.hspy")
    return folder


def run_live(monkeypatch, capsys, *arguments):
    """Return the exit code, the JSON lines and what went to stderr."""
    monkeypatch.setattr(sys, "argv", ["pyxem-nas", "live", *map(str, arguments)])
    monkeypatch.delenv("PYXEM_NAS_DEBUG", raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return stop.value.code or 0, [json.loads(line) for line in out.splitlines()], err


def test_live_indexes_what_arrives_and_passes_over_bad_files(
    scans, tmp_path, monkeypatch, capsys, clock
):
    from orix import io

    (tmp_path / "bad.blo").write_bytes(b"no scan")
    shutil.copy(scans / "scan.hspy", tmp_path / "first.hspy")

    def arrive():
        second = tmp_path / "second.hspy"
        if (tmp_path / "first_map.h5").exists() and not second.exists():
            shutil.copy(scans / "scan.hspy", tmp_path / "second.hspy.part")
            os.replace(tmp_path / "second.hspy.part", second)

    clock.happen = arrive
    options = ("--bundle", scans / "silver.nas", "--settle", 0.2, "--json", "--min-confidence", 0)
    code, results, err = run_live(monkeypatch, capsys, tmp_path, *options, "--idle-timeout", 4)
    assert code == 1 and "bad.blo" in err and "Traceback" not in err
    outcome = {os.path.basename(r["scan"]): "error" in r for r in results}
    assert outcome == {"bad.blo": True, "first.hspy": False, "second.hspy": False}
    assert all(r["seconds_after_writing"] > 0 for r in results if "error" not in r)
    maps = [io.load(tmp_path / f"{name}_map.h5") for name in ("first", "second")]
    assert np.array_equal(maps[0].rotations.data, maps[1].rotations.data)
    assert (tmp_path / "first_map.png").exists()
    # started again, it does not do the same again, and takes no map for a scan
    (tmp_path / "bad.blo").unlink()
    more = (*options, "--idle-timeout", 0.5, "--pattern", "*.hspy", "--pattern", "*.h5")
    code, results, _ = run_live(monkeypatch, capsys, tmp_path, *more)
    assert code == 0 and results == []


def test_live_refuses_what_would_overwrite_itself(scans, tmp_path, monkeypatch, capsys):
    bundle = ("--bundle", scans / "silver.nas")
    code, _, err = run_live(monkeypatch, capsys, tmp_path, *bundle, "--output", "map.h5")
    assert code == 2 and "{stem}" in err
    code, _, err = run_live(monkeypatch, capsys, tmp_path / "no", *bundle)
    assert code == 2 and "no folder" in err
