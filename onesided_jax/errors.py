"""The errors of the package that have one form everywhere."""

from __future__ import annotations

__all__ = ["missing"]


def missing(package: str, extra: str, purpose: str) -> ImportError:
    """The error for a package that an extra installs.

    Example:
      >>> missing("xarray", "analysis", "analyze")
      ImportError("analyze needs xarray: pip install 'onesided-jax[analysis]'")
    """
    return ImportError(f"{purpose} needs {package}: pip install 'onesided-jax[{extra}]'")
