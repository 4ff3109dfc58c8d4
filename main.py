#!/usr/bin/env python3
"""The specification's command: train, test, resume or retrain a network. The same as `mess train`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "src"))  # this checkout, installed or not

if __name__ == "__main__":
    from mess.checkout import ensure_environment

    ensure_environment(HERE)
    from mess.cli import specified_main

    sys.exit(specified_main())
