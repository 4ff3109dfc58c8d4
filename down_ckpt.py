#!/usr/bin/env python3
"""The specification's command: fetch public weights of a network. The same as `mess fetch weights`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # this checkout, installed or not

from mess.cli import down_ckpt_main

if __name__ == "__main__":
    sys.exit(down_ckpt_main())
