"""Write the golden files of formats 1.0 to 1.3. Made once: a file that is there is never written again."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from format_helpers import example, example_any_floats, example_v4  # noqa: E402
from mess import codec  # noqa: E402

# of sums of references; "v4" and "v4_exponents" have coders 1 and 2, which nothing writes any more
SUMS = {
    "v4": {},
    "v4_exponents": {"exponents": True},
    "v4_levels": {},
    "v4_trellises": {"exponents": True, "trellises": True},
}

if __name__ == "__main__":
    expected = {}
    for version in ("v1", "v2", "v2a", "v2q", "v3", "v3a", *SUMS, "any_floats"):
        path = HERE / f"{version}.mess"
        if not path.exists():
            made = example_v4(**SUMS[version]) if version in SUMS else None
            made = example_any_floats() if version == "any_floats" else made or example(version)
            codec.write_model(path, made)
        found = codec.reconstruct(codec.read_model(path))
        expected[version] = {
            n: hashlib.sha256(f"{d}{list(a.shape)}".encode() + a.tobytes()).hexdigest() for n, (a, d) in found.items()
        }
    (HERE / "golden.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
