"""What torchrun tells the processes it starts, restarts included."""

from __future__ import annotations

import os

import torch


def is_here() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def job() -> str:
    """Return the name of the job (``--rdzv-id``, or one that ``--standalone`` makes up), "" if it has none."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return "" if name == "none" else name


def restarted() -> bool:
    """Return whether torchrun on this machine has restarted its processes after one of them failed.

    Machines count for themselves: where another machine's process failed, this is false on this one.
    """
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def layout() -> tuple[int, int]:
    """Return (processes on this machine, machines) if torchrun started this process, else (0, 0)."""
    if not is_here():
        return 0, 0
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def join_this_attempt(device: str) -> None:
    """Join the processes of this attempt of torchrun, and not those of the one before it.

    torchrun lends its own store to the processes, with the addresses of an attempt that failed still in it
    (pytorch/pytorch#135712). On several machines attempts are counted on each by itself, so this is of no help there:
    set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun instead.
    """
    world, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        shared = torch.distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, False)
        store = torch.distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", shared)
        backend = "nccl" if device == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=store, world_size=world, rank=rank)
