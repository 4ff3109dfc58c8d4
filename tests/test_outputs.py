"""Outputs go into plain files and through links; devices, pipes and folders are refused and left as they are."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
from pathlib import Path

import pytest
import torch

from format_helpers import example
from mess import codec
from mess.cli import main
from mess.errors import OutputError
from mess.fetch.download import Remote, fetch
from mess.files import atomic_write, check_output, destination
from mess.training import checkpoint
from web_server import Server, serve


@pytest.fixture
def weights(in_folder: Path) -> Path:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
    torch.save(model.state_dict(), "n.pth")
    return in_folder / "n.pth"


def special(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")


@pytest.mark.parametrize("through_link", [False, True])
@pytest.mark.parametrize("kind", ["device", "pipe", "socket", "folder"])
def test_what_is_no_plain_file_is_never_replaced(in_folder: Path, kind: str, through_link: bool) -> None:
    special(Path("special"), kind)
    before = os.lstat("special")
    if through_link:
        Path("link").symlink_to("special")
    for overwrite in (True, False):
        with pytest.raises(OutputError, match=kind):
            atomic_write("link" if through_link else "special", b"new", overwrite=overwrite)
    assert (os.lstat("special").st_mode, os.lstat("special").st_ino) == (before.st_mode, before.st_ino)
    assert {path.name for path in in_folder.iterdir()} == {"special", *(["link"] if through_link else [])}


def test_links_are_written_through(in_folder: Path) -> None:
    Path("store").mkdir()
    Path("store/net").write_bytes(b"old")
    Path("link").symlink_to("store/net")
    Path("chain").symlink_to("link")
    atomic_write("chain", b"new")
    assert Path("store/net").read_bytes() == b"new"
    assert Path("link").is_symlink()
    assert Path("chain").is_symlink()
    with pytest.raises(FileExistsError) as error:
        atomic_write("chain", b"newer", overwrite=False)
    assert error.value.filename == "chain"
    assert sorted(path.name for path in Path("store").iterdir()) == ["net"]


def test_a_link_that_leads_nowhere_is_named(in_folder: Path) -> None:
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    for name in ("dangling", "loop"):
        for overwrite in (True, False):
            with pytest.raises(OutputError, match=f"^{name}: "):
                atomic_write(name, b"new", overwrite=overwrite)
    assert sorted(path.name for path in in_folder.iterdir()) == ["dangling", "loop"]


def test_a_file_that_is_replaced_keeps_its_permissions(in_folder: Path) -> None:
    Path("secret").write_bytes(b"old")
    Path("secret").chmod(0o600)
    atomic_write("secret", b"new")
    assert stat.S_IMODE(Path("secret").stat().st_mode) == 0o600
    assert Path("secret").read_bytes() == b"new"


def test_an_output_is_looked_at_before_any_work(in_folder: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        check_output(Path("none/net.mess"), overwrite=True)
    assert destination("new.mess") == in_folder.resolve() / "new.mess"


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_no_verb_replaces_a_device_or_pipe(weights: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert main(["compress", "n.pth", "-v", "v2", "-o", "n.mess", "--no-verify"]) == 0
    for output, command in (
        ("out.mess", ["compress", "n.pth", "-v", "v2"]),
        ("out.pth", ["decompress", "n.mess"]),
        ("out.c", ["decompress", "n.mess"]),
    ):
        special(Path(output), kind)
        before = os.lstat(output).st_ino
        capsys.readouterr()
        assert main([*command, "-o", output, "--force"]) == 2
        assert kind in capsys.readouterr().err
        assert os.lstat(output).st_ino == before


def test_weights_are_not_overwritten_by_what_is_made_of_them(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights.read_bytes()
    Path("other name").symlink_to("n.pth")
    for output in ("n.pth", "other name"):
        assert main(["compress", "n.pth", "-v", "v2", "-o", output, "--force"]) == 2
        assert "the very file that is read" in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_the_newest_state_goes_through_a_link_too(in_folder: Path) -> None:
    run, disk = Path("run"), Path("disk")
    run.mkdir()
    disk.mkdir()
    checkpoint.save(disk / "state", {"epoch": 1})
    (run / checkpoint.LAST).symlink_to(Path("../disk/state"))
    checkpoint.save_last(run, {"epoch": 2})
    assert (run / checkpoint.LAST).is_symlink()
    for path, epoch in ((disk / "state", 2), (run / checkpoint.PREVIOUS, 1)):
        assert torch.load(path, weights_only=True)["epoch"] == epoch
    assert [path.name for path in disk.iterdir()] == ["state"]


def test_a_download_goes_through_a_link_and_never_onto_a_device(server: Server, in_folder: Path) -> None:
    server.answers["/file"] = serve(b"new")
    remote = Remote("file", (f"{server.url}/file",))
    Path("device").mkdir()
    special(Path("device/null"), "device")
    before = os.lstat("device/null").st_ino
    with pytest.raises(OutputError, match="device"):
        fetch(remote, Path("device/null"), pause=0)
    assert os.lstat("device/null").st_ino == before
    Path("link").symlink_to("store")
    Path("store").write_bytes(b"old")
    fetch(Remote("file", remote.urls, f"sha256:{hashlib.sha256(b'new').hexdigest()}"), Path("link"), pause=0)
    assert Path("link").is_symlink()
    assert Path("store").read_bytes() == b"new"


def test_processes_that_want_one_file_never_fetch_it_at_once(server: Server, in_folder: Path) -> None:
    """A lock that its holder deletes lets in a second one while a third waits for the old file."""
    inodes = set()

    def want() -> None:
        fetch(remote, Path("data/file"), pause=0)
        inodes.add(Path("data/.file.lock").stat().st_ino)

    server.answers["/file"] = serve(bytes(1000))
    remote = Remote("file", (f"{server.url}/file",))
    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inodes) == 1


def test_a_model_is_written_through_a_link(in_folder: Path) -> None:
    codec.write_model("store.mess", example("v1"))
    Path("link.mess").symlink_to("store.mess")
    codec.write_model("link.mess", example("v2"))
    assert Path("link.mess").is_symlink()
    assert Path("store.mess").read_bytes() == codec.encode_model(example("v2"))
