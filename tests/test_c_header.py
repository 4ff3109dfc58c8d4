"""Networks as C headers: compiled, run, and every number compared with what MESS itself decodes, bit for bit."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import mess
from format_helpers import example, weights
from mess import codec
from mess.cli import main
from mess.export import export
from mess.export.c_names import MAX_NAME, Names
from mess.export.c_source import BOOK_RECORD, TENSOR_RECORD, Source, decoder, make_source
from mess.storing import Request, StoreOptions, identify, to_stored

CC = shutil.which("gcc") or shutil.which("cc")
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
needs_compiler = pytest.mark.skipif(CC is None, reason="there is no C compiler (gcc or cc) here")
GOLDEN = Path(__file__).parent / "golden"


def sums_of_references() -> codec.StoredModel:
    """Return a network as v4 stores it: small and large integers, bases with and without a step, BatchNorm."""
    draw = np.random.default_rng(3)
    step = codec.NumberArray(draw.integers(-90, 90, 81, dtype=np.int32), "int32", 0.01)
    floats = codec.NumberArray(draw.normal(size=16).astype(np.float32), "float32")
    vectors = [codec.NumberArray(draw.normal(size=6).astype(kind), kind) for kind in ("float16", "float32")]
    return codec.StoredModel(
        None,
        {"version": "v4"},
        [codec.Codebook(None, 9, 9, False, step), codec.Codebook(None, 4, 4, False, floats)],
        {
            "a": codec.Expanded((6, 5, 3, 3), "float32", 0, draw.integers(-9, 9, (6, 5, 9), dtype=np.int32), 0.37),
            "b": codec.Expanded((6, 8), "float32", 1, draw.integers(-999, 999, (6, 2, 4), dtype=np.int32), 1e-3),
            "none": codec.Expanded((0, 5, 3, 3), "float32", 0, np.zeros((0, 5, 9), np.int32), 0.37),
            "bn": codec.BatchNorm(vectors[0], vectors[1], eps=1e-5, tracked=True),
            "large": codec.Plain((3,), "float32", codec.NumberArray(np.array([-(2**31), 2**24 + 1, 7]), "int32", 0.3)),
        },
    )


def networks() -> Iterator[tuple[str, codec.StoredModel]]:
    """Yield one network of every version, and others with all that a file can hold."""
    for version in ("v1", "v2", "v2a", "v2q", "v3", "v3a"):
        yield version, example(version)
        yield f"{version} floats", example(version, bits=32, pointwise=None)
        model = mess.create_model("resnet", layers=8, width_mult=0.25)
        yield (
            f"{version} resnet",
            to_stored(identify(model), Request(StoreOptions(version, scale_bits=8, offset_bits=16, rest_bits=8))),
        )
    yield "v4", sums_of_references()
    yield "golden", codec.read_model(GOLDEN / "v4.mess")
    halves = {name: t.half() if t.dtype == torch.float32 else t for name, t in weights(5).items()}
    yield "halves", to_stored(identify(halves), Request(StoreOptions("v2")))


def decoded(source: Source, stored: codec.StoredModel) -> Iterator[tuple[str, bool, bytes]]:
    """Yield (identifier, whether it is a record for the decoder, bits that it stands for) of everything there is."""
    tensors = codec.reconstruct(stored)
    for name, identifier in source.names.items():
        entry = stored.entries[name]
        owner = entry.to if isinstance(entry, codec.Tied) else name
        yield identifier, owner not in source.decoded, tensors[name][0].tobytes()
    for prefix, (scale, shift) in source.batch_norms.items():
        yield shift, True, tensors[f"{prefix}.bias"][0].tobytes()
        root = np.float32(np.sqrt(1 + np.float64(stored.entries[prefix].eps)))  # FORMAT.md 9.3
        numbers = stored.entries[prefix].scale.floats()
        np.testing.assert_array_equal(numbers * root, tensors[f"{prefix}.weight"][0])
        yield scale, True, numbers.tobytes()


def run_c(folder: Path, headers: dict[str, str], body: list[str], *flags: str) -> bytes:
    """Compile a program that includes `headers` and does `body`; return what it prints."""
    for name, text in headers.items():
        (folder / name).write_text(text, encoding="ascii")
    includes = [f'#include "{name}"' for name in headers]
    lines = [
        *includes,
        "#include <stdio.h>",
        "static float out[1 << 16];",
        "int main(void) { (void)out;",
        *body,
        "return 0; }",
    ]
    (folder / "test.c").write_text("\n".join(lines))
    command = [CC, *STRICT, *flags, "-o", folder / "test", folder / "test.c"]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    return subprocess.run([folder / "test"], capture_output=True, check=True).stdout


@needs_compiler
@pytest.mark.parametrize("optimised", ["-O0", "-O3"])
def test_every_tensor_of_every_version_is_bitwise_what_mess_decodes(tmp_path: Path, optimised: str) -> None:
    headers, body, expected = {}, [], []
    for name, stored in networks():
        source = make_source(stored, name, [])
        headers[f"{name.replace(' ', '_')}.h"] = "\n".join(source.lines) + "\n"
        for identifier, is_record, bits in decoded(source, stored):
            if is_record:
                body.append(f"mess_decode(&{identifier}, out); fwrite(out, 4, {identifier}.size, stdout);")
            else:
                body.append(f"fwrite({identifier}, 1, {len(bits)}, stdout);")
            expected.append((name, identifier, bits))
        assert len(source.names) + len(source.batch_norms) == len(stored.entries)
    found = run_c(tmp_path, headers, body, optimised)
    assert len(found) == sum(len(bits) for _, _, bits in expected)
    at = 0
    for name, identifier, bits in expected:
        assert found[at : at + len(bits)] == bits, (name, identifier)
        at += len(bits)


@needs_compiler
def test_what_the_command_line_writes_gives_the_state_dict(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored, header = tmp_path / "net.mess", tmp_path / "net.h"
    flags = ["-v", "v2a", "--scale-bits", "8", "--offset-bits", "8", "--rest-bits", "16", "--no-verify"]
    source = shared / "weights" / "resnet20-12fca82f.th"
    mean = ["--mean", "0.485", "0.456", "0.406", "--std", "0.229", "0.224", "0.225"]
    assert main(["compress", str(source), *flags, *mean, "-o", str(stored)]) == 0
    capsys.readouterr()
    assert main(["decompress", str(stored), "-o", str(header)]) == 0
    said = capsys.readouterr().out
    constant, plain = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) B", said)[1:])
    assert plain == 1_078_888
    assert f"({plain / constant:.1f}x)" in said
    assert plain > 10 * constant
    text = header.read_text()
    assert " * network: resnet20\n" in text
    assert " * mean: 0.485 0.456 0.406\n" in text
    state = mess.load_state_dict(stored)
    names = [name for name in state if name.endswith(("conv1.weight", "conv2.weight", "linear.weight", "linear.bias"))]
    assert len(names) == 21
    # kernel by kernel, as a program with little memory would
    body = [
        f"for (uint32_t n = 0, done = 0; done < net_{n}.size; n++) {{ uint32_t length = mess_unit(&net_{n}, n, out);"
        f" fwrite(out, 4, length, stdout); done += length; }}"
        for n in (name.replace(".", "_") for name in names)
    ]
    found = run_c(tmp_path, {"net.h": text}, body)
    assert found == b"".join(state[name].numpy().tobytes() for name in names)
    # the arrays are as large as was said
    arrays = re.findall(r"^static const \w+ (\w+)\[", text, re.MULTILINE)
    body = [f'printf("%u\\n", (unsigned)({" + ".join(f"sizeof {a}" for a in arrays)}));']
    records = text.count("static const mess_tensor "), text.count("static const mess_book ")
    told = int(run_c(tmp_path, {"net.h": text}, body)) + TENSOR_RECORD * records[0] + BOOK_RECORD * records[1]
    assert told == constant


@needs_compiler
def test_the_decoder_needs_no_library_and_its_records_are_small(tmp_path: Path) -> None:
    assert re.findall(r"#include (.*)", decoder()) == ["<stdint.h>"]
    program = tmp_path / "bare.c"
    checks = [f"typedef char a[sizeof(mess_tensor) == {TENSOR_RECORD} ? 1 : -1];"]
    checks += [f"typedef char b[sizeof(mess_book) == {BOOK_RECORD} ? 1 : -1];"]
    use = "float f(const mess_tensor *t, float *out) { mess_decode(t, out); return out[0]; }"
    program.write_text(decoder() + "\n".join([*checks, use]))
    narrow = [CC, *STRICT, "-m32", "-O2", "-ffreestanding", "-c", "-o", tmp_path / "bare.o", program]
    result = subprocess.run(narrow, capture_output=True, text=True, check=False)
    if "-m32" in result.stderr or "64-bit mode" in result.stderr:
        pytest.skip("this compiler makes no programs with pointers of four bytes")
    assert result.returncode == 0, result.stderr


@needs_compiler
def test_hostile_names_become_identifiers_and_stay_comments(tmp_path: Path) -> None:
    names = ["a.b", "a_b", "a-b", "a.b.values", "a.b values", "*/ int x; /*", "??/", "\\", "größe", "重み", "size_t"]
    names += ["0", "UINT8.MAX", "x" * 200, "x" * 201, "decode", "unit", "a//b", ""]
    numbers = codec.NumberArray(np.arange(3, dtype=np.float32), "float32")
    stored = codec.StoredModel(None, {}, [], {name: codec.Plain((3,), "float32", numbers) for name in names})
    for stem in ("mess", "8 bits", "int", "UINT8", "日本"):
        source = make_source(stored, stem, ["*/ #error", "a ??/"])
        identifiers = list(source.names.values())
        assert len(set(identifiers)) == len(names)
        assert all(re.fullmatch(r"[A-Za-z]\w{0,62}", name, re.ASCII) for name in identifiers)
        body = [f"mess_decode(&{name}, out); fwrite(out, 4, 3, stdout);" for name in identifiers]
        found = run_c(tmp_path, {"net.h": "\n".join(source.lines) + "\n"}, body)
        assert found == numbers.values.tobytes() * len(names)


def test_names_keep_to_what_c_promises() -> None:
    names = Names("net", ["net_b"])
    assert [names.take(name) for name in ("a", "a", "b", "size_t", "A B")] == [
        "net_a", "net_a_2", "net_b_2", "net_size_t_", "net_A_B",
    ]  # fmt: skip
    long = [names.take("y" * 100) for _ in range(12)]
    assert len(set(long)) == 12
    assert max(map(len, long)) == MAX_NAME


def test_the_same_file_gives_the_same_header(tmp_path: Path) -> None:
    written = [export(GOLDEN / "v2a.mess", tmp_path / folder) for folder in ("net.h", "net.h")]
    assert written[0] == written[1]
    assert written[0].bytes == (tmp_path / "net.h").stat().st_size
    assert any("not float32" in note and "brain" in note for note in written[0].notes)
    text = (tmp_path / "net.h").read_text()
    assert str(tmp_path) not in text
    assert "static const int64_t net_count[1] = {\n-1099511627776,\n};" in text
