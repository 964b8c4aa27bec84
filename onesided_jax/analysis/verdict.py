"""What a set of runs says about a claim."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

__all__ = ["Status", "Verdict"]

Status = Literal["supported", "refuted", "undecided"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a set of runs says about one claim. Compare ``status``: a verdict is no bool.

    Attributes:
      claim: the claim in words, such as "only the generator converges".
      cell: label of the optimizer's cell.
      setting: values of its hyperparameters.
      status: ``"supported"``, ``"refuted"`` or ``"undecided"``.
      effect: of convergence, the primal player's late gradient norm over its early one, geometric
        mean over seeds; of the MVI, the negative mass, mean over seeds. NaN if no run gives a
        number.
      interval: confidence limits of ``effect``; NaN with fewer than 2 seeds.
      sentence: what was measured and why this verdict, in plain English.
      numbers: everything else: values per seed, counts, other intervals, boundaries. ``"missing"``
        says in short why nothing was decided, and is empty otherwise.
    """

    claim: str
    cell: str
    setting: Mapping[str, float]
    status: Status
    effect: float
    interval: tuple[float, float]
    sentence: str
    numbers: Mapping[str, Any]

    def __bool__(self) -> bool:
        raise TypeError(
            'a verdict is neither true nor false: compare verdict.status == "supported"'
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types; numbers that are not finite become None.

        Example:
          >>> nan = float("nan")
          >>> verdict = Verdict(
          ...     claim="c",
          ...     cell="adam",
          ...     setting={"b1": 0.5},
          ...     status="undecided",
          ...     effect=nan,
          ...     interval=(nan, nan),
          ...     sentence="Few.",
          ...     numbers={},
          ... )
          >>> verdict.to_json()["effect"] is None, verdict.to_json()["setting"]
          (True, {'b1': 0.5})
        """
        fields = dataclasses.fields(self)
        return _json({field.name: getattr(self, field.name) for field in fields})


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
