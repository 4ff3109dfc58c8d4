"""Small files that say much: refused, or read in memory and time that `max_bytes` bounds (FORMAT.md 11.8)."""

from __future__ import annotations

import json
import struct
import subprocess
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from c_decoder import CC, DECODER, needs_compiler
from mess import codec
from mess.cli import main
from mess.codec import ans, bits
from mess.codec.bits import Reader, varint, zigzag
from mess.codec.container import Section, pack_sections
from mess.codec.dtypes import DTYPES
from mess.codec.manifest import pack_manifest
from mess.codec.model_file import EXPANSIONS, INDICES, MANIFEST, OFFSETS, REFERENCES, SCALES, STREAMS, TENSORS
from mess.codec.streams import CODED, CONSTANT, INTEGERS, PLANES, STEPPED, PreviousTable, read_integers
from mess.errors import FormatError
from mess.scheme.ties import STORABLE

INT64, UINT8 = 4, 8  # numbers of dtypes
TOLD = 3  # the coder of sums of references whose levels are told
LARGE = 1_000_000


def constant(number: int) -> bytes:
    """Return any number of integers that are all the same."""
    return bytes([CONSTANT]) + varint(zigzag(number))


def integers(dtype: int, number: int) -> bytes:
    return bytes([dtype << 2 | INTEGERS]) + constant(number)


STEPS = bytes([STEPPED]) + struct.pack("<f", 1.0) + constant(1)
DOUBLES = bytes([3 << 2 | PLANES]) + constant(0) * 8


def file_of(tensors: list[list], books: list[list[int]], streams: dict[int, bytes]) -> bytes:
    coder, text = pack_manifest({"scheme": {}, "books": books, "tensors": tensors})
    sections = [Section(kind, TOLD if kind == EXPANSIONS else STREAMS, content) for kind, content in streams.items()]
    return pack_sections([Section(MANIFEST, coder, text), *sections])


def sums(axes: int, trellised_from: int) -> bytes:
    """Return the section of one tensor of sums of references, all integers 0, with exponents and levels or without."""
    steps = bytes([PLANES]) + b"".join(constant(byte) for byte in struct.pack("<f", 1.0))
    exponents = constant(axes) + constant(1 if axes & 7 else 0)
    levels = constant(0) + constant(1 if axes >> 3 else 0) + constant(trellised_from)
    return steps + exponents + levels + (1).to_bytes(6, "little") + constant(0)[1:] + varint(1) + b"\0" + varint(0)


def read(content: bytes, **options: object) -> dict[str, codec.Tensor]:
    return codec.reconstruct(codec.read_model(content, **options))


