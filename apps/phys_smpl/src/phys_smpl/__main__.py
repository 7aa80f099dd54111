"""`python -m phys_smpl`, as torchrun calls it."""

import sys

from phys_smpl.cli import main

if __name__ == "__main__":
    sys.exit(main())
