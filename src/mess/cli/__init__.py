"""The command line: arguments in, calls out, and the only place that prints. One file a verb.

`main` is `mess VERB …`; the others are the specification's programs, each a verb under another name.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from mess.errors import EXIT_BAD_INPUT, MessError, OptionError, one_of
from mess.version import __version__

if TYPE_CHECKING:
    from mess.cli.parser import Parser

__all__ = ["down_ckpt_main", "down_imagenet_main", "main", "specified_main"]

LOG = logging.getLogger("mess")
NO_MEMORY = ("can't allocate memory", "out of memory")  # as torch says it
# verb -> what it does, in the order a newcomer meets them; each is a module here with `add_arguments` and `run`.
VERBS = {
    "demo": "see it all once: train, store, test, retrain (offline, 3 minutes)",
    "train": "train a network, plainly or with the scheme; retrain a stored one",
    "train-all": "train every network on every dataset, one after the other",
    "test": "test a network from a checkpoint or a .mess file",
    "compress": "store a checkpoint, or any weights file, as a .mess file",
    "decompress": "turn a .mess file into weights, an ONNX model or C",
    "predict": "say what a stored network sees in images",
    "verify": "check .mess files, every number in them decoded",
    "diff": "compare two networks layer by layer: error and bytes",
    "reader": "say which reader of .mess files serves; build the one in C, which is faster",
    "inspect": "show what a .mess file holds, byte for byte",
    "report": "draw files and runs as one page: curves, bytes, references, errors",
    "card": "write the model card of a stored network, as the Hugging Face hub takes it",
    "push": "upload a stored network and its card to the Hugging Face hub",
    "fetch": "fetch datasets and public weights, checked",
    "clean": "delete the checkpoints of single epochs",
    "info": "say what is installed, on what is computed and where things lie",
    "completion": "print what makes the shell complete verbs, flags and names",
}

WELCOME = """MESS stores convolutional networks in very few bytes.

[bold]Start here[/]
  [cyan]mess demo[/]                                                    see it all once
  [cyan]mess train digits -a resnet --layers 20 --epochs 10[/]          train
  [cyan]mess compress checkpoint/resnet/digits/ckpt_best.pth -v v4[/]   store
  [cyan]mess test digits -a resnet --ckpt ckpt_best_v4.mess[/]          test the file

[bold]Verbs[/]"""


# Waiting threads sleep instead of spinning (read by OpenMP when torch is imported). On a machine that has anything else
# to do this is up to ten times faster, on an idle one a few percent slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mess VERB …` and return its exit code: 0, 2 for bad input, 130 or 143 after a signal."""
    return _guarded(_mess, argv)


def specified_main(argv: Sequence[str] | None = None) -> int:
    """Run the specification's `main.py DATA …`: every flag of `mess train`."""
    return _guarded(lambda arguments: _run("train", arguments, "main.py"), argv)


def down_imagenet_main(argv: Sequence[str] | None = None) -> int:
    """Run the specification's `down_imagenet.py`: `mess fetch imagenet`."""
    return _guarded(lambda arguments: _run("fetch", arguments, "down_imagenet.py", "add_imagenet_arguments"), argv)


def down_ckpt_main(argv: Sequence[str] | None = None) -> int:
    """Run the specification's `down_ckpt.py DATA …`: `mess fetch weights`."""
    return _guarded(lambda arguments: _run("fetch", arguments, "down_ckpt.py", "add_ckpt_arguments"), argv)


def module_of(verb: str) -> ModuleType:
    """Import only the verb that is asked for: `mess inspect` needs no torch."""
    return import_module(f"mess.cli.{verb.replace('-', '_')}")


def make_parser(verb: str, program: str = "", flags: str = "add_arguments") -> Parser:
    """Return the parser of a verb.

    Args:
        program: what stands in place of `mess VERB`: a program of the specification.
        flags: the function of the verb's module that adds the flags.
    """
    from mess.cli.parser import Parser

    module = module_of(verb)
    description, examples = f"{VERBS[verb][0].upper()}{VERBS[verb][1:]}.", module.EXAMPLES
    if program:
        description, examples = f"{description[:-1]}: `mess {verb}` under another name.", SPECIFIED_EXAMPLES[program]
    parser = Parser(program or f"mess {verb}", description, examples, verb)
    getattr(module, flags)(parser)
    return parser


SPECIFIED_EXAMPLES = {
    "main.py": """Examples:
  python main.py cifar10 -a mobilenet -C -g 0 1 2 3 -b 256
  python main.py cifar10 -a mobilenet -C -g 0 1 2 3 -b 256 -R --ckpt ckpt_epoch_50.pth
  python main.py cifar10 -a mobilenet -C -g 0 1 2 3 -b 256 -E --ckpt ckpt_best.pth
  python main.py cifar10 -a resnet --layers 20 -N -v v2 -s 5""",
    "down_imagenet.py": """Examples:
  python3 down_imagenet.py --source tar --archives ~/downloads
  python3 down_imagenet.py --source hf          (with a token in HF_TOKEN)""",
    "down_ckpt.py": """Examples:
  python down_ckpt.py imagenet -a mobilenet -o pretrained_model.pth
  python down_ckpt.py --list
  python down_ckpt.py --all -o pretrained""",
}


def _mess(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        _welcome()
        return 0
    if argv[0] in ("-V", "--version"):
        from mess.codec.native import reader_name

        print(f"mess {__version__}\nfiles are read by {reader_name()}")
        return 0
    if argv[0] not in VERBS:
        raise OptionError("verb", one_of(VERBS, argv[0]), argv[0], "`mess` alone shows what to do first")
    return _run(argv[0], argv[1:])


def _welcome() -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(WELCOME, soft_wrap=True)
    verbs = Table.grid(padding=(0, 2))
    for verb, text in VERBS.items():
        verbs.add_row(f"  [cyan]{verb}[/]", text)
    console.print(verbs)
    console.print("\n`mess VERB --help` shows flags and examples, docs/GUIDE.md the whole way.")


def _run(verb: str, argv: list[str], program: str = "", flags: str = "add_arguments") -> int:
    from mess.cli.output import set_up

    args = make_parser(verb, program, flags).parse(argv)
    set_up(args)
    LOG.info("mess %s: %s", __version__, verb)
    return module_of(verb).run(args)


def _guarded(command: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Turn what can go wrong outside the program into one line and an exit code."""
    from mess.cli.plain import make_plain

    make_plain()
    try:
        return command(sys.argv[1:] if argv is None else list(argv))
    except MessError as error:
        LOG.info("where it came from", exc_info=True)
        _complain(str(error))
        return EXIT_BAD_INPUT
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        _complain(f"{error.filename or 'system'}: {error.strerror or error}")
        return EXIT_BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        _complain(f"not enough memory: {str(error).strip().splitlines()[0] if str(error).strip() else 'none is left'}")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130


def _complain(message: str) -> None:
    if sys.stderr is None:  # closed by who started us
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]mess:[/] {escape(message)}", soft_wrap=not console.is_terminal)
