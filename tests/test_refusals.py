"""What a reader refuses (docs/FORMAT.md, clause 11), in files whose checksums are right, and what it says it found."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mess
from damage import sealed
from format_helpers import example, example_v4
from mess import codec
from mess.arithmetic.levels import CONTEXTS
from mess.codec import ans
from mess.codec.bits import Reader, pack, varint, zigzag
from mess.codec.clusters import MAX_INTEGER
from mess.codec.container import ENTRY, HEADER, Section, pack_sections
from mess.codec.dtypes import NAMED
from mess.codec.expansion import read_expansions
from mess.codec.manifest import pack_manifest, unpack_manifest
from mess.codec.model_file import ANY_FLOATS, MANIFEST, REFERENCES, STREAMS, TENSORS
from mess.codec.streams import CODED, CODED_SHARED, CONSTANT, MAX_LOW_BITS, PLANES, STEPPED
from mess.codec.tables import BELL, EVEN, LISTED, MAX_ALPHABET, read_table
from mess.errors import FormatError
from mess.models.described import layout_of

MOST = 2**64 - 1
EVEN_OF_TWO = varint(2) + bytes([EVEN])
STEP = bytes([STEPPED]) + struct.pack("<f", 1.0)


def file_of(stream: bytes, count: int = 8) -> bytes:
    """Return a file of one tensor of `count` numbers that are said by `stream`."""
    manifest = {"scheme": {}, "books": [], "tensors": [["w", "P", [count], 0]]}
    coder, text = pack_manifest(manifest)
    return pack_sections([Section(MANIFEST, coder, text), Section(TENSORS, STREAMS, stream)])


def coded(*, low: int = 0, bits: int = 0, table: bytes = EVEN_OF_TWO, rest: bytes = varint(0)) -> bytes:
    """Return a stream of coded integers, one part of it perhaps wrong."""
    return STEP + bytes([CODED]) + varint(zigzag(low)) + bytes([bits]) + table + rest


def constant(number: int) -> bytes:
    """Return integers that are all `number`."""
    return bytes([CONSTANT]) + varint(zigzag(number))


def words(*symbols: int) -> bytes:
    """Return the words of 8 symbols that are in turn `symbols`, each of two that are as frequent, and how many."""
    (words_N,) = ans.encode(np.resize(symbols, 8), np.array([ans.TOTAL // 2] * 2))
    return varint(len(words_N)) + words_N.astype("<u4").tobytes()


def planes(number: float) -> bytes:
    """Return a stream of float32 that are all `number`."""
    return bytes([PLANES]) + b"".join(constant(byte) for byte in struct.pack("<f", number))


def listed(mantissa: int, width: int, codes: bytes = b"\0\0\0\0", size: int = 2) -> bytes:
    """Return a table that lists small floats."""
    return varint(size) + bytes([LISTED, mantissa * 16 + width]) + codes


def test_what_these_files_are_made_of_is_read() -> None:
    for stream, number in ((STEP + constant(7), 7.0), (planes(0.1), 0.1)):
        found, dtype = codec.reconstruct(codec.read_model(file_of(stream)))["w"]
        assert (found.tolist(), dtype) == ([float(np.float32(number))] * 8, "float32")
    assert codec.read_model(file_of(coded(rest=words(0, 1)))).entries["w"].numbers.values.tolist() == [0, 1] * 4


STREAMS_REFUSED = {
    "2^64-1 words": (coded(rest=varint(MOST)), f"below {1 << 40}, found {MOST}"),
    "2^40-1 words": (coded(rest=varint(2**40 - 1)), f"{4 * (2**40 - 1)} more bytes, found 0"),
    "a number of 11 bytes": (coded(rest=b"\xff" * 10 + b"\x01"), "at most 10 bytes, found a longer one"),
    "a number with a needless byte": (coded(rest=b"\x80\x00"), "shortest form, found a longer one"),
    "a lowest value of -2^63": (coded(low=-(2**63)), f"from {-(2**31)} to .*, found {-(2**63)}"),
    "an integer of 2^31": (STEP + constant(2**31), f"to {2**31 - 1}, found {2**31}"),
    "integers beyond 2^31": (coded(low=2**31 - 1, rest=words(0, 1)), f"to {2**31 - 1}, found larger ones"),
    "words that say nothing": (coded(table=varint(1) + bytes([EVEN]), rest=words(0, 1)), "of one symbol, found some"),
    "a dtype beside a step": (bytes([4 | STEPPED]) + STEP[1:] + constant(1), "no dtype beside a step, found 1"),
    "planes of integers": (bytes([4 << 2 | PLANES]) + constant(1), "floats in planes, integers not, found 18"),
    "58 low bits": (coded(bits=MAX_LOW_BITS + 1), "at most 57 low bits, found 58"),
    "no table to share": (STEP + bytes([CODED_SHARED, 0, 0, 0]), "a stream that shares it, found none"),
    "an unknown coding": (STEP + bytes([9, 0]), "a coding of 0, 1 or 2.* found 9"),
    "an unknown dtype": (bytes([63 << 2 | PLANES]) + bytes(9), f"known form and dtype, found {63 << 2 | PLANES}"),
    "bytes left over": (STEP + constant(0) + b"\0", "its end, found 1 more bytes"),
    "a step of NaN": (bytes([STEPPED]) + struct.pack("<f", np.nan) + constant(1), "step above 0, found nan"),
    "a step of Inf": (bytes([STEPPED]) + struct.pack("<f", np.inf) + constant(1), "step above 0, found inf"),
    "a step of 0": (bytes([STEPPED]) + struct.pack("<f", 0) + constant(1), "step above 0, found 0"),
    "a step below 0": (bytes([STEPPED]) + struct.pack("<f", -2) + constant(1), "step above 0, found -2"),
    "steps beyond float32": (bytes([STEPPED]) + struct.pack("<f", 3e38) + constant(9), "float32 can hold, found"),
    "NaN": (planes(np.nan), "finite numbers, found NaN"),
    "Inf": (planes(-np.inf), "finite numbers, found NaN or infinity"),
    "a byte of 256": (bytes([PLANES]) + constant(256) * 4, "from 0 to 255, found 256"),
    "an alphabet of none": (coded(table=varint(0) + bytes([EVEN])), "at least one symbol, found 0"),
    "an alphabet of 65,537": (coded(table=varint(MAX_ALPHABET + 1) + bytes([EVEN])), "found 65537"),
    "an alphabet of 2^64-1": (coded(table=varint(MOST) + bytes([EVEN])), f"found {MOST}"),
    "a table of kind 3": (coded(table=varint(2) + b"\3"), "kind 0, 1 or 2, found 3"),
    "a centre beyond": (coded(table=varint(2) + bytes([BELL]) + varint(2) + bytes(4)), "below 2, found 2"),
    "no mantissa": (coded(table=listed(0, 4)), r"1 to 8 bits of mantissa.* found \(0, 4\)"),
    "a mantissa of 9 bits": (coded(table=listed(9, 4)), r"found \(9, 4\)"),
    "codes of no bits": (coded(table=listed(3, 0)), r"found \(3, 0\)"),
    "codes of 10 bits": (coded(table=listed(3, 10)), r"found \(3, 10\)"),
    "a weight of 2^33": (coded(table=listed(1, 7, pack(np.array([1, 66]), 7))), r"below 2\^33, found an exp.* 32"),
    "a table cut short": (coded(table=listed(8, 9, b"", size=1 << 16), rest=b""), f"{9 << 13} more bytes, found 0"),
    "bits behind the table": (coded(table=listed(1, 4, b"\x11", size=1)), "0 in the bits that fill"),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS_REFUSED)
def test_a_stream_without_sense_is_refused(name: str) -> None:
    stream, said = STREAMS_REFUSED[name]
    with pytest.raises(FormatError, match=said):
        codec.read_model(file_of(stream))


@pytest.mark.parametrize(
    ("dtype", "source", "said"),
    [
        (NAMED["float16"].number, -1, "finite numbers, to be made float16, found NaN"),
        (NAMED["float32"].number, 0, "finite numbers, found NaN"),
    ],
    ids=["of another dtype", "that references are cut from"],
)
def test_nan_is_refused_where_numbers_are_reckoned_with(dtype: int, source: int, said: str) -> None:
    books = [[source, 1, 1, 0, 0]] if source >= 0 else []
    coder, text = pack_manifest({"scheme": {}, "books": books, "tensors": [["w", "P", [8], dtype]]})
    section = Section(REFERENCES, STREAMS, planes(np.nan)) if books else Section(TENSORS, ANY_FLOATS, planes(np.nan))
    with pytest.raises(FormatError, match=said):
        codec.read_model(pack_sections([Section(MANIFEST, coder, text), section]))


def test_more_lanes_than_there_may_be_are_refused() -> None:
    for lanes, said in ((MOST, f"below 5, found {MOST}"), (5, "below 5, found 5"), (0, "at least one lane, found 0")):
        with pytest.raises(FormatError, match=said):
            codec.read_model(file_of(coded(rest=varint(lanes) + bytes(9)), count=4 * ans.LANE))


@pytest.mark.parametrize("stream", [STEP + constant(0)[:2] + b"\0\0\0", coded(rest=b"\0")[:10]])
def test_a_million_million_symbols_in_ten_bytes_take_no_memory(stream: bytes) -> None:
    content = file_of(stream, count=10**12)
    assert len(stream) == 10
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"bytes of tensors, found 4,000,000,000,000.*allows more"):
            codec.read_model(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 300), st.sampled_from([BELL, LISTED]), st.binary(max_size=40))
def test_whatever_a_table_says_it_adds_up(size: int, kind: int, said: bytes) -> None:
    try:
        frequency_A = read_table(Reader(varint(size) + bytes([kind]) + said, "test")).frequency_A
    except FormatError:
        return
    assert len(frequency_A) == size
    assert int(frequency_A.sum()) == ans.TOTAL
    assert int(frequency_A.min()) >= 1


@pytest.mark.parametrize("wrong", [-1, 10**9])
def test_an_index_beyond_the_references_is_refused(wrong: int) -> None:
    stored = example("v2")
    entry = stored.entries["c.weight"]
    index_N = entry.index_N.copy()
    index_N[3] = wrong
    content = codec.encode_model(
        replace(stored, entries={**stored.entries, "c.weight": replace(entry, index_N=index_N)})
    )
    with pytest.raises(FormatError, match=rf"c\.weight: expected indices below \d+, found {wrong}"):
        codec.read_model(content)


@pytest.mark.parametrize("part", ["scale_N", "offset_N"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_scale_or_offset_that_is_no_number_is_refused(part: str, wrong: float) -> None:
    stored = example("v2", bits=32)
    entry = stored.entries["c.weight"]
    numbers = getattr(entry, part)
    values = numbers.values.copy()
    values[0] = wrong
    changed = replace(entry, **{part: replace(numbers, values=values)})
    content = codec.encode_model(replace(stored, entries={**stored.entries, "c.weight": changed}))
    with pytest.raises(FormatError, match=r"(scales|offsets): expected finite numbers, found NaN or infinity"):
        codec.read_model(content)


@pytest.mark.parametrize("field", ["offset", "length"])
def test_a_section_of_all_there_is_is_refused(field: str) -> None:
    body = bytearray(codec.encode_model(example("v1")))
    kind, coder, reserved, crc, offset, size = ENTRY.unpack_from(body, HEADER.size)
    offset, size = (MOST, size) if field == "offset" else (offset, MOST)
    ENTRY.pack_into(body, HEADER.size, kind, coder, reserved, crc, offset, size)
    with pytest.raises(FormatError, match=rf"section 0: expected to start at \d+, within the file, found .*{MOST}"):
        codec.read_model(sealed(bytes(body)))


def test_a_length_of_all_there_is_is_refused() -> None:
    content = codec.encode_model(example("v1"))
    with pytest.raises(FormatError, match=f"expected {MOST} bytes, as its header says, found {len(content)}"):
        codec.read_model(content[:14] + MOST.to_bytes(8, "little") + content[22:])


@pytest.mark.parametrize("classes", [9, 11, 100, 2**64 - 1, -1, 0])
def test_a_file_that_says_another_number_of_classes_is_refused(classes: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    mess.compress(mess.create_model("resnet", layers=8), tmp_path / "net.mess", scheme="v2")
    content = (tmp_path / "net.mess").read_bytes()
    sections = []
    for number in range(int.from_bytes(content[12:14], "little")):
        kind, coder, _, _, offset, size = ENTRY.unpack_from(content, HEADER.size + ENTRY.size * number)
        sections.append(Section(kind, coder, content[offset : offset + size]))
    manifest = unpack_manifest(sections[0].coder, sections[0].content, "test")
    assert mess.load_state_dict(tmp_path / "net.mess")["linear.bias"].shape == (10,)
    manifest["network"]["num_classes"] = classes
    coder, text = pack_manifest(manifest)
    (tmp_path / "wrong.mess").write_bytes(pack_sections([Section(MANIFEST, coder, text), *sections[1:]]))
    for read in (mess.load, mess.load_state_dict, lambda path: codec.read_model(path, layout=layout_of)):
        with pytest.raises(FormatError, match=r"wrong\.mess|network"):
            read(tmp_path / "wrong.mess")


def expansions(coder: int = 1, **changed: bytes) -> bytes:
    """Return the section of one layer of one integer, 0, one part of it perhaps wrong."""
    parts = {
        "steps": planes(0.5),
        **({"axes": constant(0), "exponents": constant(0)} if coder > 1 else {}),
        "levels": constant(0),
        **({"others": constant(0), "trellised from": constant(48)} if coder == 3 else {}),
        "mask": b"\1" + bytes(CONTEXTS // 8 - 1),
        "span": varint(zigzag(0)) + varint(1) + bytes([EVEN]),
        "length": varint(0),
    }
    return b"".join((parts | changed).values())


EXPANSIONS_REFUSED = {
    "a step of 0": ({"steps": planes(0)}, "steps above 0"),
    "a step below 0": ({"steps": planes(-1)}, "steps above 0"),
    "a step of NaN": ({"steps": planes(np.nan)}, "finite numbers, found NaN"),
    "a step that is rounded": ({"steps": STEP + constant(1)}, "steps above 0, as float32"),
    "a change of a level beyond": ({"levels": constant(-99)}, "from -96 to 96, found -99"),
    "a level below 0": ({"levels": constant(-49)}, r"levels below 96, found \[-1\]"),
    "a level of 96": ({"levels": constant(48)}, r"levels below 96, found \[96\]"),
    "no table": ({"mask": bytes(CONTEXTS // 8), "span": b""}, "at least one table, found none"),
    "integers beyond": ({"span": varint(zigzag(MAX_INTEGER)) + EVEN_OF_TWO}, "integers up to ±32767"),
    "integers below": ({"span": varint(zigzag(-MAX_INTEGER - 1)) + EVEN_OF_TWO}, "integers up to ±32767"),
    "a lane of 2^64-1 bytes": ({"length": varint(MOST)}, f"found {MOST}"),
    "a lane of 2^40-1 bytes": ({"length": varint(2**40 - 1)}, f"{2**40 - 1} more bytes, found 0"),
    "words for nothing": ({"length": varint(1) + b"\1"}, "ends empty, found words left over"),
    "a lane that ends in 0": ({"length": varint(1) + b"\0"}, "not zero, found zero"),
}


@pytest.mark.parametrize("name", EXPANSIONS_REFUSED)
def test_sums_of_references_without_sense_are_refused(name: str) -> None:
    assert read_expansions(Reader(expansions(), "test"), 1, [(1, 1, 1)])[0].values_RCT.tolist() == [[[0]]]
    changed, said = EXPANSIONS_REFUSED[name]
    for coder in (1, 2, 3):
        with pytest.raises(FormatError, match=said):
            read_expansions(Reader(expansions(coder, **changed), "test"), coder, [(1, 1, 1)])


LEVELS_REFUSED = {
    "an axis that is none": (3, {"axes": constant(32)}, (1, 1, 1), "from 0 to 31, found 32"),
    "levels in an old file": (2, {"axes": constant(8)}, (1, 1, 1), "from 0 to 7, found 8"),
    "levels of no rows": (3, {"axes": constant(8)}, (0, 1, 1), "without integers, found axes 8"),
    "levels of no columns": (3, {"axes": constant(16)}, (1, 0, 1), "without integers, found axes 16"),
    "a level of a row beyond": (3, {"axes": constant(8), "others": constant(64)}, (1, 1, 1), "-64 to 63, found 64"),
    "of a column below": (3, {"axes": constant(16), "others": constant(-65)}, (1, 1, 1), "-64 to 63, found -65"),
    "trellises from 49 on": (3, {"trellised from": constant(49)}, (1, 1, 1), "from 0 to 48, found 49"),
    "trellises from -1 on": (3, {"trellised from": constant(-1)}, (0, 1, 1), "from 0 to 48, found -1"),
}


@pytest.mark.parametrize("name", LEVELS_REFUSED)
def test_levels_without_sense_are_refused(name: str) -> None:
    for good in (2, 3):
        assert read_expansions(Reader(expansions(good), "test"), good, [(1, 1, 1)])[0].values_RCT.tolist() == [[[0]]]
    coder, changed, size, said = LEVELS_REFUSED[name]
    with pytest.raises(FormatError, match=said):
        read_expansions(Reader(expansions(coder, **changed), "test"), coder, [size])


def ten_kilobytes() -> codec.StoredModel:
    """Return a made-up network of version 4 that takes about 10 kB."""
    stored = example_v4()
    values = np.rint(np.random.default_rng(0).laplace(size=(90, 30, 9)) * 2).astype(np.int32)
    return replace(
        stored, entries={**stored.entries, "large.weight": codec.Expanded((90, 30, 3, 3), "float32", 1, values, 0.1)}
    )


@pytest.mark.parametrize(
    "made", [lambda: example("v2"), lambda: example_v4(trellises=True), ten_kilobytes], ids=["v2", "v4", "10 kB"]
)
def test_every_truncation_and_every_flipped_bit_is_refused(made: Callable[[], codec.StoredModel]) -> None:
    content = codec.encode_model(made())
    if made is ten_kilobytes:
        assert 9_000 < len(content) < 12_000
    codec.read_model(content)
    read = [length for length in range(len(content)) if is_read(content[:length])]
    body = bytearray(content)
    for bit in range(8 * len(body)):
        body[bit // 8] ^= 1 << bit % 8
        if is_read(bytes(body)):
            read.append(bit)
        body[bit // 8] ^= 1 << bit % 8
    assert not read


def is_read(content: bytes) -> bool:
    """Say whether a file is read instead of refused."""
    try:
        codec.read_model(content)
    except FormatError:
        return False
    return True
