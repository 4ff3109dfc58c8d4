"""`mess.inspect`: any file, with as little imported as it allows."""

from __future__ import annotations

import os

from mess.codec import FileInfo, inspect_file
from mess.codec.contents import NO_LAYOUT
from mess.errors import FormatError


def inspect(path: str | os.PathLike[str]) -> FileInfo:
    """Return what a file holds, byte for byte, without decoding it.

    A file that says everything itself needs no torch; one that names a network of the zoo needs the zoo.

    Raises:
        FormatError: the file breaks docs/FORMAT.md.
    """
    try:
        return inspect_file(path)
    except FormatError as error:
        if error.expected != NO_LAYOUT:
            raise
    from mess.models.described import layout_of  # torch takes a second to import

    return inspect_file(path, layout=layout_of)
