"""Integer options of the command line, such as ``1e3``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

__all__ = ["Count", "OptionalCount", "whole_number"]


def whole_number(text: str) -> int:
    """Reads an integer written as ``1000``, ``1_000``, ``1e3`` or ``1000.0``.

    Raises:
      ValueError: for any other text.

    Example:
      >>> whole_number("1e3")
      1000
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
        whole = int(number)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r}: expected a whole number, such as 1000 or 1e3") from None
    if number != whole:
        raise ValueError(f"{text!r}: expected a whole number, such as {round(number)}")
    return whole


def _optional(text: str) -> int | None:
    return None if text == "None" else whole_number(text)


def _constructor(read: Callable[[str], Any]) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda arguments: read(arguments[0]),
        is_instance=lambda value: value is None or isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


Count = Annotated[int, _constructor(whole_number)]
"""An integer option."""

OptionalCount = Annotated[int | None, _constructor(_optional)]
"""An integer option that may be omitted."""
