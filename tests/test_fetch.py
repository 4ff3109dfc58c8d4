"""Downloads over connections that break, from servers that lie; the commands that fetch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import requests

from mess.cli import down_ckpt_main, down_imagenet_main, main
from mess.errors import DownloadError
from mess.fetch import Remote, fetch, public_weights
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
    "stalls at first": first(1, serve(cut=100_000, stall=True), GOOD),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_download_ends_whole(way: str, server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = WAYS[way]
    told: list[int] = []
    path = fetch(
        Remote("a", (server.url + "/a",), SHA), tmp_path / "a", progress=lambda _, done, __: told.append(done), **QUICK
    )
    assert path.read_bytes() == CONTENT
    assert told[-1] == len(CONTENT)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
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
    with pytest.raises(DownloadError, match="--offline"):
        fetch(remote, tmp_path / "a", offline=True, **QUICK)
    fetch(remote, tmp_path / "a", **QUICK)
    assert server.seen[-1] == ("/a", f"bytes={kept}-")


def test_a_file_that_is_damaged_on_disk_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.answers["/a"] = GOOD
    (tmp_path / "a").write_bytes(CONTENT[:-1] + b"x")
    assert fetch(Remote("a", (server.url + "/a",), SHA), tmp_path / "a", **QUICK).read_bytes() == CONTENT


def test_the_commands_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for run, said in (
        (lambda: down_imagenet_main(["--datapath", str(tmp_path)]), "https://image-net.org/download-images"),
        (lambda: main(["fetch", "imagenet", "--source", "hf", "--datapath", str(tmp_path)]), "HF_TOKEN"),
        (lambda: main(["fetch", "cifra10"]), "did you mean cifar10?"),
        (
            lambda: down_ckpt_main(["imagenet", "-a", "resnet", "--layers", "101", "--width-mult", "0.5"]),
            "public weights",
        ),
        (lambda: main(["fetch", "cifar10", "--offline", "--datapath", str(tmp_path)]), "--offline"),
        (lambda: main(["train", "digits", "--pretrained", "--ckpt", "x.pth"]), "--pretrained"),
    ):
        assert run() == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
    assert main(["fetch", "weights", "--list"]) == 0
    assert "resnet56-4bfd9763" in capsys.readouterr().out


@pytest.mark.skipif(not os.environ.get("MESS_NETWORK_TESTS"), reason="MESS_NETWORK_TESTS=1 asks the real servers")
def test_the_real_addresses_answer() -> None:
    missing = [w.url for w in public_weights() if not requests.head(w.url, allow_redirects=True, timeout=30).ok]
    assert missing == []
