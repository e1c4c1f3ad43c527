"""Networks at prediction: a Keras file -> a function from a batch of inputs to logits.

Owns what runs a network. "float32" is TensorFlow, compiled by XLA, on a GPU where there is one.
"int8" is the same network with weights and activations of eight bits, run by LiteRT on a CPU:
faster, and without importing TensorFlow. A bundle holds the Keras file; the copy of eight bits is
made of it at its first use and kept in the user's cache folder. Those of the shipped bundles come
with the package.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import logging
import os
import queue
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import platformdirs

from pyxem_nas.bundles import TRUNK, ModelBundle, load_keras
from pyxem_nas.file_writing import replacing
from pyxem_nas.indexing.accelerator import has_gpu
from pyxem_nas.patterns import DescriptorSpec, PatternSpec
from pyxem_nas.scans import make_source

__all__ = [
    "BATCH",
    "Network",
    "Precision",
    "Sample",
    "choose_precision",
    "load_network",
    "quantize",
    "ship_copies",
]

_logger = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "int8"]
BATCH = 128  # networks are compiled for one shape: rows are cut and padded to it
_SCHEMA = 2  # of the copies on disk: raise it when they are made in another way
_SHIPPED = Path(__file__).parents[1] / "bundles" / "shipped" / "int8"
_DIGEST = 32  # bytes of the SHA-256 that a copy begins with
_SEED = 5
_MAX_WORKERS = 4  # each holds the activations of a batch
_N_NETWORKS = 16  # kept in memory
_networks: dict[tuple[bytes, str], Network] = {}


class Network(NamedTuple):
    """A network ready for use."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    predict: Callable[[np.ndarray], np.ndarray]
    """From (128, *input_shape), float32, to (128, *output_shape): logits, float32 or steps in int8,
    or a trunk's features, float32."""
    scale: float = 1.0
    """Of a step; where zero is does not matter to a posterior."""
    n_workers: int = 1
    """Batches that may be predicted side by side."""

    def predict_all(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the outputs for any number of rows, batch after batch.

        At most `n_workers` batches, and one that waits, are in memory.
        """
        batches = (inputs[k : k + BATCH] for k in range(0, len(inputs), BATCH))
        if self.n_workers < 2 or len(inputs) <= BATCH:
            yield from map(self._predict_padded, batches)
            return
        waiting: deque[Future] = deque()
        for batch in batches:
            waiting.append(_get_workers(os.getpid()).submit(self._predict_padded, batch))
            if len(waiting) > self.n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _predict_padded(self, batch: np.ndarray) -> np.ndarray:
        n = len(batch)
        if n < BATCH:
            rest = np.zeros((BATCH - n, *batch.shape[1:]), np.float32)
            batch = np.concatenate([batch, rest])
        return self.predict(batch)[:n]


@dataclass(frozen=True)
class Sample:
    """Simulated inputs of a network of a bundle: what eight bits must span.

    They depend on the network's own phase alone, so that a part of a bundle gets the same copy.
    """

    bundle: ModelBundle
    name: str

    @property
    def key(self) -> str:
        """Return what tells this sample from others."""
        settings = self.bundle.provenance.get("settings", {}).get("randomization")
        plain = [self._of_all, settings, self.bundle.acquisition.to_dict()]
        if self.bundle.is_head(self.name):
            plain.append(hashlib.sha256(self.bundle.models[TRUNK]).hexdigest())
        return json.dumps([*plain, self._spec.to_dict()], sort_keys=True)

    @property
    def _of_all(self) -> bool:
        """Whether the network is one for all phases."""
        return self.name in ("phase", TRUNK)

    @property
    def _spec(self) -> DescriptorSpec | PatternSpec:
        pattern = self.bundle.pattern_spec if self.name == "phase" else None
        return pattern or self.bundle.spec

    def draw(self) -> np.ndarray:
        """Return inputs, shape (512, *input_shape), float32."""
        bundle, phase_id = self.bundle, None
        if not self._of_all:
            phase_id = int(self.name.removeprefix("orientation_"))
            bundle, phase_id = bundle.select_phases([bundle.phase_names[phase_id]]), 0
        source = dataclasses.replace(make_source(bundle, _SEED), spec=self._spec)
        rng = np.random.default_rng(_SEED)
        inputs = source.simulate(4 * BATCH, rng, phase_id=phase_id)[0]
        if self.bundle.is_head(self.name):
            trunk = load_keras(self.bundle.models[TRUNK])
            inputs = np.asarray(trunk.predict(inputs, verbose=0), np.float32)
        return inputs


def choose_precision(precision: Precision = "auto") -> Literal["float32", "int8"]:
    """Return the precision that "auto" means here: eight bits unless TensorFlow has a GPU.

    Raises
    ------
    ValueError
        If the precision is none of the three.
    """
    if precision not in ("auto", "float32", "int8"):
        raise ValueError(f"precision must be 'auto', 'float32' or 'int8', got {precision!r}")
    if precision != "auto":
        return precision
    return "float32" if has_gpu() else "int8"


def load_network(content: bytes, precision: Literal["float32", "int8"], sample: Sample) -> Network:
    """Return a network that is ready for use; bundles that share it share this one.

    Parameters
    ----------
    content
        A .keras file.
    precision
        Of the arithmetic.
    sample
        Inputs as the network will see; drawn only if there is no copy of eight bits yet.

    Raises
    ------
    BundleError
        If the file is damaged or not allowed.
    """
    network = _networks.pop((content, precision), None)
    if network is None:
        network = _make_network(content, precision, sample)
    _networks[content, precision] = network  # the one used last is last
    if len(_networks) > _N_NETWORKS:
        del _networks[next(iter(_networks))]
    return network


def _make_network(content: bytes, precision: str, sample: Sample) -> Network:
    if precision == "int8":
        try:
            return _interpret(_get_copy(content, sample))
        except (RuntimeError, ValueError, ImportError) as error:
            _logger.warning("No copy of eight bits of a network (%s); float32 is used", error)
    return _compile(load_keras(content))


def _compile(model: Any) -> Network:
    """Return a network compiled by XLA."""
    import tensorflow as tf

    shape = (BATCH, *model.input_shape[1:])

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec(shape, tf.float32)])
    def forward(batch):
        return model(batch, training=False)

    def predict(batch: np.ndarray) -> np.ndarray:
        # the buffer itself on a CPU: `.numpy()` would copy it
        return np.asarray(memoryview(forward(tf.constant(batch))))

    return Network(tuple(model.input_shape[1:]), tuple(model.output_shape[1:]), predict)


# ------------------------------------------------------------------------- eight bits


def quantize(content: bytes, inputs: np.ndarray) -> bytes:
    """Return a network with weights and activations of eight bits, as LiteRT reads it.

    Parameters
    ----------
    content
        A .keras file.
    inputs
        Inputs as it will see, shape (n, *input_shape), float32, n at least 128; the scale of each
        activation is taken from them.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = load_keras(content)
    shape = (BATCH, *model.input_shape[1:])

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, tf.float32)])
    def forward(batch):
        return model(batch, training=False)

    starts = range(0, len(inputs) - BATCH + 1, BATCH)
    with _silence():
        frozen = convert_variables_to_constants_v2(forward.get_concrete_function())
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if len(model.output_shape) == 2:
            # logits of 100,000 cells stay as they are: candidates are found in the steps
            converter.inference_output_type = tf.int8
        converter.representative_dataset = lambda: ([inputs[s : s + BATCH]] for s in starts)
        return converter.convert()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the converter's advice to its own authors from users."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def get_copy_name(content: bytes, sample: Sample) -> str:
    """Return the file name of the copy of a network."""
    digest = hashlib.sha256(content + f"{_SCHEMA} {sample.key}".encode())
    return f"{digest.hexdigest()[:32]}.tflite"


