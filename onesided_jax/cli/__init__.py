"""The command line: the only place that prints.

Slow modules are imported late, so that Ctrl-C works at once and ``--help`` does not load JAX.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from onesided_jax.cli._interrupt import Interrupted, held, interruptible

__all__ = ["main"]

_INPUT_ERRORS = (ValueError, TypeError, ImportError, OSError)
_BROKEN_PIPE = 128 + 13  # a shell's exit code for a program ended by SIGPIPE


def main(arguments: list[str] | None = None) -> int:
    """The entry point; returns the exit code.

    0: done. 1: disk, memory or another process failed. 2: invalid input, nothing was done. 128 + n:
    ended by signal n (130 by Ctrl-C, 143 by SIGTERM). For 1 and 128 + n, a message says how to
    continue.

    Example:
      >>> from onesided_jax.cli import main
      >>> main(["analyze", "no/such/run"])
      2
    """
    given = sys.argv[1:] if arguments is None else arguments
    _print_anything()
    try:
        with interruptible():
            _run(given)
            sys.stdout.flush()
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt as error:
        number = error.signal if isinstance(error, Interrupted) else int(signal.SIGINT)
        _say(f"Ended by {signal.Signals(number).name}.")
        again = f"To repeat: {shlex.join(['onesided', *given])}"
        _say("\n".join(getattr(error, "__notes__", [again])))
        return 128 + number
    except BrokenPipeError:  # the reader of our output closed it, as `head` does
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:
        return _failed(error, given)
    return 0


def _run(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(_versions())
        return
    from onesided_jax.extras import need

    need("cli", "the command onesided", "tyro", "rich")
    import tyro

    from onesided_jax.cli._commands import COMMANDS

    with contextlib.ExitStack() as settings:
        if arguments and not {"-h", "--help"} & set(arguments):
            with held():
                _import(arguments[0])
            settings.enter_context(_prepared())
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="onesided",
            description="Train, analyse and report sweeps of GANs and other min-max games.",
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes,),
        )


def _failed(error: Exception, arguments: list[str]) -> int:
    """Prints an expected error and returns the exit code; raises any other error."""
    from onesided_jax import processes
    from onesided_jax.runs import WriteError
    from onesided_jax.runs.files import DISK_ERRORS, errno_of
    from onesided_jax.sweeps.memory import is_out_of_memory

    lost = isinstance(error, processes.LostProcessError)
    known = lost or isinstance(error, _INPUT_ERRORS) or is_out_of_memory(error)
    if not known or os.environ.get("ONESIDED_DEBUG"):
        raise error
    _say(f"error: {str(error) or type(error).__name__}", red=True)
    for note in [*getattr(error, "__notes__", []), *_moved(error, arguments)]:
        _say(note)
    on_disk = isinstance(error, WriteError) or errno_of(error) in DISK_ERRORS
    code = 1 if lost or on_disk or is_out_of_memory(error) else 2
    if lost or isinstance(error, processes.NotJoinedError):
        os._exit(code)  # a normal exit would wait for the missing processes
    return code


def _moved(error: Exception, arguments: list[str]) -> list[str]:
    """A hint for data that are not found."""
    takes_data = bool(arguments) and arguments[0] in ("resume", "analyze", "sample")
    if not (takes_data and isinstance(error, FileNotFoundError)):
        return []
    return [f"If the data have moved: {shlex.join(['onesided', *arguments])} --data FILE"]


def _print_anything() -> None:
    """Escapes characters that the terminal cannot show, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _say(text: str, *, red: bool = False) -> None:
    colours = red and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(f"\x1b[31m{text}\x1b[0m" if colours else text, file=sys.stderr, flush=True)


def _versions() -> str:
    from importlib.metadata import version

    python = ".".join(map(str, sys.version_info[:3]))
    return f"onesided-jax {version('onesided-jax')} (JAX {version('jax')}, Python {python})"


def _import(command: str) -> None:
    modules = {
        "demo": ("cli._work", "sweeps", "networks", "analysis", "report"),
        "sweep": ("cli._work", "sweeps", "networks"),
        "resume": ("cli._work", "sweeps", "networks"),
        "analyze": ("cli._work", "analysis", "networks"),
        "report": ("cli._work", "report"),
        "export": ("cli._work", "analysis", "networks"),
        "sample": ("cli._work", "analysis", "report", "networks"),
    }
    importlib.import_module("jax")
    for name in modules.get(command, ()):
        importlib.import_module(f"onesided_jax.{name}")


@contextlib.contextmanager
def _prepared() -> Iterator[None]:
    """Configures JAX and Orbax for a command."""
    import jax

    from onesided_jax.runs.checkpoints import without_tracebacks
    from onesided_jax.runtime import configure_cpu

    # Keep compiled programs between commands, unless the user has set a cache folder.
    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = os.environ.get("ONESIDED_CACHE") or os.environ.get("XDG_CACHE_HOME")
        folder = Path(base) if base else Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(folder / "onesided_jax" / "xla"))
    with contextlib.suppress(RuntimeError):  # JAX is already in use: main() was called in Python
        configure_cpu()
    with without_tracebacks():
        yield
