#!/usr/bin/env python3
"""The specification's command: fetch public weights of a network. The same as `mess fetch weights`."""

import sys

from mess.cli import down_ckpt_main

if __name__ == "__main__":
    sys.exit(down_ckpt_main())
