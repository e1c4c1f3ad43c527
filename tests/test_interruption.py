"""What is killed, stopped or out of disk leaves what was there, and goes on where it was."""

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from conftest import build_tiny_trunk

from pyxem_nas import (
    Acquisition,
    Architecture,
    ModelBundle,
    example_phases,
    save_map,
    search_models,
    simulate_scan,
)
from pyxem_nas.file_writing import replacing

ACQUISITION = Acquisition(200, 0.7)
SHAPE = (6, 4)
linux_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and resource limits")


@pytest.fixture(scope="module")
def bundle():
    return ModelBundle.from_phases(example_phases("silver"), ACQUISITION)


@pytest.fixture(scope="module")
def scan(bundle):
    return simulate_scan(bundle.phase_list, SHAPE, ACQUISITION, seed=4, vacuum_share=0)[0]


@pytest.fixture
def small_blocks(monkeypatch):
    """Six blocks of four patterns for a scan that is small."""
    from pyxem_nas import signals

    monkeypatch.setattr(signals, "_PATTERNS_PER_BLOCK", 4)


def in_a_child(work):
    """Run a function in a forked process; return (killed by, what it wrote to its pipe)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # a child that waits for a lock of a thread it does not have must not wait for ever
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(600)
            os.close(read)
            answer = work()
            os.write(write, str(answer).encode())
            os._exit(0)
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), answer


def kill_myself(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def counting_branch(calls, *, stop_after=None, error=KeyboardInterrupt):
    """Return a branch of one's own that counts its patterns and may fail."""

    def branch(descriptors, phase, acquisition):
        if stop_after is not None and len(calls) == stop_after:
            raise error("stopped by the test")
        calls.append(len(descriptors))
        # an answer that depends on the pattern, and on nothing else
        quaternions = np.asarray(descriptors[:, :4, 0], np.float64) + [1, 0.1, 0.2, 0.3]
        quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
        return quaternions[:, None], np.ones((len(descriptors), 1))

    return branch


def index(scan, bundle, branch, **options):
    return scan.index_phase_orientation(
        bundle, method={"silver": branch}, show_progressbar=False, **options
    )


# ------------------------------------------------------------------------- saving


@linux_only
def test_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def work():
        with replacing(path) as temporary:
            temporary.write_text("half")
            kill_myself()

    assert in_a_child(work) == (signal.SIGKILL, "")
    assert path.read_text() == "old"


@linux_only
def test_kill_while_saving_a_bundle_or_a_map_leaves_the_old_one(bundle, scan, tmp_path):
    xmap = index(scan, bundle, counting_branch([]))
    bundle.save(tmp_path / "a.nas")
    save_map(tmp_path / "a.ctf", xmap)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def save_bundle():
        import zipfile

        zipfile.ZipFile.close = kill_myself
        bundle.save(tmp_path / "a.nas", overwrite=True)

    def save_text():
        np.savetxt = kill_myself
        save_map(tmp_path / "a.ctf", xmap, overwrite=True)

    for work in (save_bundle, save_text):
        assert in_a_child(work) == (signal.SIGKILL, "")
    assert {path: path.read_bytes() for path in before} == before
    ModelBundle.load(tmp_path / "a.nas")


@linux_only
@pytest.mark.parametrize("name", ["a.nas", "a.ctf", "a.ang", "a.h5", "a.png"])
def test_full_disk_leaves_the_old_file_and_says_so(name, bundle, scan, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"old")
    xmap = index(scan, bundle, counting_branch([]))

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # a limit of the file's size fails as a full disk does, without needing one
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        if name == "a.nas":
            bundle.save(path, overwrite=True)
        elif name == "a.png":
            with replacing(path) as temporary:
                temporary.write_bytes(bytes(10_000))
        else:
            save_map(path, xmap, overwrite=True)

    killed_by, answer = in_a_child(work)
    assert killed_by == 0
    assert answer.startswith("OSError") and name in answer and "is as it was" in answer, answer
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------- indexing


@pytest.mark.parametrize("lazy", [False, True])
def test_interrupted_indexing_goes_on_where_it_was(lazy, bundle, scan, small_blocks, tmp_path):
    scan = scan.as_lazy() if lazy else scan
    whole = index(scan, bundle, counting_branch([]))
    calls, store = [], tmp_path / "blocks"
    failing = counting_branch(calls, stop_after=4, error=RuntimeError)
    # one block at a time: a thread of the pool would go on writing after the error
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(RuntimeError, match="by the test"),
    ):
        index(scan, bundle, failing, store=store)
    assert len(list(store.glob("*.npy"))) == 4
    calls.clear()
    resumed = index(scan, bundle, counting_branch(calls), store=store)
    assert sum(calls) == scan.axes_manager.navigation_size - 4 * 4
    np.testing.assert_array_equal(resumed.rotations.data, whole.rotations.data)
    for name in whole.prop:
        np.testing.assert_array_equal(resumed.prop[name], whole.prop[name], name)
    calls.clear()
    index(scan, bundle, counting_branch(calls), store=store)
    assert not calls  # all blocks are there


