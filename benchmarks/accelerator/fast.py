"""Run-steps per second: this package for many runs at once, and PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.accelerator import speed
from benchmarks.accelerator.speed import Case
from benchmarks.accelerator.work import Context, Job, Row

RUNS = {"dcgan28": (1, 4, 16, 64, 256), "dcgan32": (1, 4, 16, 64, 256)}
RUNS |= {"ring": (64, 1024), "carousel": (100_000,)}
ENSEMBLE = 64
TINY_RUNS = 2

# Most important first, because a run may be cut off.
PLAN = (
    "dcgan28 native float32",
    "dcgan28 gemm float32",
    "PyTorch dcgan28 float32",
    "busy",
    "ring",
    "carousel",
    "PyTorch ring float32",
    "dcgan28 native bfloat16",
    "dcgan28 gemm bfloat16",
    "PyTorch dcgan28 bfloat16",
    "dcgan32 native float32",
    "dcgan32 gemm float32",
    "PyTorch dcgan32 float32",
    "dcgan32 native bfloat16",
    "dcgan32 gemm bfloat16",
)
TINY_PLAN = ("dcgan28 gemm bfloat16", "ring", "PyTorch ring float32", "busy")


def jobs(context: Context) -> list[Job]:
    return [Job(name, 120.0) for name in (TINY_PLAN if context.tiny else PLAN)]


def work(name: str, context: Context, done: list[Row]) -> Iterator[Row]:
    first, *rest = name.split()
    if first == "PyTorch":
        yield from pytorch(Case(rest[0], dtype=rest[1]), context, done)
    elif first == "busy":
        game, runs = ("ring", TINY_RUNS) if context.tiny else ("dcgan28", ENSEMBLE)
        yield speed.busy(Case(game), runs, tiny=context.tiny)
    else:
        measured = {row["runs"] for row in done}
        runs = (TINY_RUNS,) if context.tiny else RUNS[first]
        left = [number for number in runs if number not in measured]
        yield from speed.speeds(
            Case(first, *rest), left, tiny=context.tiny, data_dir=context.data_dir
        )


def pytorch(case: Case, context: Context, done: list[Row]) -> Iterator[Row]:
    """PyTorch's rows, or one row that says why PyTorch was left out."""
    try:
        from benchmarks import networks_torch
        from benchmarks.accelerator import peers
    except ImportError as error:
        yield {"side": "PyTorch", **case._asdict(), "note": f"left out: {error}"}
        return
    if not (networks_torch.torch.cuda.is_available() or context.tiny):
        yield {"side": "PyTorch", **case._asdict(), "note": "left out: PyTorch finds no CUDA"}
        return
    yield from peers.speeds(case, TINY_RUNS if context.tiny else ENSEMBLE, context, done)
