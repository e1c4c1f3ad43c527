"""The house before and after the wings: import graph by floors, longest functions and modules.

    python benchmarks/architecture.py --before 468f073 --output benchmarks/results/architecture.md

A floor is one more than the highest floor that a module (or a wing) imports from; modules in a
circle share one. What is imported only for type checking does not count. The times of the first use
are `benchmarks/first_use.py`'s.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PACKAGE = "pyxem_nas"
ROOT = Path(__file__).parents[1]


def list_imports(root: Path) -> dict[str, set[str]]:
    """Return for each module of the package the modules of the package that it imports."""
    paths = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        paths[name.removesuffix(".__init__")] = path
    graph = {}
    for name, path in paths.items():
        found = {_owner(target, paths) for target in _targets(ast.parse(path.read_text()))}
        graph[name] = {other for other in found if other not in ("", name)}
    return graph


def _targets(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported, functions' imports too, those for type checking left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _targets(node)


def _owner(target: str, modules: Mapping[str, Path]) -> str:
    """Return the module that an imported name is of, "" if of another package."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target


def gather_wings(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the graph of wings: a module is of the sub-package, or the module, below the root."""
    wings: dict[str, set[str]] = defaultdict(set)
    for name, imported in graph.items():
        wing = ".".join(name.split(".")[:2])
        others = {".".join(other.split(".")[:2]) for other in imported}
        wings[wing] |= others - {wing, PACKAGE}
    return dict(wings)


def find_floors(graph: Mapping[str, set[str]]) -> tuple[dict[int, list[str]], list[list[str]]]:
    """Return modules by floor, and circles of several modules."""
    names = sorted(graph)
    number = {name: k for k, name in enumerate(names)}
    edges = [(number[a], number[b]) for a in names for b in graph[a]]
    rows, columns = np.array(edges).T
    matrix = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names),) * 2)
    _, label = connected_components(matrix.tocsr(), directed=True, connection="strong")
    height = np.zeros(len(names), int)
    for _ in names:  # the longest way cannot have more steps
        for a, b in edges:
            if label[a] != label[b] and height[a] <= height[b]:
                height[label == label[a]] = height[b] + 1
    floors: dict[int, list[str]] = defaultdict(list)
    for k, name in enumerate(names):
        floors[height[k]].append(name.removeprefix(f"{PACKAGE}."))
    circles = [[names[k] for k in np.flatnonzero(label == m)] for m in np.unique(label)]
    return dict(floors), [circle for circle in circles if len(circle) > 1]


def measure_lengths(root: Path) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return functions by lines of code (no docstring, comment, blank) and modules by all lines."""
    functions, modules = [], []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        text = path.read_text()
        lines = text.splitlines()
        name = str(path.relative_to(root / PACKAGE))
        modules.append((len(lines), name))
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef):
                continue
            left_out = set()
            if ast.get_docstring(node):
                left_out = set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
            code = [
                lines[i - 1].strip()
                for i in range(node.lineno, node.end_lineno + 1)
                if i not in left_out
            ]
            n = sum(bool(line) and not line.startswith("#") for line in code)
            functions.append((n, f"{name}: {node.name}"))
    return sorted(functions, reverse=True), sorted(modules, reverse=True)


def describe(root: Path) -> dict:
    """Return all that is told of one version."""
    graph = list_imports(root)
    floors, circles = find_floors(graph)
    wings = gather_wings(graph)
    wing_floors, wing_circles = find_floors(wings)
    functions, modules = measure_lengths(root)
    return {
        "modules": len(graph),
        "imports": sum(map(len, graph.values())),
        "floors": floors,
        "circles": circles,
        "wings": wings,
        "wing_floors": wing_floors,
        "wing_circles": wing_circles,
        "functions": functions,
        "long_functions": sum(n > 60 for n, _ in functions),
        "module_lines": modules,
        "long_modules": sum(n > 400 for n, _ in modules),
    }


def format_floors(floors: Mapping[int, list[str]]) -> str:
    """Return one line a floor, the highest first."""
    return "\n".join(f"{k:3d}  {' '.join(floors[k])}" for k in sorted(floors, reverse=True))


def format_page(before: dict, after: dict, command: str) -> str:
    """Return the results as Markdown."""
    rows = [
        ("modules", before["modules"], after["modules"]),
        ("imports among them", before["imports"], after["imports"]),
        ("floors of modules", len(before["floors"]), len(after["floors"])),
        ("circles of modules", len(before["circles"]), len(after["circles"])),
        ("rooms below the package", len(before["wings"]), len(after["wings"])),
        ("floors of rooms", len(before["wing_floors"]), len(after["wing_floors"])),
        ("circles of rooms", len(before["wing_circles"]), len(after["wing_circles"])),
        ("functions over 60 lines of code", before["long_functions"], after["long_functions"]),
        ("modules over 400 lines", before["long_modules"], after["long_modules"]),
    ]
    text = f"# The house, before and after\n\n`{command}`\n\n| | before | after |\n|---|---|---|\n"
    text += "\n".join(f"| {name} | {a} | {b} |" for name, a, b in rows)
    for title, key in (("functions", "functions"), ("modules", "module_lines")):
        text += f"\n\n## The ten longest {title}\n\n| before | | after | |\n|---|---|---|---|\n"
        text += "\n".join(
            f"| {a} | {m} | {b} | {n} |"
            for (m, a), (n, b) in zip(before[key][:10], after[key][:10], strict=True)
        )
    text += (
        "\n\n## Floors\n\nWhat a wing's `__init__.py` hands on counts as its own: the modules of a "
        "wing stand\nbelow it, those that import from the wing above."
    )
    text += "\n\nBefore, modules:\n\n```text\n" + format_floors(before["floors"])
    text += "\n```\n\nAfter, rooms:\n\n```text\n" + format_floors(after["wing_floors"])
    text += "\n```\n\nAfter, modules:\n\n```text\n" + format_floors(after["floors"]) + "\n```\n"
    return text


def main() -> None:
    """Compare two versions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="468f073", help="commit to compare with")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", options.before, PACKAGE], cwd=ROOT, capture_output=True, check=True
        ).stdout
        tarfile.open(fileobj=io.BytesIO(archive)).extractall(folder, filter="data")
        before = describe(Path(folder))
    text = format_page(
        before, describe(ROOT), f"python benchmarks/architecture.py --before {options.before}"
    )
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
