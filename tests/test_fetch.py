"""Downloads over connections that break, from servers that lie; archives from strangers; weights under other names."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from PIL import Image

import mess
from mess.cli import down_ckpt_main, down_imagenet_main, main
from mess.data import open_dataset
from mess.errors import DownloadError, WeightsError
from mess.fetch import Remote, fetch, fetch_cifar, fetch_imagenet_parquet, load_pretrained, public_weights
from mess.fetch.archives import unpack
from mess.fetch.cifar import ARCHIVES
from mess.fetch.imagenet import DEVKIT, TRAIN, VAL, Official, prepare_imagenet
from mess.fetch.weights import take_up
from mess.models import resolve

CONTENT = np.random.default_rng(0).integers(0, 256, 700_000, dtype=np.uint8).tobytes()
SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
QUICK = {"pause": 0.01, "timeout": (2.0, 0.5)}
Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Server:
    """A web server on loopback; `answers` says for each path what the n-th request gets."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.seen.append((path, self.headers.get("Range")))
                count = sum(p == path for p, _ in outer.seen)
                outer.answers.get(path, status(404))(self, count)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def serve(content: bytes = CONTENT, *, cut: int = 0, ranges: bool = True, stall: bool = False) -> Answer:
    """Send a file; with `cut` the connection breaks after so many bytes, each time."""

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
        if start >= len(content):
            return status(416, {"Content-Range": f"bytes */{len(content)}"})(handler, 0)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : start + cut] if cut else content[start:])
        handler.wfile.flush()
        if stall:
            threading.Event().wait(1.5)
        if cut:
            handler.close_connection = True
            handler.connection.close()
        return None

    return answer


def first(count: int, bad: Answer, good: Answer) -> Answer:
    return lambda handler, n: (bad if n <= count else good)(handler, n)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


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


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a\\..\\out"])
def test_an_archive_cannot_write_outside_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred({"a/good": b"1", name: b"2"}))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("a/good", b"1")
        packed.writestr(zipfile.ZipInfo(name), b"2")
    for archive in ("a.tar", "a.zip"):
        with pytest.raises(DownloadError, match="inside the archive's folder"):
            unpack(tmp_path / archive, tmp_path / "target")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "a.zip"]


