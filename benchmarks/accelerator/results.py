"""Keeps the results of one device in a JSON file, and knows the finished jobs."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.accelerator.work import Outcome, Row
from benchmarks.harness import version, write_json

MOST_FILES, MOST_BYTES, MOST_FOLDERS = 8, 16 * 2**20, 2
NAME = re.compile(r"[A-Za-z0-9._-]+")
VERSIONS = ("jax", "jaxlib", "torch")


class Results:
    """The results of one device, saved after every job.

    Attributes:
      path: of the JSON file, named after the device.
      content: the content of that file.
    """

    def __init__(self, out: Path, device: dict[str, Any], tiny: bool):
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", device["kind"]).strip("-")
        self.path = out / f"{'tiny-' * tiny}{name}.json"
        made_by = {**device, **{package: version(package) for package in VERSIONS}}
        self.content: dict[str, Any] = {"device": made_by, "tiny": tiny, "sections": {}}
        if self.path.exists():
            found = read(self.path)
            if found["device"] != made_by:
                raise ValueError(
                    f"{str(self.path)!r} holds results of {found['device']}, and this is "
                    f"{made_by}: choose another --out"
                )
            self.content = found

    def finished(self, section: str, job: str) -> bool:
        return self._job(section, job).get("complete", False)

    def rows(self, section: str, job: str) -> list[Row]:
        return self._job(section, job).get("rows", [])

    def keep(self, section: str, job: str, outcome: Outcome) -> None:
        """Adds a job's new rows to the earlier ones, and saves."""
        before = self._job(section, job)
        self._section(section)["jobs"][job] = {
            "complete": outcome.problem is None,
            "problem": outcome.problem,
            "seconds": round(before.get("seconds", 0.0) + outcome.seconds, 1),
            "rows": before.get("rows", []) + outcome.rows,
        }
        self.save()

    def save(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.content["written"] = now.isoformat(timespec="seconds")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_name(f".{self.path.name}")
        write_json(written, self.content)
        written.replace(self.path)

    def _section(self, name: str) -> dict[str, Any]:
        return self.content["sections"].setdefault(name, {"jobs": {}})

    def _job(self, section: str, job: str) -> dict[str, Any]:
        return self.content["sections"].get(section, {"jobs": {}})["jobs"].get(job, {})


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def too_much(out: Path) -> list[str]:
    """One sentence for each limit of a borrowed machine that a folder exceeds."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    told = [f"{len(paths)} files, {MOST_FILES} come back"] if len(paths) > MOST_FILES else []
    for path in paths:
        parts = path.relative_to(out).parts
        if path.stat().st_size > MOST_BYTES:
            told.append(f"{path.name} is larger than 16 MiB")
        if len(parts) > MOST_FOLDERS + 1:
            told.append(f"{path.name} lies in more than {MOST_FOLDERS} folders")
        told += [f"{part!r} is no plain name" for part in parts if not NAME.fullmatch(part)]
    return told
