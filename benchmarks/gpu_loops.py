"""The loops that `gpu.py` sets `mess train` beside: the one that everybody writes, and a step captured by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

from mess import models
from mess.data import Batches, open_dataset
from mess.models import Architecture
from mess.recipes import DataChoice
from training import Pictures

RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-4


@dataclass(frozen=True)
class Loop:
    """What is trained on what, for how many seconds; `workers` decode pictures."""

    architecture: Architecture
    data: DataChoice
    batch: int
    workers: int
    seconds: float
    cuda: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.cuda else "cpu")


def plain(loop: Loop) -> float:
    """Return images a second of the loop that everybody writes."""
    device = loop.device
    model = models.build(loop.architecture).to(device)
    images = Pictures(loop.data)
    loader = DataLoader(
        images, loop.batch, shuffle=True, num_workers=loop.workers, pin_memory=loop.cuda, drop_last=True,
        persistent_workers=loop.workers > 0,
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
    criterion = nn.CrossEntropyLoss()

    def steps() -> Iterator[None]:
        while True:
            for inputs, labels in loader:
                optimizer.zero_grad()
                loss = criterion(model(inputs.to(device)), labels.to(device))
                loss.backward()
                optimizer.step()
                loss.item()
                yield

    return loop.batch * per_second(steps(), loop.seconds, loop.cuda, warm_up=10)


def floor(loop: Loop) -> float:
    """Return images a second of a step captured by hand, bf16, channels_last, on images that are there."""
    device = loop.device
    model = models.build(loop.architecture).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = open_dataset(loop.data.name, loop.data.datapath, train=True)
    batches = Batches(found, loop.batch, train=True, device=device, channels_last=True)
    there = [next(batches.epoch(epoch)) for epoch in range(4)]
    images, labels = there[0][0].clone(), there[0][1].clone()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True, fused=loop.cuda or None
    )

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = nn.functional.cross_entropy(model(images).float(), labels)
        loss.backward()
        optimizer.step()

    stream = torch.cuda.Stream() if loop.cuda else None
    if stream is not None:
        stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream) if stream is not None else nullcontext():
        for _ in range(3):
            step()
    replay: Callable[[], object] = step
    if stream is not None:
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            step()
        replay = graph.replay

    def steps() -> Iterator[None]:
        while True:
            for new_images, new_labels in there:
                images.copy_(new_images)
                labels.copy_(new_labels)
                replay()
                yield

    return loop.batch * per_second(steps(), loop.seconds, loop.cuda, warm_up=10)


def per_second(steps: Iterator[None], seconds: float, cuda: bool, warm_up: int, at_once: int = 20) -> float:
    """Return steps a second; a GPU is waited for at both ends."""
    wait = torch.cuda.synchronize if cuda else lambda: None
    for _ in range(warm_up if cuda else 2):
        next(steps)
    wait()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(at_once if cuda else 1):
            next(steps)
            count += 1
        wait()
    return count / (time.perf_counter() - start)
