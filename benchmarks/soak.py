"""The long proofs that a run survives anything: the real command line, real signals, thousands of saves.

make soak                               # about 10 minutes on 2 idle cores; goes on where it was stopped
python benchmarks/soak.py --only chain  # one proof; --afresh forgets what was done before

Each proof compares with an uninterrupted run by the hash of its weights, momenta and best accuracy, and by its log.
What is ended hundreds of times is forked from this process, which has torch imported already, so that the time goes
into training; all else is started as a user does.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning_fabric  # noqa: F401 - imported here, once for all that is forked
import torch

import mess.cli.train
from common import read_rows, setting, write_rows
from mess.data import open_dataset
from mess.files import atomic_write
from mess.training import checkpoint as files

NETWORK = ["digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25", "-b", "240", "--lr", "0.1"]
EPOCHS = 2
RUN = [*NETWORK, "--epochs", str(EPOCHS), "--save-every", "2", "-p", "3", "-s", "1", "--ema", "0.9"]
WHERE = Path("resnet") / "digits"
INTERRUPTIONS, SAVES_KILLED = 50, 200
GO_TIMEOUT_S = 300  # after one process of a run was ended, for the others
FOUND_TIMEOUT_S = 20  # likewise, before they have found each other
FORK = multiprocessing.get_context("fork")
TIMED = ("epoch_seconds", "total_seconds")  # columns of the log that no two runs share


def command(folder: Path, *flags: object, torchrun: tuple[str, ...] = ()) -> list[str]:
    launcher = ["-m", "torch.distributed.run", *torchrun] if torchrun else []
    return [sys.executable, *launcher, "-m", "mess", "train", *map(str, flags), "--checkpoints", str(folder)]


@contextmanager
def started(arguments: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command as the leader of a group of its own, and leave nobody of the group behind."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def result(folder: Path) -> str:
    """Return the hash of what a finished run came to: weights, average, momenta, best accuracy, log."""
    last = files.load(folder / WHERE / files.LAST)
    sha = hashlib.sha256(repr([last[n] for n in ("epoch", "samples", "best_top1", "best_epoch")]).encode())
    for part in (last["state_dict"], last["ema"], last["optimizer"]):
        _feed(sha, part)
    with (folder / WHERE / "log.csv").open(newline="") as file:
        sha.update(repr([{n: x for n, x in row.items() if n not in TIMED} for row in csv.DictReader(file)]).encode())
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        sha.update(value.contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for name in sorted(value, key=str):
            sha.update(str(name).encode())
            _feed(sha, value[name])
    else:
        sha.update(repr(value).encode())


class Soak:
    """Where the soak is: plain numbers in WORK/state.json, written after each round."""

    def __init__(self, work: Path) -> None:
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        self._file = work / "state.json"
        self.state: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def keep(self, name: str, row: dict[str, Any], text: str) -> None:
        """Write down how far a proof has come, and say so."""
        self.state[name] = row
        atomic_write(self._file, json.dumps(self.state).encode())
        print(f"{time.strftime('%H:%M:%S')} {name}: {text}", flush=True)

    def whole(self, processes: int) -> dict[str, Any]:
        """Return the hash and the seconds of the uninterrupted run, made once."""
        name = f"whole {processes}"
        if name not in self.state:
            shutil.rmtree(self.work / name, ignore_errors=True)
            begin = time.monotonic()
            run = Forked(self.work / name, RUN, processes)
            if any(codes := run.codes()):
                raise SystemExit(f"{name} ended with {codes}:\n{run.output()}")
            row = {"hash": result(self.work / name), "seconds": time.monotonic() - begin}
            self.keep(name, row, f"{row['seconds']:.0f} s uninterrupted")
        return self.state[name]


class Forked:
    """The processes of one run, forked, each with the environment that a launcher of processes gives it."""

    def __init__(self, folder: Path, flags: list[str], processes: int) -> None:
        self._said = folder.parent / f"{folder.name}.txt"
        self._said.write_bytes(b"")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        arguments = ["train", *flags, "--processes", str(processes), "--checkpoints", str(folder)]
        self.processes = [
            FORK.Process(target=self._run, args=(arguments, {**shared, "LOCAL_RANK": str(r)} if processes > 1 else {}))
            for r in range(processes)
        ]
        for process in self.processes:
            process.start()

    def _run(self, arguments: list[str], environment: dict[str, str]) -> None:
        said = os.open(self._said, os.O_WRONLY | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ.update(environment)
        sys.exit(mess.cli.main(arguments))

    def codes(self) -> list[int | None]:
        """Wait until all have ended and return their exit codes, −9 for a kill -9.

        Before the processes have found each other only a launcher can notice that one is gone, and ends the others; it
        is us, here. Later they have to notice by themselves.
        """
        while len(alive := [process for process in self.processes if process.is_alive()]) == len(self.processes):
            alive[0].join(0.1)
        for process in alive:
            process.join(GO_TIMEOUT_S if self.output() else FOUND_TIMEOUT_S)
            if process.is_alive() and self.output():
                raise SystemExit(f"process {process.pid} does not end:\n{self.output()}")
            process.kill()
            process.join()
        return [process.exitcode for process in self.processes]

    def output(self) -> str:
        """Return what they have printed so far."""
        return self._said.read_text()


def interrupted(soak: Soak, name: str, processes: int) -> None:
    """End runs by SIGTERM and kill -9 at random moments of their whole life, and go on, until each is done.

    One process of the run gets the signal; the others have to stop as well.
    """
    whole = soak.whole(processes)
    row = soak.state.get(name, {"interruptions": 0, "SIGTERM": 0, "SIGKILL": 0, "exit 143": 0, "runs": 0, "equal": 0})
    folder = soak.work / name
    while row["interruptions"] < INTERRUPTIONS or folder.exists():
        chance = random.Random(row["interruptions"] + 1000 * row["runs"])
        found, begin = (folder / WHERE / files.LAST).exists(), time.monotonic()
        run = Forked(folder, [*RUN, *(["-R"] if found else [])], processes)
        victim, signum = chance.choice(run.processes), chance.choice([signal.SIGTERM, signal.SIGKILL])
        if row["interruptions"] < INTERRUPTIONS:
            victim.join(chance.random() * whole["seconds"])
        else:
            victim.join()
        ended = not victim.is_alive()
        if not ended:
            os.kill(victim.pid, signum)
        codes = run.codes()
        if ended or not any(codes):
            if any(codes):
                raise SystemExit(f"{name} ended with {codes}:\n{run.output()}")
            equal = result(folder) == whole["hash"]
            shutil.rmtree(folder)
            if not found:  # the machine may be less busy now: most moments are to fall into a run
                whole["seconds"] = min(whole["seconds"], time.monotonic() - begin)
            row["runs"], row["equal"] = row["runs"] + 1, row["equal"] + equal
        else:
            row["interruptions"] += 1
            row[signum.name] += 1
            row["exit 143"] += codes[0] == 143
        soak.keep(name, row, f"{row['interruptions']}/{INTERRUPTIONS}, {row['equal']} of {row['runs']} runs equal")


def killed_while_saving(soak: Soak, name: str) -> None:
    """Kill a process that does nothing but save, 200 times; what it said it had saved has to be there."""
    content = files.load(soak.work / "whole 1" / WHERE / files.LAST) if soak.whole(1) else {}
    row = soak.state.get(name, {"kills": 0, "lost": 0, "damaged": 0, "saves": 0, "leftovers": 0})
    folder = soak.work / name
    folder.mkdir(exist_ok=True)
    while row["kills"] < SAVES_KILLED:
        before = files.load_newest(folder, print)[1]["epoch"] if (folder / files.LAST).exists() else 0
        told = _killed_saver(folder, content, before, random.Random(row["kills"]).random() * 0.08)
        warned: list[str] = []
        found = files.load_newest(folder, warned.append)[1]["epoch"]
        row["leftovers"] += len(list(folder.glob(".*")))
        files.remove_leftovers(folder)
        row["kills"] += 1
        row["saves"] += found - before
        row["lost"] += found < told
        row["damaged"] += bool(warned)
        if row["kills"] % 20 == 0:
            soak.keep(name, row, f"{row['kills']}/{SAVES_KILLED}, {row['lost']} lost")


def _killed_saver(folder: Path, content: dict[str, Any], saved: int, wait: float) -> int:
    """Start a process that saves for ever, kill it, and return the number of the last save that it reported."""
    told = FORK.Value("i", 0)

    def save() -> None:
        for number in itertools.count(saved + 1):
            files.save_last(folder, {**content, "epoch": number})
            told.value = number

    process = FORK.Process(target=save)
    process.start()
    while not told.value:
        time.sleep(0.001)
    time.sleep(wait)
    process.kill()
    process.join()
    return told.value


STEP = re.compile(r"epoch (\d+) \[(\d+)/(\d+)\] +loss ([\d.]+)")


def losses(output: str) -> dict[str, float]:
    """Return the loss (mean since the epoch's start) of each printed step, by its number in the run."""
    found = {
        (int(epoch) - 1) * int(steps) + int(step): float(loss) for epoch, step, steps, loss in STEP.findall(output)
    }
    return {str(step): loss for step, loss in sorted(found.items())}


def chain(soak: Soak, name: str) -> None:
    """Go from 1 process to 2, to 1, to 3 and back to 1, and stay beside the run that never moved."""
    flags = [*NETWORK, "--epochs", "6", "-p", "1"]  # 36 steps
    row = soak.state.get(name, {})
    for label, more in (("--sync-bn", ["--sync-bn"]), ("without", [])):
        for kind, legs in (("whole", [(1, None)]), ("chain", [(1, 8), (2, 16), (1, 21), (3, 28), (1, None)])):
            if f"{kind} {label}" in row:
                continue
            folder = soak.work / f"{kind} {label}"
            shutil.rmtree(folder, ignore_errors=True)
            output = ""
            for number, (processes, until) in enumerate(legs):
                there = command(folder, *flags, *more, "--processes", processes, *(["-R"] if number else []))
                output += _run_until(there, until)
            best = files.load(folder / WHERE / files.LAST)["best_top1"]
            row[f"{kind} {label}"] = {"loss": losses(output), "best top-1": best}
            soak.keep(name, row, f"{kind} {label}: best {best:.2f}%")
        states = [
            files.load(soak.work / f"{kind} {label}" / WHERE / files.LAST)["state_dict"] for kind in ("whole", "chain")
        ]
        row[f"weights {label}"] = _distance(*states)
        soak.keep(name, row, f"{label}: weights apart by {row[f'weights {label}']:.1e} of their norm")


def _run_until(arguments: list[str], until: int | None) -> str:
    """Run a command, to its end or until it prints that step; then SIGTERM, exit code 143."""
    output = ""
    with started(arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            if until is not None and max(map(int, losses(output)), default=0) >= until:
                process.send_signal(signal.SIGTERM)
                output += process.stdout.read()
                break
        if process.wait() != (143 if until is not None else 0):
            raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{output}")
    return output


def _distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return ‖a − b‖ / ‖a‖ over all weights."""
    a, b = (torch.cat([t.double().flatten() for n, t in s.items() if n.endswith("weight")]) for s in (one, other))
    return float((a - b).norm() / a.norm())


def torchrun(soak: Soak, name: str) -> None:
    """Kill one of two processes under torchrun: it starts both again, and they end as if nothing had happened."""
    whole = soak.whole(2)
    row = soak.state.get(name, {})
    standalone = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "3")
    if "one machine" not in row:
        folder = soak.work / name
        shutil.rmtree(folder, ignore_errors=True)
        with started(command(folder, *RUN, torchrun=standalone)) as process:
            victim = _killed_worker(process, folder)
            output, _ = process.communicate()
        row["one machine"] = process.returncode == 0 and result(folder) == whole["hash"]
        soak.keep(name, row, f"killed {victim}; exit code {process.returncode}, equal: {row['one machine']}")
        if not row["one machine"]:
            print(output)
    if "two machines" not in row:
        folder = soak.work / f"{name}, two machines"
        shutil.rmtree(folder, ignore_errors=True)
        meet = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:29517", "--rdzv-id", "soak")
        agent = command(folder, *RUN, torchrun=("--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3", *meet))
        local = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": "lo"}
        with started(agent, **local) as first, started(agent, **local) as second:
            _killed_worker(second, folder)
            outputs = [process.communicate()[0] for process in (first, second)]
        codes = [first.returncode, second.returncode]
        row["two machines"] = codes == [0, 0] and result(folder) == whole["hash"]
        soak.keep(name, row, f"two machines: exit codes {codes}, equal: {row['two machines']}")
        if not row["two machines"]:
            print(*outputs)


def _killed_worker(agent: subprocess.Popen[str], folder: Path) -> int:
    """Kill -9 the last worker of an agent, once the first epoch is done."""
    while not (folder / WHERE / "log.csv").exists():
        if agent.poll() is not None:
            raise SystemExit(f"torchrun ended with {agent.returncode}:\n{agent.communicate()[0]}")
        time.sleep(0.05)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    return int(children[-1])


def full_disk(soak: Soak, name: str) -> None:
    """Train on a disk that holds two checkpoints: it warns and goes on, and what is there still loads."""
    whole = soak.whole(1)
    size = (soak.work / "whole 1" / WHERE / files.LAST).stat().st_size
    disk = soak.work / "small disk"
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(2.6 * size)}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        soak.keep(name, {"skipped": "no right to mount a disk"}, "skipped: no right to mount a disk")
        return
    try:
        run = Forked(disk, RUN, 1)
        codes, output = run.codes(), run.output()
        newest = files.load_newest(disk / WHERE, print)[1]
        row = {"exit code": codes[0], "warnings": output.count("No space left on device"), "epoch": newest["epoch"]}
        subprocess.run(["mount", "-o", f"remount,size={20 * size}", str(disk)], check=True)
        if newest["epoch"] < EPOCHS and any(codes := Forked(disk, [*RUN, "-R"], 1).codes()):
            raise SystemExit(f"{name}: ended with {codes}")
        row["equal in the end"] = result(disk) == whole["hash"]
        soak.keep(name, row, f"{row}")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


PROOFS: dict[str, Callable[[Soak, str], None]] = {
    "interrupted, 1 process": lambda soak, name: interrupted(soak, name, 1),
    "killed while saving": killed_while_saving,
    "chain": chain,
    "torchrun": torchrun,
    "full disk": full_disk,
    "interrupted, 2 processes": lambda soak, name: interrupted(soak, name, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build") / "soak", help="where runs go (default: build/soak)")
    parser.add_argument("--only", action="append", choices=[*PROOFS], help="this proof alone; may be repeated")
    parser.add_argument("--afresh", action="store_true", help="forget the rounds that were done before")
    args = parser.parse_args()
    if args.afresh:
        shutil.rmtree(args.work, ignore_errors=True)
    soak = Soak(args.work)
    open_dataset("digits", train=True)  # imports what carries it
    for name in args.only or PROOFS:
        if name not in read_rows("soak") or args.only or args.afresh:
            PROOFS[name](soak, name)
            rows = {**read_rows("soak"), name: {**setting(), **soak.state[name]}}
            write_rows("soak", rows)


if __name__ == "__main__":
    main()
