"""``kill -9`` at random moments, at every change to the file system, in analysis and report."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from onesided_jax.runs import open_run

from .figures import Figures
from .victims import COMMAND_LINE, Victim, run, until
from .workload import differences, is_same_analysis, is_whole_page, leftovers

__all__ = ["at_every_change", "at_random_moments", "by_signal", "in_analysis_and_report", "second"]

Start = Callable[..., Victim]


def at_random_moments(
    start: Start, folder: Path, recipe: str, whole: Path, *, kills: int, seed: int = 0
) -> Figures:
    """Kills a sweep again and again, begins anew when it has finished, until all are spent.

    Half of the kills wait for a random time, half for a checkpoint to be in the middle of being
    written.

    Args:
      start: see ``victims.nursery``.
      folder: for run directories.
      recipe: the recipe's file.
      whole: the run directory of the same recipe without an interruption.
      kills: how many.
      seed: of the moments.
    """
    rng, lost, writing = random.Random(seed), [], 0
    changed = stuck = sweeps = 0
    out = folder / "killed-0"
    while len(lost) < kills or out.exists():
        began = time.time()
        victim = start(COMMAND_LINE, "sweep", recipe, "--out", str(out))
        if len(lost) < kills:
            inside = _wait(victim, out, rng)
            if victim.running():
                victim.kill()
                lost.append(time.time() - max(began, _last_commit(out)))
                writing += inside
        code = victim.wait()
        if code == 0:  # finished, possibly before the kill
            changed += len(differences(whole, out)) + len(leftovers(out))
            shutil.rmtree(out)
            sweeps += 1
            out = folder / f"killed-{sweeps}"
        elif code != -9:
            stuck += 1
            raise AssertionError(f"{out}: exit code {code}: {victim.output.read_text()}")
    return Figures(
        "kill -9 of a sweep at a random moment",
        injected=kills,
        survived=kills - stuck,
        changed=changed,
        stuck=stuck,
        seconds_lost=lost,
        note=f"{sweeps} sweeps, chunks of {_chunk(whole):.2f} s; {writing} of the kills inside a "
        "checkpoint write",
    )


def _wait(victim: Victim, out: Path, rng: random.Random) -> bool:
    """Waits for the moment of a kill; whether a checkpoint is being written then."""
    inside = rng.random() < 0.5
    skip, deadline = rng.randrange(3), time.monotonic() + 20
    seen: set[str] = set()
    if not inside:
        time.sleep(rng.uniform(0, 2.5))
        return False
    while victim.running() and time.monotonic() < deadline:
        now = {p.name for p in out.glob("cells/*/checkpoints/.*")}
        if now - seen:
            seen |= now
            if len(seen) > skip:
                time.sleep(rng.uniform(0, 0.02))
                return bool(list(out.glob("cells/*/checkpoints/.*")))
        time.sleep(0.0005)
    return False


def _chunk(whole: Path) -> float:
    """Seconds that a chunk of the undisturbed sweep took."""
    run = open_run(whole)
    steps, every = (run.manifest["plan"][name] for name in ("steps", "checkpoint_every"))
    seconds = [run.store(cell).info(steps)["seconds"] for cell in run.cells]
    return sum(seconds) / len(seconds) * every / steps


def _last_commit(out: Path) -> float:
    """When the newest checkpoint was renamed into place; 0 if there is none."""
    times = [p.stat().st_ctime for p in out.glob("cells/*/checkpoints/[0-9]*")]
    return max(times, default=0.0)


def at_every_change(
    start: Start, folder: Path, recipe: str, whole: Path, *, points: Iterable[int]
) -> Figures:
    """Kills a sweep at its n-th change to the file system, for every ``n`` given, and resumes.

    Returns:
      The figures; ``injected`` counts the points that a sweep reached.
    """
    injected = survived = changed = stuck = 0
    for point in points:
        out = folder / f"point-{point}"
        code, _ = run(start, "faults.crash:sweep", point, "sweep", recipe, "--out", str(out))
        if code != -9:  # it has fewer changes than that
            shutil.rmtree(out)
            break
        injected += 1
        command = ["resume", str(out)]
        if not _has_manifest(out):
            command = ["sweep", recipe, "--out", str(out)]  # killed before it was a run
        code, said = run(start, COMMAND_LINE, *command)
        different = differences(whole, out) + leftovers(out) if code == 0 else []
        stuck += code != 0
        changed += len(different)
        survived += code == 0 and not different
        if code == 0 and not different:
            shutil.rmtree(out)
        else:
            raise AssertionError(f"point {point}: {code} {different} {said}")
    return Figures(
        "kill -9 at every change a sweep makes to the file system",
        injected,
        survived,
        changed,
        stuck,
    )


def _has_manifest(out: Path) -> bool:
    try:
        open_run(out)
    except ValueError:
        return False
    return True


def by_signal(
    start: Start, folder: Path, recipe: str, whole: Path, *, times: int, seed: int = 0
) -> Figures:
    """Stops a sweep by SIGTERM or SIGINT at random moments, again and again, until all are spent.

    Returns:
      The figures; a signal counts as survived if the exit code is 128 more than its number, the
      way to go on is printed, every checkpoint is whole and no lock or unfinished file is left.
      ``seconds_lost`` are those from the signal to the exit.
    """
    rng, waited = random.Random(seed), []
    survived = changed = stuck = sweeps = done = 0
    out = folder / "signalled-0"
    while done < times or out.exists():
        victim = start(COMMAND_LINE, "sweep", recipe, "--out", str(out))
        number = rng.choice([signal.SIGTERM, signal.SIGINT])
        if done < times:
            time.sleep(rng.uniform(0.3, 2.0))
        if done < times and victim.running():
            sent = time.monotonic()
            victim.kill(number)
            code = victim.wait()
            if code == 128 + number:
                done += 1
                waited.append(time.monotonic() - sent)
                said = victim.output.read_text()
                how = ("To continue: onesided resume", "To repeat: onesided sweep")
                survived += any(words in said for words in how) and not leftovers(out)
                continue
        else:
            code = victim.wait()
        if code:
            stuck += 1
            raise AssertionError(f"{out}: exit code {code}: {victim.output.read_text()}")
        changed += len(differences(whole, out)) + len(leftovers(out))
        shutil.rmtree(out)
        sweeps += 1
        out = folder / f"signalled-{sweeps}"
    return Figures(
        "SIGTERM or SIGINT at a random moment",
        done,
        survived,
        changed,
        stuck,
        waited,
        note=f"{sweeps} sweeps; nothing was lost: the seconds are from the signal to the exit",
    )


def second(start: Start, folder: Path, recipe: str, whole: Path, *, times: int) -> Figures:
    """Starts further writers while a sweep is held up; then kills it, and one of them may write."""
    out = folder / "contended"
    victim = start(COMMAND_LINE, "sweep", recipe, "--out", str(out))
    until(lambda: (out / "lock").exists() and (out / "lock").read_text())
    victim.kill(signal.SIGSTOP)
    refused = 0
    for _ in range(times):
        code, said = run(start, COMMAND_LINE, "sweep", recipe, "--out", str(out))
        refused += code == 2 and f"in use by process {victim.pid} on this host" in said
    victim.kill()
    victim.wait()
    code, _ = run(start, COMMAND_LINE, "sweep", recipe, "--out", str(out))
    changed = len(differences(whole, out)) if code == 0 else 0
    return Figures("a second writer of one run directory", times, refused, changed, int(code != 0))


def in_analysis_and_report(
    start: Start, folder: Path, whole: Path, *, kills: int, seed: int = 0
) -> Figures:
    """Kills analysis, then report, of a finished run at random moments; then lets them finish.

    After every kill the files are those of one whole analysis or none; at the end they are those
    of an undisturbed one, and the page is whole.

    Args:
      start: see ``victims.nursery``.
      folder: for copies of the run directory.
      whole: a finished, analysed and reported run directory.
      kills: how many, of each.
      seed: of the moments.
    """
    rng, changed, stuck, injected = random.Random(seed), 0, 0, 0
    out = folder / "analysed"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("*.nc", "verdict.json", "*.html"))
    for command in ("analyze", "report"):
        began = time.monotonic()
        code, said = run(start, COMMAND_LINE, command, str(out))
        seconds, done = time.monotonic() - began, 0
        while done < kills:
            victim = start(COMMAND_LINE, command, str(out))
            time.sleep(rng.uniform(0, seconds))
            if victim.running():
                victim.kill()
            done += victim.wait() == -9
            if (out / "verdict.json").exists():
                changed += not is_same_analysis(whole, out)
            if command == "report":
                changed += not is_whole_page(out / "report.html")
        injected += done
        code, said = run(start, COMMAND_LINE, command, str(out))
        if code:
            stuck += 1
            raise AssertionError(f"{command}: {code} {said}")
    changed += not is_same_analysis(whole, out)
    changed += not is_whole_page(out / "report.html")
    changed += len(leftovers(out))
    return Figures(
        "kill -9 of analysis and of report at a random moment",
        injected,
        injected - changed - stuck,
        changed,
        stuck,
    )
