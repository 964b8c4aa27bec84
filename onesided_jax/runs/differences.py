"""In words: in which fields two runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onesided_jax.errors import short
from onesided_jax.runs.data_file import placeless

__all__ = ["difference", "differences"]

_SHOWN = 4  # most differences in a message


def difference(manifest: Mapping[str, Any], plan: Mapping[str, Any], recipe: Any) -> str:
    """The fields in which two runs differ, and their values.

    Plans are compared only if there is no recipe, because a recipe determines its plan.
    """
    theirs = placeless(manifest["recipe"]) or manifest["plan"]
    ours = placeless(recipe) or plan
    if (manifest["recipe"] is None) != (recipe is None):
        return "it was made without a recipe" if recipe else "it was made by a recipe"
    return differences(theirs, ours)


def differences(there: Any, here: Any) -> str:
    """Where two JSON values differ: the stored one and the requested one; ``""`` for nowhere."""
    found = _differences(there, here, "")
    more = f"; {len(found) - _SHOWN} more differences" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _differences(there: Any, here: Any, name: str) -> list[str]:
    """Describes every difference between two JSON values: the stored one and the requested one."""
    if there == here:
        return []
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in {**there, **here}:
            inner = f"{name}.{key}" if name else str(key)
            found += _differences(there.get(key, _NOTHING), here.get(key, _NOTHING), inner)
        return found
    if isinstance(there, list) and isinstance(here, list):
        return [f"{name}: {_lists(there, here)}"]
    return [f"{name} is {short(there)} there and {short(here)} here"]


class _Nothing:
    def __repr__(self) -> str:
        return "missing"


_NOTHING = _Nothing()


def _lists(there: list[Any], here: list[Any]) -> str:
    """Describes the values that only one of two lists has, or the place of a new order."""

    def values(which: list[Any], other: list[Any]) -> str:
        unique = list(dict.fromkeys(json.dumps(v) for v in which if v not in other))
        return ", ".join(unique[:_SHOWN]) + (", ..." if len(unique) > _SHOWN else "")

    only_there, only_here = values(there, here), values(here, there)
    parts = [f"only there {only_there}"] * bool(only_there)
    parts += [f"only here {only_here}"] * bool(only_here)
    if len(there) != len(here):
        parts.append(f"{len(there)} values there and {len(here)} here")
    if not parts:
        place = next(i for i, (a, b) in enumerate(zip(there, here, strict=True)) if a != b)
        parts.append(f"in another order from place {place} on")
    return "; ".join(parts)
