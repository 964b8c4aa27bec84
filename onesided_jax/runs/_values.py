"""Checks of single values of a recipe: one clear error each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onesided_jax.errors import short

MAX_TEXT = 100  # characters of a name


def check_number(name: str, value: Any) -> None:
    """A hyperparameter: an int or float that is finite as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}={value!r}: expected a number")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        finite = False
    if not finite:
        raise ValueError(f"{name}={short(value)}: expected a finite number")


def check_text(name: str, value: Any) -> None:
    """A name: printable (so no half surrogate pair either), not empty, not endless."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= MAX_TEXT:
        raise ValueError(
            f"{name}={short(value)}: expected printable text of 1 to {MAX_TEXT} characters"
        )


def check_name(kind: str, value: Any) -> None:
    """A name that becomes one of a variable in analysis.nc and a column in tables.

    Raises:
      ValueError: for text that is empty, endless or not printable, or that holds a slash, which
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
    """Whether it can be written to a file: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_integer(value: Any) -> Any:
    """A whole number written as a float (JSON's 1000.0 and 1e3) as an integer; all else as it is.

    Example:
      >>> as_integer(1000.0), as_integer(0.5), as_integer("1")
      (1000, 0.5, '1')
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def tuples(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The same, its lists made tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in mapping.items()}
