"""`mess verify`: files are read from first to last byte, every number in them decoded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.markup import escape

from mess import hub
from mess.cli.flags import MAX_BYTES
from mess.cli.output import make_console
from mess.codec.model_file import LARGEST_MODEL
from mess.display.sizes import parse_size
from mess.errors import EXIT_BAD_INPUT, MessError
from mess.files import named_files

EXAMPLES = """Examples:
  mess verify net.mess
  mess verify models/ --json        # every .mess file in a folder; exit code 2 if any is damaged
  mess verify large.mess --max-bytes 8GB"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess verify`."""
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help=".mess files, and folders of them")
    MAX_BYTES.add_to(parser)
    parser.add_argument("--json", action="store_true", help="for programs: a list, on standard output")


def run(args: argparse.Namespace) -> int:
    """Check each file and say so; 2 if one breaks the format."""
    console = make_console(args, stderr=args.json)
    max_bytes = parse_size(args.max_bytes, "--max-bytes") or LARGEST_MODEL
    rows = []
    for path in named_files(map(hub.local, args.files), (".mess",), "FILE"):
        row = checked(path, max_bytes)
        rows.append(row)
        if "error" in row:
            console.print(f"[bold red]failed[/]  {escape(str(row['error']))}", soft_wrap=True)
        else:
            console.print(
                f"[green]ok[/]  [bold]{escape(str(path))}[/]  {row['bytes']:,} B, {row['tensors']} tensors, "
                f"format {row['format']}, SHA-256 {str(row['sha256'])[:16]}…",
                soft_wrap=True,
            )
    if args.json:
        print(json.dumps(rows, indent=1))
    return EXIT_BAD_INPUT if any("error" in row for row in rows) else 0


def checked(path: Path, max_bytes: int) -> dict[str, object]:
    """Return what a file is, or under "error" what is wrong with it."""
    from mess.inspection import decode, inspect

    try:
        info = inspect(path, max_bytes=max_bytes)
        tensors = decode(path, max_bytes=max_bytes)
    except MessError as error:
        return {"file": str(path), "error": str(error)}
    except MemoryError:
        return {
            "file": str(path),
            "error": f"{path}: more memory is needed than there is. --max-bytes refuses such files",
        }
    except OSError as error:
        return {"file": str(path), "error": f"{path}: {error.strerror or error}"}
    return {
        "file": str(path), "bytes": info.bytes, "tensors": tensors, "format": "{}.{}".format(*info.format),
        "sha256": info.sha256,
    }  # fmt: skip
