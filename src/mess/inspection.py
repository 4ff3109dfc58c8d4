"""`mess.inspect`: any file, with as little imported as it allows."""

from __future__ import annotations

import os
from typing import Any

from mess.codec import FileInfo, inspect_file
from mess.codec.contents import NO_LAYOUT
from mess.errors import FormatError
from mess.layouts import Layout, known_layout


def inspect(path: str | os.PathLike[str]) -> FileInfo:
    """Return what a file holds, byte for byte, without decoding it.

    Files that say everything themselves and those of the usual networks (`mess.layouts`) need no torch; one that names
    another network of the zoo needs the zoo.

    Raises:
        FormatError: the file breaks docs/FORMAT.md.
    """
    try:
        return inspect_file(path, layout=_layout)
    except FormatError as error:
        if error.expected != NO_LAYOUT:
            raise
    from mess.models.described import layout_of  # torch takes a second to import

    return inspect_file(path, layout=layout_of)


def _layout(network: dict[str, Any]) -> Layout:
    found = known_layout(network)
    if found is None:
        raise FormatError("network", NO_LAYOUT, network.get("arch"))
    return found
