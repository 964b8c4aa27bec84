"""A data set from a folder of PNG and JPEG images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onesided_jax.datasets.files import expand_user
from onesided_jax.datasets.images import Dataset, from_array
from onesided_jax.errors import missing

__all__ = ["image_files", "image_folder", "image_shape"]

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY = ("1", "L", "LA")
DEEP = ("I", "F")  # first letters of the modes with more than eight bits a channel


def image_folder(path: str | os.PathLike[str], size: int | Sequence[int] = 64) -> Dataset:
    """Makes a data set from the PNG and JPEG files in a folder and its subfolders.

    Each image is rotated by its EXIF orientation, cropped around the centre to the proportions of
    ``size``, and resized (bilinear, antialiased). If every image is grey, the data have one
    channel. If any has colours, all become RGB; transparency is dropped. All pixels are held in
    memory. Reading many files is slow. To read them only once, save ``data`` and ``labels`` with
    ``np.savez(FILE, x_train=data, y_train=labels)`` and use ``npz:FILE``.

    Args:
      path: the folder; ``~`` is expanded. If every image is in a subfolder, the subfolders in
        alphabetical order are the classes 0, 1, ...; otherwise there are no labels.
      size: image size, one integer or ``(height, width)``.

    Returns:
      The data set, named ``images:PATH``, sorted by file path.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if the folder has no image, an image cannot be read, or ``size`` is invalid.
      ImportError: if pillow is not installed.

    Example:
      >>> import pathlib, tempfile, numpy as np, matplotlib.image
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     matplotlib.image.imsave(pathlib.Path(folder) / "a.png", np.zeros((90, 70, 3)))
      ...     image_folder(folder, size=32).shape
      (32, 32, 3)
    """
    shape = image_shape(size)
    folder = expand_user(path)
    if not str(path) or not folder.is_dir():
        raise FileNotFoundError(f"images:{path}: expected a folder of PNG or JPEG files")
    files = image_files(folder)
    if not files:
        raise ValueError(
            f"images:{path}: expected files ending in {', '.join(SUFFIXES)}; the folder and its "
            "subfolders have none"
        )
    pictures = [_read(file, shape) for file in files]
    if any(picture.ndim == 3 for picture in pictures):
        pictures = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]
    parents = [file.relative_to(folder).parts[:-1][:1] for file in files]
    classes = sorted(set(parents))
    labels = None if () in classes else np.array([classes.index(parent) for parent in parents])
    return from_array(np.stack(pictures), name=f"images:{path}", labels=labels)


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def image_shape(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width from one integer or two; ``ValueError`` for anything else."""
    sides: Any = tuple(size) if isinstance(size, Sequence) else (size, size)
    whole = all(isinstance(side, int | np.integer) and side >= 1 for side in sides)
    if len(sides) != 2 or not whole or isinstance(size, bool):
        raise ValueError(f"size={size!r}: expected an integer >= 1, or (height, width), e.g. 64")
    return int(sides[0]), int(sides[1])


def _read(file: Path, shape: tuple[int, int]) -> np.ndarray:
    """Reads one image, ``uint8[*shape]`` if grey, else ``uint8[*shape, 3]``."""
    try:
        from PIL import Image, ImageOps  # optional
    except ModuleNotFoundError:
        raise missing("pillow", "cli", "images:FOLDER") from None
    try:
        with Image.open(file) as opened:
            mode = opened.mode
            picture = ImageOps.exif_transpose(opened).convert("L" if mode in GREY else "RGB")
            picture = ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.BILINEAR)
    except Exception as error:  # a damaged file can raise anything, from OSError to SyntaxError
        raise ValueError(f"{file}: cannot be read as an image: {error}") from error
    if mode.startswith(DEEP):
        raise ValueError(f"{file}: expected 8 bits a channel; got an image of mode {mode!r}")
    return np.asarray(picture)
