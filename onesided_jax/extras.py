"""Late imports of optional packages."""

from __future__ import annotations

import importlib

from onesided_jax.errors import missing

__all__ = ["need"]


def need(extra: str, purpose: str, *packages: str) -> None:
    """Imports packages of an extra.

    Raises:
      ImportError: for the first missing package, with the install command.

    Example:
      >>> need("analysis", "analyze", "scipy")
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:  # the package is installed, but one of its imports is not
                raise
            raise missing(package, extra, purpose) from None