def peak_of(content: bytes) -> int:
    """Return the bytes that reading a file takes at its peak."""
    tracemalloc.start()
    try:
        read(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ONE_BOOK = {REFERENCES: STEPS, INDICES: integers(INT64, 0)}
FILES = {
    "overlapping references": (
        [["a", "P", [2_000_000], 0], ["b", "C0", [1_000_000], 0]], [[0, 1_000_000, 1, 0, 0]], ONE_BOOK
    ),
    "overlapping references that nothing uses": (
        [["a", "P", [40_000], 0]], [[0, 20_000, 1, 0, 0]], {REFERENCES: STEPS}
    ),
    "references longer than their tensor": ([["a", "P", [4], 0]], [[0, 5, 1, 0, 0]], {REFERENCES: STEPS}),
    "short units": ([["a", "P", [4], 0], ["b", "C0", [LARGE + 1], 1]], [[0, 2, 1, 0, 0]], ONE_BOOK),
    "units of one number, every second one": (
        [["a", "P", [4], 0], ["b", "C0", [LARGE], 1]], [[0, 1, 2, 0, 0]], ONE_BOOK
    ),
    "units of one number, scales of eight bytes": (
        [["a", "P", [4], 0], ["b", "M0", [LARGE], 1]],
        [[0, 1, 1, 0, 0]],
        {**ONE_BOOK, SCALES: DOUBLES, OFFSETS: DOUBLES},
    ),
    "bytes that are all the same": ([["a", "P", [4 * LARGE], UINT8]], [], {TENSORS: integers(UINT8, 3)}),
    "halves as multiples of one step": ([["a", "P", [LARGE], 1]], [], {TENSORS: STEPS}),
    "bfloat16 as doubles": ([["a", "P", [LARGE], 2]], [], {TENSORS: DOUBLES}),
    "references of their own that nothing uses": ([], [[-1, 1, 1, 0, LARGE]], {REFERENCES: STEPS}),
    "levels of terms of nothing": (
        [["a", "P", [LARGE], 0], ["b", "E0", [0, 4], 1]], [[0, 1, 1, 0, 0]], {REFERENCES: STEPS, EXPANSIONS: sums(0, 0)}
    ),
}  # fmt: skip
for SHAPE in ([500_000, 1, 1], [1, 1, 500_000], [700, 700, 1], [70, 70, 100], [30_000, 1, 1, 16]):
    for AXES, START in ((0, 48), (31, 48), (31, 0)):
        ROWS, COLUMNS, TERMS, UNIT = (*SHAPE, 1)[:4]
        FILES[f"sums of references {SHAPE}, axes {AXES}, trellises from {START}"] = (
            [["a", "P", [TERMS * UNIT], 0], ["b", "E0", [ROWS, COLUMNS * UNIT], 1]],
            [[0, UNIT, UNIT, 0, 0]],
            {REFERENCES: STEPS, EXPANSIONS: sums(AXES, START)},
        )


@pytest.mark.parametrize("name", FILES)
def test_a_few_bytes_take_a_small_multiple_of_what_is_counted(name: str) -> None:
    content = file_of(*FILES[name])
    assert len(content) < 400
    with pytest.raises(FormatError, match="allows more") as error:
        codec.read_model(content, max_bytes=0)
    counted = int(error.value.found.replace(",", ""))
    start = time.process_time()
    assert peak_of(content) < 10 * counted + (1 << 21)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize(("shape", "stride"), [((23,), 1), ((2, 11), 2), ((2, 10), 5), ((2, 11), 7), ((2, 5), 9)])
def test_references_that_overlap_are_those_at_their_places(by_row: bool, shape: tuple[int, ...], stride: int) -> None:
    numbers_RL = np.arange(np.prod(shape), dtype=np.float32).reshape(shape[0] if by_row else 1, -1)
    if numbers_RL.shape[1] < 5:
        return  # no room for a reference
    refs = [row[at : at + 5] for row in numbers_RL for at in range(0, len(row) - 4, stride)]
    book = codec.Codebook("a", 5, stride, by_row)
    for width in (13, 10, 3):
        row = width if by_row else 3 * width
        units = -(-row // 5)
        index_N = np.arange(units * (3 if by_row else 1)) * 2 % len(refs)
        wanted = [refs[i][: min(5, row - place % units * 5)] for place, i in enumerate(index_N)]
        entries = {
            "a": codec.Plain(shape, "float32", codec.NumberArray(numbers_RL.ravel(), "float32")),
            "b": codec.Matched((3, width), "float32", 0, index_N, None, None),
        }
        stored = codec.read_model(codec.encode_model(codec.StoredModel(None, {}, [book], entries)))
        assert codec.reconstruct(stored)["b"][0].ravel().tolist() == np.concatenate(wanted).tolist()
        assert np.array_equal(codec.references(stored, stored.books[0]), refs)


def test_references_that_overlap_too_far_are_not_spread_out() -> None:
    content = file_of(*FILES["overlapping references"])
    stored = codec.read_model(content)
    with pytest.raises(FormatError, match="a: expected references of at most 2,147,483,648 bytes"):
        codec.references(stored, stored.books[0])


def test_many_small_terms_are_summed_one_after_the_other() -> None:
    draw = np.random.default_rng(0)
    values = draw.integers(-9, 10, (2, 3, 1000)).astype(np.int32)
    refs = draw.normal(size=(1000, 4)).astype(np.float32)
    book = codec.Codebook(None, 4, 4, False, codec.NumberArray(refs.ravel(), "float32"))
    entry = codec.Expanded((2, 12), "float32", 0, values, 0.3)
    found = codec.reconstruct(codec.read_model(codec.encode_model(codec.StoredModel(None, {}, [book], {"w": entry}))))
    total = np.zeros((2, 3, 4), np.float32)
    for k in range(1000):
        total += values[:, :, k, None].astype(np.float32) * np.float32(0.3) * refs[k]
    assert np.array_equal(found["w"][0].reshape(2, 3, 4), total)


@pytest.mark.parametrize("shape", [[1 << 40, 1 << 40, 0], [0, 1 << 30, 1 << 30]])
def test_a_shape_of_nothing_that_no_array_can_have_is_refused(shape: list[int]) -> None:
    with pytest.raises(FormatError, match="dimensions other than 0"):
        codec.read_model(file_of([["a", "P", shape, 0]], [], {TENSORS: STEPS}))


def test_tied_tensors_are_counted_as_each_has_memory_of_its_own() -> None:
    tensors = [["a", "P", [1 << 20], UINT8], *([f"t{n:03}", "T", "a"] for n in range(100))]
    content = file_of(tensors, [], {TENSORS: integers(UINT8, 3)})
    with pytest.raises(FormatError, match=f"found {101 << 20:,}"):
        codec.read_model(content, max_bytes=100 << 20)
    assert sum(array.nbytes for array, _ in read(content, max_bytes=101 << 20).values()) == 101 << 20


def many_matched(count: int) -> bytes:
    tensors = [["a", "P", [9], 0], *([f"b{n:06}", "C0", [9], 0] for n in range(count))]
    return file_of(tensors, [[0, 9, 9, 0, 0]], {REFERENCES: STEPS, INDICES: integers(INT64, 0) * count})


def many_sources(count: int) -> bytes:
    tensors = [[f"b{n:06}.weight", "P", [2, 2, 3, 1 + n // 2], 0] for n in range(count)]
    books = [[2 * n, 1, 1, 0, 0] for n in range(count // 2)]
    return file_of(tensors, books, {REFERENCES: STEPS * (count // 2), TENSORS: STEPS * (count // 2)})


@pytest.mark.parametrize("made", [many_matched, many_sources])
def test_many_rows_take_time_in_proportion(made: object) -> None:
    content = made(16_000)  # type: ignore[operator]
    start = time.process_time()
    codec.read_model(content, names=[], max_bytes=1 << 40)
    codec.inspect_file(content, max_bytes=1 << 40)
    assert time.process_time() - start < 8  # about one; a minute where each row is compared with all


@pytest.mark.parametrize("numpy_only", [False, True])
def test_integers_are_decoded_block_by_block(monkeypatch: pytest.MonkeyPatch, numpy_only: bool) -> None:
    if numpy_only:
        monkeypatch.setattr(ans, "constriction", None)
    count = 6 * ans.LANE if numpy_only else 1 << 24  # NumPy alone takes its time
    content = (
        bytes([CODED]) + varint(0) + bytes([0]) + varint(2) + b"\0" + varint(1) + varint(0)
    )  # an empty state: all 0
    tracemalloc.start()
    found = read_integers(Reader(content, "here"), count, PreviousTable(), (0, 255), np.uint8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    assert found.dtype == np.uint8
    assert not found.any()
    assert peak < 2 * count + (1 << 22)


@pytest.mark.parametrize("width", [1, 3, 7, 8, 9, 24, 31, 57])
def test_packed_numbers_are_bits_one_after_the_other(width: int) -> None:
    for count in (0, 1, 7, 8, 9, bits.BLOCK + 5):
        numbers_N = np.random.default_rng(count).integers(-(2**62), 2**62, count)
        bits_NW = numbers_N.astype(np.uint64)[:, None] >> np.arange(width, dtype=np.uint64) & np.uint64(1)
        packed = bits.pack(numbers_N, width)
        assert packed == np.packbits(bits_NW.astype(np.uint8).ravel(), bitorder="little").tobytes()
        assert np.array_equal(bits.unpack(packed, count, width), numbers_N & ((1 << width) - 1))
        assert np.array_equal(
            bits.unpack_part(packed, count // 3, count, width), bits.unpack(packed, count, width)[count // 3 :]
        )


def test_packing_takes_little_memory() -> None:
    numbers_N = np.arange(1 << 20)
    tracemalloc.start()
    bits.pack(numbers_N, 24)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20  # the bytes twice, and a block


def test_verify_goes_on_after_a_file_that_asks_for_too_much(
    in_folder: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = file_of([["a", "P", [4], 0]], [], {TENSORS: STEPS})
    Path("a.mess").write_bytes(file_of([["a", "P", [10**12], 0]], [], {TENSORS: STEPS}))
    Path("b.mess").write_bytes(good)
    assert main(["verify", "a.mess", "b.mess", "--json"]) == 2
    refused, fine = json.loads(capfd.readouterr().out)
    assert "2,147,483,648 bytes of tensors, found 4,000,000,000,000" in refused["error"]
    assert fine["tensors"] == 1
    assert main(["verify", "b.mess", "--max-bytes", "15"]) == 2
    assert main(["verify", "b.mess", "--max-bytes", "1GB"]) == 0
    assert main(["inspect", "b.mess", "--max-bytes", "15"]) == 2
    capfd.readouterr()
    assert main(["verify", "b.mess", "--max-bytes", "much"]) == 2
    assert "--max-bytes: expected a size" in capfd.readouterr().err
    decode = codec.reconstruct

    def out_of_memory(*stored: object) -> object:
        monkeypatch.setattr("mess.inspection.reconstruct", decode)
        raise MemoryError

    monkeypatch.setattr("mess.inspection.reconstruct", out_of_memory)
    assert main(["verify", "b.mess", "b.mess", "--json"]) == 2
    short, fine = json.loads(capfd.readouterr().out)
    assert "more memory is needed than there is" in short["error"]
    assert fine["tensors"] == 1


def test_all_dtypes_are_told_in_one_table() -> None:
    assert [dtype.number for dtype in DTYPES] == list(range(10))
    assert [dtype.name for dtype in DTYPES] == [str(dtype).removeprefix("torch.") for dtype in STORABLE]
    assert [dtype.bytes for dtype in DTYPES] == [dtype.itemsize for dtype in STORABLE]
    assert [dtype.is_float for dtype in DTYPES] == [dtype.is_floating_point for dtype in STORABLE]


@needs_compiler
def test_c_counts_in_32_bits_and_says_so(tmp_path: Path) -> None:
    source = tmp_path / "one.c"
    source.write_text('#define MESS_IMPLEMENTATION\n#include "mess.h"\nint main(void) { return 0; }\n')
    for most, works in (("0xFFFFFFFF", True), ("0x100000000", False)):
        command = [str(CC), "-std=c99", "-fsyntax-only", f"-DMESS_MAX_BYTES={most}", f"-I{DECODER}", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == works
        assert works or "must be below 2^32" in done.stderr
