"""The command line: the only place that prints."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path

import tyro

from onesided_jax import configure_cpu, processes
from onesided_jax.cli._commands import COMMANDS
from onesided_jax.cli._console import say
from onesided_jax.runs import WriteError
from onesided_jax.runs._words import DISK_ERRORS, errno_of
from onesided_jax.runs.checkpoints import without_tracebacks

__all__ = ["main"]

_INPUT_ERRORS = (ValueError, TypeError, ImportError, OSError)


@without_tracebacks()
def main(arguments: list[str] | None = None) -> int:
    """The entry point; returns the exit code.

    0: done. 1: failed for want of disk, memory or another process; 2: bad input, nothing was done;
    128 + n: ended by signal n (130 by Ctrl-C, 143 by SIGTERM). After 1 and 128 + n the message says
    how to go on.

    Example:
      >>> from onesided_jax.cli import main
      >>> main(["analyze", "no/such/run"])
      2
    """
    from onesided_jax.sweeps.interrupt import Interrupted, interruptible
    from onesided_jax.sweeps.memory import is_out_of_memory

    _use_compilation_cache()
    with contextlib.suppress(RuntimeError):  # JAX has been computing: called from a program
        configure_cpu()
    try:
        with interruptible():
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="onesided",
                description="Train, analyse and report sweeps of GANs and other min-max games.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt as error:
        number = error.signal if isinstance(error, Interrupted) else int(signal.SIGINT)
        again = shlex.join(["onesided", *(sys.argv[1:] if arguments is None else arguments)])
        say(f"Ended by {signal.Signals(number).name}.")
        say("\n".join(getattr(error, "__notes__", [f"To do it again: {again}"])))
        return 128 + number
    except Exception as error:
        lost = isinstance(error, processes.LostProcessError)
        known = lost or isinstance(error, _INPUT_ERRORS) or is_out_of_memory(error)
        if not known or os.environ.get("ONESIDED_DEBUG"):
            raise
        say(f"error: {str(error) or type(error).__name__}", "red")
        for note in getattr(error, "__notes__", []):
            say(note)
        on_disk = isinstance(error, WriteError) or errno_of(error) in DISK_ERRORS
        code = 1 if lost or on_disk or is_out_of_memory(error) else 2
        if lost or isinstance(error, processes.NotJoinedError):
            os._exit(code)  # an orderly end would wait for the processes that are not there
        return code
    return 0


def _use_compilation_cache() -> None:
    """Compiled programs are kept between commands, unless the user already says where."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = os.environ.get("ONESIDED_CACHE") or os.environ.get("XDG_CACHE_HOME")
        folder = Path(base) if base else Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(folder / "onesided_jax" / "xla"))
