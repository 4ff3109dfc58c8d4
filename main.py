#!/usr/bin/env python3
"""The specification's command: train, test, resume or retrain a network. The same as `mess train`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # this checkout, installed or not

from mess.cli import specified_main

if __name__ == "__main__":
    sys.exit(specified_main())
