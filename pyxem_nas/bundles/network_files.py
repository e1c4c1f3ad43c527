"""Networks in bundle files: what may be in one, and how they are read and written.

Owns the check that a file of strangers passes before Keras sees it: members, classes, weights.
Nothing that is loaded can execute: no pickle, no Lambda layer, no class that is not listed here.
`bundle` says which networks belong together, `architectures` builds them.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

_MAX_SIZE = 200 * 2**20  # bytes, unpacked: a bundle holds a few small networks
_MAX_MEMBERS = 1000
_MAX_NUMBER = 2**20  # in a network's configuration: a layer's width is far below
_KERAS_MEMBERS = frozenset({"config.json", "metadata.json", "model.weights.h5"})
_LAYERS = frozenset(
    {
        "Functional", "InputLayer", "Permute", "Dense", "Activation", "Add", "Multiply", "Flatten",
        "Concatenate", "Reshape", "Dropout", "SpatialDropout1D", "BatchNormalization",
        "LayerNormalization", "GlobalAveragePooling1D", "GlobalMaxPooling1D",
        "GlobalAveragePooling2D", "Conv2D", "MaxPooling2D", "RandomRotation",
    }
)  # fmt: skip
# where the one layer of ours is defined; bundles made before it moved name the first
_OUR_MODULES = frozenset({"pyxem_nas.networks", "pyxem_nas.bundles.architectures"})
_OTHER_CLASSES = frozenset(
    {"DTypePolicy", "HeNormal", "GlorotUniform", "Zeros", "Ones", "SeedGenerator", "__tuple__",
     "__keras_tensor__"}
)  # fmt: skip


# settings that Keras 3.12 does not know, and what it does without them
_LATER_SETTINGS = {
    "quantization_config": None,  # 3.13
    "input_axes": None, "output_axes": None,  # 3.15
    "renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99,  # 3.14
}  # fmt: skip


class BundleError(ValueError):
    """A bundle file that is damaged, foreign or not safe to load."""


def load_keras(content: bytes) -> Any:
    """Return the Keras model in the bytes of a .keras file, after looking at what it would load.

    Raises
    ------
    BundleError
        If the file names a class that no network of ours has.
    """
    import keras

    from pyxem_nas.bundles.architectures import circular_convolution_class

    circular_convolution_class()
    try:
        check_network(content)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            path.write_bytes(simplify_network(content))
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except BundleError:
        raise
    except Exception as error:  # whatever Keras stumbles upon in a foreign file
        written_by = _keras_version(content)
        if _numbers_of(written_by) > _numbers_of(keras.__version__):
            raise BundleError(
                f"a network was written by Keras {written_by}, newer than the {keras.__version__} "
                f'here, which cannot read it; upgrade Keras: pip install "keras>={written_by}"'
            ) from error
        raise BundleError(
            f"a network is damaged or not allowed ({type(error).__name__}: {error})"
        ) from error


def dump_keras(model: Any) -> bytes:
    """Return a Keras model without its optimizer as the bytes of a .keras file."""
    import keras

    # not clone_model: it would keep how the network was trained
    plain = keras.Model.from_config(model.get_config())
    plain.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        plain.save(path)
        return simplify_network(path.read_bytes())


def simplify_network(content: bytes) -> bytes:
    """Return a .keras file without settings that Keras 3.12, the oldest allowed, does not know.

    Only such as have the value that an older version implies; weights stay as they are.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    _drop_later_settings(config)
    members["config.json"] = json.dumps(config).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return buffer.getvalue()


def _drop_later_settings(config: Any) -> None:
    """Take settings of later Keras versions out of a configuration, in place."""
    if isinstance(config, dict):
        for name, implied in _LATER_SETTINGS.items():
            if name in config and config[name] == implied:
                del config[name]
        for value in config.values():
            _drop_later_settings(value)
    elif isinstance(config, list):
        for value in config:
            _drop_later_settings(value)


def _keras_version(content: bytes) -> str:
    """Return the version of Keras that wrote a file, "0" where it does not say."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except Exception:  # of a damaged file, which is told otherwise
        return "0"


def _numbers_of(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def read_archive(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Return the members of an archive, or refuse it."""
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise BundleError(f"it has {len(members)} members, over {_MAX_MEMBERS}")
    if sum(member.file_size for member in members) > _MAX_SIZE:
        raise BundleError(f"unpacked it would hold over {_MAX_SIZE >> 20} MiB")
    for member in members:
        name = member.filename
        if name.startswith("/") or ".." in name.split("/") or set(name) & set(":\\"):
            raise BundleError(f"a member has the forbidden name {name!r}")
    if len({member.filename for member in members}) < len(members):
        raise BundleError("it has two members of one name")
    return {member.filename: archive.read(member) for member in members}


def check_network(content: bytes) -> None:
    """Raise unless the bytes are a .keras file of known classes and plain weights.

    Needs no Keras, so that a bundle is refused when it is loaded and not when it is first used.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = read_archive(archive)
        foreign = sorted(set(members) - _KERAS_MEMBERS)
        if foreign:
            raise BundleError(f"a network holds {foreign!r}, which is not allowed")
        _refuse_foreign_classes(json.loads(members["config.json"]))
        _check_weights(members["model.weights.h5"])
    except BundleError:
        raise
    except Exception as error:  # as in `ModelBundle.load`
        raise BundleError(
            f"a network is damaged or not allowed ({type(error).__name__}: {error})"
        ) from error


def _check_weights(content: bytes) -> None:
    """Raise unless an HDF5 file holds plain numbers of a bearable size and leads nowhere else."""
    import h5py

    n_bytes = 0

    def visit(_: str, item: Any) -> None:
        nonlocal n_bytes
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual or item.dtype.kind not in "fiub":
                raise BundleError("a network's weights are no plain numbers, which is not allowed")
            n_bytes += item.nbytes
        else:
            kinds = {type(item.get(name, getlink=True)) for name in item}
            if kinds - {h5py.HardLink}:
                raise BundleError("a network's weights link elsewhere, which is not allowed")

    with h5py.File(io.BytesIO(content), "r") as file:
        visit("/", file)
        file.visititems(visit)
    if n_bytes > _MAX_SIZE:
        raise BundleError(f"a network's weights hold over {_MAX_SIZE >> 20} MiB")


def _refuse_foreign_classes(config: Any) -> None:
    """Raise unless every class that a Keras configuration names is known to be harmless."""
    if isinstance(config, dict):
        name = config.get("class_name")
        if name is not None:
            module = config.get("module") or "keras"
            ours = name == "CircularConv1D" and module in _OUR_MODULES
            known = str(name) in _LAYERS | _OTHER_CLASSES
            if not (ours or (known and module.split(".")[0] == "keras")):
                raise BundleError(f"a network names the class {name!r}, which is not allowed")
        for key, value in config.items():
            if key != "seed":
                _refuse_foreign_classes(value)
    elif isinstance(config, list):
        for value in config:
            _refuse_foreign_classes(value)
    elif isinstance(config, int | float) and not abs(config) <= _MAX_NUMBER:
        raise BundleError(f"a network's configuration holds the number {config!r}")
