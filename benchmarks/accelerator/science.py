"""The registered experiment's first claim, within the remaining minutes.

Tables go to ``DIR/registered``, a folder per arm. Checkpoints are too large to copy back: they
stay in ``runs/``, and a second call continues from them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.accelerator.work import Context, Job
from benchmarks.harness import ROOT

SCRIPT = ROOT / "experiments" / "registered.py"


def jobs(context: Context) -> list[Job]:
    out = Path(context.out)
    scale, data = ("small", "bars") if context.tiny else ("cpu", "mnist")
    command = [sys.executable, str(SCRIPT), "--claim", "1", "--scale", scale, "--data", data]
    command += ["--minutes", "{minutes}", "--results", str(out / "registered")]
    if context.tiny:
        command += ["--out", str(out / "runs")]
    if context.data_dir is not None:
        command += ["--data-dir", context.data_dir]
    return [Job("registered", float("inf"), command=tuple(command))]
