"""Sentences of errors that several rooms raise."""

from __future__ import annotations

__all__ = ["missing"]


def missing(package: str, extra: str, purpose: str) -> ImportError:
    """The error for a package that an extra brings.

    Args:
      package: the package that cannot be imported.
      extra: the extra of onesided-jax that brings it.
      purpose: who needs it, the subject of the sentence.

    Returns:
      The error, to be raised.

    Example:
      >>> print(missing("scipy", "analysis", "analyze"))
      analyze needs scipy: pip install 'onesided-jax[analysis]'
    """
    return ImportError(f"{purpose} needs {package}: pip install 'onesided-jax[{extra}]'")
