"""Checkpoints: plain tensors, numbers and strings in a file that proves it is whole.

A checkpoint is an ordinary ``torch.save`` file, so ``torch.load(path, weights_only=True)`` opens it anywhere. Such a
file is a zip archive, and a zip archive may end with a comment: ours is the SHA-256 of all that stands before it.

::

    checkpoint/<arch>/<dataset>/
        ckpt_epoch_N.pth          N epochs done; every `save_epoch` epochs
        ckpt_best.pth             the best test accuracy so far
        ckpt_last.pth             the newest state: after each epoch, on a signal, every `save_every`
        ckpt_last_previous.pth    the one before, in case that one is damaged

Files are written while training waits, not by a thread of its own: 0.1 s for a network of 1 MB and 0.8 s for one of
14 MB, on a busy machine, once an epoch or `save_every`. A thread would save most of that, but need a second copy of the
state, report a full disk when the step it belongs to is long past, and have to be waited for on a signal all the same.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mess.errors import CheckpointError, first_few
from mess.files import atomic_write, destination, sync_folder
from mess.foreign.weights_file import SEAL, SEAL_LENGTH, check_seal, read_bytes, read_plain

FORMAT = 1
LAST, PREVIOUS, BEST = "ckpt_last.pth", "ckpt_last_previous.pth", "ckpt_best.pth"
FRESH = ".new"  # ends the name of a file that has yet to take its place
REQUIRED = {
    "state_dict": dict,
    "optimizer": dict,
    "scaler": dict,
    "extra": dict,
    "options": dict,
    "sums": list,
    "epoch": int,
    "step": int,
    "trained": bool,
    "samples": int,
    "best_top1": float,
    "best_epoch": int,
    "seconds": float,
    "epoch_seconds": float,
}
LATER = {"best_cost": float}  # that checkpoints of earlier versions lack
MAX_SHOWN = 8  # names in a message


def encode(checkpoint: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint file, sealed with their SHA-256."""
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    body = buffer.getvalue()[:-2] + SEAL_LENGTH.to_bytes(2, "little")  # a zip archive ends with its comment's length
    return body + SEAL + hashlib.sha256(body).hexdigest().encode()


def save(path: Path, checkpoint: Mapping[str, Any] | bytes) -> None:
    """Write a checkpoint in one step and read it back.

    Args:
        path: where; its folder is made.
        checkpoint: what, or its bytes from `encode`.

    Raises:
        OSError: it could not be written; what was at `path` is still there.
        CheckpointError: what is read back is not what was written.
    """
    content = checkpoint if isinstance(checkpoint, bytes) else encode(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content)
    if path.read_bytes() != content:
        raise CheckpointError(path, "what was just written", "something else: the disk cannot be trusted")


