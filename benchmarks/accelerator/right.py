"""Checks that the device computes the same as the CPU, and the same bits every time.

Products run at highest precision. Players are compared after the last step. A difference is a share
of how far they moved, because weights that hardly move would hide it. The reference for both forms
of convolution is the matrix form on the CPU, because the native form takes minutes there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

import onesided_jax as osj
from benchmarks.accelerator.sweeps import (
    Stopped,
    difference,
    digest,
    make_game,
    optimizer,
    train,
)
from benchmarks.accelerator.work import Context, Job, Row
from benchmarks.harness import progress

TOLERANCE = 1e-3  # summing in another order gives up to 1e-4, TF32 more than 1e-3
STEPS = 20
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
TINY_OPTIMIZERS = ("adam",)
COMPILERS = 8  # optimizers compiled at the same time


def jobs(context: Context) -> list[Job]:
    """Bits are compared between two processes, because XLA times its kernels anew in each."""
    flag = DETERMINISTIC if context.platform == "gpu" else ""
    ways = {"as it comes": ""} | ({"deterministic ops": flag} if flag else {})
    bits = [
        Job(f"bits, {told}{again}", 90.0, flags)
        for again in (("",) if context.tiny else ("", ", again"))
        for told, flags in ways.items()
    ]
    # Resuming is judged with deterministic operations, because others can change the bits.
    return [Job("optimizers", 150.0), Job("dcgan"), Job("resume", 90.0, flag), *bits]


def work(name: str, context: Context, done: list[Row]) -> Iterator[Row]:
    jax.config.update("jax_default_matmul_precision", "highest")
    kind = name.partition(",")[0]
    yield from {"optimizers": optimizers, "dcgan": dcgan, "resume": resume, "bits": bits}[kind](
        context, done
    )


def _plan(context: Context) -> dict[str, Any]:
    """One plan for all sweeps, so that a program is compiled once."""
    return {"runs": 2 if context.tiny else 8, "steps": STEPS, "every": STEPS // 2}


def _devices() -> tuple[Any, Any]:
    """The device, and a CPU."""
    return jax.devices()[0], jax.devices("cpu")[0]


def _compared(what: str, found: dict[str, float]) -> Row:
    met = all(value <= TOLERANCE for value in found.values())  # False for nan as well
    progress(f"{what}: primal {found['primal']:.1e}, dual {found['dual']:.1e}")
    return {"what": what, **found, "tolerance": TOLERANCE, "met": met}


def optimizers(context: Context, done: list[Row]) -> Iterator[Row]:
    """Every optimizer on the ring GAN."""
    names = [
        name
        for name in (TINY_OPTIMIZERS if context.tiny else osj.OPTIMIZERS)
        if name not in {row["optimizer"] for row in done}
    ]
    game, (device, cpu) = make_game("ring", tiny=context.tiny), _devices()

    def measure(name: str) -> Row:
        make = optimizer(name)
        there, here = (train(game, make, d, **_plan(context)) for d in (device, cpu))
        return {"optimizer": name} | _compared(f"ring, {name}", difference(there, here))

    with ThreadPoolExecutor(COMPILERS) as pool:
        yield from pool.map(measure, names)


def dcgan(context: Context, done: list[Row]) -> Iterator[Row]:
    """Both forms of convolution."""
    del done
    make, (device, cpu) = optimizer("adam"), _devices()
    games = {
        form: make_game("dcgan28", form, tiny=context.tiny, data_dir=context.data_dir)
        for form in ("gemm", "native")
    }
    plan = {**_plan(context), "runs": 2}
    here = train(games["gemm"], make, cpu, **plan)
    for form, game in games.items():
        there = train(game, make, device, **plan)
        yield {"conv": form} | _compared(f"DCGAN, {form}", difference(there, here))


def resume(context: Context, done: list[Row]) -> Iterator[Row]:
    """Stops and continues a sweep on the device, from device to CPU, and from CPU to device."""
    del done
    device, cpu = _devices()
    make, plan = optimizer("adam"), _plan(context)
    half = plan["every"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def continued(game: osj.Game, writer: Any, reader: Any, name: str) -> Any:
            try:
                train(game, make, writer, out=folder / name, stop=half, **plan)
            except Stopped:
                return train(game, make, reader, out=folder / name, **plan)
            raise AssertionError("the sweep was not stopped")

        whole: dict[str, Any] = {}
        for name in ("ring",) if context.tiny else ("dcgan28", "ring"):
            game = make_game(name, "native", tiny=context.tiny)
            whole["device"] = train(game, make, device, **plan)
            again = continued(game, device, device, name)
            same = digest(whole["device"].players) == digest(again.players)
            progress(f"{name}, stopped and resumed: {'the same bits' if same else 'other bits'}")
            yield {"what": f"{name}, stopped and resumed", "met": same}
        ring = make_game("ring", tiny=context.tiny)
        whole = {"device": train(ring, make, device, **plan), "CPU": train(ring, make, cpu, **plan)}
        places = {"device": device, "CPU": cpu}
        for writer, reader in (("device", "CPU"), ("CPU", "device")):
            result = continued(ring, places[writer], places[reader], f"from-{writer}")
            read, written = (r.checkpoints[half].players for r in (result, whole[writer]))
            what = f"checkpoint of the {writer}, continued on the {reader}"
            row = _compared(what, difference(result, whole[reader]))
            same = digest(read) == digest(written)
            yield row | {"same_bits_read": same, "met": row["met"] and same}


def bits(context: Context, done: list[Row]) -> Iterator[Row]:
    """The same sweep twice in this process; the table compares the digests of all processes."""
    cases = (("ring", "auto"), ("dcgan28", "gemm"), ("dcgan28", "native"))
    known = {(row["game"], row["conv"]) for row in done}
    for name, conv in cases[: 1 if context.tiny else 3]:
        if (name, conv) in known:
            continue
        game, make = make_game(name, conv, tiny=context.tiny), optimizer("adam")
        twice = [
            digest(train(game, make, jax.devices()[0], **_plan(context)).players) for _ in range(2)
        ]
        progress(f"{name}, {conv}: {'the same bits' if twice[0] == twice[1] else 'other bits'}")
        yield {"game": name, "conv": conv, "digests": twice}
