"""The decoder in C: compiled strictly, under sanitizers, and every bit compared with what Python reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from c_decoder import (
    CC,
    DECODER,
    FAST,
    SANITIZERS,
    STRICT,
    compiled,
    decoded,
    examples,
    expected,
    needs_compiler,
    read_by_both,
)
from damage import mutants, sealed
from format_helpers import example, of_trellis
from independent_decoder import decode
from mess import codec
from mess.codec.container import Section, pack_sections, unpack_sections
from mess.codec.manifest import pack_manifest
from mess.codec.model_file import KNOWN
from mess.errors import FormatError
from test_refusals import EXPANSIONS_REFUSED, LEVELS_REFUSED, STEP, constant, expansions

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return examples()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program that decodes files, with sanitizers where the compiler has them."""
    try:
        return compiled(tmp_path_factory.mktemp("sanitized"), *STRICT, "-O0", *SANITIZERS)
    except pytest.skip.Exception:
        return compiled(tmp_path_factory.mktemp("plain"), *STRICT, "-O2")


@pytest.mark.parametrize("flags", [0, FAST])
def test_every_version_decodes_to_the_bits_that_python_reads(
    files: dict[str, bytes], program: Path, flags: int
) -> None:
    for (name, content), found in zip(files.items(), decoded(program, [*files.values()], flags), strict=True):
        assert found == expected(content), name


def test_the_decoder_written_from_the_specification_agrees(files: dict[str, bytes], program: Path) -> None:
    for (name, content), found in zip(files.items(), decoded(program, [*files.values()]), strict=True):
        assert isinstance(found, dict), found
        for tensor, (array, dtype) in decode(content).items():
            assert found[tensor] == (dtype, array.shape, array.tobytes()), (name, tensor)


@pytest.mark.parametrize(
    "flags", [["-m32", "-O2"], ["-m32", "-O2", "-mno-sse", "-std=gnu99"], ["-O2", "-march=haswell"]]
)
def test_other_widths_of_pointers_and_registers_make_no_difference(
    files: dict[str, bytes], flags: list[str], tmp_path: Path
) -> None:
    program = compiled(tmp_path, *STRICT, *flags)
    if "haswell" in flags[-1] and "fma" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor multiplies and adds in two steps")
    for mode in (0, FAST):
        for (name, content), found in zip(files.items(), decoded(program, [*files.values()], mode), strict=True):
            assert found == expected(content), name


def test_clang_agrees(files: dict[str, bytes], tmp_path: Path) -> None:
    if not shutil.which("clang"):
        pytest.skip("there is no clang here")
    program = compiled(tmp_path, *STRICT, "-O2", compiler="clang")
    for (name, content), found in zip(files.items(), decoded(program, [*files.values()], FAST), strict=True):
        assert found == expected(content), name


@pytest.mark.parametrize("flags", [0, FAST])
def test_damaged_files_are_refused_just_where_python_refuses_them(
    files: dict[str, bytes], program: Path, flags: int
) -> None:
    damaged = [m for seed, content in enumerate(files.values()) for m in mutants(content, 60, seed + 100 * flags)]
    assert 0 < read_by_both(program, damaged, flags) < len(damaged) / 2


@pytest.mark.parametrize("size", [(4, 3, 9), (5, 6, 1), (1, 1, 9)])
def test_levels_and_trellises_of_every_kind(program: Path, size: tuple[int, int, int]) -> None:
    draw = np.random.default_rng(sum(size))
    rows, columns, terms = size
    entries = {}
    for start in (0, 1, 23, 24, 40, 47, 48):
        for axes in range(4):
            row_R = draw.integers(-64, 64, rows) if axes & 1 else None
            column_C = draw.integers(-64, 64, columns) if axes & 2 else None
            levels = codec.Levels(draw.integers(0, 96, terms), row_R, column_C, start)
            index_RCK = draw.integers(-9, 9, size).astype(np.int32)
            integers_RCK = of_trellis(index_RCK, levels)
            shape = (rows, columns * terms)
            entries[f"{start}.{axes}"] = codec.Expanded(shape, "float32", 0, integers_RCK, 0.5, levels=levels)
    numbers = codec.NumberArray(draw.integers(-50, 50, terms * terms).astype(np.int32), "int32", 0.25)
    book = codec.Codebook(None, terms, terms, False, numbers)
    content = codec.encode_model(codec.StoredModel(None, {}, [book], entries), plain=True)
    for flags in (0, FAST):
        assert decoded(program, [content], flags) == [expected(content)]


