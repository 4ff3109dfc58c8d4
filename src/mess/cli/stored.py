"""What `mess compress` says of a file it has written: to people and to programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from mess.cli.output import make_table
from mess.codec.rows import FEW
from mess.errors import first_few

if TYPE_CHECKING:
    from mess.storing import SizeReport

ALIKE = 2.0  # times the least error of a layer: a table of errors that are no larger says nothing


def headline(report: SizeReport) -> str:
    """Return the file and its size, in a line."""
    return (
        f"[bold]{escape(str(report.path))}[/]  {report.bytes:,} B: {report.ratio:.2f}× smaller than "
        f"{report.float_bytes:,} B of weights"
    )


def show(console: Console, report: SizeReport, *, verified: bool) -> None:
    """Say what was written, and what of the network no reference stands for."""
    console.print(headline(report), soft_wrap=True)
    if report.look is not None:
        console.print(
            f"[{'bold red' if report.look.is_noise else 'green'}]{escape(str(report.look))}[/]", soft_wrap=True
        )
    if report.is_noise:
        console.print(
            "[bold red]little is left of the network: ask for less, or win it back by training what is stored: "
            f"mess train DATA -a ARCH -T -v VER --ckpt {escape(str(report.path))}[/]",
            soft_wrap=True,
        )
    if report.unseen:
        console.print(f"[yellow]rounded finely without a look: {escape(report.unseen)}[/]", soft_wrap=True)
    if report.answers is not None:
        console.print(f"[green]onnxruntime on both models: {escape(str(report.answers))}[/]", soft_wrap=True)
    elif report.compared is False:
        console.print(
            "[yellow]onnxruntime has no answers of the model on such inputs: nothing was compared[/]",
            soft_wrap=True,
        )
    if verified:
        console.print("[green]read back in a fresh process: every tensor as it should be[/]")
    _layers(console, report)
    for reason, names in report.reasons.items():
        console.print(f"[dim]by itself ({escape(reason)}): {escape(first_few(names, 4))}[/]")


def summary(reports: Sequence[SizeReport], failed: int) -> str:
    """Return the sum over several files, in a line."""
    stored, floats = sum(r.bytes for r in reports), sum(r.float_bytes for r in reports)
    told = f"[bold]{len(reports)} files[/]  {stored:,} B" + (f": {floats / stored:.2f}× smaller" if stored else "")
    return told + (f"; [bold red]{failed} could not be stored[/]" if failed else "")


def as_json(report: SizeReport) -> dict[str, Any]:
    """Return what was written as plain JSON values."""
    told: dict[str, Any] = {
        "file": str(report.path),
        "bytes": report.bytes,
        "float_bytes": report.float_bytes,
        "ratio": report.ratio,
        "error": report.error,
        "is_noise": report.is_noise,
        "as_is": [{"name": name, "reason": reason} for name, reason in report.as_is],
    }
    if report.look is not None:
        told["look"] = report.look.facts()
    if report.unseen:
        told["unseen"] = report.unseen
    if report.answers is not None:
        told["onnxruntime"] = {
            "inputs": report.answers.inputs,
            "outputs": [{"name": o.name, "error": o.error, "agreement": o.agreement} for o in report.answers.outputs],
        }
    return told


def _layers(console: Console, report: SizeReport) -> None:
    """List the layers that references stand for, of many those that lost most; in a line where all lost alike."""
    if not report.error:
        return
    least, most = min(report.error.values()), max(report.error.values())
    if len(report.error) > 1 and most <= ALIKE * least:
        console.print(f"{len(report.error)} layers stored by reference, with a relative error of at most {most:.2g}")
        return
    table = make_table(("stored by reference", "left"), ("relative error", "right"))
    worst = sorted(report.error, key=lambda name: -report.error[name])[:FEW]
    for name, error in report.error.items():
        if name in worst:
            table.add_row(escape(name), f"{error:.2g}")
    if len(worst) < len(report.error):
        rest = len(report.error) - len(worst)
        table.add_row(f"[dim]{rest} more layers with less error: `mess diff` and `--json` tell all[/]", "")
    console.print(table)
