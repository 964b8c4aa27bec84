"""Packages that an extra installs: they are imported late, where they are needed."""

from __future__ import annotations

import importlib

from onesided_jax.errors import missing

__all__ = ["need"]


def need(extra: str, purpose: str, *packages: str) -> None:
    """Imports the packages of an extra, or says how to install them.

    Raises:
      ImportError: `missing`, for the first one that is not installed.

    Example:
      >>> need("analysis", "analyze", "scipy")
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:  # it is there, and what it needs itself is not
                raise
            raise missing(package, extra, purpose) from None