def test_the_largest_indices_of_a_trellis(program: Path) -> None:
    levels = codec.Levels(np.array([95]), trellised_from=0)
    integers_RCK = of_trellis(np.full((5, 7, 1), -32767, dtype=np.int32), levels)
    assert {*integers_RCK.ravel().tolist()} == {-131067, 131067}
    numbers = codec.NumberArray(np.array([3], dtype=np.int32), "int32", 0.1)
    entries = {"w": codec.Expanded((5, 7), "float64", 0, integers_RCK, 1e-5, levels=levels)}
    book = codec.Codebook(None, 1, 1, False, numbers)
    content = codec.encode_model(codec.StoredModel(None, {}, [book], entries), plain=True)
    for flags in (0, FAST):
        assert decoded(program, [content], flags) == [expected(content)]


def test_sections_of_sums_that_python_refuses_are_refused(program: Path) -> None:
    def file_of(coder: int, section: bytes, size: tuple[int, int, int] = (1, 1, 1)) -> bytes:
        manifest = {"scheme": {}, "books": [[-1, 1, 1, 0, 1]], "tensors": [["w", "E0", list(size[:2]), 0]]}
        references = STEP + constant(1)
        _, text = pack_manifest(manifest, compressed=False)
        return pack_sections([Section(1, 0, text), Section(2, 0, references), Section(8, coder, section)])

    good = [file_of(coder, expansions(coder)) for coder in (1, 2, 3)]
    assert decoded(program, good) == [expected(content) for content in good]
    wrong = [file_of(c, expansions(c, **changed)) for changed, _ in EXPANSIONS_REFUSED.values() for c in (1, 2, 3)]
    wrong += [file_of(c, expansions(c, **changed), size) for c, changed, size, _ in LEVELS_REFUSED.values()]
    for flags in (0, FAST):
        assert decoded(program, wrong, flags) == ["STREAM"] * len(wrong)


def test_what_is_wrong_is_said(files: dict[str, bytes], program: Path) -> None:
    whole = files["v2a"]
    header = bytearray(whole)
    header[8] = 2
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    compressed = codec.encode_model(example("v2"))
    wrong = [b"", b"PK\3\4" * 20, bytes(header), whole[:-1], bytes(flipped), compressed]
    expected_errors = ["NOT_MESS", "NOT_MESS", "VERSION", "CUT_SHORT", "CHECKSUM", "ZSTD"]
    assert decoded(program, wrong) == expected_errors
    named = b'{"scheme":{},"network":{"arch":"resnet"},"books":[],"layout":1,"kinds":[]}'
    assert decoded(program, [_with_manifest(whole, named)]) == ["NAMED"]


def _manifest(content: bytes) -> bytes:
    return unpack_sections(content, "file", KNOWN)[1].content


def _with_manifest(content: bytes, text: bytes) -> bytes:
    """Return a file with another manifest, uncompressed."""
    sections = unpack_sections(content, "file", KNOWN)
    return sealed(pack_sections([Section(1, 0, text), *(s for kind, s in sections.items() if kind > 1)]))


