"""Files for a release that is made elsewhere: they agree with the package."""

import importlib.util
import json
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_zenodo_and_citation_name_the_package():
    about = json.loads((ROOT / ".zenodo.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert about["license"] == project["license"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {project['version']}\n" in citation
    assert about["title"] in citation


def test_the_release_is_published_without_a_token_and_attested():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert "id-token: write" in text and "attestations: true" in text
    assert "secrets." not in text and "password" not in text
    for step in (".ci/smoke.py", "uv build"):
        assert step in text
    assert (ROOT / ".ci" / "smoke.py").exists()


def test_entries_of_the_registry_state_the_shipped_bundles():
    spec = importlib.util.spec_from_file_location("entries", ROOT / "recipe" / "weights_entries.py")
    entries = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entries)
    shipped = {path.stem for path in entries.SHIPPED.glob("*.nas")}
    assert set(entries.PHASES) == shipped
    for name in shipped:
        text = entries.write_entry(name, 1234567, "261126")
        size = (entries.SHIPPED / f"{name}.nas").stat().st_size
        assert text.count(f"size_bytes: {size}\n") == 2
        assert f"https://zenodo.org/records/1234567/files/{name}.nas" in text
        assert "kind: weights" in text and "class: pyxem_nas.ModelBundle" in text
