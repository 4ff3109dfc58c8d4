"""CUDA graphs, as PyTorch's notes on them say: warm up on a side stream, capture there, replay anywhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WAITED = "called a synchronizing CUDA operation"  # how torch's warning begins


class Recorder:
    """Records what a function launches; the stream is made with the first use."""

    def __init__(self) -> None:
        self._own: torch.cuda.Stream | None = None

    @property
    def _stream(self) -> torch.cuda.Stream:
        if self._own is None:
            self._own = torch.cuda.Stream()
        return self._own

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Run on the recorder's stream, after all that was asked for before and before all that is asked for later."""
        before = torch.cuda.current_stream()
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            yield
        before.wait_stream(self._stream)

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        """Return the replay of a new graph; see `Devices.record`."""
        before, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        try:
            # other threads, which hand over pictures, may go on meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                function()
        except RuntimeError:
            torch.cuda.set_stream(before)  # a capture that fails at its end leaves its own stream in place, ...
            generator = torch.cuda.default_generators[before.device.index]
            generator.graphsafe_set_state(torch.Generator(before.device))  # ... and draws in the state of recording
            raise
        return graph.replay


@contextmanager
def waits() -> Iterator[list[str]]:
    """Note each operation that makes the CPU wait for the GPU; most of those there are (torch's debug mode)."""
    found: list[str] = []
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(mode)
            found += [f"{w.filename}:{w.lineno}" for w in caught if str(w.message).startswith(WAITED)]
