"""The public names and their signatures, as scripts outside the project use them.

``python tests/test_public_names.py`` writes `public_names.txt` anew; what changes in it wants a
reason and a line in CHANGELOG.md.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

TABLE = Path(__file__).with_name("public_names.txt")
METHODS = ("get_polar_descriptors", "index_phase_orientation")


def list_public_names() -> str:
    """Return the public names with their signatures, a parameter a line."""
    from pyxem.signals import ElectronDiffraction2D
    from typer.main import get_command

    import pyxem_nas
    from pyxem_nas.cli.app import app

    lines = []
    for name in METHODS:
        lines += describe(f"ElectronDiffraction2D.{name}", getattr(ElectronDiffraction2D, name))
    for name in sorted(pyxem_nas.__all__):
        if not isinstance(getattr(pyxem_nas, name), ModuleType):
            lines += describe(f"pyxem_nas.{name}", getattr(pyxem_nas, name))
    lines += describe("pyxem_nas.live.watch_folder", pyxem_nas.live.watch_folder)
    for name, command in sorted(get_command(app).commands.items()):
        options = sorted(" ".join(p.opts + p.secondary_opts) for p in command.params)
        lines += [f"pyxem-nas {name}", *(f"    {option}" for option in options)]
    return "\n".join(lines) + "\n"


def describe(name: str, value: object) -> Iterator[str]:
    """Yield the lines of a public object: its signature, and those of a class's methods."""
    if not inspect.isclass(value) or not issubclass(value, Exception):
        yield from describe_signature(name, inspect.signature(value))
    else:
        yield f"{name}({value.__base__.__name__})"
    for member, found in sorted(vars(value).items()) if inspect.isclass(value) else ():
        if member.startswith("_") or member in getattr(value, "__dataclass_fields__", {}):
            continue
        if inspect.isfunction(found) or isinstance(found, classmethod | staticmethod):
            bound = getattr(value, member)
            yield from describe_signature(f"{name}.{member}", inspect.signature(bound))
        else:
            yield f"{name}.{member}"


def describe_signature(name: str, signature: inspect.Signature) -> Iterator[str]:
    """Yield what a function is given, what it returns first."""
    yield f"{name} -> {type_name(signature.return_annotation)}"
    for parameter in signature.parameters.values():
        kind = "    " + {"KEYWORD_ONLY": "*, ", "VAR_POSITIONAL": "*"}.get(parameter.kind.name, "")
        default = parameter.default
        shown = "" if default is parameter.empty else f" = {default!r}"
        if shown and (
            callable(default) or "factory" in shown
        ):  # an address differs from run to run
            shown = " = ..."
        if parameter.name != "self":
            yield f"{kind}{parameter.name}: {type_name(parameter.annotation)}{shown}"


def type_name(annotation: object) -> str:
    """Return an annotation without modules and quotes: the same whether it is evaluated or not."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+|'", "", text)


def test_public_names_and_signatures_are_those_of_the_table():
    assert list_public_names() == TABLE.read_text(), (
        "public names changed: is it meant? python tests/test_public_names.py writes the table anew"
    )


if __name__ == "__main__":
    TABLE.write_text(list_public_names())
