"""`python -m hxp_harness` is `hxp`."""

import sys

from hxp_harness.cli import main

if __name__ == "__main__":
    sys.exit(main())
