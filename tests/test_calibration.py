"""What v4 looks at comes in many forms, and gives the same file in all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mess
from mess.errors import DataError
from mess.scheme.learned import gather_inputs
from mess.storing.calibration import as_inputs

INPUTS = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 20, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5))


def test_arrays_files_loaders_and_datasets_give_the_same_file(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", INPUTS.numpy())
    np.savez(tmp_path / "in.npz", INPUTS.numpy())
    dataset = TensorDataset(INPUTS, torch.arange(12) % 5)
    forms = {
        "tensor": INPUTS, "array": INPUTS.numpy(), "npy": tmp_path / "in.npy", "npz": str(tmp_path / "in.npz"),
        "dataset": dataset, "loader": DataLoader(dataset, 5), "unlabelled": TensorDataset(INPUTS),
    }  # fmt: skip
    files = {}
    for name, form in forms.items():
        mess.compress(network(), tmp_path / "net.mess", calibration=form, verify=False)
        files[name] = (tmp_path / "net.mess").read_bytes()
    assert {name for name in files if files[name] != files["tensor"]} == set()


def test_what_is_no_input_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_bytes(b"no array")
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    for wrong, said in ((tmp_path / "bad.npy", "cannot be read"), (tmp_path / "text.npy", "<U1 of shape"),
                        (np.zeros(3), "float64 of shape")):  # fmt: skip
        with pytest.raises(DataError, match=said):
            as_inputs(wrong)
    uneven = [(torch.zeros(3, 4, 4), 0), (torch.zeros(3, 5, 5), 1)]

    class Uneven(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> object:
            return uneven[index]

    with pytest.raises(DataError, match="a dataset of tensors of one shape"):
        list(as_inputs(Uneven()))


def test_inputs_of_several_shapes_and_none_at_all_are_told() -> None:
    some = torch.zeros(4, 3, 8, 8)
    with pytest.raises(DataError, match=r"inputs of one shape, found \(3, 8, 6\) after \(3, 8, 8\)"):
        gather_inputs([some, some[..., :6]])
    for nothing in (some[:0], [], [some[:0]]):
        with pytest.raises(DataError, match="at least one input, found none"):
            gather_inputs(nothing)
    assert len(gather_inputs([some, some[:0], some])[0]) == 8
