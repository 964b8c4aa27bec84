"""The registered experiment's first claim, for as many minutes as are left.

Tables go to ``DIR/registered``, a folder per arm. Checkpoints are too large to bring home: they
stay in ``runs/``, where a second call goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.accelerator.work import Context, Job
from benchmarks.harness import ROOT

SCRIPT = ROOT / "experiments" / "registered.py"
DRAFT = "the experiment is not registered yet: experiments/registered.md is a draft"


def jobs(context: Context) -> list[Job] | str:
    out = Path(context.out)
    if not context.tiny and "Not registered yet" in SCRIPT.with_suffix(".md").read_text("utf-8"):
        return DRAFT
    scale, data = ("small", "bars") if context.tiny else ("large", "mnist")
    command = [sys.executable, str(SCRIPT), "--claim", "1", "--scale", scale, "--data", data]
    command += ["--minutes", "{minutes}", "--results", str(out / "registered")]
    if context.tiny:
        command += ["--out", str(out / "runs")]
    if context.data_dir is not None:
        command += ["--data-dir", context.data_dir]
    return [Job("registered", float("inf"), command=tuple(command))]
