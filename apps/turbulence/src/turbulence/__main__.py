"""`python -m turbulence`, as torchrun calls it."""

import sys

from turbulence.cli import main

if __name__ == "__main__":
    sys.exit(main())
