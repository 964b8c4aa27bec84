"""Errors that several rooms raise in the same words."""

from __future__ import annotations

__all__ = ["missing"]


def missing(package: str, extra: str, purpose: str) -> ImportError:
    """The error for a package that an extra installs.

    Args:
      package: the name that pip knows.
      extra: the extra of onesided-jax that installs it.
      purpose: what cannot be done without it; begins the sentence.

    Example:
      >>> print(missing("scipy", "analysis", "analyze"))
      analyze needs scipy: pip install 'onesided-jax[analysis]'
    """
    return ImportError(f"{purpose} needs {package}: pip install 'onesided-jax[{extra}]'")
