"""The versions of the scheme: rows of one table."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mess.errors import OptionError, one_of

MAX_BIND = 4096  # kernels a unit
QUANT_BITS = range(2, 17)


@dataclass(frozen=True)
class Scheme:
    """Which references, what unit, what fit, how many bits.

    Attributes:
        version: its name.
        fit: "copy" (the nearest reference stands for the unit), "affine" (α·R + β), or "learned" (sums of references
            that are learned over all layers).
        reference_layer: the kernel layer, counted from 0, whose units are the references; it and the layers before it
            are stored as they are. -1 where references are learned.
        bind: kernels a unit, d.
        quant_bits: bits that kernels behind the reference layer are rounded to before they are matched; None: not.
    """

    version: str
    fit: str = "affine"
    reference_layer: int = 0
    bind: int = 1
    quant_bits: int | None = None

    @property
    def learned(self) -> bool:
        """Whether references are learned, and no kernels of the network."""
        return self.fit == "learned"


SCHEMES: dict[str, Scheme] = {
    "v1": Scheme("v1", "copy", reference_layer=1),
    "v2": Scheme("v2"),
    "v2a": Scheme("v2a", reference_layer=1),
    "v2q": Scheme("v2q", quant_bits=8),
    "v3": Scheme("v3", bind=2),
    "v3a": Scheme("v3a", bind=2, reference_layer=1),
    "v4": Scheme("v4", "learned", reference_layer=-1),
}
# whose references are kernels of the network itself
REFERENCE_VERSIONS = tuple(name for name, scheme in SCHEMES.items() if not scheme.learned)


def get_scheme(version: str, *, bind: int = 2, quant_bits: int = 8, quant: bool = False) -> Scheme:
    """Return a row of the table, with d and the bits put in where the version has them.

    Args:
        quant: round kernels to `quant_bits` in versions whose row does not, too.

    Raises:
        OptionError: no such version, or a number that cannot be.
    """
    if version not in SCHEMES:
        raise OptionError("--version", one_of(SCHEMES, version), version)
    scheme = SCHEMES[version]
    if scheme.bind > 1:
        if not 1 <= bind <= MAX_BIND:
            raise OptionError("--bind-size", f"1 to {MAX_BIND} kernels a unit", bind)
        scheme = replace(scheme, bind=bind)
    if quant and scheme.learned:
        raise OptionError("--quant", "a version with references of the network (v1 … v3a)", version)
    if quant or scheme.quant_bits is not None:
        if quant_bits not in QUANT_BITS:
            raise OptionError("--quant-bit", f"{QUANT_BITS.start} to {QUANT_BITS.stop - 1} bits", quant_bits)
        scheme = replace(scheme, quant_bits=quant_bits)
    return scheme


def file_tag(scheme: Scheme) -> str:
    """Return what a file's name says of its scheme: ``v2``, ``v3_d2``, ``v2q_q8``."""
    tag = scheme.version
    if SCHEMES[scheme.version].bind > 1:
        tag += f"_d{scheme.bind}"
    if scheme.quant_bits is not None:
        tag += f"_q{scheme.quant_bits}"
    return tag
