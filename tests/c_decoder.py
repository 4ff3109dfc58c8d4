"""The C decoder as a program that reads many files, and what it says of them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from format_helpers import example, example_v4, of_trellis
from mess import codec
from mess.codec.container import pack_sections, unpack_sections
from mess.codec.dtypes import DTYPES
from mess.codec.model_file import KNOWN
from mess.errors import FormatError

ROOT = Path(__file__).parents[1]
DECODER = ROOT / "src" / "mess" / "decoder"
CC = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FAST, TRUSTED = 1, 2  # flags of mess_open
ERRORS = ["OK", "NOT_MESS", "VERSION", "CUT_SHORT", "CHECKSUM", "SECTIONS", "MANIFEST", "NAMED", "ZSTD", "STREAM"]
ERRORS += ["TOO_LARGE", "MEMORY", "NO_TENSOR"]
Found = dict[str, tuple[str, tuple[int, ...], bytes]]  # dtype, shape, bytes by name
needs_compiler = pytest.mark.skipif(CC is None, reason="there is no C compiler (gcc, cc or clang) here")


def compiled(
    folder: Path, *flags: str, source: Path = ROOT / "tests" / "c" / "dump.c", compiler: str | None = CC
) -> Path:
    """Compile a program with the decoder; skip where the compiler has no such flags."""
    program = folder / "program"
    command = [str(compiler), *flags, "-I", str(DECODER), "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and any(
        word in done.stderr for word in ("cannot find", "64-bit mode", "unrecognized", "No such file")
    ):
        pytest.skip(f"this compiler cannot do {' '.join(flags)}")
    assert done.returncode == 0, done.stderr
    return program


def read_by_both(program: Path, files: list[bytes], flags: int = 0) -> int:
    """Return how many files both decoders read; AssertionError names one of which they say different things."""
    read = 0
    for content, found in zip(files, decoded(program, files, flags), strict=True):
        try:
            with_python = expected(content)
        except FormatError:
            with_python = None
        read += with_python is not None
        assert (None if isinstance(found, str) else found) == with_python, content.hex()
    return read


def decoded(program: Path, files: list[bytes], flags: int = 0) -> list[Found | str]:
    """Return the tensors of each file, or the decoder's error."""
    asked = b"".join(struct.pack("<I", len(content)) + content for content in files)
    done = subprocess.run([program, str(flags)], input=asked, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    at, answers = 0, []
    for _ in files:
        error, size = struct.unpack_from("<2I", done.stdout, at)
        answers.append(ERRORS[error] if error else _tensors(done.stdout[at + 8 : at + 8 + size]))
        at += 8 + size
    assert at == len(done.stdout)
    return answers


def expected(content: bytes) -> Found:
    """Return what Python reads."""
    found = codec.reconstruct(codec.read_model(content))
    return {name: (dtype, array.shape, array.tobytes()) for name, (array, dtype) in found.items()}


def example_with_exponents() -> codec.StoredModel:
    """Return sums of references whose steps have exponents by row, column and term, and others that have none."""
    stored = example_v4()
    draw = np.random.default_rng(5)
    entries = dict(stored.entries)
    for name, axes in (("a.weight", 7), ("b.weight", 5), ("fc.weight", 2)):
        entry = entries[name]
        exponents = [
            draw.integers(-9, 9, size) if axes >> axis & 1 else None
            for axis, size in enumerate(entry.integers_RCK.shape)
        ]
        own = codec.Exponents(*exponents)
        entries[f"x.{name}"] = codec.Expanded(
            entry.shape, "float16", entry.book, entry.integers_RCK, entry.step, exponents=own
        )
    return codec.StoredModel(None, stored.scheme, stored.books, entries)


def example_with_trellises() -> codec.StoredModel:
    """Return sums of references that tell all sorts of levels, some of trellises from low contexts or high ones."""
    stored = example_with_exponents()
    draw = np.random.default_rng(6)
    entries = dict(stored.entries)
    expanded = [name for name, entry in entries.items() if isinstance(entry, codec.Expanded)]
    for number, name in enumerate(expanded):
        entry = entries[name]
        rows, columns, terms = entry.integers_RCK.shape
        levels = codec.Levels(
            draw.integers(0, 96, terms),
            draw.integers(-64, 64, rows) if number % 2 else None,
            draw.integers(-64, 64, columns) if number % 3 else None,
            (0, 1, 24, 40, 47, 48)[number],
        )
        indices = np.rint(draw.laplace(size=(rows, columns, terms)) * 5.0 ** draw.uniform(-2, 2)).astype(np.int32)
        entries[name] = replace(entry, integers_RCK=of_trellis(indices, levels), levels=levels)
    entries["z.none"] = codec.Expanded((0, 7), "float32", 0, np.zeros((0, 7, 1), dtype=np.int32), 1.0)
    return codec.StoredModel(None, stored.scheme, stored.books, entries)


@cache
def examples() -> dict[str, bytes]:
    """Return files of every version that C reads: the golden ones, and others with all that a file can hold."""
    golden = Path(__file__).parent / "golden"
    stored = {path.stem: codec.read_model(path) for path in sorted(golden.glob("*.mess"))}
    for version in ("v1", "v2", "v2q", "v3a"):
        stored |= {f"{version}, {bits} bits": example(version, bits=bits) for bits in (8, 32)}
    stored |= {"sums": example_v4(), "exponents": example_with_exponents(), "trellises": example_with_trellises()}
    found = {name: codec.encode_model(model, plain=True) for name, model in stored.items()}
    for name in ("v4", "v4_exponents"):  # whose coders nothing writes any more
        old, again = (unpack_sections(x, name, KNOWN) for x in ((golden / f"{name}.mess").read_bytes(), found[name]))
        found[f"{name}, as it was written"] = pack_sections([again[1], *(s for kind, s in old.items() if kind > 1)])
    return found


def write_examples(folder: str) -> None:
    """Write the examples as files: what a fuzzer starts from."""
    for number, content in enumerate(examples().values()):
        (Path(folder) / f"{number}.mess").write_bytes(content)


def _tensors(answer: bytes) -> Found:
    at, found = 0, {}
    while at < len(answer):
        name_size, dtype, dims, size = struct.unpack_from("<4I", answer, at)
        at += 16
        name = answer[at : at + name_size].decode()
        at += name_size
        shape = struct.unpack_from(f"<{dims}Q", answer, at)
        at += 8 * dims
        found[name] = (DTYPES[dtype].name, shape, answer[at : at + size])
        at += size
    return found
