"""Read the golden files and compare hashes of their tensors: the half of MESS that needs no torch, in any Python."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

sys.modules["torch"] = None  # type: ignore[assignment]

from mess import codec, inspect  # noqa: E402

HERE = Path(__file__).parent / "golden"

if __name__ == "__main__":
    for version, expected in json.loads((HERE / "golden.json").read_text()).items():
        path = HERE / f"{version}.mess"
        found = codec.reconstruct(codec.read_model(path))
        hashes = {
            n: hashlib.sha256(f"{d}{list(a.shape)}".encode() + a.tobytes()).hexdigest() for n, (a, d) in found.items()
        }
        assert hashes == expected, version
        assert sum(inspect(path).sections.values()) == path.stat().st_size
        print(version)
