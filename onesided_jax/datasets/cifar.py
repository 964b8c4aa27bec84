"""CIFAR-10, from the binary version, which has no pickles, unlike the Python version."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from onesided_jax.datasets.files import OfficialFile, check_split, find, find_in
from onesided_jax.datasets.images import Dataset, from_array

__all__ = ["cifar10"]

ARCHIVE = OfficialFile(
    "cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    (
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    ),
)
INSIDE = "cifar-10-batches-bin"
FOLDERS = ("cifar10", "cifar-10", "CIFAR10")
BATCHES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
IMAGE = (3, 32, 32)  # channels first, as stored
RECORD = 1 + 3 * 32 * 32  # the label, then the image
LARGEST = 2**28  # most bytes of one batch; the official batches have 3.1e7
CLASSES = 10
PIECE = 2**20
EXPECTED = (
    "expected CIFAR-10's binary version, cifar-10-binary.tar.gz or its folder cifar-10-batches-bin "
    "(the Python version is not read: it holds pickles)"
)


def cifar10(split: str = "train", data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads CIFAR-10: 50,000 colour photographs of ten classes, and 10,000 held out.

    Reads the official archive ``cifar-10-binary.tar.gz`` without unpacking it, from ``data_dir`` if
    given, else from ``$ONESIDED_DATA`` if the archive is there. Otherwise downloads it once
    (170 MB) into the cache directory (see `mnist5k`) and checks its SHA-256. The archive may be
    directly in the directory or in its folder ``cifar10`` or ``cifar-10``. An unpacked
    ``cifar-10-batches-bin`` works too.

    Args:
      split: ``"train"`` or ``"test"``.
      data_dir: a directory with the files; ``~`` is expanded.

    Returns:
      The data set of ``(32, 32, 3)`` images, with labels 0 to 9 (airplane, automobile, bird, cat,
      deer, dog, frog, horse, ship, truck).

    Raises:
      FileNotFoundError: if ``data_dir`` does not have the files.
      OSError: if the download fails.
      ValueError: for an unknown split, or a file that is damaged or has unexpected content.

    Example::

      photographs = cifar10(data_dir="~/data")
      held_out = cifar10("test", data_dir="~/data")

    References:
      Krizhevsky, Learning multiple layers of features from tiny images, technical report,
      University of Toronto, 2009.
    """
    check_split("cifar10", split)
    wanted = BATCHES[split]
    unpacked = _find_unpacked(wanted, data_dir)
    if unpacked is None:
        try:
            path = find("cifar10", ARCHIVE, FOLDERS, data_dir)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; {EXPECTED}") from None
        batches = _read_archive(path, wanted)
    else:
        batches = [_parse(path.read_bytes(), str(path)) for path in unpacked]
    labels, images = (np.concatenate(parts) for parts in zip(*batches))
    return from_array(images, name="cifar10", labels=labels)


def _find_unpacked(wanted: list[str], data_dir: str | os.PathLike[str] | None) -> list[Path] | None:
    place = os.environ.get("ONESIDED_DATA") if data_dir is None else data_dir
    if not place:
        return None
    folders = [f"{folder}/{INSIDE}" for folder in (".", *FOLDERS)]
    try:
        return [find_in("cifar10", Path(place), [name], folders) for name in wanted]
    except FileNotFoundError:
        return None


def _read_archive(path: Path, wanted: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reads the wanted batches of the archive; every member is checked, nothing is unpacked."""
    contents: dict[str, bytes] = {}
    try:
        # Read the stream to its end, because gzip compares its checksum there.
        with gzip.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=PIECE) as archive:
                for member in archive:
                    name = _safe_name(member)
                    if name in contents:
                        raise ValueError(f"holds {member.name} twice")
                    if name in wanted:
                        contents[name] = _content(archive, member)
            while stream.read(PIECE):
                pass
        missing = [name for name in wanted if name not in contents]
        if missing:
            raise ValueError(f"holds no {INSIDE}/{missing[0]}")
    except Exception as error:  # a damaged file can raise anything, from zlib.error to struct.error
        raise ValueError(f"{path}: {error or type(error).__name__}; {EXPECTED}") from error
    return [_parse(contents[name], f"{path}: {name}") for name in wanted]


def _safe_name(member: tarfile.TarInfo) -> str | None:
    """The name of a batch, ``None`` for another member; ``ValueError`` for an unsafe member."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        raise ValueError(f"holds {member.name!r}, which is a link or leads out of its folder")
    is_batch = member.isreg() and path.parent == PurePosixPath(INSIDE)
    return path.name if is_batch else None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > LARGEST:
        raise ValueError(f"declares {member.size} bytes for {member.name}, more than {LARGEST}")
    file = archive.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise ValueError(f"declares {member.size} bytes for {member.name}, holds {len(content)}")
    return content


def _parse(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``uint8[N]`` and images ``uint8[N, 32, 32, 3]`` of one batch."""
    count, rest = divmod(len(content), RECORD)
    if rest or not count:
        raise ValueError(
            f"{where}: has {len(content)} bytes; expected a positive multiple of {RECORD}"
        )
    records = np.frombuffer(content, np.uint8).reshape(count, RECORD)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        raise ValueError(f"{where}: has the label {labels.max()}; expected labels below {CLASSES}")
    return labels, records[:, 1:].reshape(count, *IMAGE).transpose(0, 2, 3, 1)
