"""`mess decompress -o net.c`: a program with the file in it, and decodes it in the memory it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import mess
from c_decoder import CC, STRICT, compiled, decoded, example_with_trellises, expected, needs_compiler
from format_helpers import example, example_v4
from mess import codec
from mess.cli import main
from mess.export import export
from mess.export.c_program import identifier

GOLDEN = Path(__file__).parent / "golden"


def fnv(content: bytes) -> str:
    """Return what the example prints of a tensor's bytes."""
    found = 2166136261
    for byte in content:
        found = ((found ^ byte) * 16777619) & 0xFFFFFFFF
    return f"{found:08x}"


def said_by(program: Path, folder: Path, *flags: str) -> dict[str, str]:
    """Compile a program that was written and return the hash it prints of each tensor."""
    made = compiled(folder, *STRICT, "-O0", "-DMESS_EXAMPLE", *flags, source=program)
    printed = subprocess.run([made], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^(.*): \d+ numbers.*, (\w{8})$", printed, re.MULTILINE))


@needs_compiler
@pytest.mark.parametrize("flags", [[], ["-m32"]])
def test_the_program_decodes_every_tensor_in_the_memory_it_sets_aside(tmp_path: Path, flags: list[str]) -> None:
    small = {"sums": example_v4(), "trellises": example_with_trellises(), "v3": example("v3")}
    small |= {"v2a": codec.read_model(GOLDEN / "v2a.mess")}
    for name, stored in small.items():
        codec.write_model(tmp_path / f"{name}.mess", stored)
        notes = export(tmp_path / f"{name}.mess", tmp_path / f"{name}.c").notes
        found = said_by(tmp_path / f"{name}.c", tmp_path, *flags)
        arrays = expected((tmp_path / f"{name}.mess").read_bytes())
        whole = {n: fnv(content) for n, (_, _, content) in arrays.items() if n in found}
        assert whole, notes
        assert {n: found[n] for n in whole} == whole, name
        layers = found.keys() - whole.keys()
        assert len(layers) == sum(isinstance(e, codec.BatchNorm) for e in stored.entries.values())


@needs_compiler
def test_the_array_is_the_file_and_the_file_says_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = mess.create_model("resnet", layers=8, width_mult=0.25)
    mess.compress(model, tmp_path / "net.mess", "v2a", scale_bits=8)
    for name in ("net.c", "plain.mess"):
        assert main(["decompress", str(tmp_path / "net.mess"), "-o", str(tmp_path / name)]) == 0
    plain = (tmp_path / "plain.mess").read_bytes()
    said = capsys.readouterr().out
    assert f"{len(plain):,} B of constants in a program, the file's own bytes" in said.replace("\n", " ")
    text = (tmp_path / "net.c").read_text(encoding="ascii")
    numbers = text[text.index(f"net_mess[{len(plain)}] = {{") :].partition("{")[2].partition("}")[0]
    assert bytes(map(int, numbers.replace("\n", "").rstrip(",").split(","))) == plain
    assert " * network: resnet8" in text
    weights = mess.load_state_dict(tmp_path / "net.mess")
    again = mess.load_state_dict(tmp_path / "plain.mess")
    assert all(np.array_equal(again[n].numpy(), weights[n].numpy()) for n in weights)
    with_c = decoded(compiled(tmp_path, *STRICT, "-O0"), [plain])[0]
    assert {n: content for n, (_, _, content) in with_c.items()} == {n: t.numpy().tobytes() for n, t in weights.items()}
    found = said_by(tmp_path / "net.c", tmp_path)
    assert found["conv1.weight"] == fnv(weights["conv1.weight"].numpy().tobytes())


def test_the_same_file_gives_the_same_program(tmp_path: Path) -> None:
    written = [export(GOLDEN / "v2a.mess", tmp_path / "net.c") for _ in range(2)]
    assert written[0] == written[1]
    assert str(tmp_path) not in (tmp_path / "net.c").read_text()


@needs_compiler
def test_hostile_names_stay_names_and_comments(tmp_path: Path) -> None:
    names = ["a.b", "*/ int x; /*", "??/", "\\", "größe", "重み", "x" * 1024, ""]
    numbers = codec.NumberArray(np.arange(3, dtype=np.float32), "float32")
    stored = codec.StoredModel(
        None, {"version": "*/ #error ??/"}, [], {n: codec.Plain((3,), "float32", numbers) for n in names}
    )
    codec.write_model(tmp_path / "in.mess", stored)
    for stem in ("mess", "日本 *"):
        export(tmp_path / "in.mess", tmp_path / f"{stem}.c")
        found = said_by(tmp_path / f"{stem}.c", tmp_path)
        assert set(found.values()) == {fnv(numbers.values.tobytes())}
        assert len(found) == len(names)


def test_identifiers_are_identifiers() -> None:
    assert [identifier(s) for s in ("net", "8 bits", "mess", "日本", "a-b.c", "MESS_FAST", "x" * 99)] == [
        "net", "net_8_bits", "mess_net", "net", "a_b_c", "MESS_FAST_net", "x" * 40,
    ]  # fmt: skip
    assert CC is None or Path(CC).exists()
