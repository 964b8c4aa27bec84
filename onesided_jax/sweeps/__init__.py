"""Sweeps: many runs of a game as one compiled, checkpointed, resumable program."""

from onesided_jax.sweeps.ahead import CompiledCell, compile_for, weak_scaling
from onesided_jax.sweeps.engine import Observer, StepView
from onesided_jax.sweeps.loop import sweep
from onesided_jax.sweeps.recipes import resume, run
from onesided_jax.sweeps.restore import Restored, restore
from onesided_jax.sweeps.result import Checkpoint, Progress, SweepResult
from onesided_jax.sweeps.train import StepInfo, TrainState, make_train

__all__ = [
    "Checkpoint",
    "CompiledCell",
    "Observer",
    "Progress",
    "Restored",
    "StepInfo",
    "StepView",
    "SweepResult",
    "TrainState",
    "compile_for",
    "make_train",
    "restore",
    "resume",
    "run",
    "sweep",
    "weak_scaling",
]
