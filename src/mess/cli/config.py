"""`--config run.toml`: flags from a file. What is typed comes before it, a verb's table before the top of the file.

::

    datapath = "/data"            # for every verb that has this flag
    [train]
    epochs = 50
    gpuids = [0, 1]
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mess.errors import OptionError, one_of

NOT_IN_FILES = ("help", "config")
MANY_VALUES = ("+", "*")


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that every verb has."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="flags from a TOML file; what is typed comes before it"
    )


def take_up(path: Path, parser: argparse.ArgumentParser, verb: str) -> dict[str, Any]:
    """Make what a file says the defaults of a parser, and return it by attribute.

    Raises:
        OptionError: no TOML, a key that is no flag, or a value that the flag cannot have.
        OSError: the file cannot be read.
    """
    flags = flags_of(parser)
    found: dict[str, Any] = {}
    for key, value in _chosen(path, read_toml(path), flags, verb).items():
        action = flags[_plain(key)]
        found[action.dest] = action.default = _value(parser, action, value, f"{path}: {key}")
        action.required = False
        if not action.option_strings:
            action.nargs = "*" if action.nargs in MANY_VALUES else "?"
    return found


def flags_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the flags and arguments of a parser by the names that a file may give them, with _ in place of -."""
    named: dict[str, argparse.Action] = {}
    for action in parser._actions:
        if action.dest not in NOT_IN_FILES:
            names = [flag for flag in action.option_strings if flag.startswith("--")]
            named |= {_plain(name.lstrip("-")): action for name in (*names, action.dest)}
    return named


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says; raises OptionError for any other file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionError(path, "a TOML file", str(error).partition("\n")[0]) from error


def _chosen(path: Path, told: Mapping[str, Any], flags: Mapping[str, Any], verb: str) -> dict[str, Any]:
    """Return what counts for a verb; keys at the top may be of other verbs, but of some."""
    from mess.cli import VERBS, make_parser

    chosen: dict[str, Any] = {}
    for key, value in told.items():
        if isinstance(value, dict):
            if key.replace("_", "-") not in VERBS:
                raise OptionError(f"{path}: [{key}]", one_of(VERBS, key), key)
        elif _plain(key) in flags:
            chosen[_plain(key)] = value
        else:
            every = {name for other in VERBS for name in flags_of(make_parser(other))}
            if _plain(key) not in every:
                raise _unknown(f"{path}: {key}", every, key, "a flag of some verb")
    for key, value in _table(told, verb).items():
        if _plain(key) not in flags:
            raise _unknown(f"{path}: [{verb}] {key}", flags, key, f"a flag of mess {verb}")
        chosen[_plain(key)] = value
    return chosen


def _table(told: Mapping[str, Any], verb: str) -> dict[str, Any]:
    tables = (told.get(name) for name in (verb, verb.replace("-", "_")))
    return next((table for table in tables if isinstance(table, dict)), {})


def _unknown(where: str, names: Iterable[str], found: str, expected: str) -> OptionError:
    near = difflib.get_close_matches(_plain(found), [*names], n=1, cutoff=0.5)
    return OptionError(where, expected + (f" (did you mean {near[0]}?)" if near else ""), found)


def _value(parser: argparse.ArgumentParser, action: argparse.Action, value: Any, where: str) -> Any:
    """Return the value of an attribute, converted and checked as if it had been typed."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise OptionError(where, "true or false", repr(value))
        return value
    parts = value if isinstance(value, list) else [value]
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, int | float | str):
            raise OptionError(where, "a number or a string", repr(part))
    several = isinstance(action.nargs, int) or action.nargs in MANY_VALUES
    if isinstance(value, list) and not several:
        raise OptionError(where, "one value", f"{len(parts)}")
    if isinstance(action.nargs, int) and len(parts) != action.nargs:
        raise OptionError(where, f"{action.nargs} values", len(parts))
    try:
        made = [parser._get_value(action, str(part)) for part in parts]
        for part in made:
            parser._check_value(action, part)
    except argparse.ArgumentError as error:
        raise OptionError(where, "what the flag takes", error.message) from error
    except OptionError as error:
        raise OptionError(where, error.expected, error.found, error.hint) from error
    return made if several else made[0]


def _plain(name: str) -> str:
    return name.replace("-", "_")
