"""Finished blocks of result rows, kept on disk until the map is whole.

Owns the folder of an indexing that may be interrupted: what belongs to it, one file per block, and
the dask array that computes only what is missing. Knows neither patterns nor networks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.file_writing import replacing

if TYPE_CHECKING:
    import dask.array as da

    from pyxem_nas.indexing.plan import IndexingPlan

__all__ = ["check_store", "describe_run", "keep_blocks", "remove_store"]

_logger = logging.getLogger(__name__)
_N_SAMPLES = 5  # patterns that tell one scan from another


def keep_blocks(rows: da.Array, folder: Path | str, key: str) -> da.Array:
    """Return result rows whose blocks are read from a folder, or computed and kept there.

    Parameters
    ----------
    rows
        Result rows of a scan, chunked over the navigation axes.
    folder
        Made if it does not exist. Every block is a .npy file, written when it is finished.
    key
        What the rows depend on, from `describe_run`.

    Returns
    -------
    rows
        The same values; blocks that are in the folder are not computed again.

    Raises
    ------
    ValueError
        If the folder holds other files, or was begun with another key.
    """
    import dask.array as da

    folder = _begin(Path(folder), key)
    kept = da.map_blocks(_keep_block, rows, folder=str(folder), dtype=rows.dtype, meta=rows._meta)
    finished = 0

    def choose(index: tuple[int, ...]) -> Any:
        """Return the blocks that begin with an index, nested as `da.block` wants them."""
        nonlocal finished
        if len(index) < rows.ndim:
            return [choose((*index, k)) for k in range(rows.numblocks[len(index)])]
        shape = tuple(sizes[k] for sizes, k in zip(rows.chunks, index, strict=True))
        content = _read_block(folder, index, shape, rows.dtype)
        if content is None:
            return kept.blocks[index]
        finished += 1
        return da.from_array(content, chunks=shape)

    whole = da.block(choose(()))
    if finished:
        _logger.info("%d of %d blocks are finished in %s", finished, rows.npartitions, folder)
    return whole


def describe_run(patterns: da.Array, centers: np.ndarray, plan: IndexingPlan) -> str:
    """Return a hash of all that result rows depend on.

    A scan is known by its shape, type and chunks, five of its patterns and all beam positions; the
    bundle by its hash; a branch of the user's own by its name only.
    """
    digest = hashlib.sha256()
    content: list[Any] = [version("pyxem-nas"), patterns.shape, str(patterns.dtype)]
    content += [patterns.chunks, plan.bundle.hash]
    for field in dataclasses.fields(plan):
        if field.name not in ("bundle", "sampler"):
            content.append([field.name, _describe(getattr(plan, field.name))])
    digest.update(repr(content).encode())
    sampler = plan.sampler
    for array in (*sampler.offsets, *sampler.kernels, sampler.pixel_weight, centers):
        digest.update(np.ascontiguousarray(array).tobytes())
    nav_shape = patterns.shape[:-2]
    for k in np.linspace(0, np.prod(nav_shape) - 1, _N_SAMPLES).astype(int):
        pattern = patterns[np.unravel_index(k, nav_shape)]
        digest.update(np.ascontiguousarray(pattern.compute()).tobytes())
    return digest.hexdigest()


def check_store(folder: Path | str) -> None:
    """Make the folder of an indexing, or raise where it cannot be one.

    Raises
    ------
    ValueError
        If it is a file, cannot be made, or holds other files.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{str(folder)!r} cannot be made a folder ({error})") from error
    if not (folder / "store.json").exists() and any(folder.iterdir()):
        raise ValueError(f"{str(folder)!r} holds other files; choose a folder of its own")


def remove_store(folder: Path | str) -> None:
    """Delete the folder of an indexing; one that is none is left alone."""
    if (Path(folder) / "store.json").is_file():
        shutil.rmtree(folder)


def _describe(value: Any) -> Any:
    """Return a value as text; functions by name, as their addresses change."""
    if isinstance(value, tuple | list):
        return [_describe(v) for v in value]
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(value)


def _begin(folder: Path, key: str) -> Path:
    """Make the folder, or check that it belongs to this run."""
    settings = folder / "store.json"
    check_store(folder)
    if not settings.exists():
        with replacing(settings) as temporary:
            temporary.write_text(json.dumps({"key": key}))
    try:
        begun = json.loads(settings.read_text())["key"]
    except (ValueError, KeyError, TypeError):
        begun = None
    if begun != key:
        raise ValueError(
            f"{str(folder)!r} was begun with another scan, bundle, settings or version; choose "
            "another folder or delete it"
        )
    return folder


def _block_path(folder: Path, index: tuple[int, ...]) -> Path:
    return folder / f"{'_'.join(map(str, index))}.npy"


def _read_block(
    folder: Path, index: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray | None:
    """Return a finished block; None where there is none that can be used."""
    path = _block_path(folder, index)
    try:
        content = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        _logger.warning("Cannot read %s (%s); the block is computed again", path, error)
        return None
    return content if content.shape == shape and content.dtype == dtype else None


def _keep_block(rows: np.ndarray, *, folder: str, block_id: tuple[int, ...]) -> np.ndarray:
    """Write a block that is finished and return it."""
    with replacing(_block_path(Path(folder), block_id)) as temporary:
        np.save(temporary, rows)
    return rows
