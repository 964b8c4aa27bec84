"""Argument checks shared by the network builders."""

from __future__ import annotations

import operator


def positive(minimum: int = 1, /, **values: int) -> None:
    """Raise unless every keyword's value is an integer of at least ``minimum``."""
    for name, value in values.items():
        try:
            valid = operator.index(value) >= minimum
        except TypeError:
            valid = False
        if not valid:
            raise ValueError(
                f"{name} must be an integer of at least {minimum}; got {value!r}, "
                f"nearest valid: {_nearest(value, minimum)}"
            )


def _nearest(value: object, minimum: int) -> int:
    return max(round(value), minimum) if isinstance(value, float) else minimum
