#!/usr/bin/env python3
"""The specification's command: fetch public weights of a network. The same as `mess fetch weights`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "src"))  # this checkout, installed or not

if __name__ == "__main__":
    from mess.checkout import ensure_environment

    ensure_environment(HERE)
    from mess.cli import down_ckpt_main

    sys.exit(down_ckpt_main())
