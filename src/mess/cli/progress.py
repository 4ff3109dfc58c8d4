"""What a person sees while a network trains: a live line on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from mess.display.durations import clock
from mess.display.stages import Stages
from mess.training import EpochReport, Reporter, StepReport

BAR = 20  # characters


class ConsoleReporter(Reporter):
    """The `Reporter` of the command line (see `mess.training.log`).

    On a terminal one line shows the running epoch and every finished epoch leaves a row above it; elsewhere (a log
    file, CI) each report is a line of its own, so that nothing has to be unpicked from control characters.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._shown = 0.0
        self._stages: Stages | None = None

    def stage(self, what: str, done: int, total: int) -> None:
        """Show what is done before the first epoch, and how far it has come."""
        if self._stages is None:
            self._stages = Stages(self.console, "before training")
        self._stages(what, done, total)

    def start(self, info: dict[str, object]) -> None:
        """Say what is about to be trained, one line a fact."""
        self._stop()
        for name, value in info.items():
            self.console.print(f"[dim]{name:<12}[/]{escape(str(value))}", soft_wrap=True)

    def step(self, report: StepReport) -> None:
        """Show where the epoch is; called every few steps."""
        if self.console.is_terminal:
            self._show(self._line(report))
            return
        self.console.print(
            f"epoch {report.epoch} [{report.step}/{report.steps}]  loss {report.loss:.4f}  top-1 {report.top1:.2f}  "
            f"top-5 {report.top5:.2f}  lr {report.lr:.5f}  {report.images_per_s:.0f} img/s  left {clock(report.eta_s)}",
            markup=False,
            soft_wrap=True,
        )

    def eval_step(self, done: int, total: int) -> None:
        """Show how far a test has come; silent where nobody watches."""
        if self.console.is_terminal and total > 1:
            self._show(f"testing {bar(done / total)} {done}/{total}")

    def epoch_end(self, report: EpochReport) -> None:
        """Leave one row an epoch."""
        self._stop()
        star = " [bold green]best[/]" if report.is_best else ""
        bits = f"  {report.bits:.2f} bits a weight" if report.bits else ""
        self.console.print(
            f"epoch [bold]{report.epoch:>3}[/]/{report.epochs}  train {report.train_loss:.3f} {report.train_top1:5.2f}%"
            f"  test {report.test_loss:.3f} [bold]{report.test_top1:5.2f}%[/]  top-5 {report.test_top5:5.2f}%{bits}"
            f"  {clock(report.epoch_seconds)}{star}",
            soft_wrap=True,
        )

    def message(self, text: str, kind: str = "info") -> None:
        """Say something that matters once."""
        self._stop()
        style = {"warning": "yellow", "error": "bold red"}.get(kind, "")
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def _line(self, report: StepReport) -> Table:
        grid = Table.grid(padding=(0, 1))
        done = report.step / max(1, report.steps)
        grid.add_row(
            f"epoch [bold]{report.epoch}[/]",
            bar(done),
            f"{report.images_per_s:.0f} img/s",
            f"loss {report.loss:.3f}",
            f"top-1 {report.top1:.1f}%",
            f"left {clock(report.eta_s)}",
        )
        return grid

    def _show(self, content: object) -> None:
        if self._live is None:
            self._stop()
            self._live = Live(console=self.console, transient=True, auto_refresh=False)
            self._live.start()
        if time.monotonic() - self._shown > 0.1:  # a terminal gains nothing from more than ten images a second
            self._shown = time.monotonic()
            self._live.update(content, refresh=True)  # type: ignore[arg-type]

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._stages is not None:
            self._stages.close()
            self._stages = None


def bar(fraction: float) -> str:
    """Return a bar of fixed width, filled to `fraction` (0…1)."""
    full = round(BAR * min(1.0, max(0.0, fraction)))
    return f"[cyan]{'━' * full}[/][dim]{'─' * (BAR - full)}[/]"
