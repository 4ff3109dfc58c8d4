"""Little things a byte stream is made of: variable-length integers and numbers of a few bits."""

from __future__ import annotations

import numpy as np

from mess.errors import FormatError

BLOCK = 1 << 15  # numbers that are packed at once, so that they stay in cache; a multiple of 8
MAX_VARINT_BYTES = 10  # bytes: 64 bits at 7 a byte


def varint(number: int) -> bytes:
    """Write 0 ≤ number < 2^64 in 7-bit groups, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> int:
    """Map … −2, −1, 0, 1, 2 … to 3, 1, 0, 2, 4: small magnitudes stay small."""
    return number * 2 if number >= 0 else -number * 2 - 1


def unzigzag(number: int) -> int:
    """Undo `zigzag`."""
    return number // 2 if number % 2 == 0 else -(number + 1) // 2


def pack(numbers_N: np.ndarray, width: int) -> bytes:
    """Write each number's `width` lowest bits (0 … 57), lowest first, without gaps; the last byte is filled with 0."""
    if not width:
        return b""
    if width == 8:
        return numbers_N.astype(np.uint8).tobytes()
    return b"".join(_packed(numbers_N[start : start + BLOCK], width) for start in range(0, len(numbers_N), BLOCK))


def _packed(numbers_N: np.ndarray, width: int) -> bytes:
    """Pack a block: eight numbers fill `width` bytes, each of them the same bytes in every group of eight."""
    numbers_G8 = np.zeros((-(-len(numbers_N) // 8), 8), dtype=np.uint64)
    numbers_G8.reshape(-1)[: len(numbers_N)] = numbers_N
    numbers_G8 &= np.uint64((1 << width) - 1)
    bytes_BG = np.zeros((width, len(numbers_G8)), dtype=np.uint8)
    for place in range(8):
        first, shift = divmod(place * width, 8)
        shifted_G8 = (numbers_G8[:, place] << np.uint64(shift)).astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
        for byte in range((shift + width + 7) // 8):  # at most eight: 7 + 57 bits
            bytes_BG[first + byte] |= shifted_G8[:, byte]
    return bytes_BG.T.tobytes()[: packed_size(len(numbers_N), width)]


def unpack(content: bytes, count: int, width: int) -> np.ndarray:
    """Undo `pack`: `count` numbers, int64. The caller has checked that `content` has `packed_size` bytes.

    Raises:
        FormatError: bits behind the last number that are not 0.
    """
    check_filling(content, count, width)
    return unpack_part(content, 0, count, width)


def unpack_part(content: bytes, start: int, end: int, width: int) -> np.ndarray:
    """Return the numbers start … end − 1 of what `pack` wrote, int64."""
    if not width:
        return np.zeros(end - start, dtype=np.int64)
    if width == 8:
        return np.frombuffer(content, np.uint8, end - start, start).astype(np.int64)
    # eight bytes from the one a number starts in hold all of it: 7 + 57 bits
    part = content[start * width // 8 : packed_size(end, width)]
    windows = np.ndarray((len(part),), "<i8", part + bytes(7), strides=(1,))
    first_N = start * width % 8 + width * np.arange(end - start)
    out_N = windows[first_N >> 3] >> (first_N & 7)
    out_N &= (1 << width) - 1
    return out_N


def check_filling(content: bytes, count: int, width: int) -> None:
    """Refuse packed numbers whose last byte is not filled with 0."""
    if count * width % 8 and content[-1] >> (count * width % 8):
        raise FormatError("packed numbers", "0 in the bits that fill the last byte", "1")


def packed_size(count: int, width: int) -> int:
    """Return the bytes that `pack` needs."""
    return (count * width + 7) // 8


class Reader:
    """Reads a section from front to back; everything it is asked for is there, or the file is refused."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where, self.at = content, where, 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.content) - self.at

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes.

        Raises:
            FormatError: there are not so many.
        """
        start, end = self.at, self.at + count
        if not start <= end <= len(self.content):
            raise FormatError(self.where, f"{count} more bytes", self.left)
        self.at = end
        return self.content[start:end]

    def byte(self) -> int:
        """Return the next byte."""
        if self.at >= len(self.content):
            raise FormatError(self.where, "1 more byte", 0)
        self.at += 1
        return self.content[self.at - 1]

    def varint(self, below: int = 1 << 63) -> int:
        """Return the next variable-length integer; only its shortest form is one.

        Raises:
            FormatError: longer than it need be, or not below `below`.
        """
        number = self.byte()
        if number > 0x7F:
            number = self._longer(number & 0x7F)
        if number >= below:
            raise FormatError(self.where, f"an integer below {below}", number)
        return number

    def _longer(self, number: int) -> int:
        for place in range(1, MAX_VARINT_BYTES):
            part = self.byte()
            number |= (part & 0x7F) << (7 * place)
            if part < 0x80:
                if not part:
                    raise FormatError(self.where, "an integer in its shortest form", "a longer one")
                return number
        raise FormatError(self.where, f"an integer of at most {MAX_VARINT_BYTES} bytes", "a longer one")

    def finish(self) -> None:
        """Refuse bytes that nothing has asked for."""
        if self.left:
            raise FormatError(self.where, "its end", f"{self.left} more bytes")
