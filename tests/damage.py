"""Ways to damage a file that its checksums do not show; needs no torch."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Iterator

from mess.codec.container import DIGEST, ENTRY, HEADER


def sealed(content: bytes) -> bytes:
    """Return damaged content with its checksums made right again: what a hostile writer would write."""
    body = bytearray(content)
    count = int.from_bytes(body[12:14], "little")
    for number in range(min(count, 64)):
        at = HEADER.size + ENTRY.size * number
        if at + ENTRY.size > len(body):
            break
        kind, coder, reserved, _, offset, size = ENTRY.unpack_from(body, at)
        if offset + size <= len(body):
            crc = zlib.crc32(body[offset : offset + size])
            ENTRY.pack_into(body, at, kind, coder, reserved, crc, offset, size)
    body[14:22] = len(body).to_bytes(8, "little")
    body[DIGEST] = bytes(32)
    body[DIGEST] = hashlib.sha256(body).digest()
    return bytes(body)


def mutants(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged files with right checksums: bits, bytes, runs and lengths changed behind the header."""
    dice = random.Random(seed)
    first = 12
    for _ in range(count):
        body = bytearray(content)
        for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
            at = dice.randrange(first, len(body))
            what = dice.randrange(5)
            if what == 0:
                body[at] ^= 1 << dice.randrange(8)
            elif what == 1:
                body[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif what == 2:
                del body[at : at + dice.randrange(1, 9)]
            elif what == 3:
                body[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 9)))
            else:
                end = min(len(body), at + dice.randrange(1, 9))
                body[at:end] = dice.choice((b"\x00", b"\xff")) * (end - at)
            if len(body) <= first:
                break
        yield sealed(bytes(body))
