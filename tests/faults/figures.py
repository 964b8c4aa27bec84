"""What a scenario found, as a row of the table in ``docs/promises.md``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Figures(NamedTuple):
    """The outcome of one kind of fault.

    Attributes:
      fault: what was done.
      injected: how many times.
      survived: how many times everything went on as promised.
      changed: checkpoints (or analyses) that differ in a bit from those of an undisturbed run.
      stuck: folders that could not be continued or analysed.
      seconds_lost: of each fault: computing that was not saved and had to be done again.
      note: what the numbers mean here.
    """

    fault: str
    injected: int
    survived: int
    changed: int = 0
    stuck: int = 0
    seconds_lost: Sequence[float] = ()
    note: str = ""

    def row(self) -> dict[str, object]:
        """For CSV."""
        lost = self.seconds_lost
        return {
            "fault": self.fault,
            "injected": self.injected,
            "survived": self.survived,
            "numbers changed": self.changed,
            "folders stuck": self.stuck,
            "median seconds lost": round(statistics.median(lost), 3) if lost else "–",
            "most seconds lost": round(max(lost), 3) if lost else "–",
            "note": self.note,
        }

    def kept(self) -> bool:
        """Whether the promise was kept every time."""
        return self.survived == self.injected > 0 == self.changed == self.stuck
