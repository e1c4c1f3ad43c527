"""Fuzz every loader of the package: bundles, networks, specifications and files.

    uv run python benchmarks/fuzz.py --minutes 30

Coverage-guided where atheris can be imported (it is no dependency: `pip install atheris` into an
environment of your own), by seeded random mutation elsewhere. A loader may return or raise what it
promises; anything else (another exception, a file outside its folder, a process started) is a
finding, printed with the input that made it, and the exit code is 1. Every target runs in a process
of its own, so that a crash of a compiled reader is found, too.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import inspect
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
TARGETS = ("bundle", "header", "network", "spec", "cif", "ang", "ctf", "h5", "npy", "blo")
_INSTRUMENTED = (
    "pyxem_nas.bundles", "pyxem_nas.maps", "zipfile", "json.decoder",
    "orix.io.plugins.ang", "orix.io.plugins.ctf", "orix.io.plugins.orix_hdf5",
    "diffpy.structure.parsers.p_cif", "numpy.lib.format", "rsciio.blockfile._api",
)  # fmt: skip
_VALUES = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 1e308, -0.5, float("nan"), float("inf"),
    "", "x", "../x", "Lambda", "keras", "os", [], [[]], {}, {"x": {}}, [0] * 4, [None],
    {"class_name": "Lambda", "config": {}}, {"class_name": "Dense", "module": "subprocess"},
)  # fmt: skip


class Dice:
    """Choices that come from bytes, so that a coverage-guided fuzzer steers them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def below(self, n: int) -> int:
        """Return a number from 0 to n - 1; 0 where the bytes have run out."""
        chunk = self.data[self.position : self.position + 2]
        self.position += 2
        return int.from_bytes(chunk, "little") % n


def mutate_json(value: Any, dice: Dice) -> Any:
    """Return JSON with one to four of its values replaced, removed, doubled or renamed."""
    value = copy.deepcopy(value)
    for _ in range(1 + dice.below(4)):
        parent, key = _walk(value, dice)
        if parent is None:
            return _draw_value(dice)
        action = dice.below(6)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif action == 2 and isinstance(parent, dict):
            parent[str(_VALUES[dice.below(len(_VALUES))])] = parent.pop(key)
        elif action == 3 and isinstance(parent[key], int | float):
            parent[key] = _scale(parent[key], dice.below(5))
        else:
            parent[key] = _draw_value(dice)
    return value


def _draw_value(dice: Dice) -> Any:
    # a copy: what is put into a value may be changed in its turn
    return copy.deepcopy(_VALUES[dice.below(len(_VALUES))])


def _scale(number: float, how: int) -> float:
    try:
        return number * (-1, 0, 10, 1e6, 0.001)[how]
    except OverflowError:  # an integer beyond floating point
        return -number


def _walk(value: Any, dice: Dice) -> tuple[Any, Any]:
    parent, key = None, None
    while isinstance(value, dict | list) and value and (parent is None or dice.below(4)):
        keys = sorted(value, key=str) if isinstance(value, dict) else range(len(value))
        parent, key = value, keys[dice.below(len(keys))]
        value = parent[key]
    return parent, key


