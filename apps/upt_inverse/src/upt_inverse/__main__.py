"""`python -m upt_inverse`, as torchrun calls it."""

import sys

from upt_inverse.cli import main

if __name__ == "__main__":
    sys.exit(main())
