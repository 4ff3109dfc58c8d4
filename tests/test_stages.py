"""Who stores with version 4 knows at any time what is being done, how far it has come and how long it still takes."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

import mess
from learned_networks import deciding_network, pictures
from mess.cli.progress import ConsoleReporter
from mess.display.stages import SILENCE_S, Stages
from mess.training import EpochReport
from test_help import on_a_terminal


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, highlight=False)


def said(to: Console) -> str:
    return to.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_log_file_gets_a_line_every_so_often_also_within_one_long_step() -> None:
    assert SILENCE_S <= 30
    log = console(terminal=False)
    with closing(Stages(log, "storing [b].pth as v4", silence=0.2)) as stages:
        for layer in range(3):
            stages("rounding", layer, 8)
            time.sleep(0.01)
        time.sleep(0.6)
    lines = said(log).splitlines()
    assert len(lines) >= 2
    wanted = r"storing \[b\]\.pth as v4: rounding, 2 of 8, left \d+s, \d+s so far"
    assert all(re.fullmatch(wanted, line) for line in lines)


def test_what_is_quickly_done_leaves_no_line() -> None:
    log = console(terminal=False)
    with closing(Stages(log, "storing")) as stages:
        stages("rounding", 1, 8)
    assert said(log) == ""


def test_a_terminal_gets_a_bar_which_is_gone_at_the_end() -> None:
    terminal = console(terminal=True)
    with closing(Stages(terminal, "storing")) as stages:
        for layer in range(3):
            stages("round 1 of up to 4: weighing channels", layer, 100)
            time.sleep(0.01)
        stages._bars.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said(terminal))
    assert re.search(r"round 1 of up to 4: weighing channels ━\S+ 2 of 100, left \d", text)
    assert said(terminal).endswith("\x1b[1A\x1b[2K")


def test_only_a_better_epoch_is_called_the_best() -> None:
    log = ConsoleReporter(console(terminal=False))
    for is_best in (True, False):  # at the same accuracy
        log.epoch_end(EpochReport(1, 4, 0.1, 1.0, 50.0, 1.0, 50.0, 90.0, 50.0, 1.0, 1.0, best_epoch=int(is_best)))
    assert ["best" in line for line in said(log.console).splitlines()] == [True, False]


STORES = """import mess, sys, torch
net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(800, 4))
print(mess.compress(net, sys.argv[1], calibration=torch.randn(16, 3, 12, 12), **eval(sys.argv[2])).bytes)"""


def test_python_shows_how_far_storing_has_come_where_somebody_watches(tmp_path: Path) -> None:
    program = [sys.executable, "-c", STORES, str(tmp_path / "net.mess")]
    assert "rounding" in on_a_terminal([*program, "{}"])
    assert re.fullmatch(r"\d+\s+", on_a_terminal([*program, "{'progress': False}"]))
    piped = subprocess.run([*program, "{}"], capture_output=True, text=True, check=True)
    assert piped.stderr == ""


def test_a_run_shows_stages_until_its_first_line() -> None:
    reporter = ConsoleReporter(console(terminal=True))
    reporter.stage("rounding", 1, 8)
    reporter.start({"network": "resnet"})
    assert re.search(r"rounding.*1 of 8.*\n?.*network", said(reporter.console), re.DOTALL)
    assert said(reporter.console).endswith("resnet\n")
    log = ConsoleReporter(console(terminal=False))
    log.stage("rounding", 1, 8)
    log.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "stages"]


def test_a_size_is_met_where_sizes_go_up_as_rates_fall(tmp_path: Path) -> None:
    """Of this network a coarser rate makes a larger file, between 3,076 and 3,092 bytes: the search goes on."""
    images = pictures(200)
    report = mess.compress(deciding_network(), tmp_path / "net.mess", "v4", images, target_size=3000, verify=False)
    assert report.bytes <= 3000


@pytest.mark.parametrize(
    ("target", "rounds"),
    [
        ({"target_size": 4000}, ["draft 1 of up to 8", "round 1 of up to 20"]),
        ({"max_drop": 30.0}, ["draft 1 of up to 8", "round 1 of up to 8"]),
        ({"divergence": 1.0}, ["round 1 of up to 4"]),
    ],
)
def test_a_search_says_which_round_it_is(target: dict[str, float], rounds: list[str], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    batches = list(pictures(200).split(50))
    mess.compress(
        deciding_network(),
        tmp_path / "net.mess",
        "v4",
        batches,
        verify=False,
        progress=lambda *x: told.append(x),
        **target,
    )  # type: ignore[arg-type]
    stages = [what for what, _, _ in told]
    assert stages[0] == "reading inputs"
    assert stages[-2:] == ["looking at what it answers", "writing"]
    for one in rounds:
        assert f"{one}: rounding" in stages
        assert f"{one}: weighing channels" in stages
    assert all(0 <= done < total or total == 0 for _, done, total in told)
