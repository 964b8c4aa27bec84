"""Checks and error messages shared by the whole package."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any

__all__ = [
    "MAX_STEPS",
    "check_choice",
    "check_count",
    "check_decay",
    "check_divides",
    "check_integers",
    "missing",
    "nearest",
    "short",
]

MAX_STEPS = 2**31 - 1
"""Steps are counted in int32."""


def nearest(word: Any, choices: Iterable[Any]) -> str:
    """Returns ``" (did you mean 'x'?)"``, or an empty string if no choice is close.

    Example:
      >>> nearest("adan", ["adam", "sgda"])
      " (did you mean 'adam'?)"
    """
    near = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def missing(package: str, extra: str, purpose: str) -> ImportError:
    """The error for a missing optional package, with the install command.

    Args:
      package: name of the package on PyPI.
      extra: the extra of onesided-jax that installs it.
      purpose: the feature that needs the package; the message begins with it.

    Example:
      >>> print(missing("scipy", "analysis", "analyze"))
      analyze needs scipy: pip install 'onesided-jax[analysis]'
    """
    return ImportError(f"{purpose} needs {package}: pip install 'onesided-jax[{extra}]'")


def short(value: Any) -> str:
    """``repr(value)``, cut to 200 characters."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "an integer of more than 40 digits"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ``ValueError`` naming the nearest choice unless ``value`` is one of ``choices``."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {choices}{nearest(value, choices)}")


def check_count(name: str, value: Any) -> int:
    """Returns a count (steps, runs) as a Python integer.

    Args:
      name: the argument's name, for the message.
      value: a Python or NumPy integer ``>= 1``, or a float with such a value.

    Raises:
      ValueError: for any other value, and above ``MAX_STEPS``.

    Example:
      >>> check_count("steps", 1e3)
      1000
      >>> check_count("steps", 0)
      Traceback (most recent call last):
      ...
      ValueError: steps=0: expected an integer >= 1
    """
    # numbers.Integral covers NumPy integers without importing NumPy.
    whole = isinstance(value, numbers.Integral) or (isinstance(value, float) and value.is_integer())
    number = int(value) if whole and not isinstance(value, bool) else 0
    if number < 1:
        raise ValueError(f"{name}={short(value)}: expected an integer >= 1")
    if number > MAX_STEPS:
        raise ValueError(f"{name}={short(value)}: expected at most {MAX_STEPS:,}")
    return number


def check_integers(low: int = 1, high: int | None = None, /, **values: Any) -> None:
    """Raises ``ValueError`` unless every keyword is an integer from ``low`` to ``high``.

    Example:
      >>> check_integers(width=32, depth=2)
      >>> check_integers(1, 6, count=7)
      Traceback (most recent call last):
      ...
      ValueError: count=7: expected an integer from 1 to 6, nearest valid: 6
    """
    for name, value in values.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if whole and low <= int(value) <= (MAX_STEPS if high is None else high):
            continue
        expected = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
        near = ""
        if isinstance(value, numbers.Real) and math.isfinite(value):
            near = f", nearest valid: {min(max(round(float(value)), low), high or MAX_STEPS)}"
        raise ValueError(f"{name}={short(value)}: expected {expected}{near}")


def check_divides(name: str, whole: int, part_name: str, part: int) -> None:
    """Raises ``ValueError`` unless ``whole`` is a multiple of ``part``."""
    if whole % part:
        near = sorted({max(part, whole // part * part), -(-whole // part) * part})
        raise ValueError(
            f"{name}={whole}: expected a multiple of {part_name}={part}, "
            f"such as {' or '.join(map(str, near))}"
        )


def check_decay(name: str, value: Any) -> float | None:
    """Returns the decay of a moving average as a float; ``None`` means no average.

    Raises:
      ValueError: unless ``0 <= value < 1``.

    Example:
      >>> check_decay("ema", 1.5)
      Traceback (most recent call last):
      ...
      ValueError: ema=1.5: expected a number in [0, 1), such as 0.999, or None
    """
    if value is None:
        return None
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and 0 <= float(value) < 1):
        raise ValueError(
            f"{name}={short(value)}: expected a number in [0, 1), such as 0.999, or None"
        )
    return float(value)
