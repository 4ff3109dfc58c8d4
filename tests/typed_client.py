"""A program that uses all of the public face, for the type checker to read: it is not run."""

# ruff: noqa: F841 - variables are there to say what type a value is of

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mess


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)


def heard(what: str, done: int, total: int) -> None: ...


listener: mess.StageProgress = heard


def use(path: Path) -> None:
    model = mess.create_model("resnet", dataset="cifar10", layers=20, width_mult=1.0, pretrained=False)
    built: nn.Module = model
    described: mess.Architecture = mess.Architecture("resnet", "cifar10", 10, 20, 1.0, None)
    rules: dict[str, mess.LayerRule] = {"conv1": "keep", "layer*": {"finer": 2}}
    inputs = torch.rand(2, 3, 4, 4)
    report: mess.SizeReport = mess.compress(
        model, path, "v4", inputs, "20KB", layers=rules, progress=heard, about={"mean": [0.5] * 3}, divergence=0.1
    )
    mess.compress(
        model.state_dict(),
        str(path),
        calibration=np.zeros((1, 3, 4, 4)),
        layers={"a": "keep", "b": {"finer": 2}},
    )
    mess.compress(path, path, calibration=DataLoader(TensorDataset(inputs), 4), validation=TensorDataset(inputs))
    mess.compress(path, path, calibration=[path, path], progress=listener, architecture=described)
    size: int = report.bytes
    ratio: float = report.ratio
    errors: dict[str, float] = report.error
    look: mess.Look | None = report.look
    told: str = str(report) + report._repr_html_()
    if look is not None:
        agreement: float | None = look.agreement
    content: bytes = mess.dumps(model, options=mess.StoreOptions(target_size=20_000))
    net: nn.Module = mess.load(io.BytesIO(content), device="cpu", dtype=torch.float16)
    net = mess.loads(content, device=torch.device("cpu"))
    state: dict[str, Tensor] = mess.load_state_dict(content, names=["conv1.weight"], device="cpu", dtype=torch.float16)
    mine: Net = mess.load_into(Net(), path)
    info: mess.FileInfo = mess.inspect(content)
    for tensor in info.tensors:
        one: mess.TensorInfo = tensor
        parts: dict[str, int] = one.parts
    try:
        mess.inspect(path)
    except mess.FormatError as error:
        where: str = error.where + error.expected + error.found + error.hint
    except (mess.OptionError, mess.WeightsError, mess.DataError, mess.CheckpointError, mess.OutputError):
        raise
    except (mess.DownloadError, mess.DeviceError, mess.MessError) as error:
        raise SystemExit(2) from error
    version: str = mess.__version__
