"""Feed damaged files with right checksums to the reader: each gives a model or a FormatError, soon, in little memory.

python tests/fuzz_format.py --n 100000 --seed 0
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

from damage import mutants
from format_helpers import example, example_v4
from mess import codec
from mess.errors import FormatError

GOLDEN = Path(__file__).parent / "golden"
MEMORY = 3 << 30  # bytes of address space; the process needs about half of it before the first file
SLOW_S = 1.0
MAX_BYTES = 1 << 26


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print figures instead of a sentence")
    args = parser.parse_args()
    originals = [codec.encode_model(example(version, bits=bits)) for version in ("v1", "v2", "v3") for bits in (8, 32)]
    originals += [codec.encode_model(example_v4(exponents=own, trellises=own)) for own in (False, True)]
    originals += [(GOLDEN / f"{name}.mess").read_bytes() for name in ("v4", "v4_exponents")]  # that nothing writes now
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    refused = read = 0
    slowest = 0.0
    for number, original in enumerate(originals):
        for content in mutants(original, args.n // len(originals), args.seed + number):
            start = time.process_time()  # not the clock: a busy machine is no slow reader
            try:
                codec.reconstruct(codec.read_model(content, max_bytes=MAX_BYTES))
                read += 1
            except FormatError:
                refused += 1
            slowest = max(slowest, time.process_time() - start)
            if slowest > SLOW_S:
                print(f"a file of {len(content)} bytes took {slowest:.2f} s: {content.hex()}")
                return 1
    if args.json:
        found = {"files": read + refused, "read": read, "refused": refused, "slowest_ms": round(1000 * slowest)}
        print(json.dumps({**found, "seed": args.seed}))
        return 0
    print(
        f"{read + refused:,} damaged files: {refused:,} refused, {read:,} read, the slowest in {slowest * 1000:.0f} ms"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
