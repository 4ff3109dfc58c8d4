"""What `mess inspect` says of a file: reasons, ratios, and as many lines as a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mess
from format_helpers import weights
from mess.cli import main

VERSIONS = ["v1", "v2", "v2a", "v2q", "v3", "v3a"]


@pytest.mark.parametrize("version", VERSIONS)
def test_inspect_gives_the_reasons_of_compress_and_its_ratio(version: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mess"
    networks: list[tuple[Any, dict[str, Any]]] = [(weights(), {}), (weights(), {"pointwise": 4, "linear": True})]
    if version == "v2":
        networks.append((mess.create_model("mobilenetv2", dataset="digits", width_mult=0.25), {}))
    for network, options in networks:
        told = mess.compress(network, path, scheme=version, **options)
        info = mess.inspect(path)
        reasons = dict(told.as_is)
        for tensor in info.tensors:
            if tensor.stored == "tied":
                assert tensor.reason == "the same as fc.weight"
            elif tensor.stored == "batch norm":
                assert tensor.reason == reasons[tensor.name]
            else:
                assert tensor.reason == reasons.get(tensor.name, "")
        assert (info.float_bytes, info.ratio) == (told.float_bytes, told.ratio)


def test_many_layers_are_told_in_few_lines_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mess.compress(mess.create_model("resnet", dataset="cifar10", layers=32), tmp_path / "x.mess", scheme="v2")
    assert main(["inspect", str(tmp_path / "x.mess")]) == 0
    few = capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "x.mess"), "--all"]) == 0
    every = capsys.readouterr().out
    assert len(few.splitlines()) + 10 < len(every.splitlines())
    assert "layer2.3.conv1.weight" in every
    assert "layer2.3.conv1.weight" not in few
