"""The decoder in C: speed beside Python and NNCodec, code and memory on a Cortex-M4, bytes of the WebAssembly module.

    python benchmarks/decoder.py --weights resnet56.th --file resnet56.mess --small resnet20.mess

`--file` is the network of `--weights`, stored under v4; `--small` is decoded on an emulated Cortex-M4 (QEMU's
mps2-an386; needs arm-none-eabi-gcc and qemu-system-arm). What a machine lacks is left out, and said. Writes
docs/results/decoder.json and decoder.md. `--threads` measures again, in ten seconds, what two threads gain, and leaves the
rest: that takes an idle machine, and the page says what else ran.
"""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from common import ROOT, alternating, described, median, read_rows, setting, write_page, write_rows
from mess import codec
from mess.codec import native
from mess.export import export
from mess.export.plain_file import plain_bytes
from mess.foreign.weights_file import load_weights
from mess.models.described import layout_of
from mess.storing import load_state_dict
from peers import nncodec

ROUNDS = 25
QP = -24  # of NNCodec, as in decoding.py
DECODER = ROOT / "src" / "mess" / "decoder"
M4 = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-Os", "-std=c99", "-DMESS_SMALL"]
M4 += ["-ffunction-sections", "-fdata-sections", "-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections"]
USER = """
#define MESS_IMPLEMENTATION
#define MESS_API static
#include "mess.h"
volatile int error;
volatile size_t size, room;
const char *volatile name;
uint8_t *volatile bytes, *volatile memory;
int main(void) {
  mess_file net;
  mess_tensor t;
  error = mess_open(&net, bytes, size, memory, room, 0) | mess_find(&net, name, &t);
  room = mess_scratch(&net, &t);
  error = mess_decode(&net, &t, bytes, size, memory, room);
  return 0;
}
void start(void);
void start(void) { main(); }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="weights of a network of the zoo, for NNCodec")
    parser.add_argument("--file", required=True, help="the same network under v4")
    parser.add_argument("--small", help="a network for the Cortex-M4")
    parser.add_argument("--threads", action="store_true", help="measure threads alone, and leave the other rows")
    args = parser.parse_args()
    if not (args.threads or (args.weights and args.small)):
        parser.error("--weights and --small, or --threads")
    torch.set_num_threads(1)
    if args.threads:
        row = read_rows("decoder") | {"on_threads": on_threads(Path(args.file))}
        write_rows("decoder", row)
        write_page("decoder", page(row))
        print(row["on_threads"])
        return
    with tempfile.TemporaryDirectory() as folder:
        row = speeds(args.weights, Path(args.file), Path(folder))
        row |= {"m4": cortex(Path(args.small), Path(folder)), "small": Path(args.small).name}
    wasm = (ROOT / "decoder" / "js" / "mess.wasm").read_bytes()
    row |= {"wasm": len(wasm), "wasm_gzipped": len(gzip.compress(wasm, 9)), "network": Path(args.weights).stem}
    row |= setting() | {"load": round(os.getloadavg()[0], 1)}
    write_rows("decoder", row)
    write_page("decoder", page(row))
    print(row)


def speeds(weights_file: str, path: Path, folder: Path) -> dict[str, Any]:
    """Return numbers, and seconds of each way to read them."""
    weights = {n: t for n, t in load_weights(weights_file)[0].items() if not n.endswith("num_batches_tracked")}
    plain = plain_bytes(codec.read_model(path, layout=layout_of))
    program = folder / "speed"
    compiled = ["gcc", "-O3", "-I", DECODER, "-o", program, ROOT / "benchmarks" / "speed.c"]
    subprocess.run([*map(str, compiled)], check=True)
    native.build()
    numbers, in_c = 0, {}
    for name, flags in (
        ("C", native_flags("FAST", "TRUSTED")),
        ("C, with checksums", native_flags("FAST")),
        ("C, in little memory", native_flags("TRUSTED")),
    ):
        run = subprocess.run([program, str(flags), "60"], input=plain, capture_output=True, check=True)
        first, *rounds = run.stdout.decode().splitlines()
        numbers, in_c[name] = int(first), median([float(line.split()[1]) for line in rounds])

    def reading(reader: str, threads: int) -> Any:
        def read() -> None:
            os.environ["MESS_READER"], native.threads = reader, lambda: threads
            load_state_dict(path)

        return read

    tasks = {"Python": reading("python", 1), "Python with C": reading("", 1)}
    seconds = {n: median(v) for n, v in alternating(tasks, ROUNDS, time.process_time).items()}
    peer = nncodec(weights, QP)
    return {
        "numbers": numbers,
        "seconds": in_c | seconds | {"NNCodec": peer.decode},
        "on_threads": on_threads(path),
        "bytes": {"MESS": path.stat().st_size, "MESS, for small readers": len(plain), "NNCodec": peer.bytes},
    }


def on_threads(path: Path) -> dict[str, Any]:
    """Return seconds on one thread and on two: of decoding alone and of all of `load_state_dict`, each the best.

    `share` is processor time by wall clock while decoding, of the best: 1 and 2 where nothing else ran.
    """
    native.build()
    os.environ["MESS_READER"] = ""
    found: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    whole, decode = native.threads, native.decode
    best: dict[int, tuple[float, float]] = {}
    alone: dict[int, float] = {}

    def timed(*args: Any, **options: Any) -> None:
        start, spent = time.perf_counter(), time.process_time()
        decode(*args, **options)
        wall = time.perf_counter() - start
        best[n] = min(best.get(n, (wall, 0.0)), (wall, (time.process_time() - spent) / wall))

    native.decode = timed
    try:
        for turn in range(2 * ROUNDS * 2):
            n = 1 + turn % 2
            native.threads = lambda n=n: n
            start = time.perf_counter()
            load_state_dict(path)
            alone[n] = min(alone.get(n, 1e9), time.perf_counter() - start)
    finally:
        native.threads, native.decode = whole, decode
    for n in (1, 2):
        found[str(n)] = {"decoding": best[n][0], "share": best[n][1], "all": alone[n]}
    return found


def native_flags(*names: str) -> int:
    return sum({"FAST": 1, "TRUSTED": 2}[name] for name in names)


def cortex(path: Path, folder: Path) -> dict[str, int] | None:
    """Return bytes of code and memory on a Cortex-M4 that decodes a network; every tensor is what Python decodes."""
    if not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")):
        return None
    user, elf = folder / "user.c", folder / "m4.elf"
    user.write_text(USER)
    build = ["arm-none-eabi-gcc", *M4, "-I", str(DECODER), "-o", str(elf)]
    flash: dict[str, int] = {}
    for what, flags in (("flash", []), ("flash_no_sha", ["-DMESS_NO_SHA"])):
        subprocess.run([*build, *flags, "-Wl,-e,start", str(user)], check=True)
        symbols = subprocess.run(["arm-none-eabi-nm", "-S", elf], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in symbols.splitlines() if len(line.split()) == 4]
        sizes = {name: int(size, 16) for _, size, kind, name in rows if kind in "tTrR"}
        text = subprocess.run(["arm-none-eabi-size", elf], capture_output=True, text=True, check=True).stdout.split()[6]
        libraries = ("memcpy", "memset", "memcmp", "str", "_")  # of the compiler and of C: memcpy, strlen, __udivmoddi4
        of_libraries = sum(size for name, size in sizes.items() if name.startswith(libraries))
        flash |= {what: int(text), f"{what}_own": int(text) - of_libraries}
    export(path, folder / "net.c")
    sources = ROOT / "tests" / "c" / "cortex"
    net = [f'-DNET_H="{folder / "net.c"}"', "-T", str(sources / "mps2.ld"), str(sources / "main.c")]
    subprocess.run([*build, *net], check=True)
    emulator = ["qemu-system-arm", "-machine", "mps2-an386", "-nographic", "-kernel", str(elf)]
    emulator += ["-semihosting-config", "enable=on,target=native"]
    run = subprocess.run(emulator, capture_output=True, text=True, check=True, timeout=300)
    said = dict(line.split() for line in (run.stdout + run.stderr).splitlines() if len(line.split()) == 2)
    tensors = codec.reconstruct(codec.read_model(path, layout=layout_of))
    for name, (array, _) in tensors.items():
        if name in said:
            assert int(said[name], 16) == fnv(array.tobytes()), name
    what = ("need", "scratch_need", "output", "file", "stack", "memory", "scratch")
    found = {name: int(said[name]) for name in what}
    return found | flash


def fnv(content: bytes) -> int:
    found = 2166136261
    for byte in content:
        found = ((found ^ byte) * 16777619) & 0xFFFFFFFF
    return found


def gained(what: str, threads: dict[str, Any]) -> str:
    """Return what the second thread gains, or that the machine was too busy to say."""
    one, two = threads["1"], threads["2"]
    if one["share"] < 0.9 or threads["load"] >= 1:
        return "not known: other programs had the processors (`--threads` measures again)"
    return f"{one[what] / two[what]:.2f} × ({1e3 * one[what]:.1f} → {1e3 * two[what]:.1f} ms)"


def page(row: dict[str, Any]) -> list[str]:
    """Return the results page."""
    seconds, numbers, m4, threads = row["seconds"], row["numbers"], row["m4"], row["on_threads"]
    lines = [
        "# The decoder in C",
        "",
        f"`python benchmarks/decoder.py`: {row['network']}, {numbers:,} numbers, under v4 {row['bytes']['MESS']:,} B",
        f"({row['bytes']['MESS, for small readers']:,} B with names and shapes in it and nothing of it zstd); NNCodec at qp {QP}",
        f"{row['bytes']['NNCodec']:,} B. Processor time on one thread, medians, GCC -O3 without flags for this processor; in C",
        "from the file in memory to float32 in memory, in Python from the file to PyTorch's tensors.",
        f"Load average {row['load']} on {row['machine'].rpartition(', ')[2]}: with more programs than cores, wall clocks say little, and shared caches cost time.",
        described(row),
        "",
        "| reader | ms | million numbers/s | × NNCodec's rate |",
        "|---|---:|---:|---:|",
    ]
    for name, spent in sorted(seconds.items(), key=lambda item: item[1]):
        rate = f"{numbers / spent / 1e6:.1f}"
        lines.append(f"| {name} | {1e3 * spent:.1f} | {rate} | {seconds['NNCodec'] / spent:.1f} |")
    fast = numbers / seconds["C"] / 1e6
    lines += [
        "",
        "C is with `MESS_FAST`, the checksums compared before (as Python does); in little memory means without that flag.",
        "",
        "| | goal | here |",
        "|---|---|---|",
        f"| decoding v4, one core, C | ≥ 100 M numbers/s | {fast:.1f} M/s |",
        f"| the same beside NNCodec | ≥ 6 × | {seconds['NNCodec'] / seconds['C']:.1f} × |",
        f"| decoding from Python on 2 threads, wall clock, best of {2 * ROUNDS} | ≥ 1.8 × one | {gained('decoding', threads)} |",
        f"| all of `load_state_dict` on 2 threads | | {gained('all', threads)} |",
    ]
    if m4:
        beside = m4["need"] + m4["scratch_need"] + m4["file"] + m4["stack"]
        lines += [
            f"| code on a Cortex-M4, -Os, `MESS_SMALL` | ≤ 16 KB | {m4['flash_own']:,} B, with libgcc's division, memcpy and their like {m4['flash']:,} B |",
            f"| the same with `MESS_NO_SHA` | | {m4['flash_no_sha_own']:,} B, {m4['flash_no_sha']:,} B |",
            f"| memory to decode {row['small']} layer by layer | ≤ the largest layer + 8 KB | the largest layer ({m4['output']:,} B) + {beside:,} B |",
        ]
    lines += [
        f"| WebAssembly | ≤ 40 KB | {row['wasm']:,} B |",
        f"| the same, gzipped | ≤ 20 KB | {row['wasm_gzipped']:,} B |",
        "| file in a program | the file's own bytes | the file's own bytes |",
        "",
        f"Threads were timed at a load average of {threads['load']}; the best decoding on two used {threads['2']['share']:.2f} processors at a time,",
        f"on one {threads['1']['share']:.2f}, of {os.cpu_count()}.",
    ]
    if m4:
        lines += [
            "",
            f"The memory beside the largest layer: {m4['need']:,} B that `mess_open` keeps, {m4['scratch_need']:,} B of scratch, {m4['file']:,} B",
            f"`mess_file`, {m4['stack']:,} B of stack. It was run under QEMU (mps2-an386), and every layer's bits were those Python decodes.",
        ]
    return lines


if __name__ == "__main__":
    main()
