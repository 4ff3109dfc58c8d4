"""`mess info`: this machine, what is installed, on what is computed, where things lie."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.markup import escape
from rich.table import Table

from mess.cli.flags import DATAPATH
from mess.cli.output import make_console
from mess.installation import installation

EXAMPLES = """Examples:
  mess info
  mess info --json          for programs, and for reports of what went wrong"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess info`."""
    DATAPATH.add_to(parser)
    parser.add_argument("--json", action="store_true", help="for programs: everything, on standard output")


def run(args: argparse.Namespace) -> int:
    """Look and print."""
    found = installation(args.datapath)
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    console = make_console(args)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, line in lines_of(found):
        table.add_row(name, escape(line))
    console.print(table)
    return 0


def lines_of(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was found in lines, each with its name; further lines of one kind have none."""
    machine, devices, reader = (found[name] for name in ("machine", "devices", "reader"))
    memory = f", {machine['memory_bytes'] / 2**30:.1f} GiB" if machine["memory_bytes"] else ""
    build = f", {reader['library']}" if reader["library"] else "; `mess reader --build` compiles one in C"
    groups = {
        "mess": [f"{found['mess']['version']}, in {found['mess']['folder']}"],
        "python": [f"{machine['python']}, {machine['executable']}"],
        "machine": [f"{machine['system']}, {machine['processor']}, {machine['cores']} cores{memory}"],
        "packages": [", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())],
        "devices": [devices.get("error") or _computing(devices)],
        "reader": [f"files are read by {reader['name']}{build}"],
        "extras": [_extra(extra, packages) for extra, packages in found["extras"].items()],
        "folders": [_folder(place, told) for place, told in found["folders"].items()],
        "settings": [f"{name}={value}" for name, value in found["settings"].items()],
    }
    return [("" if place else name, line) for name, lines in groups.items() for place, line in enumerate(lines)]


def _extra(extra: str, packages: dict[str, str | None]) -> str:
    missing = [name for name, version in packages.items() if version is None]
    if missing:
        return f"{extra}: no {', no '.join(missing)}; pip install 'mess-cnn[{extra}]'"
    return f"{extra}: {', '.join(f'{name} {version}' for name, version in packages.items())}"


def _folder(place: str, told: dict[str, Any]) -> str:
    more = f": {', '.join(told['datasets'])}" if told.get("datasets") else ""
    return f"{place}: {told['folder']}{more if told['there'] else ' (not there)'}"


def _computing(devices: dict[str, Any]) -> str:
    gpus = ", ".join(f"GPU {number} {name}" for number, name in enumerate(devices["gpus"]))
    built = f"torch is built for CUDA {devices['cuda']}" if devices["cuda"] else "torch is built without CUDA"
    return f"CPU, {devices['cpu_threads']} threads; {gpus or 'no GPU'} ({built})"
