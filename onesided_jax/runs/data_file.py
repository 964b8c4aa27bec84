"""Location of a recipe's data; a run stays the same if its data move."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onesided_jax.datasets import WITH_FILES
from onesided_jax.datasets.files import expand_user
from onesided_jax.datasets.folders import image_files
from onesided_jax.runs.recipe import Recipe

__all__ = ["changed_since", "data_sha256", "place_data", "placeless", "with_absolute_data"]

_WITH_PLACE = ("npz", "images", *WITH_FILES)


def place_data(recipe: Recipe, place: str | Path) -> Recipe:
    """Returns the recipe with another location of its data, as an absolute path.

    Args:
      recipe: the recipe of a GAN whose data are files.
      place: the file of ``npz:PATH``, or the folder of the images or official files.

    Raises:
      ValueError: if the recipe's data have no files.

    Example:
      >>> from onesided_jax.runs import RECIPES
      >>> place_data(RECIPES["ring"], "elsewhere")
      Traceback (most recent call last):
      ...
      ValueError: data='elsewhere': recipe 'ring' uses ring, which has no files; npz, ... have files
    """
    name, _ = _split(recipe)
    if name not in _WITH_PLACE:
        raise ValueError(
            f"data={str(place)!r}: recipe {recipe.name!r} uses {name or recipe.game.name}, "
            f"which has no files; {', '.join(_WITH_PLACE)} have files"
        )
    options = {**recipe.game.options, "dataset": f"{name}:{expand_user(place).resolve()}"}
    return dataclasses.replace(recipe, game=dataclasses.replace(recipe.game, options=options))


def with_absolute_data(recipe: Recipe) -> Recipe:
    """Makes the path of the recipe's data absolute, if it has one."""
    name, path = _split(recipe)
    return place_data(recipe, path) if path and name in _WITH_PLACE else recipe


def placeless(content: Mapping[str, Any] | None) -> Any:
    """A recipe's JSON content without the location of its data, for comparisons."""
    if content is None:
        return None
    options = dict(content["game"]["options"])
    if "dataset" in options:
        options["dataset"] = str(options["dataset"]).partition(":")[0]
    return {**content, "game": {**content["game"], "options": options}}


def data_sha256(recipe: Recipe | None) -> str | None:
    """SHA-256 of the data of ``npz:PATH`` or ``images:FOLDER``; ``None`` if there are none."""
    path = _place(recipe)
    if path is None or not path.exists():
        return None
    if path.is_file():
        return _digest(path)
    parts = [f"{file.relative_to(path)} {_digest(file)}" for file in image_files(path)]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_since(recipe: Recipe | None, known: str | None) -> str:
    """One sentence if the data now have another SHA-256, else ``""``."""
    if known is None or data_sha256(recipe) in (None, known):
        return ""
    place = _place(recipe)
    kind = "folder" if place and place.is_dir() else "file"
    return f"{str(place)!r} is not the {kind} that the run was begun with (its SHA-256 differs)"


def _place(recipe: Recipe | None) -> Path | None:
    if recipe is None:
        return None
    name, path = _split(recipe)
    return expand_user(path) if path and name in ("npz", "images") else None


def _split(recipe: Recipe) -> tuple[str, str]:
    name, _, path = str(recipe.game.options.get("dataset", "")).partition(":")
    return name, path