def test_damaged_block_is_computed_again(bundle, scan, small_blocks, tmp_path, caplog):
    calls = []
    whole = index(scan, bundle, counting_branch([]), store=tmp_path / "blocks")
    blocks = sorted((tmp_path / "blocks").glob("*.npy"))
    assert len(blocks) == 6
    blocks[0].write_bytes(blocks[0].read_bytes()[:-20])
    blocks[1].write_bytes(b"")
    np.save(blocks[2], np.zeros((3, 3)))
    resumed = index(scan, bundle, counting_branch(calls), store=tmp_path / "blocks")
    assert sum(calls) == 3 * 4
    np.testing.assert_array_equal(resumed.rotations.data, whole.rotations.data)


def test_blocks_of_something_else_are_refused(bundle, scan, small_blocks, tmp_path):
    store = tmp_path / "blocks"
    index(scan, bundle, counting_branch([]), store=store)
    other = scan.deepcopy()
    other.data[0, 0] = other.data[0, 0, ::-1]
    moved = scan.deepcopy()
    moved.axes_manager.signal_axes[0].offset += 0.05
    for signal_, options in (
        (other, {}),
        (moved, {}),
        (scan.inav[:, :4], {}),
        (scan, {"n_best": 2}),
        (scan, {"min_confidence": 0.5}),
    ):
        with pytest.raises(ValueError, match="begun with another scan, bundle, settings"):
            index(signal_, bundle, counting_branch([]), store=store, **options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(ValueError, match="holds other files"):
        index(scan, bundle, counting_branch([]), store=tmp_path / "mine")


def test_removing_a_store_leaves_other_folders_alone(bundle, scan, tmp_path):
    from pyxem_nas.indexing.result_store import remove_store

    index(scan, bundle, counting_branch([]), store=tmp_path / "blocks")
    (tmp_path / "mine").mkdir()
    for name in ("blocks", "mine", "missing"):
        remove_store(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@linux_only
def test_ctrl_c_leaves_the_session_usable(bundle, scan, small_blocks):
    first, stopped = threading.Lock(), threading.Event()
    plain = counting_branch([])

    def press_ctrl_c(*arguments):
        pressing = first.acquire(blocking=False)
        # no block ends before the call is stopped. A signal that comes just before the main thread
        # waits does not wake it: again, then
        for _ in range(60):
            if pressing:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            if stopped.wait(10):
                break
        return plain(*arguments)

    # a shell starts background jobs with the signal ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with dask.config.set(scheduler="threads"), pytest.raises(KeyboardInterrupt):
            index(scan, bundle, press_ctrl_c)
    finally:
        stopped.set()
        signal.signal(signal.SIGINT, before)
    again = []
    xmap = index(scan, bundle, counting_branch(again))
    assert sum(again) == xmap.size == scan.axes_manager.navigation_size


KILLED = """
import os, signal, sys
import dask
from pyxem_nas import cli, signals
from pyxem_nas.indexing import result_store
signals._PATTERNS_PER_BLOCK = 4
keep_block = result_store._keep_block
written = []
def keep(rows, *, folder, block_id):
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(block_id)
    return keep_block(rows, folder=folder, block_id=block_id)
result_store._keep_block = keep
dask.config.set(scheduler="synchronous")  # else other threads write more blocks meanwhile
sys.argv = ["pyxem-nas", *sys.argv[1:]]
cli.main()
"""


def test_command_killed_while_indexing_resumes(bundle, scan, small_blocks, tmp_path, monkeypatch):
    from orix import io

    from pyxem_nas.cli import app as cli
    from pyxem_nas.indexing import result_store

    bundle.save(tmp_path / "silver.nas")
    scan.save(tmp_path / "scan.hspy")
    (tmp_path / "map.h5").write_bytes(b"old")
    arguments = [
        "index", str(tmp_path / "scan.hspy"), "--bundle", str(tmp_path / "silver.nas"),
        "--output", str(tmp_path / "map.h5"), "--overwrite", "--resume",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=1800
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (tmp_path / "map.h5").read_bytes() == b"old"
    kept = sorted(path.name for path in (tmp_path / "map.h5.blocks").glob("[0-9]*.npy"))
    assert len(kept) == 3
    written = []
    original = result_store._keep_block

    def keep(rows, *, folder, block_id):
        written.append(block_id)
        return original(rows, folder=folder, block_id=block_id)

    monkeypatch.setattr(result_store, "_keep_block", keep)
    monkeypatch.setattr(sys, "argv", ["pyxem-nas", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert len(written) == 6 - len(kept)  # what was finished was not done again
    assert not (tmp_path / "map.h5.blocks").exists()
    found = io.load(tmp_path / "map.h5")
    whole = scan.as_lazy().index_phase_orientation(bundle, show_progressbar=False)
    # the file keeps Euler angles: a quaternion and its negative are one rotation
    cosine = np.abs((found.rotations.data * whole.rotations.data).sum(axis=-1))
    np.testing.assert_allclose(cosine, 1, atol=1e-9)


# ------------------------------------------------------------------------- search and training


SEARCH = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_interruption as t
from conftest import build_tiny_trunk
from keras_tuner.src.engine.base_tuner import BaseTuner
from pyxem_nas.training import search_space
search_space.DescriptorTrunk.build = build_tiny_trunk
def begin(self, trial):
    if int(trial.trial_id) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
BaseTuner.on_trial_begin = begin
t.search_some(Path(sys.argv[1]))
"""


def search_some(folder):
    """Search two tiny networks; return the report."""
    from pyxem_nas.diffraction import make_cells
    from pyxem_nas.diffraction.reflections import get_reflections
    from pyxem_nas.scans.source import DescriptorSource
    from pyxem_nas.training.search import SearchSettings, search_orientation_architecture

    phases = [phase for _, phase in example_phases("silver")]
    source = DescriptorSource(get_reflections(phases), 1, ACQUISITION)
    settings = SearchSettings(max_trials=2, epochs=1, n_train=64, n_validation=64, seed=1)
    cells = make_cells(phases[0], spacing=15)
    return search_orientation_architecture(source, cells, 0, settings, folder, name="Ag")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_search_that_was_killed_repeats_no_completed_trial(tmp_path, monkeypatch):
    from pyxem_nas.training import search_space

    code = SEARCH.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, timeout=1800
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    (finished,) = tmp_path.rglob("trial_0/trial.json")
    (begun,) = tmp_path.rglob("trial_1/trial.json")
    assert "COMPLETED" in finished.read_text() and "COMPLETED" not in begun.read_text()
    before = finished.read_bytes(), finished.stat().st_mtime_ns
    monkeypatch.setattr(search_space.DescriptorTrunk, "build", build_tiny_trunk)
    report = search_some(tmp_path)
    assert sorted(trial["trial"] for trial in report.trials) == [0, 1]
    assert (finished.read_bytes(), finished.stat().st_mtime_ns) == before


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bundle_is_the_same_for_the_same_seed_and_after_a_kill(tmp_path, monkeypatch):
    from pyxem_nas.bundles.network_files import load_keras
    from pyxem_nas.diffraction import make_cells
    from pyxem_nas.training import bundle_training, training_source

    tiny = Architecture(width=8, n_blocks=1)
    monkeypatch.setattr(training_source, "N_FOREIGN", 10)
    monkeypatch.setattr(training_source, "_N_FOREIGN_PHASES", 2)
    monkeypatch.setattr(bundle_training, "make_cells", lambda phase: make_cells(phase, spacing=15))
    # no validation set of thousands: the networks are compared, not their calibration
    monkeypatch.setattr(
        bundle_training, "calibrate", lambda bundle, source, **_: (bundle, {"validation": None})
    )

    def make(folder, report=lambda line: None):
        return search_models(
            example_phases("silver"), ACQUISITION, max_trials=0, n_samples=256, seed=3,
            n_dynamical=20, directory=tmp_path / folder, architecture=tiny,
            phase_architecture=tiny, report=report,
        )  # fmt: skip

    whole = make("whole")

    def stop(line):
        if "phase network" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("stopped", stop)
    kept = (tmp_path / "stopped" / "orientation_0.keras").read_bytes()
    lines = []
    resumed = make("stopped", lines.append)
    assert not any("orientation network" in line for line in lines)  # it is not trained again
    assert resumed.models["orientation_0"] == kept
    for name in whole.models:
        ours, theirs = (load_keras(b.models[name]).get_weights() for b in (whole, resumed))
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)


# ------------------------------------------------------------------------- load


@linux_only
def test_calls_one_after_another_do_not_grow_the_memory(bundle, scan):
    def resident():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def growth():
        gc.collect()
        before = resident()
        for _ in range(20):
            index(scan, bundle, counting_branch([]))
        gc.collect()
        return resident() - before

    # what leaks grows every time; caches and what other tests left behind do not
    assert any(growth() < 50 for _ in range(3))


def test_two_threads_use_one_bundle_at_a_time(bundle, scan):
    lazy = scan.as_lazy()
    lazy.data = da.from_array(scan.data, chunks=(2, 2, -1, -1))
    options = {"show_progressbar": False}
    expected = scan.index_phase_orientation(bundle, **options)
    with ThreadPoolExecutor(2) as pool:
        maps = list(pool.map(lambda s: s.index_phase_orientation(bundle, **options), [scan, lazy]))
    for xmap in maps:
        np.testing.assert_array_equal(xmap.rotations.data, expected.rotations.data)
