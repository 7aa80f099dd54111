"""`python -m noa`, as torchrun calls it."""

import sys

from noa.cli import main

if __name__ == "__main__":
    sys.exit(main())
