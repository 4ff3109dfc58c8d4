"""What a file is that holds no weights as this library reads them, and what its owner can do about it."""

from __future__ import annotations

import io
import zipfile

TO_ONNX = "tf2onnx makes an ONNX model of it, which `mess compress` stores"
# how a file begins -> (what it is, what to do)
STARTS: dict[bytes, tuple[str, str]] = {
    b"\x89MESS\r\n\x1a": ("a .mess file", "It is stored already; `mess decompress` makes weights of it"),
    b"\x89HDF": ("an HDF5 file, as Keras writes it", TO_ONNX),
    b"GGUF": ("a GGUF file", "Save the weights from PyTorch"),
    b"version https://git-lfs": ("a pointer of Git LFS", "`git lfs pull` fetches the file itself"),
    b"<!doctype html": ("a web page", "The download went wrong"),
    b"<html": ("a web page", "The download went wrong"),
    b"\x1f\x8b": ("a file compressed with gzip", "Unpack it first"),
    b"\x93NUMPY": ("a NumPy array", "Save a state dict: torch.save({name: tensor, …}, 'weights.pth')"),
}
TORCHSCRIPT = (
    "a TorchScript program",
    "Save its weights: torch.save(torch.jit.load(path).state_dict(), 'weights.pth')",
)
EXPORTED = (
    "a program of torch.export",
    "Save its weights: torch.save(torch.export.load(path).state_dict, 'weights.pth')",
)
PROGRAMS = (TORCHSCRIPT, EXPORTED)  # hold weights that can be had without running them
ONNX = (
    "an ONNX model",
    "`mess compress` stores it. For all else save the weights it was made from: torch.save(net.state_dict(), 'w.pth')",
)
PACKED = "_packed_params"  # in names of layers that torch has quantised
QUANTISED = "The network is quantised already: store the float one it was made of"
FOLDER = ("an archive of other files", "Unpack it first")


def kind_of(content: bytes, name: str) -> tuple[str, str] | None:
    """Return (what a file is, what to do), or None where it may be weights.

    Args:
        name: of the file; ONNX models begin with nothing that is theirs alone.
    """
    if not content:
        return "an empty file", "Its download, or saving it, was cut short"
    for start, told in STARTS.items():
        if content[: len(start)].lower() == start.lower():
            return told
    if content[:1] == b"{" and content.rstrip().endswith(b"}"):
        return "a JSON file", "It may list others, which hold the weights: give one of them"
    if content[4:8] == b"TFL3":
        return "a TensorFlow Lite model", TO_ONNX
    if content.startswith(b"PK") and (names := _names(content)):
        parts = {part for name in names for part in name.split("/")}
        if "constants.pkl" in parts and "code" in parts:
            return TORCHSCRIPT
        if {"archive_format", "serialized_exported_program.json"} & parts:
            return EXPORTED
        if "data.pkl" not in parts:
            return FOLDER
    if is_onnx(content, name):
        return ONNX
    return None


def is_onnx(content: bytes, name: str) -> bool:
    """Return whether a file is an ONNX model, by its name, or by how it and its first field begin."""
    return name.lower().endswith(".onnx") or (content[:1] == b"\x08" and content[2:3] == b"\x12" and b"onnx" in content)


def _names(content: bytes) -> list[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return []
