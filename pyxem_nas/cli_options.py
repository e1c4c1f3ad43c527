"""Options that several commands share.

Owns their names, help and types, so that they read the same everywhere.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "Axis", "Bundle", "Overwrite", "PhaseInput", "Seed", "option"]


class Axis(StrEnum):
    """Axis of the camera."""

    x = "x"
    y = "y"


class PhaseInput(StrEnum):
    """What the phase classifier looks at."""

    descriptor = "descriptor"
    pattern = "pattern"


def option(help_text: str, *names: str, **settings: Any) -> Any:
    """Return an option; without a default of its own if the text states it."""
    return typer.Option(
        *names, help=help_text, show_default="[default" not in help_text, **settings
    )


AsJson = Annotated[bool, option("Print JSON, for scripts.", "--json")]
Overwrite = Annotated[bool, option("Replace files that exist.", "--overwrite")]
Bundle = Annotated[str, option("Name of a shipped bundle, or a .nas file.")]
Seed = Annotated[int, option("Seed of all that is random.")]