def test_links_and_damage_in_an_archive_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as packed:
        entry = tarfile.TarInfo("a/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(entry)
    (tmp_path / "cut.tar.gz").write_bytes(tarred({"a/x": CONTENT}, "w:gz")[:-20_000])
    for name, said in (("link.tar", "link"), ("cut.tar.gz", "damaged")):
        with pytest.raises(DownloadError, match=said):
            unpack(tmp_path / name, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_cifar_comes_from_any_mirror_and_is_unpacked_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [1, 2]}
    files = {f"cifar-100-python/{n}": pickle.dumps(batch, protocol=2) for n in ("train", "test")}
    archive = tarred(files, "w:gz")
    server.answers["/mirror/cifar-100-python.tar.gz"] = serve(archive)
    digest = "md5:" + hashlib.md5(archive).hexdigest()
    monkeypatch.setitem(ARCHIVES, "cifar100", (("cifar-100-python", "cifar-100-python.tar.gz", digest),))
    mirrors = (server.url + "/nothing", server.url + "/mirror")
    assert fetch_cifar("cifar100", tmp_path, mirrors=mirrors) == tmp_path / "cifar-100-python"
    assert len(open_dataset("cifar100", tmp_path, train=True)) == 2
    asked = len(server.seen)
    fetch_cifar("cifar100", tmp_path, mirrors=mirrors)
    assert len(server.seen) == asked


def picture(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(out, "JPEG")
    return out.getvalue()


WNIDS = ["n01440764", "n01443537", "n01484850"]


@pytest.fixture
def archives(tmp_path: Path) -> tuple[Path, Official]:
    """The three archives as ImageNet gives them, with three classes; the devkit counts classes in another order."""
    from scipy.io import savemat

    folder = tmp_path / "archives"
    folder.mkdir()
    inner = {f"{w}.tar": tarred({f"{w}_{i}.JPEG": picture(40 * k + i) for i in range(4)}) for k, w in enumerate(WNIDS)}
    (folder / TRAIN).write_bytes(tarred(inner))
    (folder / VAL).write_bytes(tarred({f"ILSVRC2012_val_{i:08d}.JPEG": picture(i) for i in range(1, 7)}))
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    rows = np.array([(3, WNIDS[0], 0), (1, WNIDS[1], 0), (2, WNIDS[2], 0), (9, "n00000001", 3)], dtype=kinds)
    meta = io.BytesIO()
    savemat(meta, {"synsets": rows})
    truth = "\n".join(map(str, [3, 1, 2, 2, 1, 3])).encode()
    kit = {"ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue()}
    kit["ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"] = truth
    (folder / DEVKIT).write_bytes(tarred(kit, "w:gz"))
    hashes = {name: "md5:" + hashlib.md5((folder / name).read_bytes()).hexdigest() for name in (TRAIN, VAL, DEVKIT)}
    return folder, Official(hashes, 3, 12, 6)


def test_the_official_archives_become_class_folders(archives: tuple[Path, Official], tmp_path: Path) -> None:
    folder, official = archives
    root = tmp_path / "imagenet"
    prepare_imagenet(folder, root, official=official)
    names = {p.parent.name for p in (root / "val").rglob("*1.JPEG")}
    assert names == {WNIDS[0]}  # picture 1 is of class 3 in the devkit's order
    assert [len(list((root / "train" / w).iterdir())) for w in WNIDS] == [4, 4, 4]
    # an interrupted run goes on: a class that is missing is unpacked, the others are left alone
    for file in (root / "train" / WNIDS[1]).iterdir():
        file.unlink()
    (root / "train" / WNIDS[1]).rmdir()
    before = (root / "train" / WNIDS[0]).stat().st_mtime_ns
    prepare_imagenet(folder, root, official=official)
    assert (root / "train" / WNIDS[0]).stat().st_mtime_ns == before
    (root / "train" / WNIDS[2] / "more.JPEG").write_bytes(picture(1))
    with pytest.raises(DownloadError, match="expected 12 pictures, found 13"):
        prepare_imagenet(folder, root, official=official)


def test_wrong_archives_are_named(archives: tuple[Path, Official], tmp_path: Path) -> None:
    folder, official = archives
    content = (folder / VAL).read_bytes()
    (folder / VAL).write_bytes(content[:-1] + b"x")
    with pytest.raises(DownloadError, match=f"{VAL}.*another hash"):
        prepare_imagenet(folder, tmp_path / "imagenet", official=official)
    hostile = tarred({"../out.JPEG": picture(1)})
    (folder / VAL).write_bytes(hostile)
    hashes = {**official.hashes, VAL: "md5:" + hashlib.md5(hostile).hexdigest()}
    with pytest.raises(DownloadError, match="inside the archive's folder"):
        prepare_imagenet(folder, tmp_path / "imagenet", official=Official(hashes, 3, 12, 6))
    assert not (tmp_path / "imagenet" / "val").exists()
    (folder / TRAIN).unlink()
    with pytest.raises(DownloadError, match="accept its terms"):
        prepare_imagenet(folder, tmp_path / "imagenet", official=official)


def test_shards_of_the_hub_become_class_folders_and_no_access_says_where_to_click(
    server: Server, tmp_path: Path
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    base = "/datasets/ILSVRC/imagenet-1k/resolve/main/data/"
    entries = []
    for name, count in (("train-00000-of-00001.parquet", 4), ("validation-00000-of-00001.parquet", 2)):
        numbers = range(3 * count)
        images = [
            {"bytes": picture(i), "path": f"{WNIDS[i % 3]}_{i}.JPEG" if count == 4 else f"v{i}.JPEG"} for i in numbers
        ]
        out = io.BytesIO()
        parquet.write_table(pa.table({"image": images, "label": [i % 3 for i in numbers]}), out)
        server.answers[base + name] = serve(out.getvalue())
        digest = hashlib.sha256(out.getvalue()).hexdigest()
        entries.append({"path": f"data/{name}", "lfs": {"oid": digest}})
    server.answers["/api/datasets/ILSVRC/imagenet-1k/tree/main/data"] = status(200, body=json.dumps(entries).encode())
    official = Official({}, 3, 12, 6)
    fetch_imagenet_parquet(tmp_path, "token", hub=server.url, official=official)
    assert sorted(p.name for p in (tmp_path / "val" / WNIDS[1]).iterdir()) == ["v1.JPEG", "v4.JPEG"]
    server.answers["/api/datasets/ILSVRC/imagenet-1k/tree/main/data"] = status(403)
    with pytest.raises(DownloadError, match=r"accept the terms at https://huggingface\.co"):
        fetch_imagenet_parquet(tmp_path / "again", "token", hub=server.url, official=official)


def test_the_table_of_weights_is_of_networks_that_there_are() -> None:
    rows = public_weights()
    assert {row.arch for row in rows if row.dataset == "imagenet"} == {
        "mobilenet", "mobilenetv2", "resnet", "resnext", "shufflenet", "shufflenetv2", "wideresnet",
    }  # fmt: skip
    for row in rows:
        architecture = resolve(row.arch, row.dataset, layers=row.layers, width_mult=row.width_mult, groups=row.groups)
        assert architecture.layers == row.layers
        digest = row.hash.partition(":")[2]
        assert digest in row.url
        assert len(row.mean) == len(row.std) == 3


@pytest.mark.parametrize("classes", [10, 4])
def test_public_weights_are_loaded_under_our_names(
    classes: int, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    donor = mess.create_model("resnet", layers=20)
    kept = {"state_dict": {f"module.{name}": t for name, t in donor.state_dict().items()}}
    content = io.BytesIO()
    torch.save(kept, content, _use_new_zipfile_serialization=False)  # the old pickle, as those people publish it
    row = next(w for w in public_weights() if w.source == "akamaster" and w.layers == 20)
    server.answers["/r20.th"] = serve(content.getvalue(), cut=400_000)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    here = {**row.__dict__, "url": server.url + "/r20.th", "hash": f"sha256:{digest[:8]}"}
    monkeypatch.setattr("mess.fetch.weights.public_weights", lambda: [type(row)(**here)])
    monkeypatch.setenv("MESS_CACHE", str(tmp_path / "cache"))
    model = mess.create_model("resnet", layers=20, num_classes=classes)
    head = model.linear.weight.clone()
    _, replaced = load_pretrained(model)
    assert replaced == (classes == 4)
    assert torch.equal(model.layer3[0].conv1.weight, donor.layer3[0].conv1.weight)
    assert torch.equal(model.linear.weight, head if replaced else donor.linear.weight)
    if not replaced:
        assert torch.equal(mess.create_model("resnet", layers=20, pretrained=True).conv1.weight, donor.conv1.weight)
        output = tmp_path / "pretrained_model.pth"
        assert down_ckpt_main(["cifar10", "-a", "resnet", "--layers", "20", "-o", str(output)]) == 0
        assert torch.load(output, weights_only=True)["architecture"]["layers"] == 20
        assert len(server.seen) == 3  # once, in three pieces


def test_tensors_that_correspond_in_order_take_our_names() -> None:
    model = mess.create_model("mobilenet", "imagenet", width_mult=0.25)
    row = next(w for w in public_weights() if w.source == "imgclsmob")
    state = {f"features.x{i}": torch.randn_like(t) for i, (n, t) in enumerate(model.state_dict().items()) if t.ndim}
    assert not take_up(model, state, row)
    assert all(
        torch.equal(a, b)
        for a, b in zip((t for t in model.state_dict().values() if t.ndim), state.values(), strict=True)
    )
    with pytest.raises(WeightsError, match="do not fit"):
        take_up(model, dict(list(state.items())[1:]), row)


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
