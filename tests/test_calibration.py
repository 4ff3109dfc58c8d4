"""What v4 looks at comes in many forms, and gives the same file in all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mess
from mess.cli import main
from mess.errors import DataError, OptionError
from mess.image_inputs import input_view
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


PIXELS = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
ABOUT = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "crop": 16}
LABELS = [n % 5 for n in range(10)]


def as_taken() -> torch.Tensor:
    mean, std = (torch.tensor(ABOUT[part]) for part in ("mean", "std"))
    return ((torch.from_numpy(PIXELS).float() / 255 - mean) / std).permute(0, 3, 1, 2)


class Pictures(torch.utils.data.Dataset):
    """As torchvision's: (Pillow image, label)."""

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> object:
        return Image.fromarray(PIXELS[index]), LABELS[index]


class Table:
    """As a split of Hugging Face's `datasets`: rows by number, columns by name."""

    def __init__(self, column: str, values: object, *, stream: bool = False) -> None:
        self.column_names = ["name", column, "label"]
        self._rows = [{"name": "a", column: value, "label": label} for value, label in zip(values, LABELS, strict=True)]
        if not stream:
            self.__class__ = type("Split", (Table,), {"__len__": lambda _: len(LABELS)})

    def __getitem__(self, index: int) -> dict:
        return self._rows[index]


def pictures_in_a_folder(folder: Path) -> Path:
    for number, pixels in enumerate(PIXELS):
        (folder / "ab"[number // 5]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "ab"[number // 5] / f"{number}.png")
    return folder


def test_a_folder_of_pictures_without_classes_is_looked_at_from_the_shell(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_folder / "photos").mkdir()
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(in_folder / "photos" / f"{number}.png")
    torch.save(mess.create_model("resnet", layers=8).state_dict(), "net.pth")
    command = ["compress", "net.pth", "--calibration", "photos", "--input-shape", "3,32,32", "-o", "net.mess"]
    assert main([*command, "--no-verify"]) == 0
    assert f"on {len(PIXELS)} inputs" in capsys.readouterr().out


def test_pictures_of_all_kinds_are_prepared_alike(tmp_path: Path) -> None:
    folder = pictures_in_a_folder(tmp_path / "photos")
    images = [Image.fromarray(pixels) for pixels in PIXELS]
    files = [{"bytes": path.read_bytes(), "path": None} for path in sorted(folder.rglob("*.png"))]
    kinds = {
        "dataset": Pictures(), "images": images, "paths": sorted(folder.rglob("*.png")), "folder": folder,
        "array": PIXELS, "list of arrays": list(PIXELS), "table": Table("image", images),
        "stream": Table("img", images, stream=True), "not decoded": Table("image", files),
        "torch format": Table("image", list(torch.from_numpy(PIXELS).permute(0, 3, 1, 2))),
        "pixel_values": Table("pixel_values", list(as_taken())),
        "mappings": DataLoader([{"pixel_values": x, "label": y} for x, y in zip(as_taken(), LABELS, strict=True)], 4),
    }  # fmt: skip
    labelled = {"dataset", "table", "stream", "not decoded", "torch format", "pixel_values", "mappings"}
    for name, kind in kinds.items():
        inputs, labels = gather_inputs(as_inputs(kind, lambda: input_view(ABOUT, None).of))
        torch.testing.assert_close(inputs, as_taken(), msg=name)
        assert (None if labels is None else labels.tolist()) == (LABELS if name in labelled else None), name
    report = mess.compress(network(), tmp_path / "net.mess", calibration=images, about=ABOUT, verify=False)
    by_hand = mess.compress(network(), tmp_path / "same.mess", calibration=as_taken(), about=ABOUT, verify=False)
    assert report.look.divergence == pytest.approx(by_hand.look.divergence, rel=1e-3)
    assert report.look.inputs == 10
    assert mess.inspect(report.path).scheme["crop"] == 16


def test_networks_of_the_zoo_know_how_they_take_pictures() -> None:
    view = input_view({}, "imagenet")
    assert (view.resize, view.crop) == (256, 224)
    assert input_view({}, "cifar10").resize == 32
    assert input_view({"crop": 240, "mean": (0, 0, 0), "std": (1, 1, 1)}, None).resize == 274
    large = Image.new("RGB", (640, 480))
    assert view.of([large]).shape == (1, 3, 224, 224)


def test_a_large_dataset_is_not_looked_at_from_its_first_class_alone() -> None:
    classes = torch.arange(40).repeat_interleave(100)  # 4,000 samples that lie by class, too large to read them all
    inputs = torch.zeros(1, 1, 1).expand(3, 160, 160)
    samples = [(inputs, label) for label in classes.tolist()]
    _, labels = gather_inputs(as_inputs(ListDataset(samples)))
    assert len(labels) == 1024
    assert len(set(labels.tolist())) == 40


class ListDataset(torch.utils.data.Dataset):
    def __init__(self, samples: list) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> object:
        return self.samples[index]


def test_pictures_that_nothing_is_said_of_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"calibration: expected about=.*beside images.*found no mean, std, crop"):
        mess.compress(network(), tmp_path / "net.mess", calibration=list(PIXELS))
    with pytest.raises(OptionError, match="three finite numbers"):
        mess.compress(network(), tmp_path / "net.mess", calibration=Pictures(), about={**ABOUT, "mean": (1, 2)})
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    splits = type("Splits", (dict,), {"column_names": {"train": ["image"]}})({"train": 1, "test": 2})
    for wrong, said in (([tmp_path / "bad.png"], "bad.png"), (tmp_path / "empty", "a folder with images"),
                        (splits, "one split of it, found several: train, test"),
                        (Table("text", ["a"] * 10), "a column of images, or one of pixel_values.*found name, text"),
                        (ListDataset(["a", "b"]), "a dataset of tensors|an image")):  # fmt: skip
        with pytest.raises(DataError, match=said):
            mess.compress(network(), tmp_path / "net.mess", calibration=wrong, about=ABOUT)
    assert not (tmp_path / "net.mess").exists()
