"""The registered experiment, for as many minutes as are left.

``experiments/registered.py`` is started with ``--scale large --minutes M --out DIR/registered``
and, if it was given, ``--data-dir``. It must end in time with everything saved, in few files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.accelerator.work import Context, Job
from benchmarks.harness import ROOT

SCRIPT = ROOT / "experiments" / "registered.py"
MISSING = "there is no registration yet: experiments/registered.py is missing"


def jobs(context: Context) -> list[Job] | str:
    if not SCRIPT.exists():
        return MISSING
    command = [sys.executable, str(SCRIPT), "--scale", "small" if context.tiny else "large"]
    command += ["--minutes", "{minutes}", "--out", str(Path(context.out) / "registered")]
    if context.tiny:
        command += ["--claim", "1", "--data", "digits"]
    if context.data_dir is not None:
        command += ["--data-dir", context.data_dir]
    return [Job("registered", float("inf"), command=tuple(command))]
