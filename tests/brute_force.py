"""The scheme's definition in plain loops and float64: slow, small, obviously right."""

from __future__ import annotations

import numpy as np


def fit(unit: np.ndarray, ref: np.ndarray, kind: str) -> tuple[float, float, float]:
    """Return (α, β, L1 distance) of one unit on one reference."""
    if kind == "copy":
        return 1.0, 0.0, float(sum(abs(ref - unit)))
    deviations = ref - ref.mean()
    denominator = float(sum(deviations * deviations))
    alpha = float(sum((unit - unit.mean()) * deviations)) / denominator if denominator > 0 else 0.0
    beta = unit.mean() - alpha * ref.mean()
    return alpha, beta, float(sum(abs(alpha * ref + beta - unit)))


def best(unit: np.ndarray, refs: np.ndarray, kind: str) -> tuple[int, list[tuple[float, float, float]]]:
    """Return the first best reference, and the fits on all of them."""
    unit = unit.astype(np.float64)
    fits = [fit(unit, ref.astype(np.float64)[: len(unit)], kind) for ref in refs]
    return int(np.argmin([distance for _, _, distance in fits])), fits
