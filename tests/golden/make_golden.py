"""Write the golden files of formats 1.0 and 1.1. Made once: a file that is there is never written again."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from format_helpers import example, example_v4  # noqa: E402
from mess import codec  # noqa: E402

if __name__ == "__main__":
    expected = {}
    for version in ("v1", "v2", "v2a", "v2q", "v3", "v3a", "v4", "v4_exponents"):
        path = HERE / f"{version}.mess"
        if not path.exists():
            summed = version.startswith("v4")
            codec.write_model(path, example_v4(exponents=version != "v4") if summed else example(version))
        found = codec.reconstruct(codec.read_model(path))
        expected[version] = {
            n: hashlib.sha256(f"{d}{list(a.shape)}".encode() + a.tobytes()).hexdigest() for n, (a, d) in found.items()
        }
    (HERE / "golden.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
