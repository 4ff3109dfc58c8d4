"""A run's folder belongs to one set of images: no run takes up, or writes over, another's state in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from mess.cli import main
from mess.data.info import check_normalisation
from mess.errors import OptionError
from mess.models import resolve
from mess.recipes import run_folder
from test_classes import SMALL, draw

ONCE = [*SMALL, "--epochs", "1"]


def photos(folder: Path) -> None:
    for split in ("train", "val"):
        draw(folder / split, "ant bee", 2)


def test_two_folders_of_one_name_do_not_share_a_run(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for where in ("one", "two"):
        photos(Path(where) / "photos")
    assert main(["train", "one/photos", *ONCE]) == 0
    kept = Path("checkpoint/mobilenet/photos/ckpt_last.pth")
    before = kept.read_bytes()
    for more in ([], ["-R", "--epochs", "2"]):
        capsys.readouterr()
        assert main(["train", "two/photos", *ONCE, *more]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert f"expected a run on {in_folder / 'two/photos'}, found one on {in_folder / 'one/photos'}" in error
        assert "--name gives this run a folder of its own" in error
    assert kept.read_bytes() == before
    assert main(["train", "two/photos", *ONCE, "--name", "second"]) == 0
    assert main(["train", "./one/../one/photos/", *ONCE, "-R", "--epochs", "2"]) == 0
    Path("one/photos").rename("photos")  # moved: the same run
    assert main(["train", "photos", *ONCE, "-R", "--epochs", "3"]) == 0


def test_here_is_called_after_its_folder(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(Path("photos"))
    monkeypatch.chdir("photos")
    assert main(["train", ".", *ONCE]) == 0
    assert Path("checkpoint/mobilenet/photos/ckpt_best.pth").is_file()
    assert main(["test", ".", *ONCE, "--ckpt", "ckpt_best.pth"]) == 0
    monkeypatch.chdir("train")
    assert run_folder(Path("c"), resolve("mobilenet", "..")) == Path("c/mobilenet/photos")


def test_a_folder_that_is_called_like_a_dataset_is_told_apart(
    in_folder: Path, a_handful_of_digits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(Path("digits"))
    resnet = ["-a", "resnet", "--layers", "8", "-b", "256", "--epochs", "1", "-j", "0"]
    assert main(["train", "digits", *resnet]) == 0
    assert "digits is the dataset of that name; the folder here is ./digits" in capsys.readouterr().out
    assert main(["train", "./digits", "-a", "resnet", "--layers", "18", *ONCE[4:]]) == 2
    assert f"expected a run on {in_folder / 'digits'}, found one on the dataset digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mean", "std"), [((float("nan"), 0, 0), None), ((0, 0, float("inf")), None), (None, (0, 0, 0)), (None, (1, 1, -1))]
)
def test_nothing_is_normalised_by_what_is_no_number(
    mean: tuple | None, std: tuple | None, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OptionError, match="three finite numbers"):
        check_normalisation(mean, std)
    for foreign in (0.1307, "imagenet", [0.1, 0.2], [True, 1, "x"], {}):
        with pytest.raises(OptionError, match="three finite numbers"):
            check_normalisation(foreign, None)  # type: ignore[arg-type]
    flags = [word for flag, value in (("--mean", mean), ("--std", std)) if value for word in (flag, *map(str, value))]
    for command in (["compress", "n.pth", "-o", "n.mess"], ["train", "digits", "-a", "resnet", "--epochs", "1"]):
        assert main([*command, *flags]) == 2
        error = capsys.readouterr().err
        assert "three finite numbers" in error
    assert not list(in_folder.glob("**/*.mess"))
