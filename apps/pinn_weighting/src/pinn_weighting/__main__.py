"""`python -m pinn_weighting`, as torchrun calls it."""

import sys

from pinn_weighting.cli import main

if __name__ == "__main__":
    sys.exit(main())
