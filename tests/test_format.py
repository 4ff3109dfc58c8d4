"""The file: whole or refused, whatever is done to it (docs/FORMAT.md; clauses are named where they are tested)."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard

from damage import sealed
from format_helpers import example, weights
from independent_decoder import decode
from mess import codec
from mess.codec.container import HEADER, Section, format_of, pack_sections
from mess.codec.manifest import pack_manifest, unpack_manifest
from mess.errors import FormatError
from mess.storing import to_tensors

HERE = Path(__file__).parent
VERSIONS = ("v1", "v2", "v2a", "v2q", "v3", "v3a")
GOLDEN = json.loads((HERE / "golden" / "golden.json").read_text())


def hashes(stored: codec.StoredModel) -> dict[str, str]:
    found = codec.reconstruct(stored)
    return {n: hashlib.sha256(f"{d}{list(a.shape)}".encode() + a.tobytes()).hexdigest() for n, (a, d) in found.items()}


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_written_is_read(version: str, bits: int) -> None:
    stored = example(version, bits=bits)
    content = codec.encode_model(stored)
    again = codec.read_model(content)
    assert hashes(again) == hashes(stored)
    assert again.scheme == stored.scheme
    assert codec.encode_model(again) == content  # decompress, compress: the same bytes
    tensors = to_tensors(again)
    assert {n: (t.shape, t.dtype) for n, t in tensors.items()} == {n: (t.shape, t.dtype) for n, t in weights().items()}
    if bits == 32 and version == "v2":
        kept = [name for name in weights() if name not in ("b.weight", "c.weight", "p2.weight")]
        assert all(torch.equal(tensors[name], weights()[name]) for name in kept)


def test_the_order_of_entries_does_not_matter_and_names_can_be_asked_for() -> None:
    stored = example("v2")
    turned = codec.StoredModel(stored.network, stored.scheme, stored.books, dict(reversed(stored.entries.items())))
    content = codec.encode_model(stored)
    assert codec.encode_model(turned) == content
    part = codec.reconstruct(codec.read_model(content, names=["c.weight", "tied"]), names=["c.weight", "tied"])
    whole = codec.reconstruct(stored)
    assert all(np.array_equal(part[name][0], whole[name][0]) for name in ("c.weight", "tied"))
    with pytest.raises(FormatError, match="none of that name"):
        codec.read_model(content, names=["nothing"])


@pytest.mark.parametrize("version", sorted(GOLDEN))
def test_golden_files_are_decoded_for_ever(version: str) -> None:
    stored = codec.read_model(HERE / "golden" / f"{version}.mess")
    assert hashes(stored) == GOLDEN[version]


@pytest.mark.parametrize("version", sorted(name for name in GOLDEN if name.startswith("v4")))
def test_tensors_of_golden_files_are_decoded_one_by_one(version: str) -> None:
    for name in ("a.weight", "b.weight", "fc.weight"):
        stored = codec.read_model(HERE / "golden" / f"{version}.mess", names=[name])
        assert hashes(stored) == {name: GOLDEN[version][name]}


@pytest.mark.parametrize("version", sorted(GOLDEN))
def test_a_decoder_written_from_the_specification_reads_the_same(version: str) -> None:
    found = decode((HERE / "golden" / f"{version}.mess").read_bytes())
    assert {
        name: hashlib.sha256(f"{dtype}{list(array.shape)}".encode() + array.tobytes()).hexdigest()
        for name, (array, dtype) in found.items()
    } == GOLDEN[version]


@pytest.mark.parametrize(
    ("kinds", "minor"),
    [
        ([(1, 1)], 0),
        ([(1, 0), (8, 1)], 0),
        ([(8, 2)], 1),
        ([(9, 0)], 1),
        ([(8, 3)], 2),
        ([(8, 3), (9, 1)], 2),
        ([(6, 1)], 3),
    ],
)
def test_a_file_says_the_lowest_version_that_has_all_it_holds(kinds: list[tuple[int, int]], minor: int) -> None:
    content = pack_sections([Section(kind, coder, b"") for kind, coder in kinds])  # 2.1
    assert format_of(content) == (1, minor)


def test_golden_files_are_decoded_by_numpy_alone() -> None:
    code = """
import hashlib, json, sys
sys.modules["torch"] = sys.modules["constriction"] = None
from mess import codec
for path in sys.argv[1:]:
    found = codec.reconstruct(codec.read_model(path))
    print(json.dumps({n: hashlib.sha256(f"{d}{list(a.shape)}".encode() + a.tobytes()).hexdigest()
                      for n, (a, d) in found.items()}))
