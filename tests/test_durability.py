"""What a file is like after the power failed, the disk filled up or two wrote at once: the old one or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mess
from format_helpers import example
from mess import codec
from mess.files import atomic_write

TWO = [Path(__file__).parent / "golden" / f"{version}.mess" for version in ("v1", "v2")]
ALLOWED = {codec.encode_model(codec.read_model(path)) for path in TWO}
WRITER = """
import sys
from mess import codec
one, two = map(codec.read_model, sys.argv[2:])
print("ready", flush=True)
while True:
    codec.write_model(sys.argv[1], one); codec.write_model(sys.argv[1], two)
"""


def writer(target: Path) -> subprocess.Popen[bytes]:
    """Return a process that goes on writing `target`, started."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, target, *TWO], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def killed(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def kill_often(target: Path, times: int) -> None:
    for attempt in range(times):
        process = writer(target)
        time.sleep(0.01 + 0.0007 * (attempt % 97))
        killed(process)
        assert not target.exists() or target.read_bytes() in ALLOWED


def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    kill_often(tmp_path / "net.mess", 4)


@pytest.mark.slow
def test_a_writer_killed_200_times_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    kill_often(tmp_path / "net.mess", 200)


def test_two_writers_at_once_leave_the_file_of_one_of_them(tmp_path: Path) -> None:
    target = tmp_path / "net.mess"
    pair = [writer(target), writer(target)]
    seen = set()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        if target.exists():
            content = target.read_bytes()
            assert content in ALLOWED
            seen.add(content)
    for process in pair:
        killed(process)
    assert seen == ALLOWED


def test_a_file_can_be_written_once_only_where_asked(tmp_path: Path) -> None:
    target = tmp_path / "net.mess"
    codec.write_model(target, example("v1"), overwrite=False)
    before = target.read_bytes()
    with pytest.raises(FileExistsError):
        codec.write_model(target, example("v2"), overwrite=False)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net.mess"]


def test_a_disk_that_fills_up_in_the_middle_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "net.mess"
    codec.write_model(target, example("v1"))
    before = target.read_bytes()
    code = """
import resource, signal, sys
from pathlib import Path
from mess.files import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    atomic_write(sys.argv[1], bytes(5000))
except OSError as error:
    print(error.filename)
"""
    run = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net.mess"]


def test_a_full_disk_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    disk, weights = tmp_path / "disk", tmp_path / "weights.safetensors"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        torch.save(mess.create_model("resnet", layers=8).state_dict(), weights)
        command = [sys.executable, "-m", "mess", "compress", "-v", "v2", str(weights), "-o", str(disk / "net.mess")]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert run.stderr.splitlines()[-1].startswith(f"mess: {disk / 'net.mess'}: ")
        assert "Traceback" not in run.stderr
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError) as error:
            atomic_write(tmp_path / "net.mess", b"x")
    finally:
        tmp_path.chmod(0o700)
    assert error.value.filename == str(tmp_path / "net.mess")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        atomic_write(tmp_path / "nowhere" / "net.mess", b"x")
    assert error.value.filename == str(tmp_path / "nowhere" / "net.mess")
