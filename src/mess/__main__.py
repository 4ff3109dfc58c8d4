"""`python -m mess` is `mess`."""

import sys

from mess.cli import main

if __name__ == "__main__":
    sys.exit(main())