def _get_copy(content: bytes, sample: Sample) -> bytes:
    """Return a network of eight bits: the package's, one from the user's cache, or a new one."""
    name = get_copy_name(content, sample)
    kept = platformdirs.user_cache_path("pyxem_nas") / "int8" / name
    for path in (_SHIPPED / name, kept):
        copy = _read(path)
        if copy is not None:
            return copy
    copy = quantize(content, sample.draw())
    write_copy(kept, copy)
    return copy


def ship_copies(bundle: ModelBundle, folder: Path | str = _SHIPPED) -> None:
    """Write the copies of a bundle's networks into a folder, for the package."""
    for name, content in bundle.models.items():
        sample = Sample(bundle, name)
        copy = quantize(content, sample.draw())
        write_copy(Path(folder) / get_copy_name(content, sample), copy)


def _read(path: Path) -> bytes | None:
    """Return a copy from disk; None where there is none that is whole."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    digest, copy = whole[:_DIGEST], whole[_DIGEST:]
    if hashlib.sha256(copy).digest() != digest:
        _logger.warning("%s is damaged; it is made again", path)
        return None
    return copy


def write_copy(path: Path, copy: bytes) -> None:
    """Write a copy to disk; a folder that cannot be written to is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(hashlib.sha256(copy).digest() + copy)
    except OSError as error:
        _logger.warning("Cannot keep a network of eight bits at %s (%s)", path, error)


def _interpret(copy: bytes) -> Network:
    """Return a network run by LiteRT, several batches side by side.

    Of a batch of so small a network LiteRT itself makes little use of a second core.
    """
    n_cores = _count_cores()
    n_workers = min(n_cores, _MAX_WORKERS)
    free: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(n_workers):
        interpreter = _interpreter_class()(
            model_content=copy, num_threads=max(1, n_cores // n_workers)
        )
        interpreter.allocate_tensors()
        free.put(interpreter)
    (first,), (last,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(batch: np.ndarray) -> np.ndarray:
        one = free.get()
        try:
            one.set_tensor(first["index"], np.ascontiguousarray(batch))
            one.invoke()
            return one.get_tensor(last["index"])
        finally:
            free.put(one)

    scale, _ = last["quantization"]
    shapes = [tuple(int(n) for n in side["shape"][1:]) for side in (first, last)]
    return Network(*shapes, predict, float(scale) or 1.0, n_workers)


def _interpreter_class() -> type:
    """Return LiteRT's interpreter, or the older one that TensorFlow holds."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    import tensorflow as tf

    with warnings.catch_warnings():  # that it moves to the package above
        warnings.simplefilter("ignore")
        return tf.lite.Interpreter


@cache
def _get_workers(process: int) -> ThreadPoolExecutor:  # a fork has none of its parent's threads
    """Return the threads of a process in which networks predict side by side."""
    return ThreadPoolExecutor(min(_count_cores(), _MAX_WORKERS), "pyxem_nas networks")


def _count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
