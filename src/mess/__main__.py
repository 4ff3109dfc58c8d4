"""`python -m mess` is `mess`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    from mess.checkout import ensure_environment

    ensure_environment(Path(__file__).resolve().parents[2])
    from mess.cli import main

    sys.exit(main())