def save_last(folder: Path, checkpoint: Mapping[str, Any] | bytes) -> None:
    """Write `ckpt_last.pth` and make the one before it `ckpt_last_previous.pth`.

    Nothing older is touched before the new file is written, synced and read back. At every moment one of the two names
    is a whole checkpoint, and after a write that failed both still are.

    Raises:
        OSError: it could not be written.
        CheckpointError: what is read back is not what was written.
    """
    last, link = destination(folder / LAST), folder / f".{PREVIOUS}{FRESH}"
    fresh = last.with_name(f".{LAST}{FRESH}")
    save(fresh, checkpoint)
    if last.exists() and _is_whole(last):  # a damaged file must not push out the good one before it
        link.unlink(missing_ok=True)
        try:
            os.link(last, link)
        except OSError:  # a file system without hard links
            shutil.copyfile(last, link)
        os.replace(link, folder / PREVIOUS)  # noqa: PTH105
    os.replace(fresh, last)  # noqa: PTH105
    sync_folder(last.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; only the one writer of a run's folder may call this."""
    for path in folder.glob(".*ckpt_*"):
        if path.suffix in (FRESH, ".tmp"):
            path.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint written by `save`, with all tensors on the CPU, whatever device they come from.

    Raises:
        CheckpointError: not there, damaged, from a newer version, or not a checkpoint of MESS.
    """
    content = read_bytes(path)
    check_seal(content, path)
    checkpoint = read_plain(content, path)
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        found = checkpoint.get("format") if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise CheckpointError(path, f"a checkpoint of format {FORMAT}", found, "It may be from a newer MESS")
    for name, kind in (REQUIRED | {name: kind for name, kind in LATER.items() if name in checkpoint}).items():
        if not isinstance(checkpoint.get(name), kind):
            found = type(checkpoint[name]).__name__ if name in checkpoint else "none"
            raise CheckpointError(path, f"an entry {name!r} of type {kind.__name__}", found)
    return checkpoint


def find(name: str | os.PathLike[str], folder: Path) -> Path:
    """Return the file that `name` means: a path, or a name in a run's folder.

    Raises:
        CheckpointError: neither is there; the message says where was looked and what is there.
    """
    for candidate in (Path(name), folder / name):
        if candidate.is_file():
            return candidate
    there = _files_with_weights(folder)
    near = difflib.get_close_matches(Path(name).name, there, n=1)
    there = near + [other for other in there if other not in near]
    hint = f"There: {first_few(there, MAX_SHOWN)}" if there else ""
    raise CheckpointError(name, f"a file there or in {folder}", "none", hint)


def _files_with_weights(folder: Path) -> list[str]:
    """Return what can be tested or retrained; of the many of single epochs only the newest."""
    if not folder.is_dir():
        return []
    epochs = epoch_checkpoints(folder)
    old = {path.stem for epoch, path in epochs.items() if epoch != max(epochs)}
    files = [p for p in folder.iterdir() if p.suffix in (".pth", ".mess") and not p.name.startswith(".")]
    stems = {p: next((s for s in old if p.stem == s or p.stem.startswith(f"{s}_")), None) for p in files}
    return sorted(path.name for path in files if stems[path] is None)


def epoch_checkpoints(folder: Path) -> dict[int, Path]:
    """Return the `ckpt_epoch_N.pth` of a folder by N."""
    return {int(m[1]): p for p in folder.glob("ckpt_epoch_*.pth") if (m := re.fullmatch(r"ckpt_epoch_(\d+)", p.stem))}


def load_newest(folder: Path, warn: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """Return the newest checkpoint of `folder` that is whole, and warn of every newer one that is not.

    Newest first: `ckpt_last.pth`, the one before it, `ckpt_epoch_N.pth` by falling N, `ckpt_best.pth`.

    Raises:
        CheckpointError: there is none.
    """
    numbered = epoch_checkpoints(folder)
    kept = [numbered[epoch] for epoch in sorted(numbered, reverse=True)]
    tried = []
    for path in [folder / LAST, folder / PREVIOUS, *kept, folder / BEST]:
        if not path.exists():
            continue
        try:
            checkpoint = load(path)
        except CheckpointError as error:
            tried.append(f"{path.name} ({error.found})")
            continue
        if tried:
            warn(f"skipped {', '.join(tried)}: going on from {path}")
        return path, checkpoint
    raise CheckpointError(
        folder, "a checkpoint to resume", f"only damaged ones: {', '.join(tried)}" if tried else "none"
    )


def open_checkpoint(name: str | None, folder: Path, warn: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """Return the checkpoint to resume from: the one called `name` (see `find`), or the newest if None.

    A damaged `ckpt_last.pth` falls back to the newest whole one, with a warning; a checkpoint that was named otherwise
    is what the user wants, and nothing else takes its place.
    """
    if name is None:
        return load_newest(folder, warn)
    path = find(name, folder)
    if path.name == LAST:
        return load_newest(path.parent, warn)
    return path, load(path)


def holds_best(path: Path, best_epoch: int, best_top1: float) -> bool:
    """Return whether a file is the whole checkpoint of a run's best epoch, of that accuracy."""
    try:
        found = load(path)
    except CheckpointError:
        return False
    best = {"epoch": best_epoch, "step": 0, "trained": False, "best_epoch": best_epoch, "best_top1": best_top1}
    return all(found[name] == value for name, value in best.items())


def check_same_network(checkpoint: Mapping[str, Any], architecture: Mapping[str, Any] | None, where: object) -> None:
    """Refuse to resume another network, dataset or class count.

    Raises:
        CheckpointError: names both.
    """
    saved = checkpoint.get("architecture")
    if not saved or not architecture:
        return
    saved, architecture = (  # a folder of images may lie elsewhere now
        {**a, "dataset": Path(str(a.get("dataset"))).resolve().name} for a in (saved, architecture)
    )
    if saved != architecture:
        names = [name for name in {**saved, **architecture} if saved.get(name) != architecture.get(name)]
        raise CheckpointError(where, _described(architecture, names), _described(saved, names))


def _is_whole(path: Path) -> bool:
    try:
        check_seal(read_bytes(path), path)
    except CheckpointError:
        return False
    return zipfile.is_zipfile(path)


def _described(architecture: Mapping[str, Any], names: list[str]) -> str:
    details = ", ".join(f"{name} {architecture.get(name)}" for name in names if name != "arch")
    return f"{architecture.get('arch')}" + (f" ({details})" if details else "")
