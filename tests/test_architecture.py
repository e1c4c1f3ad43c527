"""The page on architecture says what is there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"


@pytest.fixture(scope="module")
def page():
    if not PAGE.exists():
        pytest.skip("needs the source tree")
    return PAGE.read_text()


def test_the_table_has_the_layers_of_the_contract_in_their_order(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    table = re.findall(r"^\| (`.*?`) \|", page, flags=re.M)
    named = [name for cell in table for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(re.findall(r"\w+", " ".join(layers)))
    floor = {name: k for k, layer in enumerate(layers) for name in re.findall(r"\w+", layer)}
    assert [floor[name] for name in named] == sorted(floor[name] for name in named)


def test_files_that_the_page_names_are_there(page):
    for name in re.findall(r"`([\w./]+\.(?:py|md|txt|pyi|toml|yaml|cff))`", page):
        found = [ROOT / name, ROOT / "pyxem_nas" / name]
        assert any(path.exists() for path in found) or name == "__init__.py", name
