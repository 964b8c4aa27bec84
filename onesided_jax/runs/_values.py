"""Checks of single values of a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onesided_jax.errors import short

MAX_TEXT = 100  # characters of a name


def check_number(name: str, value: Any) -> None:
    """Checks a hyperparameter: an int or float that is finite as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}={value!r}: expected a number")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        finite = False
    if not finite:
        raise ValueError(f"{name}={short(value)}: expected a finite number")


def check_text(name: str, value: Any) -> None:
    """Checks a name: printable (this excludes lone surrogates), not empty, not too long."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= MAX_TEXT:
        raise ValueError(
            f"{name}={short(value)}: expected printable text of 1 to {MAX_TEXT} characters"
        )


def check_name(kind: str, value: Any) -> None:
    """Checks a name of a variable in analysis.nc and of a column in tables.

    Raises:
      ValueError: for text that is empty, too long or not printable, or contains a slash, which
        separates groups in a netCDF file.

    Example:
      >>> check_name("hyperparameter", "lr/p")
      Traceback (most recent call last):
      ...
      ValueError: hyperparameter 'lr/p': expected a name without '/', such as 'lr_p'
    """
    check_text(kind, value)
    if "/" in value:
        expected = f"expected a name without '/', such as {value.replace('/', '_')!r}"
        raise ValueError(f"{kind} {short(value)}: {expected}")


def is_unicode(text: str) -> bool:
    """Whether text can be written to a file: a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_integer(value: Any) -> Any:
    """Converts a float with an integer value (JSON's 1000.0 and 1e3) to int; keeps other values.

    Example:
      >>> as_integer(1000.0), as_integer(0.5), as_integer("1")
      (1000, 0.5, '1')
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def tuples(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the values that are lists to tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in mapping.items()}
