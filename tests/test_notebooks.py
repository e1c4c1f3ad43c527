import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT = re.compile(r"^\s*from (pyxem_nas[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def read_source(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("docs/*.md")]), ids=lambda p: p.name
)
def test_what_notebooks_and_documentation_import_is_there(path):
    for module, names in IMPORT.findall(read_source(path)):
        found = importlib.import_module(module)
        missing = [name for name in names.split(", ") if not hasattr(found, name.split()[0])]
        assert not missing, f"{path.name}: {module} has no {missing}"
