"""The command line: arguments in, calls out, and the only place that prints. One file a verb.

`main` is `mess VERB …`; `specified_main` is the specification's `main.py DATA …`, which trains, or with -E tests.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from mess.errors import MessError, OptionError, one_of
from mess.version import __version__

__all__ = ["down_ckpt_main", "down_imagenet_main", "main", "specified_main"]

# verb -> what it does, in the order a newcomer meets them; each is a module here with `add_arguments` and `run`.
VERBS = {
    "demo": "see it all once: train, store, test from the file, retrain (offline, about 3 minutes)",
    "train": "train a network, plainly or with the scheme; retrain a stored one",
    "test": "test a network from a checkpoint or a .mess file",
    "compress": "store a checkpoint, or any weights file, as a .mess file",
    "decompress": "turn a .mess file back into ordinary weights",
    "inspect": "show what a .mess file holds, byte for byte",
    "fetch": "fetch datasets and public weights, checked",
}
EXIT_BAD_INPUT = 2

WELCOME = """MESS stores convolutional networks in very few bytes.

  [bold]mess demo[/]                                   see it all once
  [bold]mess train[/] digits -a resnet --epochs 10     train
  [bold]mess compress[/] CKPT -v v2                    store
  [bold]mess test[/] digits -a resnet --ckpt X.mess    test from the file
"""


# Waiting threads sleep instead of spinning (read by OpenMP when torch is imported). On a machine that has anything else
# to do this is up to ten times faster, on an idle one a few percent slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mess VERB …` and return its exit code: 0, 2 for bad input, 130 or 143 after a signal."""
    return _guarded(_mess, sys.argv[1:] if argv is None else list(argv))


def specified_main(argv: Sequence[str] | None = None) -> int:
    """Run the specification's `main.py DATA …`: every flag of `mess train`."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return _guarded(lambda a: _verb("train", "main.py", a), arguments)


def down_imagenet_main(argv: Sequence[str] | None = None) -> int:
    """Run the specification's `down_imagenet.py`."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return _guarded(lambda a: _verb("fetch", "down_imagenet.py", a, "add_imagenet_arguments"), arguments)


def down_ckpt_main(argv: Sequence[str] | None = None) -> int:
    """Run the specification's `down_ckpt.py DATA …`."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return _guarded(lambda a: _verb("fetch", "down_ckpt.py", a, "add_ckpt_arguments"), arguments)


def _mess(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        from rich.console import Console

        console = Console(highlight=False)
        console.print(WELCOME)
        console.print("\n".join(f"  [bold]{verb:<11}[/] {text}" for verb, text in VERBS.items()))
        console.print("\n`mess VERB --help` shows a verb's flags and examples.")
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"mess {__version__}")
        return 0
    if argv[0] not in VERBS:
        raise OptionError("mess", one_of(VERBS, argv[0]), argv[0])
    return _verb(argv[0], f"mess {argv[0]}", argv[1:])


def _verb(verb: str, program: str, argv: list[str], flags: str = "add_arguments") -> int:
    """Import only the verb that is asked for: `mess inspect` needs no torch."""
    from rich_argparse import RawDescriptionRichHelpFormatter

    module = import_module(f"mess.cli.{verb}")
    RawDescriptionRichHelpFormatter.group_name_formatter = lambda name: name[:1].upper() + name[1:]
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"{VERBS[verb][0].upper()}{VERBS[verb][1:]}.",
        epilog=module.EXAMPLES,
        formatter_class=RawDescriptionRichHelpFormatter,
        allow_abbrev=False,
    )
    getattr(module, flags)(parser)
    args = parser.parse_args(argv)
    # what was typed, as against what is a default: on a resume only the former overrules the checkpoint
    untouched = argparse.Namespace(**dict.fromkeys(vars(args), ...))
    args.explicit = {name for name, value in vars(parser.parse_args(argv, untouched)).items() if value is not ...}
    return module.run(args)


def _guarded(command: object, argv: list[str]) -> int:
    """Turn what can go wrong outside the program into one line and an exit code."""
    try:
        return command(argv)  # type: ignore[operator]
    except MessError as error:
        _complain(str(error))
        return EXIT_BAD_INPUT
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        _complain(f"{error.filename or 'system'}: {error.strerror or error}")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130


def _complain(message: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]mess:[/] {_escaped(message)}")


def _escaped(message: str) -> str:
    from rich.markup import escape

    return escape(message)
