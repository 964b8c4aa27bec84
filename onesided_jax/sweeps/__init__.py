"""Sweeps: many runs of a game as one compiled, checkpointed, resumable program."""

from onesided_jax.sweeps.ahead import CompiledCell, compile_for, weak_scaling
from onesided_jax.sweeps.engine import Observer, StepView
from onesided_jax.sweeps.loggers import Jsonl, Logger, Records, TensorBoard, WandB
from onesided_jax.sweeps.recipes import resume, run
from onesided_jax.sweeps.restore import Restored, restore
from onesided_jax.sweeps.result import Checkpoint, Progress, SweepResult
from onesided_jax.sweeps.step import StepInfo, TrainState, make_step
from onesided_jax.sweeps.sweep import sweep

__all__ = [
    "Checkpoint",
    "CompiledCell",
    "Jsonl",
    "Logger",
    "Observer",
    "Progress",
    "Records",
    "Restored",
    "StepInfo",
    "StepView",
    "SweepResult",
    "TensorBoard",
    "TrainState",
    "WandB",
    "compile_for",
    "make_step",
    "restore",
    "resume",
    "run",
    "sweep",
    "weak_scaling",
]