@pytest.mark.parametrize(
    "text",
    [
        '{"scheme":{},"books":[],"tensors":[],"tensors":[]}',
        '{"scheme":{},"books":[],"tensors":[],"more":1}',
        '{"scheme":{},"books":[],"tensors":[],}',
        '{"scheme":{},"books":[],"tensors":[]} x',
        '{"scheme":{},"books":[],"tensors":[["a","P",[1],0],["a","P",[1],0]]}',
        '{"scheme":{"x":NaN},"books":[],"tensors":[]}',
        '{"scheme":{"x":%s},"books":[],"tensors":[]}' % ("[" * 15 + "]" * 15),
        '{"scheme":{"x":1234567890123456789012345678901},"books":[],"tensors":[]}',
        '{"scheme":{"x":"\\ud8"},"books":[],"tensors":[]}',
        '{"scheme":{},"books":[[0,1,1,0,1]],"tensors":[]}',
        '{"scheme":{},"books":[],"tensors":[["a","T","b"]]}',
        '{"scheme":{},"books":[],"tensors":[["a","E0",[1],0]]}',
        '{"scheme":{},"books":[],"eps":[1],"tensors":[]}',
        '{"scheme":{},"books":[],"eps":[1.0],"tensors":[]}',
    ],
)
def test_manifests_that_python_refuses_are_refused(program: Path, text: str) -> None:
    empty = codec.encode_model(codec.StoredModel(None, {}), plain=True)
    content = _with_manifest(empty, text.encode())
    with pytest.raises(FormatError):
        codec.read_model(content)
    assert decoded(program, [content]) == ["MANIFEST"]


@pytest.mark.parametrize(
    ("rows", "books"),
    [
        ([["a", "P", [(1 << 28) + 1], 0], ["b", "T", "a"]], []),
        ([["a", "P", [1], 0], ["b", "C0", [(1 << 28) + 1], 0]], [[0, 1, 1, 0, 0]]),
        ([["a", "P", [1], 0], ["b", "M0", [(1 << 27) + 1], 0]], [[0, 1, 1, 0, 0]]),
    ],
    ids=["ties", "indices", "scales and offsets"],
)
def test_tensors_beyond_the_limit_are_refused_as_python_counts_them(program: Path, rows: list, books: list) -> None:
    """Of all that is told a reader keeps copies, ties and indices too, and refuses what takes 2^31 bytes and more."""
    empty = codec.encode_model(codec.StoredModel(None, {}), plain=True)
    content = _with_manifest(empty, json.dumps({"scheme": {}, "books": books, "tensors": rows}).encode())
    with pytest.raises(FormatError, match=r"at most 2,147,483,648 bytes of tensors"):
        codec.read_model(content)
    assert decoded(program, [content]) == ["TOO_LARGE"]


def test_manifests_with_spaces_escapes_and_other_orders_are_read(program: Path) -> None:
    numbers = codec.NumberArray(np.arange(3, dtype=np.int32), "int32")
    norm = codec.NumberArray(np.array([3, -5], dtype=np.int32), "int32", 0.1)
    names = ['a"b\\', "größe", "重み", ""]
    entries = {name: codec.Plain((3,), "int32", numbers) for name in names}
    entries |= {"bn": codec.BatchNorm(norm, norm, 1e-5, True), "z.bn": codec.BatchNorm(norm, norm, 1e-3, False)}
    entries["tied"] = codec.Tied("bn.weight")
    content = codec.encode_model(codec.StoredModel({"facts": [1.5e-3, None, True]}, {}, [], entries), plain=True)
    text = _manifest(content).decode()
    loose = text.replace(",", " ,\n\t").replace(":", " : ").replace("重", "\\u91cd").replace("bn", "b\\u006E")
    for one in (content, _with_manifest(content, loose.encode())):
        assert decoded(program, [one]) == [expected(one)]


