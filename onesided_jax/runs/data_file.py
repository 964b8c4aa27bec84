"""The user's own file that a recipe draws its data from: is it still the one it was?"""

from __future__ import annotations

import hashlib
from pathlib import Path

from onesided_jax.datasets._files import expand_user
from onesided_jax.runs.recipe import Recipe

__all__ = ["changed_since", "data_sha256"]


def data_sha256(recipe: Recipe | None) -> str | None:
    """SHA-256 of the file of ``npz:PATH``; ``None`` for other data, and where there is no file."""
    path = _file(recipe)
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_since(recipe: Recipe | None, known: str | None) -> str:
    """One sentence if the file that is there has another SHA-256, else ``""``."""
    if known is None or data_sha256(recipe) in (None, known):
        return ""
    return (
        f"{str(_file(recipe))!r} is not the file that the run was begun with (its SHA-256 differs)"
    )


def _file(recipe: Recipe | None) -> Path | None:
    name = "" if recipe is None else str(recipe.game.options.get("dataset", ""))
    head, _, path = name.partition(":")
    return expand_user(path) if head == "npz" else None
