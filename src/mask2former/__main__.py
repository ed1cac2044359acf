"""`python -m mask2former`, which `torchrun -m mask2former` runs too."""

import sys

from mask2former.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
