"""What was written, and what was lost by it: for programs, terminals and notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mess.display import notebook
from mess.errors import first_few
from mess.graphs.answers import ModelAnswers
from mess.storing.look import Look

NOISE_ERROR = 0.02  # mean relative error of layers: 8-bit integers stay below 0.001, v1 to v3a lie at 0.2 to 0.9
NOISE = "little is left of the network: ask for less, or train what is stored"
FEW = 8  # layers that a notebook shows: those that lost most


@dataclass(frozen=True)
class SizeReport:
    """What `compress` wrote. `print` and notebooks show it in a few lines.

    Attributes:
        path: of the file.
        bytes: its size, as the file system gives it.
        float_bytes: the same weights in their own dtypes, tied ones once, without any container.
        as_is: (name, reason) of every tensor, or BatchNorm layer, that no reference stands for.
        error: relative error ‖w − ŵ‖² / ‖w‖² by layer that references stand for.
        look: what the stored network still answers, as seen before the file took its place; None: it was not run.
        unseen: why v4 rounded it finely without a look; "" where it was looked at, or another version stored it.
        answers: what onnxruntime answers on the model and on what comes out of the file; None: it does not run on the
            inputs there are, or (`compared` is None) it was no ONNX model.
        compared: whether these could be compared.
    """

    path: Path
    bytes: int
    float_bytes: int
    as_is: tuple[tuple[str, str], ...] = field(repr=False)
    error: dict[str, float] = field(repr=False)
    look: Look | None = None
    unseen: str = ""
    answers: ModelAnswers | None = None
    compared: bool | None = None

    @property
    def is_noise(self) -> bool:
        """Whether little is left of the network: as seen, or, where it was not run, by what its layers lost."""
        if self.look is not None:
            return self.look.is_noise
        return bool(self.error) and sum(self.error.values()) / len(self.error) > NOISE_ERROR

    @property
    def ratio(self) -> float:
        """How many times smaller than float the file is."""
        return self.float_bytes / self.bytes

    @property
    def reasons(self) -> dict[str, list[str]]:
        """The names in `as_is`, by reason."""
        found: dict[str, list[str]] = {}
        for name, reason in self.as_is:
            found.setdefault(reason, []).append(name)
        return found

    def __str__(self) -> str:
        return "\n".join([f"{self.path}: {self._size()}", *self._told(), *([NOISE] if self.is_noise else [])])

    def _repr_html_(self) -> str:
        worst = sorted(self.error.items(), key=lambda pair: -pair[1])[:FEW]
        most = max((error for _, error in worst), default=0.0) or 1.0
        heading = "layer" if len(worst) == len(self.error) else f"layer ({len(worst)} of {len(self.error)}, the worst)"
        rows = [(name, f"{error:.2g}") for name, error in worst]
        shares = [error / most for _, error in worst]
        tables = [notebook.table((heading, "relative error"), rows, shares)] if rows else []
        warning = NOISE if self.is_noise else ""
        return notebook.block(f"{self.path.name}: {self._size()}", self._told(), tables, warning)

    def _size(self) -> str:
        return f"{self.bytes:,} B, {self.ratio:.1f} times smaller than {self.float_bytes:,} B of weights"

    def _told(self) -> list[str]:
        """Return in lines what is known of what it answers, and what no reference stands for."""
        told = [] if self.look is None else [str(self.look)]
        if self.unseen:
            told.append(f"rounded finely without a look: {self.unseen}")
        if self.answers is not None:
            told.append(f"onnxruntime on both models: {self.answers}")
        return told + [f"by itself ({reason}): {first_few(names)}" for reason, names in self.reasons.items()]
