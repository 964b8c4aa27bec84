"""Formats numbers, steps, names and durations for the report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

NOTHING = "–"
"""The text for a missing number."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def number(value: Any, digits: int = 3) -> str:
    """A number with ``digits`` significant digits, without trailing zeros; text is unchanged.

    Example:
      >>> [number(v) for v in (0.123456, 1234.5, 2.5e-7, -1e9, float("nan"), None, "carried")]
      ['0.123', '1,234', '2.5 × 10⁻⁷', '−10⁹', '–', '–', 'carried']
    """
    if isinstance(value, str | bool):
        return str(value)
    if value is None or math.isnan(value):
        return NOTHING
    if value < 0:
        return "−" + number(-value, digits)
    if value == 0 or math.isinf(value):
        return "0" if value == 0 else "∞"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < 5:
        text = f"{value:,.{max(digits - 1 - power, 0)}f}"
        return text if "." not in text else text.rstrip("0").rstrip(".")
    mantissa = mantissa.rstrip("0").rstrip(".")
    ten = power_of_ten(10.0**power)
    return ten if mantissa == "1" else f"{mantissa} × {ten}"


def setting(value: Any) -> str:
    """A hyperparameter with six digits, because 0.9999 must not become 1.

    Example:
      >>> [setting(v) for v in (0.9999, 2e-4, 1e-8, float("nan"), True)]
      ['0.9999', '0.0002', '10⁻⁸', '–', 'True']
    """
    return number(value, 6)


def settings(hyperparameters: Mapping[str, Any]) -> str:
    r"""Hyperparameters in words; lines break only between two of them.

    Example:
      >>> settings({"primal_learning_rate": 1e-3, "b1": 0.5, "power": float("nan")})
      'primal\xa0learning\xa0rate\xa00.001, b1\xa00.5'
    """
    shown = {k: setting(v) for k, v in hyperparameters.items()}
    each = (f"{label(k)} {v}".replace(" ", "\xa0") for k, v in shown.items() if v != NOTHING)
    return ", ".join(each)


def spread(middle: Any, low: Any, high: Any, form: str = "[{}, {}]") -> str:
    """A number and its limits; the number alone if there are no limits or if they are equal.

    Example:
      >>> spread(0.2, 0.1, 0.3), spread(0.2, None, None), spread(2, 1, 4, "({} to {})")
      ('0.2 [0.1, 0.3]', '0.2', '2 (1 to 4)')
    """
    ends = number(low), number(high)
    return number(middle) + (f" {form.format(*ends)}" if ends[0] != ends[1] else "")


def integer(value: Any) -> str:
    """A count or a step, with thousands separators.

    Example:
      >>> integer(20000), integer(float("nan"))
      ('20,000', '–')
    """
    return NOTHING if value is None or math.isnan(value) else f"{int(value):,}"


def count(number: int, thing: str) -> str:
    """A number with a noun.

    Example:
      >>> count(1, "run"), count(2000, "run")
      ('1 run', '2,000 runs')
    """
    return f"{number:,} {thing}{'s' * (number != 1)}"


def compact(value: float) -> str:
    """A step as a tick label.

    Example:
      >>> [compact(v) for v in (0, 950, 1500, 20000, 3_000_000)]
      ['0', '950', '1.5k', '20k', '3M']
    """
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def power_of_ten(value: float) -> str:
    """The nearest power of ten, for ticks of a long logarithmic axis.

    Example:
      >>> [power_of_ten(v) for v in (1e-6, 0.01, 1, 1000)]
      ['10⁻⁶', '10⁻²', '1', '10³']
    """
    power = round(math.log10(value))
    return "1" if power == 0 else f"10{str(power).translate(_SUPERSCRIPTS)}"


def duration(seconds: float) -> str:
    """A wall-clock time.

    Example:
      >>> [duration(s) for s in (3.21, 75, 4000)]
      ['3.21 s', '1 min 15 s', '1 h 6 min']
    """
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def label(name: str) -> str:
    """An identifier in words.

    Example:
      >>> label("primal_learning_rate")
      'primal learning rate'
    """
    return name.replace("_", " ")


def literal(text: Any, width: int = 44) -> str:
    r"""Makes any text safe for matplotlib: no mathematics, no line breaks, limited length.

    Example:
      >>> literal("cost $x$ \n twice"), literal("abcdef", width=4)
      ('cost \\$x\\$   twice', 'abc…')
    """
    clean = _CONTROL.sub(" ", str(text))
    if len(clean) > width:
        clean = clean[: width - 1] + "…"
    return clean.replace("$", r"\$")
