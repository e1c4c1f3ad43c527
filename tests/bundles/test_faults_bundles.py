"""Bundles, specifications and files from strangers: refused, nothing executed, nothing written."""

import importlib.util
import io
import json
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyxem_nas import Acquisition, BundleError, DescriptorSpec, ModelBundle, example_phases
from pyxem_nas.bundles.network_files import load_keras

QUICK = settings(
    max_examples=30, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
LAYER = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 3}}
FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a sound bundle, a.nas, in which a stranger's, b.nas, is tried."""
    folder = tmp_path_factory.mktemp("bundles") / "inside"
    folder.mkdir()
    bundle = ModelBundle.from_phases(example_phases("silver"), Acquisition(200, 0.5))
    bundle.save(folder / "a.nas")
    return folder


@pytest.fixture(scope="module")
def sound(folder):
    return (folder / "a.nas").read_bytes()


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def load(folder, content):
    (folder / "b.nas").write_bytes(content)
    return ModelBundle.load(folder / "b.nas")


def assert_refused(folder, content, match=None):
    """Assert that a bundle is refused by our own error and leaves no trace."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(BundleError, match=match) as error:
        load(folder, content)
    assert "b.nas" in str(error.value)
    assert [p for p in sorted(folder.parent.rglob("*")) if p.name != "b.nas"] == [
        p for p in before if p.name != "b.nas"
    ]


def weights(fill=None):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        (fill or (lambda f: f.create_dataset("layers/dense/vars/0", data=np.ones((2, 3)))))(file)
    return buffer.getvalue()


def network(config=None, **members):
    parts = {"config.json": json.dumps(config or LAYER), "model.weights.h5": weights()}
    return pack(parts | {"metadata.json": "{}"} | members)


def with_network(sound, content, name="orientation_0"):
    """Return a bundle with a network whose hash is right: only its content can be wrong."""
    import hashlib

    members = members_of(sound)
    header = json.loads(members["bundle.json"])
    header["hashes"] = {name: hashlib.sha256(content).hexdigest()}
    header["cells"] = {"0": {"directions": [[0, 0, 1]], "n_inplane": 90}}
    return pack(members | {"bundle.json": json.dumps(header), f"models/{name}.keras": content})


def with_header(sound, **changes):
    members = members_of(sound)
    header = json.loads(members["bundle.json"]) | changes
    return pack({**members, "bundle.json": json.dumps(header)})


# ------------------------------------------------------------------------- damaged


@QUICK
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_bundle_is_refused(share, folder, sound):
    assert_refused(folder, sound[: int(share * len(sound))])


@QUICK
@given(data=st.data())
def test_flipped_bits_are_noticed_or_do_not_matter(data, folder, sound):
    position = data.draw(st.integers(0, len(sound) - 1))
    changed = bytearray(sound)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        bundle = load(folder, bytes(changed))
    except BundleError:
        return
    assert bundle.hash == ModelBundle.load(folder / "a.nas").hash  # a date of the archive, say


@QUICK
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(content, folder):
    assert_refused(folder, content)
    assert_refused(folder, b"PK\x03\x04" + content)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2**40},
        {"schema_version": "1"},
        {"schema_version": None},
        {"phases": []},
        {"phases": None},
        {"phases": "abc"},
        {"hashes": []},
        {"hashes": {"orientation_7": "0"}},
        {"hashes": {"../../x": "0"}},
        {"acquisition": {"beam_energy": float("nan")}},
        {"acquisition": {"beam_energy": "200"}},
        {"acquisition": {"voltage": 200}},
        {"spec": {"n_radial": 10**12, "radial_range": [0.1, 1.8]}},
        {"spec": {"radial_range": [0.1, float("inf")]}},
        {"spec": {"n_radial": 40.5, "radial_range": [0.1, 1.8]}},
        {"pattern_spec": {"size": 10**9}},
        {"cells": {"5": {"directions": [[0, 0, 1]], "n_inplane": 90}}},
        {"cells": {"0": {"directions": [[0, 0, 5]], "n_inplane": 90}}},
        {"cells": {"0": {"directions": [[0, 0, 1]], "n_inplane": 10**15}}},
        {"cells": {"0": {"directions": [], "n_inplane": 90}}},
        {"judges": {"0": {"refined": {"correlation": float("nan")}}}},
        {"judges": {"0": {"refined": {"correlation": "__import__('os')"}}}},
        {"thresholds": {"template": float("inf")}},
        {"thresholds": {"template": None}},
        {"precession_range": [0.1]},
        {"precession_range": ["a", "b"]},
        {"phase_temperature": [1]},
        {"provenance": 5},
        {"search_report": "x"},
    ],
)
def test_foreign_header_is_refused(changes, folder, sound):
    assert_refused(folder, with_header(sound, **changes))


def test_deeply_nested_header_is_refused(folder):
    assert_refused(folder, pack({"bundle.json": "[" * 200_000}))


@pytest.mark.parametrize("ids", [[1, 2, 3], [0, 1, 3], [-1, 0, 1]])
def test_phases_that_are_not_numbered_on_are_refused(ids):
    from orix.crystal_map import PhaseList

    phases = [phase for _, phase in example_phases("steel")]
    with pytest.raises(ValueError, match="0 to n - 1 in order"):
        ModelBundle("x", PhaseList(phases=phases, ids=ids), Acquisition())


def test_phases_out_of_order_go_by_their_numbers():
    from orix.crystal_map import PhaseList

    phases = [phase for _, phase in example_phases("steel")]
    bundle = ModelBundle("x", PhaseList(phases=phases, ids=[2, 0, 1]), Acquisition())
    assert bundle.phase_names == [phases[1].name, phases[2].name, phases[0].name]


def test_networks_of_other_phases_are_refused_when_used():
    # the hashes are right, and only the shapes tell that the networks were exchanged
    import dataclasses

    from pyxem_nas.indexing.predictor import Predictor

    steel = ModelBundle.load("steel")
    models = dict(steel.models)
    models["orientation_0"], models["orientation_2"] = (
        models["orientation_2"], models["orientation_0"],
    )  # fmt: skip
    exchanged = dataclasses.replace(steel, models=models)
    with pytest.raises(BundleError, match="orientation_0"):
        Predictor(exchanged).run("orientation_0", np.zeros((1, *steel.spec.shape), np.float32))


# ------------------------------------------------------------------------- hostile archives


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/../../evil", "C:\\evil", "..\\evil", "\\\\server\\evil"]
)
def test_names_outside_the_archive_are_refused(name, folder, sound):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, part in members_of(sound).items():
            archive.writestr(member, part)
        info = zipfile.ZipInfo("placeholder")
        info.filename = name  # as it is: the constructor would tidy it
        archive.writestr(info, b"x")
    assert_refused(folder, buffer.getvalue(), "forbidden name")


def test_two_members_of_one_name_are_refused(folder, sound):
    buffer = io.BytesIO(sound)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("bundle.json", "{}")
    assert_refused(folder, buffer.getvalue(), "two members")


def test_zip_bomb_is_refused_unread(folder, sound):
    content = bytearray(pack(members_of(sound) | {"bomb": b"\0" * 1000}))
    # ten GB, says the directory: the size is what would be read
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, 2**32 - 2)
    assert_refused(folder, bytes(content), "200 MiB")


def test_size_that_lies_is_refused(folder, sound):
    content = bytearray(pack(members_of(sound) | {"bomb": b"\0" * 10**7}))
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, 10)
    assert_refused(folder, bytes(content))


def test_bomb_within_a_network_is_refused(folder, sound):
    huge = weights(lambda f: f.create_dataset("x", (2**20, 2**12), np.float32, chunks=True))
    assert len(huge) < 10**6
    assert_refused(folder, with_network(sound, network(**{"model.weights.h5": huge})), "200 MiB")


# ------------------------------------------------------------------------- hostile networks


class Canary:
    """What a pickle would run."""

    def __reduce__(self):
        return os.mkdir, (os.environ["PYXEM_NAS_CANARY"],)


HOSTILE = {
    "lambda": {"config": {"class_name": "Lambda", "module": "keras.layers", "config": {}}},
    "marshalled lambda": {
        "config": {
            "class_name": "Functional", "module": "keras",
            "config": {"layers": [{"class_name": "__lambda__", "config": {"value": "4wAAAA=="}}]},
        }
    },
    "function": {"config": {"class_name": "function", "module": "os", "config": "system"}},
    "known name, foreign module": {"config": {**LAYER, "module": "subprocess"}},
    "nested": {"config": {**LAYER, "build_config": {"x": [{"class_name": "Popen"}]}}},
    "layer that reads a file": {"config": {**LAYER, "class_name": "TextVectorization"}},
    "layer that runs a file": {"config": {**LAYER, "class_name": "TFSMLayer"}},
    "numbers that take all memory": {"config": {**LAYER, "config": {"units": 2**40}}},
    "no number": {"config": {**LAYER, "config": {"units": float("nan")}}},
    "pickle": {"assets/x.pkl": None},
    "pickled weights": {"model.weights.npz": None},
    "python": {"model.py": b"import os; os.mkdir(os.environ['PYXEM_NAS_CANARY'])"},
    "no weights": {"model.weights.h5": b""},
    "objects for weights": {
        "model.weights.h5": weights(
            lambda f: f.create_dataset("x", (2,), h5py.string_dtype())
        )
    },
    "link to a file": {
        "model.weights.h5": weights(
            lambda f: f.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/"))
        )
    },
    "bytes of a file": {
        "model.weights.h5": weights(
            lambda f: f.create_dataset(
                "g/x", (8,), np.uint8, external=[("/etc/passwd", 0, 8)]
            )
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("attack", sorted(HOSTILE))
def test_hostile_network_is_refused_and_not_run(attack, folder, sound, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    monkeypatch.setenv("PYXEM_NAS_CANARY", str(canary))
    members = dict(HOSTILE[attack])
    for name, content in members.items():
        if content is None:
            members[name] = pickle.dumps(Canary())
            if name.endswith("npz"):
                members[name] = pack({"x.npy": pickle.dumps(Canary())})
    content = network(members.pop("config", None), **members)
    # at the door, without Keras
    assert_refused(folder, with_network(sound, content))
    # and at the other, for who has the bytes
    with pytest.raises(BundleError):
        load_keras(content)
    assert not canary.exists()


def test_the_canary_sings(tmp_path, monkeypatch):
    # else its silence above would say nothing
    monkeypatch.setenv("PYXEM_NAS_CANARY", str(tmp_path / "canary"))
    pickle.loads(pickle.dumps(Canary()))
    assert (tmp_path / "canary").exists()


def test_pickled_mask_is_refused(tmp_path, monkeypatch):
    from pyxem_nas.maps.files import read_mask

    monkeypatch.setenv("PYXEM_NAS_CANARY", str(tmp_path / "canary"))
    np.save(tmp_path / "mask.npy", np.array([Canary()], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"mask\.npy"):
        read_mask(tmp_path / "mask.npy")
    assert not (tmp_path / "canary").exists()


# ------------------------------------------------------------------------- fuzzing, a little


@pytest.fixture(scope="module")
def fuzz():
    if not FUZZ.exists():
        pytest.skip("needs benchmarks/fuzz.py")
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["bundle", "header", "spec", "cif", "ang", "ctf", "npy"])
def test_loaders_raise_what_they_promise(name, fuzz, tmp_path):
    (tmp_path / "inside").mkdir()
    target = fuzz.Target(name, tmp_path / "inside")

    @settings(QUICK, max_examples=15, database=None)
    @given(seed=st.integers(0, 2**32))
    def search(seed):
        rng = random.Random(seed)
        target(fuzz.mutate_bytes(rng.choice(target.seeds), rng))

    search()
    assert sum(target.outcomes.values()) >= 15


@QUICK
@given(
    n_radial=st.integers(-2, 5000), n_azimuthal=st.integers(-2, 5000),
    radii=st.tuples(st.floats(), st.floats()), blur=st.floats(),
)  # fmt: skip
def test_a_specification_is_refused_or_survives_json(n_radial, n_azimuthal, radii, blur):
    try:
        spec = DescriptorSpec(n_radial, n_azimuthal, radii, blur)
    except ValueError:
        return
    assert DescriptorSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.radii.shape == (n_radial,)
    assert DescriptorSpec.from_dict({}) == DescriptorSpec()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bundle": ', "5", "null", "\x00"])
def test_damaged_configuration_is_as_none(text, tmp_path, monkeypatch):
    from pyxem_nas.bundles import configuration

    monkeypatch.setattr(configuration, "_path", lambda: tmp_path / "configuration.json")
    (tmp_path / "configuration.json").write_text(text)
    with pytest.raises(ValueError, match="no bundle given"):
        configuration.get_default_bundle()


def test_a_broken_cif_file_is_named_and_nothing_else_is_printed(tmp_path, capfd):
    from pyxem_nas.diffraction import read_phases

    (tmp_path / "a.cif").write_text("data_a\n_cell_length_a 4.0 4.0862\n")
    with pytest.raises(ValueError, match=r"a\.cif"):
        read_phases(tmp_path / "a.cif")
    assert capfd.readouterr().out == ""
