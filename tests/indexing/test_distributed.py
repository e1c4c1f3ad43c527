"""The same call on a cluster: two processes with a memory limit, one of them killed on the way."""

import os
import signal

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
from conftest import as_signal

from pyxem_nas import ModelBundle, example_phases, signals, simulate_scan
from pyxem_nas.indexing.block import predict_lazily

distributed = pytest.importorskip("distributed")

N_BLOCKS = 6
OPTIONS = {"method": "network", "center": (31.5, 31.5), "min_confidence": 0}


@pytest.fixture(scope="module")
def bundle():
    return ModelBundle.load("silver")


@pytest.fixture(scope="module")
def images(bundle):
    shape = (N_BLOCKS * 8,)
    scan, _ = simulate_scan(
        example_phases("silver"), shape, bundle.acquisition, seed=2, pattern_shape=(64, 64),
        scale=0.055, vacuum_share=0,
    )  # fmt: skip
    return scan.data


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "3GiB"}
    # a busy machine takes its time to start a worker, which is no fault of ours
    patience = {
        "distributed.comm.timeouts.connect": "600s",
        "distributed.comm.timeouts.tcp": "600s",
        "distributed.deploy.lost-worker-timeout": "600s",
        "distributed.scheduler.worker-ttl": None,
    }
    with (
        dask.config.set(patience),
        distributed.LocalCluster(**options, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(signals, "_PATTERNS_PER_BLOCK", 8)


def lazy_signal(images, load=None):
    """Return a lazy signal of blocks of 8 patterns, read by `load` (block) -> block."""
    data = da.from_array(images, chunks=(8, -1, -1))
    return as_signal(images, scale=0.055, lazy=True)._deepcopy_with_new_data(
        data if load is None else data.map_blocks(load, dtype=images.dtype, meta=images[:0])
    )


def test_networks_are_in_the_graph_once(bundle, images, monkeypatch):
    seen = []
    monkeypatch.setattr(signals, "predict_lazily", lambda *a: seen.append(predict_lazily(*a)))
    with pytest.raises(AttributeError):  # the rows are kept, not computed
        lazy_signal(images).index_phase_orientation(bundle, **OPTIONS)
    (rows,) = dask.optimize(seen[0])
    sizes = sorted(len(cloudpickle.dumps(task)) for task in dict(rows.__dask_graph__()).values())
    networks = sum(len(content) for content in bundle.models.values())
    assert sum(size > 0.9 * networks for size in sizes) == 1
    assert sizes[-2] < 0.1 * networks, "a task carries more than its patterns"


def test_map_is_complete_and_the_same_when_a_worker_dies(client, bundle, images, tmp_path):
    def load(block, block_info=None):
        k = block_info[0]["chunk-location"][0]
        (tmp_path / f"{k}-{os.getpid()}-{os.urandom(4).hex()}").touch()
        if k == N_BLOCKS - 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    local = lazy_signal(images).index_phase_orientation(bundle, **OPTIONS, show_progressbar=False)
    with client.as_current(), dask.config.set(scheduler="dask.distributed"):
        xmap = lazy_signal(images, load).index_phase_orientation(
            bundle, **OPTIONS, show_progressbar=False
        )
    assert (tmp_path / "killed").exists()
    loads = [path.name.split("-") for path in tmp_path.glob("*-*")]
    assert {int(k) for k, *_ in loads} == set(range(N_BLOCKS))
    assert len(loads) > N_BLOCKS, "what the dead worker had was computed again"
    assert os.getpid() not in {int(pid) for _, pid, _ in loads}, "this process did no work"
    assert xmap.is_in_data.all() and np.array_equal(xmap.phase_id, local.phase_id)
    assert np.array_equal(xmap.rotations.data, local.rotations.data)
    for name, values in local.prop.items():
        np.testing.assert_array_equal(xmap.prop[name], values, err_msg=name)


def test_progress_is_that_of_the_cluster_and_can_be_silenced(client, bundle, images, monkeypatch):
    shown = []
    monkeypatch.setattr(distributed, "progress", lambda *args: shown.append(args))
    s = lazy_signal(images[:16])
    with client.as_current(), dask.config.set(scheduler="dask.distributed"):
        s.index_phase_orientation(bundle, **OPTIONS, show_progressbar=False)
        assert not shown
        s.index_phase_orientation(bundle, **OPTIONS, show_progressbar=True)
    assert len(shown) == 1


def test_progress_is_dasks_without_a_cluster(bundle, images, capsys):
    s = lazy_signal(images[:16])
    s.index_phase_orientation(bundle, **OPTIONS, show_progressbar=True)
    assert "100% Completed" in capsys.readouterr().out
    s.index_phase_orientation(bundle, **OPTIONS, show_progressbar=False)
    assert "Completed" not in capsys.readouterr().out
