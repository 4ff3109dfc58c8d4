"""Class numbers are those of training: in every split, checkpoint and file; other classes are refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from format_helpers import FEW_BITS_TYPED
from mess.class_folders import as_told, compact, digest
from mess.cli import main
from mess.data import open_dataset
from mess.data.folder import imagenet_wnids
from mess.errors import DataError, OptionError
from mess.foreign.weights_file import load_weights
from mess.models import resolve
from mess.recipes import DataChoice, calibration_batches, calibration_inputs
from mess.storing import read_with_description

SMALL = [
    *("-a", "mobilenet", "--width-mult", "0.25", "-j", "0", "--crop", "32", "--resize", "32"),
    *("-b", "6", "--lr", "0.01"),
]
COLOURS = {"ant": (220, 40, 40), "bee": (40, 220, 40), "cat": (40, 40, 220), "dog": (120, 120, 40), "elk": (9, 9, 9)}


def draw(folder: Path, classes: str, count: int, ending: str = ".png") -> None:
    """Draw `count` pictures of each class, a class a colour."""
    random = np.random.default_rng(0)
    for name in classes.split():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.array(COLOURS[name]) + random.integers(-30, 30, (32, 32, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name / f"{i}{ending}")


@pytest.fixture
def trained(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    draw(Path("full/train"), "ant bee cat", 6)
    draw(Path("full/val"), "ant bee cat", 3)
    assert main(["train", "full", *SMALL, "--epochs", "1", "--name", "n"]) == 0
    capsys.readouterr()
    return Path("checkpoint/n/full/ckpt_best.pth")


def test_numbers_come_from_train_in_every_split(in_folder: Path) -> None:
    draw(Path("own/train"), "ant bee cat", 2)
    draw(Path("own/val"), "bee cat", 2)
    test = open_dataset("own", train=False)
    assert test.labels_N.tolist() == [1, 1, 2, 2]
    assert test.info.class_names == ("ant", "bee", "cat")
    assert test.info.num_classes == 3
    assert test.notes == ("own/val: no images of 1 of 3 classes: ant",)
    Path("own/val/fox").mkdir()
    assert open_dataset("own", train=False).labels_N.tolist() == [1, 1, 2, 2]  # nothing is in it
    draw(Path("own/val"), "dog", 1)
    with pytest.raises(DataError, match="own/val/dog: expected one of the 3 classes trained on: ant, bee, cat"):
        open_dataset("own", train=False)
    assert len(open_dataset("own", train=True)) == 6


def test_a_folder_of_test_pictures_alone_is_numbered_by_the_network(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(Path("other/val"), "bee cat", 2)
    assert resolve("mobilenet", "other").num_classes == 2
    test = open_dataset("other", train=False, classes=["ant", "bee", "cat"])
    assert test.labels_N.tolist() == [1, 1, 2, 2]
    assert main(["compress", str(trained), "-v", "v2", *FEW_BITS_TYPED, "-o", "n.mess", "--no-verify"]) == 0
    for file in (str(trained), "n.mess"):
        capsys.readouterr()
        assert main(["test", "other", *SMALL, "--ckpt", file]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert said.count("no images of 1 of 3 classes: ant") == 1
        assert "4 images" in said
    draw(Path("other/val"), "dog", 2)
    for file in (str(trained), "n.mess"):
        assert main(["test", "other", *SMALL, "--ckpt", file]) == 2
        assert "other/val/dog: expected one of the 3 classes" in capsys.readouterr().err


def test_names_travel_in_checkpoints_and_short_ones_in_files(trained: Path) -> None:
    assert load_weights(trained)[1]["classes"] == ["ant", "bee", "cat"]
    assert main(["compress", str(trained), "-v", "v2", *FEW_BITS_TYPED, "-o", "n.mess", "--no-verify"]) == 0
    assert read_with_description("n.mess")[1]["classes"] == ["ant", "bee", "cat"]


def test_files_of_training_keep_the_hash_where_names_are_long(in_folder: Path) -> None:
    for split in ("train", "val"):
        draw(Path("own") / split, "ant bee", 4)
        for name in ("ant", "bee"):
            (Path("own") / split / name).rename(Path("own") / split / (name * 30))
    scheme = ["-N", "-v", "v2", *FEW_BITS_TYPED, "-s", "1"]
    assert main(["train", "own", *SMALL, *scheme, "--epochs", "1", "--name", "n"]) == 0
    told = read_with_description(next(Path("checkpoint/n/own").glob("*best*.mess")))[1]
    assert told["classes"] == digest(["ant" * 30, "bee" * 30])
    assert "crop" not in told["scheme"]
    assert load_weights("checkpoint/n/own/ckpt_best.pth")[1]["classes"] == ["ant" * 30, "bee" * 30]


def test_many_names_are_kept_as_their_hash_and_still_refused(in_folder: Path) -> None:
    names = [f"class number {i}" for i in range(500)]
    assert compact(names) == digest(names) == as_told(digest(names))
    assert compact(["a", "b"]) == ["a", "b"]
    assert compact(["\udcff"]) == digest(["\udcff"])  # a name that is no text
    assert as_told({"a": 1}) is as_told([1]) is as_told("ten") is None
    draw(Path("own/train"), "ant bee cat", 2)
    draw(Path("own/val"), "bee cat", 2)
    told = digest(["ant", "bee", "cat"])
    assert open_dataset("own", train=False, classes=told).labels_N.tolist() == [1, 1, 2, 2]
    with pytest.raises(DataError, match="own: expected the classes that the network was trained on, found others: ant"):
        open_dataset("own", train=False, classes=digest(["ant", "bee", "dog"]))


@pytest.mark.parametrize(("classes", "said"), [("ant bee dog", "train/dog"), ("ant cat", "no bee")])
def test_a_resume_with_other_classes_is_refused_by_name(
    trained: Path, classes: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("full").rename("before")
    draw(Path("full/train"), classes, 6)
    draw(Path("full/val"), classes, 3)
    assert main(["train", "full", *SMALL, "-R", "--epochs", "2", "--name", "n"]) == 2
    assert said in capsys.readouterr().err


def test_a_start_from_weights_of_other_classes_learns_the_new_ones(trained: Path) -> None:
    draw(Path("new/train"), "cat dog elk", 6)
    draw(Path("new/val"), "cat dog elk", 3)
    assert main(["train", "new", *SMALL, "--ckpt", str(trained), "--epochs", "1", "--name", "n"]) == 0
    assert load_weights("checkpoint/n/new/ckpt_best.pth")[1]["classes"] == ["cat", "dog", "elk"]


def test_imagenet_is_numbered_by_its_wnids_however_many_have_pictures(in_folder: Path) -> None:
    wnids = imagenet_wnids()
    assert (len(wnids), wnids[0], wnids[999]) == (1000, "n01440764", "n15075141")
    assert list(wnids) == sorted(set(wnids))
    for split in ("train", "val"):
        draw(Path("imagenet") / split, "ant", 2)
        (Path("imagenet") / split / "ant").rename(Path("imagenet") / split / wnids[7])
        (Path("imagenet") / split / wnids[9]).mkdir()
    for train in (True, False):
        data = open_dataset("imagenet", ".", train=train)
        assert data.labels_N.tolist() == [7, 7]
        assert data.info.num_classes == 1000
    draw(Path("imagenet/val"), "bee", 1)
    with pytest.raises(DataError, match="imagenet/val/bee: expected one of the 1000 classes"):
        open_dataset("imagenet", ".", train=False)


def test_the_shared_imagenet_pictures_can_be_tested_on(
    shared: Path, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = shared / "data" / "make_imagenet.py"
    subprocess.run([sys.executable, str(made), "."], check=True)
    wnids = (shared / "data" / "imagenet-wnids.txt").read_text().split()
    assert list(imagenet_wnids()) == wnids
    data = open_dataset("imagenet", ".", train=False)
    assert {wnids[label] for label in data.labels_N} == {path.parent.name for path in data.paths}
    torch.save(_network().state_dict(), "m.pth")
    assert main(["test", "imagenet", "--datapath", ".", *SMALL, "--ckpt", "m.pth"]) == 0
    assert f"{len(data)} images" in " ".join(capsys.readouterr().out.split())


def _network() -> torch.nn.Module:
    import mess

    return mess.create_model("mobilenet", dataset="imagenet", width_mult=0.25)


def test_calibration_pictures_are_of_all_classes(in_folder: Path) -> None:
    draw(Path("own/train"), "ant bee cat", 40)
    draw(Path("own/val"), "ant", 1)
    choice = DataChoice("own", workers=0, resize=32, crop=32)
    _, labels_N = next(calibration_batches(choice, 30))
    assert set(labels_N.tolist()) == {0, 1, 2}
    assert labels_N.tolist() == next(calibration_batches(choice, 30))[1].tolist()  # no draw hangs on when it is made
    assert calibration_inputs(choice, 30).shape == (30, 3, 32, 32)
    every = torch.cat([labels for _, labels in calibration_batches(choice, 50)])
    assert every.bincount().tolist() == [40, 40, 40]


def test_compress_prepares_calibration_pictures_as_the_checkpoint_says(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mess.recipes

    seen: list[DataChoice] = []

    def note(choice: DataChoice, *, train: bool) -> object:
        assert train
        seen.append(choice)
        raise OptionError("--calibration", "no more than this of the test", "more")

    monkeypatch.setattr(mess.recipes, "calibration_batches", note)
    command = ["compress", str(trained), "-v", "v4", "--calibration", "full", "--no-verify", "--target-size", "60KB"]
    assert main([*command, "-o", "n.mess"]) == 2
    assert (seen[0].resize, seen[0].crop) == (32, 32)
    assert seen[0].workers > 0


def test_folders_that_are_links_and_unusual_endings_are_pictures_too(in_folder: Path) -> None:
    draw(Path("own/train"), "ant bee", 2)
    draw(Path("elsewhere"), "ant", 3, ".jpg")
    Path("own/train/ant/more").symlink_to(Path("elsewhere/ant").resolve())
    Path("elsewhere/ant/round").symlink_to(Path("own/train/ant").resolve())  # a circle
    for ending in (".jfif", ".jpe", ".JPG"):
        Path(f"own/train/ant/x{ending}").write_bytes(Path("elsewhere/ant/0.jpg").read_bytes())
    draw(Path("own/val"), "ant bee", 1)
    data = open_dataset("own", train=True)
    assert data.labels_N.tolist() == [0] * 8 + [1] * 2
    assert data.notes == ()


def test_what_is_left_out_is_said(in_folder: Path) -> None:
    draw(Path("own/train"), "ant bee", 2)
    for name in ("a.heic", "b.HEIC", "notes.txt", "README"):
        (Path("own/train/ant") / name).write_bytes(b"x")
    Path("own/train/stray.png").write_bytes(Path("own/train/ant/0.png").read_bytes())
    assert open_dataset("own", train=True).notes == (
        "own/train: left out 4 files that do not end as images do: .heic (2), .txt (1), no ending (1)",
        "own/train: left out 1 images that lie in no class folder",
    )


def test_a_training_set_of_one_picture_and_an_empty_test_set_are_refused(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(Path("one/train"), "ant", 1)
    draw(Path("one/val"), "ant", 1)
    assert main(["train", "one", *SMALL, "--epochs", "1"]) == 2
    assert "at least 2 training images, found 1" in capsys.readouterr().err
    draw(Path("none/train"), "ant bee", 2)
    for name in ("ant", "bee"):
        (Path("none/val") / name).mkdir(parents=True)
    assert main(["train", "none", *SMALL, "--epochs", "1"]) == 2
    assert "none/val: expected images to test on, found none" in capsys.readouterr().err
    assert not list(Path().glob("checkpoint/**/*.pth"))


def test_classes_are_the_same_however_a_system_spells_their_accents(in_folder: Path) -> None:
    draw(Path("own/train"), "ant bee", 2)
    draw(Path("own/val"), "ant bee", 1)
    Path("own/train/bee").rename("own/train/caf\u00e9")  # one character
    Path("own/val/bee").rename("own/val/cafe\u0301")  # two, as archives made on other systems have
    test = open_dataset("own", train=False)
    assert test.labels_N.tolist() == [0, 1]
    assert test.notes == ()


def test_folders_of_other_programs_are_no_classes_and_hold_no_images(in_folder: Path) -> None:
    draw(Path("own/train"), "ant bee", 2)
    image = Path("own/train/ant/0.png").read_bytes()
    for name in (
        "__MACOSX/._0.png",
        ".ipynb_checkpoints/0.png",
        "@eaDir/0.png",
        "ant/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
    ):
        (Path("own/train") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("own/train") / name).write_bytes(image)
    images = open_dataset("own", train=True)
    assert images.info.class_names == ("ant", "bee")
    assert len(images) == len(list(Path("own/train").glob("*[te]/*.png")))
    assert images.notes == ()


@pytest.mark.parametrize(
    ("form", "typed", "said"),
    [
        ("checkpoint", [], ""),  # trained on such a folder, and so in this way
        ("state dict", [], "by the mean and the std of ImageNet, as nothing says others (--mean and --std do)"),
        ("state dict", ["--mean", "0", "0", "0"], "by the std of ImageNet, as nothing says others (--std do)"),
        ("state dict", ["--mean", "0", "0", "0", "--std", "1", "1", "1"], ""),
    ],
)
def test_how_images_of_a_folder_are_normalised_is_said_where_nobody_has_said_it(
    trained: Path, capsys: pytest.CaptureFixture[str], form: str, typed: list[str], said: str
) -> None:
    if form == "state dict":
        torch.save(load_weights(trained)[0], "bare.pth")
        trained = Path("bare.pth")
    command = ["compress", str(trained), "--calibration", "full", "-o", "net.mess", "--input-shape", "1,31,31"]
    assert main([*command, *typed]) == 2  # grey ones, which it does not take: all that is said has been said by then
    told = capsys.readouterr().out
    assert told.count("of ImageNet") == bool(said)
    assert said in told


def test_one_class_is_nothing_to_learn(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every answer would be right: the folder is one level too deep, or too high."""
    draw(Path("own/train"), "ant", 6)
    draw(Path("own/val"), "ant", 2)
    assert main(["train", "own", *SMALL, "--epochs", "1"]) == 2
    assert "own: expected images of at least two classes, a folder each, found 1" in capsys.readouterr().err
