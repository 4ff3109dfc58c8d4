"""Downloads over connections that break, from servers that lie; the commands that fetch."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest
import requests

from mess.cli import down_ckpt_main, down_imagenet_main, main
from mess.errors import DownloadError
from mess.fetch import Remote, download, fetch, public_weights
from mess.fetch.cifar import ARCHIVES, HOME, MIRROR
from web_server import CONTENT, Answer, Server, first, serve, status

SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
QUICK = {"pause": 0.01, "timeout": (2.0, 0.5)}

GOOD = serve()
WAYS: dict[str, Answer] = {
    "at once": GOOD,
    "cut off every 200 kB": serve(cut=200_000),
    "cut off once, no ranges": first(1, serve(cut=300_000), serve(ranges=False)),
    "busy, says when": first(2, status(429, {"Retry-After": "0"}), GOOD),
    "broken for a moment": first(2, status(503), GOOD),
    "wrong bytes at first": first(1, serve(CONTENT[::-1]), GOOD),
    "too short at first": first(1, serve(CONTENT[:1000]), GOOD),
    "says it is longer than it is": first(1, serve(claim=500), GOOD),
    "says it is shorter than it is": first(1, serve(claim=-500), GOOD),
    "stalls at first": first(1, serve(cut=100_000, stall=1.5), GOOD),
}


def names(folder: Path) -> list[str]:
    """What lies in a folder, without locks: those stay (see `fetch`)."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("way", WAYS)
