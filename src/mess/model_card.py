"""A model card: what a file is, what it lost, how it is loaded, under YAML that the Hugging Face hub understands."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mess import hub
from mess.codec import FileInfo
from mess.codec.contents import LOOK
from mess.codec.rows import network_name
from mess.errors import MessError

LIBRARY = "mess-cnn"
HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "imagenet": "ILSVRC/imagenet-1k"}
BUILT_BY = re.compile(r"(timm|torchvision):[\w.]{1,200}")
PLAIN = re.compile(r"[A-Za-z][\w./ -]*\w")  # strings that YAML takes for nothing else
WORDS = ("true", "false", "yes", "no", "on", "off", "null", "none")


@dataclass(frozen=True)
class Accuracy:
    """What was measured on a file: percent of `samples` test images of a dataset."""

    dataset: str
    top1: float
    top5: float
    samples: int


@dataclass(frozen=True)
class Card:
    """What is said of a file.

    Attributes:
        name: of the file.
        repo: ``owner/name`` where it will lie; "" if that is not known.
        licence: its identifier on the hub; "" if none is given.
    """

    name: str
    info: FileInfo
    repo: str = ""
    licence: str = ""
    accuracy: Accuracy | None = None

    @property
    def built_by(self) -> str:
        """Name of the network in a catalogue; "" if it is of none."""
        named = str(self.info.scheme.get("built_by", ""))
        return named if BUILT_BY.fullmatch(named) else ""

    @property
    def source(self) -> hub.Address | None:
        """File of the hub that this one was made of."""
        try:
            return hub.parse(str(self.info.scheme.get("source", "")))
        except MessError:
            return None

    @property
    def is_graph(self) -> bool:
        """Whether it came as ONNX."""
        return "graph" in self.info.sections

    def metadata(self) -> dict[str, Any]:
        """Return what stands at the top of the card."""
        network = self.info.network or {}
        catalogue = self.built_by.partition(":")[0]
        tags = ["mess", "model-compression", *(["onnx"] if self.is_graph else []), *([catalogue] if catalogue else [])]
        told: dict[str, Any] = {"library_name": LIBRARY, "tags": tags}
        if self.licence:
            told["license"] = self.licence
        if network or self.built_by or self.accuracy is not None:
            told["pipeline_tag"] = "image-classification"
        trained_on = HUB_DATASETS.get(str(network.get("dataset")))
        if trained_on is not None:
            told["datasets"] = [trained_on]
        if self.source is not None:
            told |= {"base_model": self.source.repo, "base_model_relation": "quantized"}
        if self.accuracy is not None:
            told |= {"metrics": ["accuracy"], "model-index": [self._measured(self.accuracy)]}
        return told

    def _measured(self, found: Accuracy) -> dict[str, Any]:
        dataset = {"name": found.dataset, "type": HUB_DATASETS.get(found.dataset, found.dataset), "split": "test"}
        metrics = [
            {"type": "accuracy", "value": round(value, 2), "name": f"{name} accuracy of the file, %"}
            for name, value in (("Top-1", found.top1), ("Top-5", found.top5))
        ]
        task = {"type": "image-classification", "name": "Image classification"}
        return {"name": self.name, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}

    def __str__(self) -> str:
        parts = (
            "---",
            *yaml(self.metadata()),
            "---",
            "",
            f"# {_text(self.name)}",
            "",
            *self._what(),
            "",
            *self._lost(),
        )
        return "\n".join([*parts, "", *self._loading(), ""])

    def _what(self) -> list[str]:
        info = self.info
        network = _code(self.built_by) if self.built_by else _text(network_name(info))
        rows = {
            "network": network,
            "file": f"{info.bytes:,} bytes, {info.bits_per_weight:.2f} bits a weight",
            "smaller than its weights": f"{info.ratio:.1f}× ({info.float_bytes:,} bytes)",
            "scheme": _text(info.scheme.get("version", "none")),
            "format": "{}.{}".format(*info.format),
            "SHA-256": _code(info.sha256),
        }
        if self.source is not None:
            rows["made of"] = f"[{self.source.repo}](https://huggingface.co/{self.source.repo}), {_code(self.source)}"
        given = {**info.scheme, **(info.network or {})}
        for name, value in (("mean", given.get("mean")), ("std", given.get("std")), ("side", given.get("crop"))):
            if value is not None:
                rows[f"{name} of its input"] = _text(value)
        said = "A network stored in few bytes by MESS, the Memory-Efficient Storing Scheme: `pip install mess-cnn`."
        return [said, "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]

    def _lost(self) -> list[str]:
        lines, look = ["## What it lost", ""], self.info.scheme.get(LOOK)
        if self.accuracy is not None:
            found = self.accuracy
            lines.append(
                f"- Top-1 {found.top1:.2f} %, top-5 {found.top5:.2f} %, on the {found.samples:,} test images of "
                f"{_text(found.dataset)}: measured on this file."
            )
        if isinstance(look, dict) and all(type(value) in (int, float) for value in look.values()):
            agreement = look.get("agreement")
            what = "relative squared error" if agreement is None else "divergence"
            what += f" {look.get('divergence', 0):.3g}"
            what += f", relative squared error {look['error']:.3g}" if "error" in look else ""
            decided = "" if agreement is None else f"{agreement:.2f} % decided as the float network does; "
            count = look.get("held_out", look.get("made_up", look.get("inputs", 0)))
            which = "held out " if "held_out" in look else "that were made up " if "made_up" in look else ""
            lines.append(
                f"- When it was stored: {decided}{what} from the float network, on "
                f"{count:,} inputs {which}and mixtures of them."
            )
        return lines if len(lines) > 2 else [*lines, "It was not measured."]

    def _loading(self) -> list[str]:
        place = f"hf://{self.repo}/{self.name}" if self.repo else self.name
        known = self.info.network is not None or self.built_by or self.is_graph
        quoted = shlex.quote(place)
        call = "load" if known else "load_state_dict"
        what = "model" if known else "weights"
        python = ["import mess", "", f"{what} = mess.{call}({json.dumps(place, ensure_ascii=False)})"]
        shell = [f"mess predict {quoted} cat.jpg"] if known else []
        shell.append(f"mess decompress {quoted} -o {'net.onnx' if self.is_graph else 'net.safetensors'}")
        c = (
            []
            if self.is_graph
            else ["", *_fence("shell", [f"mess decompress {quoted} -o net.c    # C99, with its decoder"])]
        )
        extras = {"hub": bool(self.repo), "onnx": self.is_graph, "timm": self.built_by.startswith("timm:")}
        wanted = [name for name, needed in extras.items() if needed]
        install = f"pip install 'mess-cnn[{','.join(wanted)}]'" if wanted else "pip install mess-cnn"
        return ["## How to load it", "", *_fence("shell", [install]), "", *_fence("python", python), "",
                *_fence("shell", shell), *c]  # fmt: skip


def yaml(value: Any, depth: int = 0) -> list[str]:
    """Return lists, mappings and scalars as lines of YAML."""
    lines: list[str] = []
    pad = "  " * depth
    if isinstance(value, Mapping):
        for name, part in value.items():
            if isinstance(part, Mapping | list):
                lines += [f"{pad}{name}:", *yaml(part, depth + isinstance(part, Mapping))]
            else:
                lines.append(f"{pad}{name}: {_scalar(part)}")
        return lines
    for part in value:
        inner = yaml(part, depth + 1) if isinstance(part, Mapping | list) else [f"{pad}  {_scalar(part)}"]
        lines += [f"{pad}- {inner[0].lstrip()}", *inner[1:]]
    return lines


def _scalar(value: object) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _fence(language: str, lines: Sequence[str]) -> list[str]:
    return [f"```{language}", *lines, "```"]


def _code(value: object) -> str:
    flat = " ".join(str(value).replace("`", "'").split())
    return f"`{flat}`"


def _text(value: object) -> str:
    """Return what a file says as text that Markdown and HTML take for nothing else, in one line."""
    flat = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#&])", lambda m: f"&#{ord(m[1])};", flat)
