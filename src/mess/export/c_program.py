"""A network as one C99 file: the `.mess` file as an array, the decoder (mess.h), and an example that reads it all."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

from mess import codec
from mess.export.about import facts_of
from mess.export.c_sizes import sizes_of
from mess.export.plain_file import plain_bytes
from mess.files import atomic_write
from mess.models.described import layout_of

ALL_ON_A_LINE = 28  # bytes
EXAMPLE = """
#ifdef MESS_EXAMPLE
/* Decodes everything and prints what there is: cc -DMESS_EXAMPLE -o NAME FILE.c && ./NAME */
#include <stdio.h>

int main(void) {
  static uint64_t memory[NAME_MEMORY / 8], scratch[NAME_SCRATCH / 8], out[NAME_OUTPUT / 8];
  mess_file net;
  uint32_t n, i;
  int error = mess_open(&net, NAME_mess, sizeof NAME_mess, memory, sizeof memory, 0);
  for (n = 0; !error && n < net.count; n++) {
    mess_tensor t;
    char name[1100];
    uint32_t hash = 2166136261u;                 /* FNV-1a of the tensor's bytes */
    mess_at(&net, n, MESS_WHOLE, &t);
    mess_name(&net, n, MESS_WHOLE, name, sizeof name);
    error = mess_decode(&net, &t, out, sizeof out, scratch, sizeof scratch);
    for (i = 0; i < t.bytes; i++) hash = (hash ^ ((const uint8_t *)out)[i]) * 16777619u;
    if (error) break;
    printf("%s: %u numbers%s, %08x\\n", name, (unsigned)t.count, t.is_batch_norm ? ", BatchNorm" : "", (unsigned)hash);
  }
  if (error) fprintf(stderr, "%s\\n", mess_error(error));
  return error;
}
#endif
"""


def write(path: str | os.PathLike[str], output: Path) -> tuple[str, ...]:
    """Write a file as C whose identifiers begin with the output's name; see `mess.export.export`."""
    stored = codec.read_model(path, layout=layout_of)
    facts = facts_of(stored.network, stored.scheme)
    content, name = plain_bytes(stored), identifier(output.stem)
    sizes = sizes_of(stored, content)
    about = [f"{fact}: {_plain(value)}" for fact, value in facts.items()]
    about += [
        "",
        "A .mess file as an array, and the decoder for it. Its numbers are decoded tensor by tensor:",
        "  mess_open, mess_find, mess_decode below say how; compiled with -DMESS_EXAMPLE this is a program.",
    ]
    lines = ["/*", *(f" * {_comment(line)}".rstrip() for line in about), " */"]
    lines += [f"#define {name.upper()}_{what} {size}  /* {said} */" for what, size, said in (
        ("MEMORY", sizes.memory, "bytes that mess_open keeps"),
        ("SCRATCH", sizes.scratch, "bytes that mess_decode needs beside its output, for any tensor"),
        ("OUTPUT", sizes.output, "bytes of the largest tensor"),
    )]  # fmt: skip
    lines += ["#define MESS_IMPLEMENTATION", *decoder().splitlines(), ""]
    lines += [f"static const unsigned char {name}_mess[{len(content)}] = {{", *_array(content), "};"]
    example = EXAMPLE.replace("FILE.c", _comment(output.name)).replace("NAME_mess", f"{name}_mess")
    example = example.replace("NAME_", f"{name.upper()}_").replace("NAME", name)
    text = "\n".join([*lines, example])
    atomic_write(output, text.encode("ascii"))
    return (
        f"{len(content):,} B of constants in a program, the file's own bytes; {sizes.memory:,} B of memory to open it",
        f"to decode a tensor: {sizes.scratch:,} B of scratch and the tensor, at most {sizes.output:,} B",
        "cc -DMESS_EXAMPLE makes a program of it that reads everything",
    )


def decoder() -> str:
    """Return mess.h."""
    return resources.files("mess").joinpath("decoder/mess.h").read_text(encoding="ascii")


def identifier(stem: str) -> str:
    """Return what a file's name becomes as the beginning of C identifiers: letters, digits and single underscores."""
    cleaned = re.sub("[^A-Za-z0-9]+", "_", stem).strip("_")[:40].rstrip("_")
    if not cleaned[:1].isalpha():
        cleaned = f"net_{cleaned}".rstrip("_")
    return f"{cleaned}_net" if cleaned.lower().startswith("mess") else cleaned  # those are the decoder's


def _array(content: bytes) -> list[str]:
    parts = (content[at : at + ALL_ON_A_LINE] for at in range(0, len(content), ALL_ON_A_LINE))
    return [",".join(map(str, part)) + "," for part in parts]


def _comment(text: str) -> str:
    """Return text that stays within a C comment: ASCII, no end of a comment, no trigraph."""
    return re.sub(r"[^ -~]", "?", text).replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


def _plain(value: object) -> str:
    return " ".join(f"{x:g}" for x in value) if isinstance(value, list) else str(value)