def test_a_download_ends_whole(way: str, server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = WAYS[way]
    told: list[int] = []
    path = fetch(
        Remote("a", (server.url + "/a",), SHA), tmp_path / "a", progress=lambda _, done, __: told.append(done), **QUICK
    )
    assert path.read_bytes() == CONTENT
    assert told[-1] == len(CONTENT)
    assert names(tmp_path) == ["a"]
    if way == "cut off every 200 kB":
        starts = [int(r.removeprefix("bytes=").rstrip("-")) for _, r in server.seen if r]
        assert len(starts) == 3
        assert all(
            before + 180_000 < after <= before + 200_000 for before, after in zip([0, *starts], starts, strict=False)
        )
    asked = len(server.seen)
    fetch(Remote("a", (server.url + "/a",), SHA), tmp_path / "a", **QUICK)
    assert len(server.seen) == asked  # what is whole is not fetched again


NEVER: dict[str, tuple[Answer, str]] = {
    "not there": (status(404), "status 404"),
    "no access": (status(403), "no access"),
    "always busy": (status(429, {"Retry-After": "0"}), "status 429"),
    "always wrong": (serve(CONTENT[::-1]), "hash"),
    "always short": (serve(claim=-500), "hash"),
    "always stalls": (serve(cut=1, stall=1.5), "no answer in time"),
}


@pytest.mark.parametrize("way", NEVER)
def test_a_download_that_cannot_be_says_why_and_leaves_nothing_under_its_name(
    way: str, server: Server, tmp_path: Path
) -> None:
    server.answers["/a"], said = NEVER[way]
    with pytest.raises(DownloadError, match=said) as error:
        fetch(Remote("a", (server.url + "/a",), SHA, "By hand from there"), tmp_path / "a", **QUICK)
    assert "By hand from there" in str(error.value)
    assert not (tmp_path / "a").exists()


def test_mirrors_are_tried_in_order_and_a_later_run_goes_on(server: Server, tmp_path: Path) -> None:
    remote = Remote("a", ("http://127.0.0.1:9/a", server.url + "/missing", server.url + "/a"), SHA)
    server.answers["/a"] = first(5, serve(cut=50_000), GOOD)
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/a: connection lost"):
        fetch(remote, tmp_path / "a", **QUICK)
    kept = (tmp_path / ".a.part").stat().st_size
    assert 150_000 < kept <= 250_000
    assert names(tmp_path) == [".a.part"]
    with pytest.raises(DownloadError, match="--offline"):
        fetch(remote, tmp_path / "a", offline=True, **QUICK)
    fetch(remote, tmp_path / "a", **QUICK)
    assert server.seen[-1] == ("/a", f"bytes={kept}-")


def test_a_server_that_says_when_is_asked_again_then(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    told: list[str] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    soon, late = (formatdate(time.time() + seconds, usegmt=True) for seconds in (20, 7200))
    for path, after in (("/number", "7"), ("/date", soon), ("/late", late), ("/nonsense", "soon"), ("/past", "0")):
        server.answers[path] = first(2, status(429, {"Retry-After": after}), GOOD)
        remote = Remote("a", (server.url + path,), SHA)
        fetch(remote, tmp_path / path[1:], pause=2.0, progress=lambda name, *_: told.append(name))
    assert "a: status 429, again in 7 s" in told
    assert slept[:2] == [7, 7]
    assert all(15 < seconds <= 20 for seconds in slept[2:4])
    assert slept[4:] == [60, 60, 2, 4, 0, 0]  # no longer than a minute; without a word, twice as long each time


def test_a_line_that_breaks_again_and_again_gets_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MUCH", 30_000)
    server.answers["/a"] = serve(cut=60_000)
    assert fetch(Remote("a", (server.url + "/a",), SHA), tmp_path / "a", **QUICK).read_bytes() == CONTENT
    assert len(server.seen) > 2 * download.TRIES


def test_what_had_arrived_whole_before_a_kill_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = GOOD
    (tmp_path / ".a.part").write_bytes(CONTENT)
    assert fetch(Remote("a", (server.url + "/a",), SHA), tmp_path / "a", **QUICK).read_bytes() == CONTENT
    assert server.seen == [("/a", f"bytes={len(CONTENT)}-")]
    (tmp_path / ".b.part").write_bytes(CONTENT + b"and more")  # of another file: it starts over
    assert fetch(Remote("b", (server.url + "/a",), SHA), tmp_path / "b", **QUICK).read_bytes() == CONTENT


def test_the_proxy_of_the_environment_is_asked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.answers["http://mirror.invalid/a"] = GOOD
    assert fetch(Remote("a", ("http://mirror.invalid/a",), SHA), tmp_path / "a", **QUICK).read_bytes() == CONTENT


def test_several_who_want_the_same_file_fetch_it_once(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = serve(cut=300_000)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(fetch, Remote("a", (server.url + "/a",), SHA), tmp_path / "a", **QUICK) for _ in range(4)]
        assert all(future.result().read_bytes() == CONTENT for future in asked)
    assert len(server.seen) == 3  # the pieces of one download
    assert names(tmp_path) == ["a"]


def test_a_download_that_was_killed_goes_on(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = first(1, serve(cut=400_000, stall=120), GOOD)
    code = "import sys; from pathlib import Path; from mess.fetch.download import *; "
    code += "fetch(Remote('a', (sys.argv[1],), sys.argv[2]), Path(sys.argv[3]), timeout=(9, 60))"
    arguments = [sys.executable, "-c", code, server.url + "/a", SHA, str(tmp_path / "a")]
    running = subprocess.Popen(arguments)
    part, deadline = tmp_path / ".a.part", time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 200_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.kill()
    running.wait()
    kept = part.stat().st_size
    assert not (tmp_path / "a").exists()
    subprocess.run(arguments, check=True)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.seen[-1] == ("/a", f"bytes={kept}-")
    assert names(tmp_path) == ["a"]


def test_a_file_that_is_damaged_on_disk_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = GOOD
    (tmp_path / "a").write_bytes(CONTENT[:-1] + b"x")
    assert fetch(Remote("a", (server.url + "/a",), SHA), tmp_path / "a", **QUICK).read_bytes() == CONTENT


def test_the_commands_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    there = ["--datapath", str(tmp_path)]
    for run, said in (
        (lambda: down_imagenet_main(there), "the official archives in"),
        (lambda: down_imagenet_main([*there, "--source", "tar"]), "ILSVRC2012_img_train.tar: expected the official"),
        (lambda: main(["fetch", "imagenet", "--source", "hf", *there]), "HF_TOKEN"),
        (lambda: main(["fetch", "imagenet", "--offline", *there]), "expected 1,000 class folders, found none"),
        (lambda: main(["fetch", "cifra10"]), "did you mean cifar10?"),
        (
            lambda: down_ckpt_main(["imagenet", "-a", "resnet", "--layers", "101", "--width-mult", "0.5"]),
            "public weights",
        ),
        (lambda: down_ckpt_main([]), "the dataset the weights were trained on"),
        (lambda: main(["fetch", "cifar10", "--offline", *there]), "--offline"),
        (lambda: main(["train", "digits", "--pretrained", "--ckpt", "x.pth"]), "--pretrained"),
    ):
        assert run() == 2
        printed = capsys.readouterr()
        assert said in printed.err
        assert "Traceback" not in printed.err
        if "imagenet" in printed.err and "weights" not in printed.err:  # consent comes first, with links
            assert printed.out.startswith("ImageNet is given for research, to people who accept its terms")
            assert "https://image-net.org/download-images" in printed.out
    assert main(["fetch", "weights", "--list"]) == 0
    assert "resnet56-4bfd9763" in capsys.readouterr().out


@pytest.mark.skipif(not os.environ.get("MESS_NETWORK_TESTS"), reason="MESS_NETWORK_TESTS=1 asks the real servers")
def test_the_real_addresses_answer() -> None:
    """Headers only. ImageNet's own pages want a person; that they are there is all that is asked."""
    archives = [archive for _, archive, _ in ARCHIVES.values()]
    urls = [w.url for w in public_weights()]
    urls += [f"{MIRROR}/{archive}" for archive in archives] + [f"{HOME}/{archive}" for archive in archives]
    urls += ["https://image-net.org/download-images", "https://huggingface.co/datasets/ILSVRC/imagenet-1k"]
    failed = {}
    for url in urls:
        try:
            answer = requests.head(url, allow_redirects=True, timeout=30)
        except requests.RequestException as error:
            failed[url] = type(error).__name__
        else:
            if not answer.ok:
                failed[url] = str(answer.status_code)
    assert failed == {}
