"""`mess completion`: a script that lets bash, zsh or tcsh complete verbs, flags, names and files."""

from __future__ import annotations

import argparse

from mess.cli.config import add_config_flag
from mess.cli.fetch import WHAT
from mess.cli.output import add_output_flags
from mess.errors import OptionError
from mess.names import DATASETS, FAMILIES, VERSIONS

EXAMPLES = """Examples:
  mess completion bash > ~/.local/share/bash-completion/completions/mess
  mess completion zsh > ~/.zfunc/_mess        (with ~/.zfunc in fpath)
  eval "$(mess completion bash)"              for this shell alone"""
SHELLS = ("bash", "zsh", "tcsh")
# name of an argument -> what it may be; those that name files are told by their metavar
VALUES = {
    "arch": FAMILIES,
    "data": DATASETS,
    "calibration": DATASETS,
    "test": DATASETS,
    "version": VERSIONS,
    "what": WHAT,
    "shell": SHELLS,
}
FILES = ("CKPT", "FILE", "FILE.mess")
FOLDERS = ("FOLDER", "PATH")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess completion`."""
    parser.add_argument("shell", metavar="SHELL", help=" | ".join(SHELLS))


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    if args.shell not in SHELLS:
        raise OptionError("SHELL", f"one of {', '.join(SHELLS)}", args.shell)
    import shtab

    print(shtab.complete(whole_parser(), shell=args.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Return one parser with every verb in it, each argument with what may stand in its place."""
    import shtab

    from mess.cli import VERBS, module_of

    parser = argparse.ArgumentParser(prog="mess", allow_abbrev=False)
    parser.add_argument("-V", "--version", action="store_true", help="say which version this is")
    verbs = parser.add_subparsers(dest="verb")
    for verb, text in VERBS.items():
        added = verbs.add_parser(verb, help=text, allow_abbrev=False)
        add_config_flag(added)
        add_output_flags(added)
        module_of(verb).add_arguments(added)
    for sub in verbs.choices.values():
        for action in sub._actions:
            if action.dest in VALUES and action.nargs != 0:
                action.choices = VALUES[action.dest]
            elif action.metavar in FILES or action.dest == "ckpt":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar in FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return parser