def test_eps_of_every_size_gives_the_root_that_python_takes(program: Path) -> None:
    draw = np.random.default_rng(1)
    eps = [0.0, 1e-5, 1e-3, 1e-12, 0.5, 9.5367431640625e-07, 0.999999, *(10.0 ** -draw.uniform(0, 17, 40)).tolist()]
    one = codec.NumberArray(np.array([1.0, 1.7, -3e-3], dtype=np.float32), "float32")
    entries = {f"{i:03d}": codec.BatchNorm(one, one, value, True) for i, value in enumerate(eps)}
    content = codec.encode_model(codec.StoredModel(None, {}, [], entries), plain=True)
    assert decoded(program, [content]) == [expected(content)]


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8"]
)
def test_every_dtype_from_every_form_of_numbers(program: Path, dtype: str) -> None:
    """Also numbers of one dtype for a tensor of another: they are float32 in between (clause 9.4)."""
    draw = np.random.default_rng(2)
    kind = {"bfloat16": "uint16"}.get(dtype, dtype)
    if dtype.startswith("int") or dtype == "uint8":
        limits = np.iinfo(kind)
        values = np.array([limits.min, limits.max, 0, 1, 77], dtype=kind)
        targets = ["float32", "float16", "float64", dtype]
    else:
        values = (draw.normal(size=20000) * 10.0 ** draw.uniform(-9, 4, 20000)).astype(
            np.float32 if dtype == "bfloat16" else dtype
        )
        values = (values.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else values
        targets = ["float32", "float16", "bfloat16", "float64"]
    entries = {f"{t}": codec.Plain((len(values),), t, codec.NumberArray(values, dtype)) for t in targets}
    stepped = codec.NumberArray(draw.integers(-(2**20), 2**20, 50).astype(np.int32), "int32", 1e-4)
    entries["stepped"] = codec.Plain((50,), "float16", stepped)
    content = codec.encode_model(codec.StoredModel(None, {}, [], entries), plain=True)
    for flags in (0, FAST):
        with np.errstate(over="ignore"):
            assert decoded(program, [content], flags) == [expected(content)]


def test_it_includes_string_h_alone_and_calls_nothing_else(tmp_path: Path) -> None:
    header = (DECODER / "mess.h").read_text(encoding="ascii")
    assert sorted(re.findall(r"#include <(.*)>", header)) == ["stddef.h", "stdint.h", "string.h"]
    source = tmp_path / "bare.c"
    source.write_text('#define MESS_IMPLEMENTATION\n#include "mess.h"\n')
    for flags in (["-O2"], ["-Os"]):
        command = [str(CC), *STRICT, *flags, "-c", "-I", str(DECODER), "-o", str(tmp_path / "bare.o"), str(source)]
        subprocess.run(command, check=True)
        told = subprocess.run(["nm", "-u", tmp_path / "bare.o"], capture_output=True, text=True, check=True).stdout
        calls = {line.split()[-1] for line in told.splitlines()} - {"_GLOBAL_OFFSET_TABLE_"}
        assert calls <= {"memcpy", "memset", "memcmp", "memmove", "strlen", "strchr", "__stack_chk_fail"}


def test_a_microcontroller_takes_16_kilobytes_of_it(tmp_path: Path) -> None:
    compiler, size = shutil.which("arm-none-eabi-gcc"), shutil.which("arm-none-eabi-size")
    if compiler is None or size is None:
        pytest.skip("there is no arm-none-eabi-gcc here")
    source = tmp_path / "user.c"
    source.write_text(
        """#define MESS_IMPLEMENTATION
#define MESS_API static __attribute__((unused))
#include "mess.h"
int use(mess_file *f, mess_tensor *t, void *a, size_t n);
int use(mess_file *f, mess_tensor *t, void *a, size_t n) {
  return mess_open(f, a, n, a, n, 0) | mess_find(f, a, t) | mess_decode(f, t, a, n, a, mess_scratch(f, t));
}
"""
    )
    flags = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-Os", "-DMESS_SMALL", "-c"]
    command = [compiler, *STRICT, *flags, "-I", str(DECODER), "-o", str(tmp_path / "user.o"), str(source)]
    subprocess.run(command, check=True)
    told = subprocess.run([size, tmp_path / "user.o"], capture_output=True, text=True, check=True).stdout
    assert int(told.splitlines()[1].split()[0]) <= 16_384  # code and constants, without what the compiler's library has


def test_it_is_a_header_for_cpp_too(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    (tmp_path / "user.cpp").write_text(
        '#include "mess.h"\nint main() { mess_file f; return mess_open(&f, 0, 0, 0, 0, 0); }\n'
    )
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-c", "-I", str(DECODER), "-o", str(tmp_path / "user.o")]
    subprocess.run([*command, str(tmp_path / "user.cpp")], check=True)
