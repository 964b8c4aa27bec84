"""Finds the files of a data set in a directory of the user or in the cache, or downloads them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from onesided_jax.errors import missing

SPLITS = ("train", "test")
_SHOWN = 12  # files that a message lists


class OfficialFile(NamedTuple):
    """A file as its authors published it.

    Attributes:
      name: the file's name.
      sha256: SHA-256 of the downloaded file.
      mirrors: web folders that hold the file, tried in this order.
    """

    name: str
    sha256: str
    mirrors: tuple[str, ...]


def check_split(dataset: str, split: str) -> None:
    """Raises ``ValueError`` unless ``split`` is ``"train"`` or ``"test"``."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: {dataset} has the splits 'train' and 'test'")


def expand_user(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` expanded; ``~name`` stays unchanged for an unknown user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111, Path.expanduser may raise RuntimeError


def cache_directory() -> Path:
    """``$ONESIDED_CACHE``, else ``onesided_jax`` in the user's cache directory."""
    if own := os.environ.get("ONESIDED_CACHE"):
        return expand_user(own)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expand_user(base) / "onesided_jax"


def find(
    dataset: str,
    file: OfficialFile,
    folders: Sequence[str],
    data_dir: str | os.PathLike[str] | None,
    others: Sequence[str] = (),
) -> Path:
    """Finds a file of a data set, or downloads it into the cache.

    The file must be in ``data_dir`` if that is given. In ``$ONESIDED_DATA``, which serves all data
    sets, it may be missing. ``folders`` are possible names of the data set's folder, ``others``
    other names of the file.
    """
    names = (file.name, *others)
    if data_dir is not None:
        return find_in(dataset, Path(data_dir), names, folders)
    if shared := os.environ.get("ONESIDED_DATA"):
        try:
            return find_in(dataset, Path(shared), names, folders)
        except FileNotFoundError:
            if not expand_user(shared).is_dir():
                raise
    return _download(dataset, file)


def find_in(dataset: str, directory: Path, names: Sequence[str], folders: Sequence[str]) -> Path:
    """The first of the named files, in one of ``folders`` or directly in the directory."""
    root = expand_user(directory)
    if not root.is_dir():
        raise FileNotFoundError(
            f"{dataset}: {directory} is no directory; expected one with {names[0]}"
        )
    places = [root / folder for folder in (*folders, ".")]
    holdings = [(place, _files_of(place)) for place in places]
    for place, files in holdings:
        for name in names:
            if name.lower() in files:
                return place / files[name.lower()]
    listed = [f"{place} holds {_listed(files)}" for place, files in holdings if files]
    raise FileNotFoundError(
        f"{dataset}: found no {' or '.join(names)} in {root} nor in its folders "
        f"{', '.join(folders)}; {'; '.join(listed) or 'there are no files at all'}"
    )


def _files_of(folder: Path) -> dict[str, str]:
    """Lower-case name to name of each file in a folder; empty if there is no such folder."""
    if not folder.is_dir():
        return {}
    return {path.name.lower(): path.name for path in sorted(folder.iterdir()) if path.is_file()}


def _listed(files: Mapping[str, str]) -> str:
    names = list(files.values())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _download(dataset: str, file: OfficialFile) -> Path:
    folder = cache_directory() / dataset
    cached = folder / file.name
    if cached.is_file() and hashlib.sha256(cached.read_bytes()).hexdigest() == file.sha256:
        return cached
    try:
        import pooch  # only for downloads, because the import takes 0.1 s
    except ModuleNotFoundError:
        purpose = f"{dataset}: downloading (or name a directory with the files by ONESIDED_DATA)"
        raise missing("pooch", "cli", purpose) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{dataset}: cannot download to {folder} ({error}); "
            "set ONESIDED_CACHE to a writable directory"
        ) from error
    failures = []
    for mirror in file.mirrors:
        try:
            return Path(
                pooch.retrieve(
                    mirror + file.name, f"sha256:{file.sha256}", fname=file.name, path=folder
                )
            )
        except (OSError, ValueError) as error:  # no answer, or another SHA-256
            failures.append(f"{mirror}: {error}")
    raise OSError(
        f"{dataset}: cannot download {file.name}; put the official files into a directory and pass "
        f"it as ONESIDED_DATA, data_dir or '{dataset}:DIRECTORY'. Tried {'; '.join(failures)}"
    )
