"""The argument parser of every verb: help that is read, and one line instead of a page where a flag is wrong."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

from mess.cli.config import add_config_flag, take_up
from mess.cli.output import add_output_flags
from mess.errors import OptionError, one_of

WIDTH = 80
MANY = 12  # arguments: more in the line of usage hide what has to be typed
KINDS = {"int": "a whole number", "float": "a number", "Path": "a path"}


class Help(RawDescriptionRichHelpFormatter):
    """Help with one look throughout, in which brackets are brackets."""

    text_markup = help_markup = False
    highlights: ClassVar = [*RawDescriptionRichHelpFormatter.highlights, r"(?m)^(?P<groups>Examples:)$"]
    group_name_formatter = staticmethod(lambda name: name[:1].upper() + name[1:])  # type: ignore[assignment]

    def add_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Any, prefix: str | None = None
    ) -> None:
        """Leave out the flags that may be left out, where they are many."""
        actions = list(actions)
        if len(actions) > MANY:
            flags = argparse.Action([], "flags", nargs="*", metavar="FLAG")
            actions = [flags, *(action for action in actions if action.required or not action.option_strings)]
        super().add_usage(usage, actions, groups, prefix)


class Gather(argparse.Action):
    """What "append" does, also while it is found out what was typed: defaults are Ellipses then."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _flag: str | None = None,
    ) -> None:
        """Add one more to what was said before."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*(before if isinstance(before, list) else ()), values])


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose mistakes are `OptionError`s that suggest the nearest flag or value."""

    def __init__(self, program: str, description: str, examples: str, verb: str = "") -> None:
        super().__init__(
            prog=program,
            description=description,
            epilog="\n".join(map(_folded, examples.splitlines())),
            formatter_class=Help,
            allow_abbrev=False,
        )
        self.verb = verb
        add_config_flag(self)
        add_output_flags(self)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the flags, and in `explicit` those that were typed, or that `--config` says: how they are typed again.

        Raises:
            OptionError: a flag or a value that is none.
        """
        configured = self._configured(argv)
        args, unknown = argparse.Namespace(), [word for word in argv if self._is_unknown(word)]
        if not unknown:  # else the value of a mistyped flag would be taken for DATA, and complained of first
            args, unknown = self.parse_known_args(argv)
        if unknown:
            self._refuse(unknown[0])
        # what was typed, as against what is a default: on a resume only the former overrules the checkpoint
        untouched = argparse.Namespace(**dict.fromkeys(vars(args), ...))
        typed = {name: value for name, value in vars(self.parse_args(argv, untouched)).items() if value is not ...}
        typed = configured | typed
        del args.config
        typed.pop("config", None)
        args.explicit = {a.dest: _words(a, typed[a.dest]) for a in self._actions if a.dest in typed}
        return args

    def _configured(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return what the file that `--config` names says, now the parser's defaults."""
        for at, word in enumerate(argv):
            flag, _, value = word.partition("=")
            if flag == "--config" and (value or argv[at + 1 :]):
                return take_up(Path(value or argv[at + 1]), self, self.verb)
        return {}

    def flags(self) -> list[str]:
        """Return every flag there is, long ones last."""
        return [flag for action in self._actions for flag in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Say argparse's message in our words; the page of usage it would print hides what is wrong."""
        known: list[tuple[str, Callable[[re.Match[str]], tuple[str, str, str]]]] = [
            (r"argument (\S+): invalid (\w+) value: '(.*)'", lambda m: (m[1], KINDS.get(m[2], m[2]), repr(m[3]))),
            (r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", _choice),
            (
                r"argument (\S+): expected (.*)",
                lambda m: (m[1], m[2].replace("argument", "value"), "none" if "one" in m[2] else "fewer"),
            ),
            (r"the following arguments are required: (.*)", lambda m: (self.prog, m[1], "nothing")),
        ]
        for pattern, said in known:
            if found := re.fullmatch(pattern, message, re.DOTALL):
                where, expected, value = said(found)
                raise OptionError(where, expected, value, self._hint())
        raise OptionError(self.prog, "other arguments", message, self._hint())

    def _is_unknown(self, word: str) -> bool:
        return word.startswith("--") and word.partition("=")[0] not in (*self.flags(), "--")

    def _refuse(self, argument: str) -> NoReturn:
        if not argument.startswith("-"):
            raise OptionError(self.prog, "nothing more", repr(argument), self._hint())
        near = one_of(self.flags(), argument.partition("=")[0]).partition(" (")[2]
        raise OptionError(self.prog, "one of its flags" + (f" ({near}" if near else ""), argument, self._hint())

    def _hint(self) -> str:
        return f"`{self.prog} --help` shows what there is"


def _folded(example: str) -> str:
    """Return a command as it is typed over several lines, where one of 80 columns is too short for it."""
    if len(example) <= WIDTH:
        return example
    at = example.rindex(" -", 0, WIDTH - 1)
    return f"{example[:at]} \\\n{_folded('    ' + example[at + 1 :])}"


def _words(action: argparse.Action, value: Any) -> list[str]:
    """Return the words on a command line that give a flag a value."""
    values = [] if action.nargs == 0 else value if isinstance(value, list) else [value]
    return [*action.option_strings[-1:], *map(str, values)]


def _choice(found: re.Match[str]) -> tuple[str, str, str]:
    choices = [choice.strip().strip("'") for choice in found[3].split(",")]
    return found[1], one_of(choices, found[2]), repr(found[2])
