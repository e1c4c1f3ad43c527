"""The conda recipe says what pyproject.toml says."""

import re
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"dask": "dask-core", "hyperspy": "hyperspy-base", "matplotlib": "matplotlib-base"}


@pytest.fixture(scope="module")
def project():
    path = ROOT / "pyproject.toml"
    if not path.exists():
        pytest.skip("needs the source tree")
    return tomllib.loads(path.read_text())["project"]


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "recipe" / "recipe.yaml"
    if not path.exists():
        pytest.skip("needs the source tree")
    return yaml.safe_load(path.read_text())


def split(requirement):
    """Return name and version of a requirement, by the names of conda-forge."""
    name, version = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?\s*(.*)", requirement).groups()
    return CONDA_NAMES.get(name, name), version.replace(" ", "")


def test_dependencies_are_those_of_the_project(project, recipe):
    wanted = dict(split(requirement) for requirement in project["dependencies"])
    for part in ("run", "run_constraints"):  # a dictionary would hide what is there twice
        names = [split(requirement)[0] for requirement in recipe["requirements"][part]]
        assert len(names) == len(set(names))
    found = dict(split(requirement) for requirement in recipe["requirements"]["run"])
    assert found.pop("python") == ">=${{python_min}}"
    assert found == wanted
    extras = {r for group in project["optional-dependencies"].values() for r in group}
    constraints = dict(split(r) for r in recipe["requirements"]["run_constraints"])
    assert constraints == dict(split(requirement) for requirement in extras)


def test_the_host_builds_with_what_the_project_does(recipe):
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    host = dict(split(r) for r in recipe["requirements"]["host"] if not r.startswith("python "))
    assert host.pop("pip") == ""
    assert host == dict(split(requirement) for requirement in build)


def test_name_version_python_and_command_are_those_of_the_project(project, recipe):
    context = recipe["context"]
    assert context["name"] == project["name"] and context["version"] == project["version"]
    assert project["requires-python"] == f">={context['python_min']}"
    scripts = [f"{name} = {target}" for name, target in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    assert recipe["about"]["summary"] == project["description"]
    assert recipe["about"]["license"] == project["license"]
