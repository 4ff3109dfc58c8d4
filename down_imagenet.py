#!/usr/bin/env python3
"""The specification's command: put ImageNet where `main.py` looks for it. The same as `mess fetch imagenet`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # this checkout, installed or not

from mess.cli import down_imagenet_main

if __name__ == "__main__":
    sys.exit(down_imagenet_main())
