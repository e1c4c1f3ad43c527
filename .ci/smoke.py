"""Check the installed package: the way of a user from a file to a map, and of its signal to disk.

Runs with the Python of a clean environment that holds the wheel and nothing else, outside the
source tree.
"""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

IMPORT_ONLY = """
import sys, pyxem_nas
heavy = [name for name in ("tensorflow", "keras", "autokeras") if name in sys.modules]
assert not heavy, f"import pyxem_nas imports {heavy}"
print(pyxem_nas.__version__, pyxem_nas.__file__)
"""
# HyperSpy must find the class by the entry point, without anybody importing pyxem_nas
LOAD_ONLY = """
import sys, hyperspy.api as hs
for lazy, name in ((False, "PolarDescriptor2D"), (True, "LazyPolarDescriptor2D")):
    s = hs.load(sys.argv[1], lazy=lazy)
    assert type(s).__name__ == name, f"loaded as {type(s).__name__}, not as {name}"
print(s)
"""


def run_python(code: str, *arguments: str) -> str:
    """Return what a Python of its own prints."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *arguments], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def check_indexing(folder: Path) -> None:
    """Index a .blo and a .hspy file with the shipped bundle and compare with the truth."""
    import hyperspy.api as hs

    import pyxem_nas

    acquisition = pyxem_nas.Acquisition(beam_energy=200, precession_angle=0.7)
    phases = pyxem_nas.example_phases("steel")
    scan, truth = pyxem_nas.simulate_scan(phases, (6, 8), acquisition, seed=1)
    scan.save(folder / "scan.hspy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a .blo file keeps its scale in cm
        scan.save(folder / "scan.blo")
    for name in ("scan.hspy", "scan.blo"):
        s = hs.load(folder / name, lazy=True, signal_type="electron_diffraction")
        s.calibration.scale = scan.calibration.scale[0]
        s.calibration.units = "$A^{-1}$"
        xmap = s.index_phase_orientation("steel", center="auto", min_confidence=0)
        evaluation = pyxem_nas.evaluate(xmap, truth)
        print(f"{name}: {evaluation}\n")
        assert xmap.shape == truth.shape, (xmap.shape, truth.shape)
        assert evaluation.phase_accuracy > 0.7, "most phases should be right"
    for suffix in ("h5", "ang", "ctf"):
        pyxem_nas.save_map(folder / f"map.{suffix}", xmap)
    page = pyxem_nas.write_report(folder / "map.html", xmap, s, "steel")
    assert "nas-explorer" in page.read_text(encoding="utf-8"), "the explorer's scripts are missing"
    scan.get_polar_descriptors().save(folder / "descriptors.hspy")


def main() -> None:
    """Run all checks."""
    print(run_python(IMPORT_ONLY))
    with tempfile.TemporaryDirectory() as folder:
        check_indexing(Path(folder))
        print(run_python(LOAD_ONLY, str(Path(folder) / "descriptors.hspy")))
    print("smoke test passed")


if __name__ == "__main__":
    main()