"""
    files = [str(HERE / "golden" / f"{version}.mess") for version in sorted(GOLDEN)]
    run = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in run.stdout.splitlines()] == [GOLDEN[version] for version in sorted(GOLDEN)]


def test_damaged_files_with_right_checksums_are_refused_or_read_soon_and_in_little_memory() -> None:
    run = subprocess.run(
        [sys.executable, HERE / "fuzz_format.py", "--n", "3200", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith("3,200 damaged files")


def packed(manifest: dict) -> bytes:
    coder, text = pack_manifest(manifest)
    return pack_sections([Section(1, coder, text)])


def tensor(shape: object, kind: str = "P", name: str = "w", dtype: object = 0) -> dict:
    return {"scheme": {}, "books": [], "tensors": [[name, kind, shape, dtype]]}


GOOD = codec.encode_model(example("v1"))
HEADERS = {
    "empty": b"",
    "wrong magic": b"\x00" + GOOD[1:],
    "version 0": sealed(GOOD[:8] + b"\x00" + GOOD[9:]),
    "a future version": sealed(GOOD[:8] + b"\x02" + GOOD[9:]),
    "an unknown flag": sealed(GOOD[:10] + b"\x01" + GOOD[11:]),
    "trailing bytes": GOOD + b"\x00",
    "trailing bytes with right checksums": sealed(GOOD + b"\x00"),
    "65,535 sections": sealed(GOOD[:12] + b"\xff\xff" + GOOD[14:]),
    "no section": sealed(GOOD[:12] + b"\x00\x00" + GOOD[14:]),
    "a pickle": b"\x80\x04" + bytes(80),
    "a zip": b"PK\x03\x04" + bytes(80),
    "a safetensors file": struct.pack("<Q", 2) + b"{}" + bytes(60),
    "sections in another order": pack_sections([])[:12] + bytes(80),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_broken_container_is_refused(name: str) -> None:
    with pytest.raises(FormatError) as error:
        codec.read_model(HEADERS[name])
    if name in ("a pickle", "a zip", "a safetensors file"):
        assert name.split()[1] in error.value.found


@pytest.mark.parametrize("move", [1, -1, 1 << 40])
def test_holes_and_overlaps_are_refused(move: int) -> None:
    entry = HEADER.size + 24  # the second section's entry; its offset stands 8 bytes in
    offset = int.from_bytes(GOOD[entry + 8 : entry + 16], "little") + move
    moved = GOOD[: entry + 8] + offset.to_bytes(8, "little") + GOOD[entry + 16 :]
    with pytest.raises(FormatError, match="to start at"):
        codec.read_model(sealed(moved))


MANIFESTS = {
    "no tensors": {"scheme": {}, "books": []},
    "unknown entry": {"scheme": {}, "books": [], "tensors": [], "more": 1},
    "huge dimension": tensor([2**64 - 1]),
    "negative dimension": tensor([-1]),
    "product overflows": tensor([2**39, 2**39, 2**39]),
    "rank 100": tensor([1] * 100),
    "10^12 numbers": tensor([10**12]),
    "dimension as text": tensor(["3"]),
    "true as a dimension": tensor([True]),
    "unknown kind": tensor([1], "Q"),
    "unknown codebook": tensor([1], "M7"),
    "unknown dtype": tensor([1], dtype=99),
    "hostile name": tensor([1], name="a\x00b"),
    "long name": tensor([1], name="a" * 2000),
    "unsorted": {"scheme": {}, "books": [], "tensors": [["b", "P", [1], 0], ["a", "P", [1], 0]]},
    "same name twice": {"scheme": {}, "books": [], "tensors": [["a", "P", [1], 0], ["a", "P", [1], 0]]},
    "tied to itself": {"scheme": {}, "books": [], "tensors": [["a", "T", "a"]]},
    "tied to nothing": {"scheme": {}, "books": [], "tensors": [["a", "T", "b"]]},
    "codebook of nothing": {"scheme": {}, "books": [[5, 9, 9, 0, 0]], "tensors": []},
    "unit of 0": {"scheme": {}, "books": [[0, 0, 9, 0, 0]], "tensors": [["a", "P", [9], 0]]},
    "network that does not exist": {"scheme": {}, "books": [], "network": {"arch": "x"}, "layout": 1, "kinds": []},
    "eps out of range": {"scheme": {}, "books": [], "eps": [7.0], "tensors": []},
    "missing section": tensor([4]),
}
FOUND = {
    "huge dimension": str(2**64 - 1),
    "negative dimension": "[-1]",
    "product overflows": str([2**39] * 3),
    "rank 100": "[1, 1, 1, 1",
    "10^12 numbers": "4,000,000,000,000",
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_without_sense_is_refused(name: str) -> None:
    with pytest.raises(FormatError) as error:
        codec.read_model(packed(MANIFESTS[name]))
    assert FOUND.get(name, "") in error.value.found


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":Infinity}', b"[" * 5000, b'{"a":' + b"1" * 5000 + b"}", b"[]", b"\xff",
        b'{"a":"\\ud800"', b"", b'{"a":' * 20 + b"1" + b"}" * 20,
    ],
)  # fmt: skip
def test_json_that_python_would_stumble_over_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError):
        unpack_manifest(0, text, "here")


def test_a_decompression_bomb_is_refused_unopened() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 28))
    with pytest.raises(FormatError, match="at most"):
        unpack_manifest(1, bomb, "here")
    with pytest.raises(FormatError, match="compressed with zstd"):
        unpack_manifest(1, b"no frame at all", "here")


def test_more_memory_than_allowed_is_refused_and_the_caller_may_allow_it() -> None:
    content = codec.encode_model(example("v2"))
    with pytest.raises(FormatError, match="allows more"):
        codec.read_model(content, max_bytes=100)
    assert codec.read_model(content, max_bytes=10**6).entries


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mess"
    codec.write_model(whole, example("v1"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    for name, said in (("pipe", "something else"), ("link to a pipe", "something else"), (".", "directory")):
        with pytest.raises(FormatError, match=said):
            codec.read_model(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        codec.read_model(tmp_path / "nothing")


def test_what_is_found_instead_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.mess"
    for content, said in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>not found</html>", "a web page"),
    ):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=f"net.mess: expected a .mess file, found {said}"):
            codec.read_model(path)
        with pytest.raises(FormatError, match=f"net.mess: expected a .mess file, found {said}"):
            codec.inspect_file(path)


def test_links_are_followed_as_the_caches_of_model_hubs_need(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    codec.write_model(tmp_path / "blobs" / "a1b2", example("v1"))
    (tmp_path / "net.mess").symlink_to("blobs/a1b2")
    assert codec.read_model(tmp_path / "net.mess").entries.keys() == example("v1").entries.keys()
