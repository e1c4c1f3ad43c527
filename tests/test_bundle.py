import io
import json
import zipfile

import numpy as np
import pytest

from pyxem_nas import Acquisition, BundleError, ModelBundle, example_phases
from pyxem_nas.bundle import load_keras, number_phases


@pytest.fixture
def bundle():
    return ModelBundle.from_phases(example_phases("steel"), Acquisition(200, 0.5))


def rewrite(path, changes, target):
    """Copy a bundle with some members replaced (None removes one)."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            if member.filename not in changes:
                new.writestr(member.filename, old.read(member))
        for name, content in changes.items():
            if content is not None:
                new.writestr(name, content)
    return target


def header_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("bundle.json"))


def test_bundle_survives_saving(bundle, tmp_path):
    bundle.save(tmp_path / "a.nas")
    loaded = ModelBundle.load(tmp_path / "a.nas")
    assert loaded.hash == bundle.hash
    assert loaded.phase_names == ["ferrite", "NbC", "cementite"]
    for ours, theirs in zip(bundle.phases, loaded.phases, strict=True):
        assert ours.space_group.number == theirs.space_group.number
        np.testing.assert_allclose(ours.structure.xyz, theirs.structure.xyz)
        np.testing.assert_allclose(
            ours.structure.lattice.base, theirs.structure.lattice.base, atol=1e-9
        )
    assert "template matching" in repr(loaded)


def test_existing_file_is_kept_unless_told(bundle, tmp_path):
    path = tmp_path / "a.nas"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        bundle.save(path)
    assert path.read_text() == "mine"
    bundle.save(path, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]


def test_shipped_bundle_loads_and_is_small():
    path = ModelBundle.load("steel")
    assert path.phase_names == ["ferrite", "NbC", "cementite"]
    assert set(path.models) == {"phase", "orientation_0", "orientation_1", "orientation_2"}
    assert sum(map(len, path.models.values())) < 10 * 2**20
    assert path.search_report[0]["trials"]


def test_missing_bundle_is_named():
    with pytest.raises(FileNotFoundError, match="shipped are"):
        ModelBundle.load("no-such-bundle")


def test_truncated_bundle_is_refused(bundle, tmp_path):
    bundle.save(tmp_path / "a.nas")
    content = (tmp_path / "a.nas").read_bytes()
    for n in (0, 10, len(content) // 2, len(content) - 5):
        (tmp_path / "b.nas").write_bytes(content[:n])
        with pytest.raises(BundleError, match=r"b\.nas"):
            ModelBundle.load(tmp_path / "b.nas")


def test_newer_schema_is_refused(bundle, tmp_path):
    bundle.save(tmp_path / "a.nas")
    header = header_of(tmp_path / "a.nas") | {"schema_version": 99}
    rewrite(tmp_path / "a.nas", {"bundle.json": json.dumps(header)}, tmp_path / "b.nas")
    with pytest.raises(BundleError, match="newer than"):
        ModelBundle.load(tmp_path / "b.nas")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_path_outside_is_refused(name, bundle, tmp_path):
    bundle.save(tmp_path / "a.nas")
    rewrite(tmp_path / "a.nas", {name: b"x"}, tmp_path / "b.nas")
    with pytest.raises(BundleError, match="forbidden name"):
        ModelBundle.load(tmp_path / "b.nas")


def test_changed_network_is_refused(tmp_path):
    steel = ModelBundle.load("steel")
    steel.save(tmp_path / "a.nas")
    changed = bytearray(steel.models["phase"])
    changed[len(changed) // 2] ^= 1
    rewrite(tmp_path / "a.nas", {"models/phase.keras": bytes(changed)}, tmp_path / "b.nas")
    with pytest.raises(BundleError, match="hash differs"):
        ModelBundle.load(tmp_path / "b.nas")
    rewrite(tmp_path / "a.nas", {"models/phase.keras": None}, tmp_path / "c.nas")
    with pytest.raises(BundleError, match="is missing"):
        ModelBundle.load(tmp_path / "c.nas")


def test_lambda_layer_is_refused(tmp_path):
    import keras

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs))
    model.save(tmp_path / "m.keras")
    with pytest.raises(BundleError, match="'Lambda', which is not allowed"):
        load_keras((tmp_path / "m.keras").read_bytes())


def test_class_from_another_module_is_refused():
    config = {"class_name": "Dense", "module": "os", "registered_name": "os>system", "config": {}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    with pytest.raises(BundleError, match="not allowed"):
        load_keras(buffer.getvalue())


def test_selected_phases_keep_their_networks():
    steel = ModelBundle.load("steel")
    some = steel.select_phases(["cementite", "NbC"])
    assert some.phase_names == ["NbC", "cementite"]
    assert some.models["orientation_1"] == steel.models["orientation_2"]
    assert "phase" not in some.models
    with pytest.raises(ValueError, match="austenite"):
        steel.select_phases(["austenite"])


def test_phases_of_one_name_are_refused():
    phase = next(phase for _, phase in example_phases("silver"))
    with pytest.raises(ValueError, match="different names"):
        number_phases([phase, phase])
