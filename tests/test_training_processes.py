"""Training in processes of its own: several at once, real signals, kill -9. Each run prints the hash of its weights."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mess.devices import Devices
from mess.training.checkpoint import LAST, load
from test_devices import FAKES, run
from training_fakes import parsed
from training_fakes import run as run_here


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def uninterrupted(folder: Path, capsys: pytest.CaptureFixture[str], *options: object) -> str:
    """Run in this process, which saves the second a new one takes to start; return what it prints."""
    assert run_here(Devices(), parsed([str(folder), *map(str, options)])) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what two processes print that nothing interrupts."""
    return run(FAKES, tmp_path_factory.mktemp("whole"), "--processes", 2, "--ema", 0.9).stdout


BOTH = pytest.mark.parametrize("processes", [1, 2])


@BOTH
def test_stopped_by_sigterm_and_resumed_is_bitwise_the_same(
    tmp_path: Path, processes: int, whole_of_two: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = whole_of_two if processes == 2 else uninterrupted(tmp_path / "whole", capsys, "--ema", 0.9)
    command = [FAKES, tmp_path / "stopped", "--processes", processes, "--ema", 0.9, "--resume"]
    stopped = run(*command, "--signal-at", 8, "--rank", processes - 1)  # one process is told, all stop
    assert stopped.returncode == 143, stopped.stderr
    assert load(tmp_path / "stopped" / LAST)["step"] == 3
    if processes == 2:  # and again within the test of the second epoch; with one process: test_training.py
        stopped = run(*command, "--signal-in-test", "--rank", 1)
        assert stopped.returncode == 143, stopped.stderr
        last = load(tmp_path / "stopped" / LAST)
        assert (last["epoch"], last["step"], last["trained"]) == (1, 5, True)
    resumed = run(*command)
    assert (resumed.returncode, resumed.stdout) == (0, whole)


def test_torchrun_restarts_what_was_killed_and_finishes(tmp_path: Path, whole_of_two: str) -> None:
    # killed in the third epoch; the second session goes on after the second, and has fewer steps left than that
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--max-restarts", 3]
    killed = run(*torchrun, FAKES, tmp_path, "--ema", 0.9, "--resume", "--kill-at", 11, "--rank", 1)
    assert killed.returncode == 0, killed.stderr
    assert killed.stdout == whole_of_two


UNEVEN = ("--samples", 36, "--batch", 7)  # parts of 3 and 4, or 2, 2 and 3; at last of 0 and 1


def test_a_split_that_is_not_even_gives_the_same_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three processes; of two, the run that changes its devices says so too."""
    options = ["--sync-bn", *UNEVEN, "--epochs", 2]
    uninterrupted(tmp_path / "1", capsys, *options)
    result = run(FAKES, tmp_path / "3", *options, "--processes", 3)
    assert result.returncode == 0, result.stderr
    one, several = (load(tmp_path / name / LAST) for name in ("1", "3"))
    torch.testing.assert_close(several["state_dict"], one["state_dict"], rtol=1e-4, atol=1e-5)
    assert (several["samples"], several["best_top1"]) == (72, one["best_top1"])


def test_a_second_ctrl_c_ends_all_processes_at_once(tmp_path: Path) -> None:
    arguments = [str(part) for part in (FAKES, tmp_path, "--processes", 2, "--sleep", 100)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *arguments], **pipes, start_new_session=True) as process:
        while process.poll() is None and not (tmp_path / "started").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        for _ in range(2):  # a terminal sends it to all processes of the command
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.5)
        process.communicate(timeout=60)  # until all of them are gone
    assert process.returncode == 130


def test_a_run_may_change_its_devices_and_ends_nearly_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uninterrupted(tmp_path / "whole", capsys, "--plain", *UNEVEN)
    options = ["--plain", *UNEVEN, "--resume"]
    assert run_here(Devices(), parsed([str(tmp_path / "chain"), *map(str, options), "--signal-at", "4"])) == 143
    # the last batches of two epochs, of one image, and the test between them
    assert run(FAKES, tmp_path / "chain", *options, "--processes", 2, "--signal-at", 8).returncode == 143
    uninterrupted(tmp_path / "chain", capsys, *options)
    one, several = (load(tmp_path / name / LAST) for name in ("whole", "chain"))
    torch.testing.assert_close(several["state_dict"], one["state_dict"], rtol=1e-4, atol=1e-5)
    assert (several["samples"], several["best_top1"]) == (108, one["best_top1"])


def interrupted_at_random(folder: Path, times: int, processes: int, whole: str) -> None:
    """Start a run of about two seconds again and again, end it after a random while by SIGTERM or kill -9."""
    command = ["--processes", processes, "--epochs", 4, "--sleep", 0.05, "--save-every", 3]
    chance = random.Random(7)
    for _ in range(times):
        (folder / "stopped" / "started").unlink(missing_ok=True)
        arguments = [str(part) for part in (FAKES, folder / "stopped", *command, "--resume")]
        with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while process.poll() is None and not (folder / "stopped" / "started").exists():
                time.sleep(0.01)
            time.sleep(chance.random() * 0.4)
            process.send_signal(chance.choice([signal.SIGTERM, signal.SIGKILL]))
            process.communicate()
    assert run(FAKES, folder / "stopped", *command, "--resume").stdout == whole


def test_interrupted_at_random_moments_it_is_still_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted_at_random(tmp_path, 2, 1, uninterrupted(tmp_path / "whole", capsys, "--epochs", 4))


@pytest.mark.slow
@BOTH
def test_interrupted_fifty_times_it_is_still_the_same_run(tmp_path: Path, processes: int) -> None:
    whole = run(FAKES, tmp_path / "whole", "--epochs", 4, "--processes", processes).stdout
    for round_ in range(10):
        interrupted_at_random(tmp_path / str(round_), 5, processes, whole)


def test_a_diverging_run_says_so_once(tmp_path: Path) -> None:
    result = run(FAKES, tmp_path, "--lr", 1e30, "--processes", 2)
    assert result.returncode == 2
    assert result.stderr.count("epoch 1, step 2: expected a finite loss, found NaN or infinity") == 1
