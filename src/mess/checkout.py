"""A checkout that is run without its environment: go on in `.venv` where there is one, else say how to make it.

Imports nothing that has to be installed.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "numpy", "constriction", "zstandard", "rich", "rich_argparse")  # without these nothing starts
OLDEST = (3, 10)


def ensure_environment(root: Path) -> None:
    """Return if this Python has what MESS needs; else go on with that of `root`/.venv, with the same arguments.

    Args:
        root: of the checkout.

    Raises:
        SystemExit: there is no such environment, or it lacks something, too; says what to do.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if sys.version_info < OLDEST:
        missing = ["Python {}.{}".format(*OLDEST)]
    if not missing:
        return
    own = root / ".venv"
    python = own / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.is_file() and Path(sys.prefix).resolve() != own.resolve():
        os.execv(python, [str(python), *sys.orig_argv[1:]])  # noqa: S606 - the checkout's own interpreter
    where = f"in {root}" if (root / "Makefile").is_file() else "or `pip install mess-cnn`"
    sys.stderr.write(f"mess: {sys.executable} lacks {', '.join(missing)}: `make install` {where} brings all of it\n")
    sys.exit(2)
