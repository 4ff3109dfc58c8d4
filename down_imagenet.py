#!/usr/bin/env python3
"""The specification's command: put ImageNet where `main.py` looks for it. The same as `mess fetch imagenet`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "src"))  # this checkout, installed or not

if __name__ == "__main__":
    from mess.checkout import ensure_environment

    ensure_environment(HERE)
    from mess.cli import down_imagenet_main

    sys.exit(down_imagenet_main())
