"""Untrusted archives, ImageNet's own and the Hub's shards: checked, unpacked, counted, and nothing outside."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mess.cli import down_imagenet_main, main
from mess.data import open_dataset
from mess.errors import DownloadError
from mess.fetch import fetch_cifar, fetch_imagenet_parquet
from mess.fetch.archives import unpack
from mess.fetch.cifar import ARCHIVES
from mess.fetch.imagenet import DEVKIT, TRAIN, VAL, Official, count_imagenet, prepare_imagenet
from web_server import CONTENT, Server, serve, status


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a\\..\\out", "C:/out"])
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
    whole = tarred({"a/x": CONTENT}, "w:gz")
    (tmp_path / "cut.tar.gz").write_bytes(whole[:-20_000])
    for place in (5_000, 300_000):
        damaged = whole[:place] + bytes(64) + whole[place + 64 :]
        (tmp_path / f"damaged{place}.tar.gz").write_bytes(damaged)
    (tmp_path / "page.tar.gz").write_bytes(b"<html>Please sign in</html>")
    damages = ("cut.tar.gz", "damaged5000.tar.gz", "damaged300000.tar.gz", "page.tar.gz")
    for name, said in (("link.tar", "link"), *((damage, "damaged") for damage in damages)):
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
    monkeypatch.setitem(ARCHIVES, "cifar100", ("cifar-100-python", "cifar-100-python.tar.gz", digest))
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
    with pytest.raises(DownloadError, match="expected 12 images, found 13"):
        prepare_imagenet(folder, root, official=official)


def test_what_was_unpacked_of_val_before_a_kill_is_not_written_again(
    archives: tuple[Path, Official], tmp_path: Path
) -> None:
    folder, official = archives
    first, second = (
        tmp_path / "imagenet" / ".val" / WNIDS[k] / f"ILSVRC2012_val_{n:08d}.JPEG" for k, n in ((0, 1), (1, 2))
    )
    for path, content in ((first, picture(1)), (second, picture(2)[:50])):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    before = first.stat().st_mtime_ns
    told: list[tuple[str, int, int | None]] = []
    prepare_imagenet(folder, tmp_path / "imagenet", official=official, progress=lambda *report: told.append(report))
    val = tmp_path / "imagenet" / "val"
    assert (val / WNIDS[0] / first.name).stat().st_mtime_ns == before
    assert (val / WNIDS[1] / second.name).read_bytes() == picture(2)
    assert [p.name for p in (tmp_path / "imagenet").iterdir() if p.is_dir()] in (["val", "train"], ["train", "val"])
    steps = {*(f"checking {name}" for name in (TRAIN, VAL, DEVKIT)), "unpacking train", "unpacking val"}
    assert {name for name, _, _ in told} == steps
    assert all(total is None or done <= total for _, done, total in told)


def test_a_class_that_is_missing_and_what_is_no_picture_are_named(
    archives: tuple[Path, Official], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, official = archives

    def with_train(content: bytes) -> Official:
        (folder / TRAIN).write_bytes(content)
        return replace(official, hashes={**official.hashes, TRAIN: "md5:" + hashlib.md5(content).hexdigest()})

    classes = {f"{w}.tar": tarred({f"{w}_{i}.JPEG": picture(i) for i in range(6)}) for w in WNIDS[:2]}
    with pytest.raises(DownloadError, match="expected 3 class folders, found 2"):
        prepare_imagenet(folder, tmp_path / "missing", official=with_train(tarred(classes)))
    for name in ("notes.txt", "n01440764_9.JPEG/../../../out.JPEG"):
        hostile = with_train(tarred({**classes, f"{WNIDS[2]}.tar": tarred({name: picture(1)})}))
        with pytest.raises(DownloadError, match=r"images alone|inside the archive's folder"):
            prepare_imagenet(folder, tmp_path / "extra", official=hostile)
        assert not (tmp_path / "extra" / "train" / WNIDS[2]).exists()
    with pytest.raises(DownloadError, match="a damaged one"):
        prepare_imagenet(folder, tmp_path / "cut", official=with_train(tarred(classes)[:12_000]))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DownloadError, match="GB of room"):
        prepare_imagenet(folder, tmp_path / "full", official=official)
    assert list((tmp_path / "full").iterdir()) == []


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
        names = [f"{WNIDS[i % 3]}_{i}_{WNIDS[i % 3]}.JPEG" if count == 4 else f"v{i}.JPEG" for i in numbers]
        images = [{"bytes": picture(i), "path": name} for i, name in zip(numbers, names, strict=True)]
        out = io.BytesIO()
        parquet.write_table(pa.table({"image": images, "label": [i % 3 for i in numbers]}), out)
        server.answers[base + name] = serve(out.getvalue())
        digest = hashlib.sha256(out.getvalue()).hexdigest()
        entries.append({"path": f"data/{name}", "lfs": {"oid": digest}})
    server.answers["/api/datasets/ILSVRC/imagenet-1k/tree/main/data"] = status(200, body=json.dumps(entries).encode())
    official = Official({}, 3, 12, 6)
    shard = base + "train-00000-of-00001.parquet"
    good, server.answers[shard] = server.answers[shard], status(403)
    with pytest.raises(DownloadError, match=r"no access.*huggingface\.co/settings/tokens"):
        fetch_imagenet_parquet(tmp_path, "token", hub=server.url, official=official)
    server.answers[shard] = good
    fetch_imagenet_parquet(tmp_path, "token", hub=server.url, official=official)
    assert sorted(p.name for p in (tmp_path / "val" / WNIDS[1]).iterdir()) == ["v1.JPEG", "v4.JPEG"]
    # the Hub repeats the class behind the official name; the official name is what is written
    assert (tmp_path / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").read_bytes() == picture(0)
    asked = len(server.seen)
    fetch_imagenet_parquet(tmp_path, "token", hub=server.url, official=official)
    assert len(server.seen) == asked + 1  # only what there is; the shards are done
    for refused in (401, 403):
        server.answers["/api/datasets/ILSVRC/imagenet-1k/tree/main/data"] = status(refused)
        with pytest.raises(DownloadError, match=r"accept the terms at https://huggingface\.co"):
            fetch_imagenet_parquet(tmp_path / "again", "token", hub=server.url, official=official)


def test_the_command_takes_what_it_finds_and_needs_the_archives_but_once(
    archives: tuple[Path, Official], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, official = archives
    monkeypatch.setattr("mess.fetch.prepare_imagenet", partial(prepare_imagenet, official=official))
    monkeypatch.setattr("mess.fetch.imagenet.count_imagenet", lambda where, *_: count_imagenet(where, official))
    assert down_imagenet_main(["--datapath", str(folder)]) == 0
    assert "imagenet is in" in capsys.readouterr().out
    for name in (TRAIN, VAL, DEVKIT):
        (folder / name).unlink()
    assert down_imagenet_main(["--datapath", str(folder)]) == 0
    assert main(["fetch", "imagenet", "--offline", "--datapath", str(folder)]) == 0
    next((folder / "imagenet" / "val").rglob("*.JPEG")).unlink()
    assert main(["fetch", "imagenet", "--offline", "--datapath", str(folder)]) == 2
    assert "expected 6 images, found 5" in capsys.readouterr().err
