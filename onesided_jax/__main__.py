"""``python -m onesided_jax`` is the command ``onesided``."""

import sys

from onesided_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