class Target:
    """One loader: how to make its input of bytes, and what it may raise."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.outcomes: Counter[str] = Counter()
        self.seeds, self.allowed, self.load = _PREPARE[name](folder)

    def __call__(self, data: bytes) -> None:
        """Load once; raise AssertionError for what must not happen."""
        before = sorted(self.folder.parent.iterdir())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.load(data)
            self.outcomes["loaded"] += 1
        except self.allowed as error:
            self.outcomes[type(error).__name__] += 1
        assert sorted(self.folder.parent.iterdir()) == before, "something was written outside"


def _small_bundle() -> Any:
    from pyxem_nas import Acquisition, ModelBundle, example_phases

    return ModelBundle.from_phases(example_phases("silver"), Acquisition(200, 0.7))


def _prepare_bundle(folder: Path) -> tuple:
    from pyxem_nas import BundleError, ModelBundle

    path = folder / "a.nas"
    _small_bundle().save(path)
    seed = path.read_bytes()

    def load(data: bytes) -> None:
        path.write_bytes(data)
        bundle = ModelBundle.load(path)
        assert repr(bundle) and bundle.hash

    return [seed, b"", b"PK\x05\x06" + b"\0" * 18], BundleError, load


def _prepare_header(folder: Path) -> tuple:
    from pyxem_nas import BundleError, ModelBundle
    from pyxem_nas.bundles.header import make_header

    path = folder / "a.nas"
    shipped = ModelBundle.load("steel")
    header = make_header(shipped) | {"search_report": [{"target": "phase", "trials": [{}]}]}
    for cells in header["cells"].values():  # a few directions do, and the fuzzer is faster
        cells["directions"] = cells["directions"][:3]
    header = json.loads(json.dumps(header))

    def load(data: bytes) -> None:
        # once in four the hashes go, else few would come beyond the missing networks
        changed = mutate_json(header | {"hashes": {}}, Dice(data))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("bundle.json", json.dumps(changed))
        bundle = ModelBundle.load(path)
        assert repr(bundle) and bundle.hash
        assert ModelBundle.load(_saved(bundle, path)).hash == bundle.hash

    return [bytes(40), *(random.Random(k).randbytes(40) for k in range(40))], BundleError, load


def _saved(bundle: Any, path: Path) -> Path:
    bundle.save(path, overwrite=True)
    return path


def _prepare_network(folder: Path) -> tuple:
    import keras

    from pyxem_nas import Architecture, BundleError
    from pyxem_nas.bundles.architectures import build_phase_network
    from pyxem_nas.bundles.network_files import dump_keras, load_keras

    keras.utils.disable_interactive_logging()
    architecture = Architecture(width=4, n_blocks=1, squeeze_excitation=True, dropout=0.1)
    content = dump_keras(build_phase_network(architecture, (8, 16), 2))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])

    def load(data: bytes) -> None:
        buffer = io.BytesIO()
        changed = members | {"config.json": json.dumps(mutate_json(config, Dice(data))).encode()}
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, part in changed.items():
                archive.writestr(name, part)
        load_keras(buffer.getvalue())
        keras.backend.clear_session()

    return [random.Random(k).randbytes(40) for k in range(40)], BundleError, load


def _prepare_spec(folder: Path) -> tuple:
    from pyxem_nas import Acquisition, DescriptorSpec
    from pyxem_nas.patterns.spec import PatternSpec

    seeds = [DescriptorSpec().to_dict(), PatternSpec().to_dict(), Acquisition().to_dict()]
    kinds = [DescriptorSpec.from_dict, lambda d: PatternSpec(**d), lambda d: Acquisition(**d)]

    def load(data: bytes) -> None:
        k = data[0] % 3 if data else 0
        fields = mutate_json(seeds[k], Dice(data[1:]))
        if not isinstance(fields, dict):
            return
        fields = {str(name): value for name, value in fields.items()}
        made = kinds[k](fields)
        assert made == kinds[k](made.to_dict())
        if k == 2:
            assert made.wavelength > 0
        else:
            assert np.isfinite(made.positions).all()

    return [random.Random(k).randbytes(20) for k in range(60)], (ValueError, TypeError), load


def _prepare_cif(folder: Path) -> tuple:
    from pyxem_nas.diffraction import read_phases

    path = folder / "a.cif"
    seed = (
        b"data_silver\n_cell_length_a 4.0862\n_cell_length_b 4.0862\n_cell_length_c 4.0862\n"
        b"_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
        b"_space_group_name_H-M_alt 'F m -3 m'\n_space_group_IT_number 225\n"
        b"loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        b"Ag 0 0 0\n"
    )

    def load(data: bytes) -> None:
        path.write_bytes(data)
        assert len(read_phases(path).ids) == 1

    return [seed], ValueError, load


def _prepare_map(suffix: str) -> Callable[[Path], tuple]:
    def prepare(folder: Path) -> tuple:
        from pyxem_nas import make_crystal_map, save_map
        from pyxem_nas.maps.files import read_map
        from pyxem_nas.scans.specimens import example_phases

        path = folder / f"a.{suffix}"
        columns = {"phase_id": np.array([0, -1]), "rotations": np.tile([1.0, 0, 0, 0], (2, 1, 1))}
        xmap = make_crystal_map(columns, example_phases("silver"), shape=(1, 2), step=(1.0, 1.0))
        save_map(path, xmap)
        seed = path.read_bytes()

        def load(data: bytes) -> None:
            path.write_bytes(data)
            read_map(path)

        return [seed], ValueError, load

    return prepare


def _prepare_npy(folder: Path) -> tuple:
    from pyxem_nas.maps.files import read_mask

    path = folder / "a.npy"
    np.save(path, np.eye(4, dtype=bool))

    def load(data: bytes) -> None:
        path.write_bytes(data)
        read_mask(path)

    return [path.read_bytes()], ValueError, load


def _prepare_blo(folder: Path) -> tuple:
    from pyxem.signals import ElectronDiffraction2D

    from pyxem_nas.patterns import read_scan

    path = folder / "a.blo"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ElectronDiffraction2D(np.ones((2, 2, 16, 16), np.uint8)).save(path, overwrite=True)

    def load(data: bytes) -> None:
        path.write_bytes(data)
        read_scan(path).data.sum().compute()

    return [path.read_bytes()], ValueError, load


_PREPARE = {
    "bundle": _prepare_bundle, "header": _prepare_header, "network": _prepare_network,
    "spec": _prepare_spec, "cif": _prepare_cif, "ang": _prepare_map("ang"),
    "ctf": _prepare_map("ctf"), "h5": _prepare_map("h5"), "npy": _prepare_npy,
    "blo": _prepare_blo,
}  # fmt: skip


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with some flipped, cut, doubled or replaced."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not out:
            return rng.randbytes(rng.randint(0, 64))
        start = rng.randrange(len(out))
        stop = min(len(out), start + rng.choice([1, 1, 2, 4, 16, 200]))
        action = rng.randrange(5)
        if action == 0:
            out[start] ^= 1 << rng.randrange(8)
        elif action == 1:
            out[start:stop] = rng.randbytes(stop - start)
        elif action == 2:
            del out[start:stop]
        elif action == 3:
            out[start:start] = out[start:stop]
        else:
            out[start:stop] = rng.choice([b"-1", b"nan", b"1e999", b"\xff\xff\xff\xff", b"\0", b""])
    return bytes(out)


def instrument(atheris: Any) -> None:
    """Let atheris see the branches of our loaders and of the readers behind them.

    Function by function: numba cannot compile instrumented code, so modules cannot be as a whole.
    """
    for name in _INSTRUMENTED:
        module = importlib.import_module(name)
        owners = [module, *(c for c in vars(module).values() if inspect.isclass(c))]
        for owner in owners:
            for function in list(vars(owner).values()):
                function = getattr(function, "__func__", function)
                if inspect.isfunction(function) and function.__module__ == name:
                    atheris.instrument_func(function)


def run_target(name: str, seconds: float, seed: int) -> None:
    """Fuzz one loader in this process; the last line printed is a JSON summary."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "inside"
        folder.mkdir()
        try:
            import atheris
        except ImportError:
            atheris = None
        if atheris is not None:
            instrument(atheris)
        target = Target(name, folder)
        started = time.perf_counter()

        def one_input(data: bytes) -> None:
            try:
                target(data)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                print(f"FINDING {name}: {type(error).__name__}: {error}\n  input {data!r}")
                raise

        def summarise() -> None:
            n = sum(target.outcomes.values())
            engine = "atheris" if atheris is not None else "mutation"
            print(json.dumps({
                "target": name, "engine": engine, "inputs": n, "outcomes": dict(target.outcomes),
                "seconds": round(time.perf_counter() - started),
            }), flush=True)  # fmt: skip

        if atheris is None:
            rng = random.Random(f"{seed}{name}")
            while time.perf_counter() - started < seconds:
                one_input(mutate_bytes(rng.choice(target.seeds), rng))
            summarise()
            return
        corpus = Path(tempfile.mkdtemp())
        for k, content in enumerate(target.seeds):
            (corpus / str(k)).write_bytes(content)
        # libFuzzer leaves without running Python's exit: count as we go
        deadline = started + seconds

        def counted(data: bytes) -> None:
            one_input(data)
            if time.perf_counter() > deadline:
                summarise()
                os._exit(0)

        atheris.Setup(
            [sys.argv[0], str(corpus), f"-seed={seed + 1}", "-verbosity=0", "-timeout=60",
             "-rss_limit_mb=4096", "-max_len=20000"],
            counted,
        )  # fmt: skip
        atheris.Fuzz()


def main() -> None:
    """Fuzz the targets one after another, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="of machine time, in all")
    parser.add_argument("--target", choices=TARGETS, nargs="*", default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seconds = 60 * options.minutes / len(options.target)
    if options.in_process:
        run_target(options.target[0], seconds, options.seed)
        return
    failed = []
    for name in options.target:
        command = [sys.executable, __file__, "--in-process", "--target", name]
        command += ["--minutes", str(seconds / 60), "--seed", str(options.seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [
            line for line in done.stdout.splitlines() if line.startswith(("{", "FINDING", " "))
        ]
        print("\n".join(lines[-3:]), flush=True)
        if done.returncode:
            failed.append(name)
            print(f"{name}: exit code {done.returncode}\n{done.stderr[-3000:]}", flush=True)
    print(f"findings in {failed!r}" if failed else "no findings")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
