"""The commands, as a person types them: every family end to end, every flag of the specification, bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import mess
from format_helpers import FEW_BITS_TYPED
from mess.cli import main, specified_main
from mess.recipes.hooks import Stored
from mess.training.log import read_log

ROOT = Path(__file__).parents[1]
RESNET8 = ("--layers", "8", "--width-mult", "0.25")
# small members of each family: (arch, flags)
FAMILIES = [
    ("mobilenet", ["--width-mult", "0.25"]),
    ("mobilenetv2", ["--width-mult", "0.25"]),
    ("resnet", [*RESNET8]),
    ("resnext", ["--layers", "11", "--width-mult", "0.5"]),
    ("shufflenet", ["--width-mult", "0.5"]),
    ("shufflenetv2", ["--width-mult", "0.5"]),
    ("wideresnet", ["--layers", "10"]),
]
SPECIFIED = [
    "-a", "--arch", "-j", "--workers", "--epochs", "-b", "--batch-size", "--lr", "--learning-rate", "--momentum",
    "--wd", "--weight-decay", "--layers", "--width-mult", "--groups", "-p", "--print-freq", "--ckpt", "-R",
    "--resume", "-E", "--evaluate", "-C", "--cuda", "-T", "--retrain", "-g", "--gpuids", "--datapath", "-v",
    "--version", "-d", "--bind-size", "-N", "--new", "-s", "--save-epoch", "--nl", "--nuc-loss", "--nls",
    "--nl-scale", "--pl", "--pcc-loss", "--pls", "--pl-scale", "-Q", "--quant", "--qb", "--quant-bit",
]  # fmt: skip


@contextmanager
def stopped_once_there_is(path: Path) -> Iterator[None]:
    """Send this very process a SIGTERM, as a scheduler would, as soon as a file is there."""
    left = threading.Event()

    def watch() -> None:
        while not path.exists() and not left.wait(0.01):
            pass
        if not left.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


@pytest.mark.parametrize(("arch", "flags"), FAMILIES, ids=[arch for arch, _ in FAMILIES])
def test_every_family_trains_is_stopped_resumed_stored_and_tested_from_the_file(
    arch: str, flags: list[str], in_folder: Path, a_handful_of_digits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ["digits", "-a", arch, *flags]
    folder = in_folder / "checkpoint" / arch / "digits"
    with stopped_once_there_is(folder / "ckpt_last.pth"):
        code = main(["train", *network, "--epochs", "200", "-b", "32", "--lr", "0.05", "-s", "200"])
    assert code == 128 + signal.SIGTERM
    stopped = torch.load(folder / "ckpt_last.pth", weights_only=True)
    epochs = stopped["epoch"] + 1

    # the rest of the epoch that was interrupted
    assert main(["train", *network, "--epochs", str(epochs), "-b", "32", "--lr", "0.05", "-R"]) == 0
    resumed = torch.load(folder / "ckpt_last.pth", weights_only=True)
    assert resumed["epoch"] == epochs
    assert resumed["samples"] == 90 * epochs

    assert main(["compress", str(folder / "ckpt_last.pth"), "-v", "v2", *FEW_BITS_TYPED, "--no-verify"]) == 0
    stored = folder / "ckpt_last_v2.mess"
    assert stored.stat().st_size < (folder / "ckpt_last.pth").stat().st_size / 2
    capsys.readouterr()
    assert main(["test", *network, "--ckpt", "ckpt_last_v2.mess"]) == 0
    said = capsys.readouterr().out
    assert f"({stored.stat().st_size:,} B)" in said
    assert "23 images" in said
    model = mess.load(stored)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_help_shows_every_flag_of_the_specification() -> None:
    run = subprocess.run([sys.executable, ROOT / "main.py", "--help"], capture_output=True, text=True, check=True)
    missing = [flag for flag in SPECIFIED if not re.search(rf"(?<![\w-]){flag}(?![\w-])", run.stdout)]
    assert missing == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-8 on digits, trained for four epochs: the folder with its checkpoints."""
    root = tmp_path_factory.mktemp("trained")
    flags = [*RESNET8, "--epochs", "4", "-b", "64", "-s", "1", "--checkpoints", str(root), "--lr", "0.1"]
    assert specified_main(["digits", "-a", "resnet", *flags]) == 0
    return root / "resnet" / "digits"


def test_training_learns_and_leaves_what_it_says(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"ckpt_epoch_1.pth", "ckpt_epoch_4.pth", "ckpt_best.pth", "log.csv"} <= names
    best = torch.load(trained / "ckpt_best.pth", weights_only=True)
    assert best["best_top1"] > 50
    assert len((trained / "log.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize("version", ["v1", "v2", "v2a", "v2q", "v3", "v3a"])
def test_every_version_is_stored_under_its_own_name_and_read_back(version: str, trained: Path, tmp_path: Path) -> None:
    names = {"v2q": "v2q_q8", "v3": "v3_d2", "v3a": "v3a_d2"}
    source = tmp_path / "ckpt_best.pth"
    source.write_bytes((trained / "ckpt_best.pth").read_bytes())
    assert main(["compress", str(source), "-v", version]) == 0
    stored = tmp_path / f"ckpt_best_{names.get(version, version)}.mess"
    assert mess.load(stored).architecture.layers == 8
    assert main(["compress", str(source), "-v", version, "--no-verify"]) == 2
    assert main(["compress", str(source), "-v", version, "--no-verify", "--force"]) == 0


@pytest.mark.parametrize(
    "way", [[], ["--project"], ["--fixed-index", "--nl", "--pl"]], ids=["decoder", "project", "fixed"]
)
def test_training_with_the_scheme_writes_files_that_test_as_it_said(
    way: list[str], trained: Path, few_digits_to_learn: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ["digits", "-a", "resnet", *RESNET8, "--checkpoints", str(tmp_path)]
    start = ["--ckpt", str(trained / "ckpt_best.pth"), "-N", "-v", "v2a"]
    assert main(["train", *network, *start, *way, "--epochs", "2", "-s", "1", "--lr", "0.02", "-b", "64"]) == 0
    folder = tmp_path / "resnet" / "digits"
    best = torch.load(folder / "ckpt_best.pth", weights_only=True)
    assert {"ckpt_best_v2a.mess", "ckpt_epoch_1_v2a.mess", "ckpt_epoch_2_v2a.mess"} <= {
        p.name for p in folder.iterdir()
    }
    capsys.readouterr()
    assert main(["test", *network, "--ckpt", "ckpt_best_v2a.mess"]) == 0
    top1 = float(re.search(r"top-1 ([\d.]+)%", capsys.readouterr().out)[1])
    assert top1 == pytest.approx(best["best_top1"], abs=0.6)  # of 360 images, two may fall the other way

    # retraining from the file counts its rounds, refuses another version, and says what it will write over
    again = ["train", *network, "-T", "--ckpt", "ckpt_best_v2a.mess", "--epochs", "1", "-b", "64"]
    assert main([*again, "-v", "v2"]) == 2
    assert "v2a" in capsys.readouterr().err
    assert main([*again, "-v", "v2a", *way]) == 0
    assert "ckpt_best.pth is of an earlier run and will be replaced" in capsys.readouterr().out
    assert mess.inspect(folder / "ckpt_best_v2a_r1.mess").scheme["rounds"] == 1


@pytest.mark.parametrize("way", [["v2"], ["v2", "--project"], ["v4", "--rate-weight", "0.01"]], ids=" ".join)
def test_an_epoch_makes_its_stored_form_once(
    way: list[str], trained: Path, a_handful_of_digits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tested, written as the best and written as the epoch's."""
    made: list[object] = []
    form = Stored.form

    def counted(self: Stored, model: torch.nn.Module) -> object:
        made.append(model)
        return form(self, model)

    monkeypatch.setattr(Stored, "form", counted)
    network = ["digits", "-a", "resnet", *RESNET8, "--checkpoints", str(tmp_path), "-N", "-v", *way]
    start = ["--ckpt", str(trained / "ckpt_best.pth"), "--epochs", "2", "-s", "1", "-b", "64", "--lr", "0.005"]
    assert main(["train", *network, *start]) == 0
    assert len(made) == 2
    folder = tmp_path / "resnet" / "digits"
    state = torch.load(folder / "ckpt_best.pth", weights_only=True)["best_epoch"]
    files = [folder / f"{name}_{way[0]}.mess" for name in ("ckpt_best", f"ckpt_epoch_{state}")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_retraining_with_rounded_kernels_leaves_few_values(trained: Path, tmp_path: Path) -> None:
    network = ["digits", "-a", "resnet", *RESNET8, "--checkpoints", str(tmp_path), "-b", "64"]
    source = str(trained / "ckpt_best.pth")
    assert main(["train", *network, "-T", "-Q", "--qb", "4", "--ckpt", source, "--epochs", "1"]) == 0
    best = torch.load(tmp_path / "resnet" / "digits" / "ckpt_best.pth", weights_only=True)
    assert len(best["state_dict"]["layer2.0.conv1.weight"].unique()) <= 16
    assert best["best_top1"] > 50


def test_the_seed_says_the_first_weights_too(a_handful_of_digits: None, tmp_path: Path) -> None:
    states = []
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        where = ["--checkpoints", str(tmp_path / run), "--seed", seed]
        assert main(["train", "digits", "-a", "resnet", *RESNET8, "--epochs", "1", *where]) == 0
        file = tmp_path / run / "resnet" / "digits" / "ckpt_best.pth"
        states.append(torch.load(file, weights_only=True)["state_dict"]["linear.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(("version", "lr"), [("v2", "0.02"), ("v4", "0.005")])
def test_a_resumed_run_with_the_scheme_is_the_same_run(
    version: str, lr: str, trained: Path, few_digits: None, tmp_path: Path
) -> None:
    flags = ["digits", "-a", "resnet", *RESNET8, "-N", "-v", version, "-s", "1", "--lr", lr, "-b", "64"]
    whole, parts = ([*flags, "--checkpoints", str(tmp_path / name)] for name in ("whole", "parts"))
    source = ["--ckpt", str(trained / "ckpt_best.pth")]
    assert main(["train", *whole, *source, "--epochs", "2"]) == 0
    with stopped_once_there_is(tmp_path / "parts" / "resnet" / "digits" / "ckpt_last.pth"):
        assert main(["train", *parts, *source, "--epochs", "2"]) == 128 + signal.SIGTERM
    network = ["digits", "-a", "resnet", *RESNET8, "--checkpoints", str(tmp_path / "parts")]
    assert main(["train", *network, "-R"]) == 0  # all else is as it was
    states = [
        torch.load(tmp_path / n / "resnet" / "digits" / "ckpt_last.pth", weights_only=True) for n in ("whole", "parts")
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(s["state_dict"].values() for s in states), strict=True))
    files = [
        (tmp_path / n / "resnet" / "digits" / f"ckpt_epoch_2_{version}.mess").read_bytes() for n in ("whole", "parts")
    ]
    assert files[0] == files[1]


def test_training_with_a_price_on_bits_makes_the_file_smaller(
    trained: Path, few_digits: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ["digits", "-a", "resnet", *RESNET8, "-b", "64", "-s", "1"]
    source = str(trained / "ckpt_best.pth")
    sizes, bits = [], []
    for number, price in enumerate(("0.0005", "0.005")):
        there = ["--checkpoints", str(tmp_path / str(number))]
        start = ["-N", "-v", "v4", "--ckpt", source]
        assert main(["train", *network, *there, *start, "--rate-weight", price, "--epochs", "3", "--lr", "0.005"]) == 0
        stored = tmp_path / str(number) / "resnet" / "digits" / "ckpt_epoch_3_v4.mess"
        checkpoint = torch.load(stored.with_name("ckpt_epoch_3.pth"), weights_only=True)
        name = "layer2.0.conv1.weight"
        torch.testing.assert_close(mess.load_state_dict(stored)[name], checkpoint["state_dict"][name])
        sizes.append(stored.stat().st_size)
        bits.append(read_log(stored.with_name("log.csv"))[-1].bits)
        assert f"{bits[-1]:.2f} bits a weight" in capsys.readouterr().out
    assert sizes[1] < 0.8 * sizes[0]
    weights = sum(p.numel() for p in mess.load(stored).parameters())
    for size, each in zip(sizes, bits, strict=True):  # BatchNorm and what tells how to read the file come with it
        assert 0.5 * size < each * weights / 8 < 1.05 * size
    again = [*network, "--checkpoints", str(tmp_path / "0"), "-T", "--ckpt", "ckpt_epoch_3_v4.mess", "--epochs", "1"]
    assert main(["train", *again, "-v", "v2"]) == 2
    assert "v4" in capsys.readouterr().err
    assert main(["train", *again, "-v", "v4", "--rate-weight", "0.0005", "--lr", "0.0001"]) == 0
    retrained = tmp_path / "0" / "resnet" / "digits" / "ckpt_epoch_1_v4_r1.mess"
    assert mess.inspect(retrained).scheme["rounds"] == 1
    assert retrained.stat().st_size == pytest.approx(sizes[0], rel=0.05)


def test_a_teacher_may_be_another_network_and_is_kept_by_a_resume(
    trained: Path, few_digits: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    teachers = {}
    for dataset in ("digits", "cifar100"):
        teachers[dataset] = tmp_path / f"{dataset}.pth"
        torch.save(mess.create_model("resnet", dataset, layers=14, width_mult=0.5).state_dict(), teachers[dataset])
    network = ["digits", "-a", "resnet", *RESNET8]
    taught = ["-N", "-v", "v4", "--ckpt", str(trained / "ckpt_best.pth"), "-s", "1", "--epochs", "2", "--lr", "0.005"]
    whole, parts = (["--checkpoints", str(tmp_path / name)] for name in ("whole", "parts"))
    assert main(["train", *network, *whole, *taught, "--teacher", str(teachers["cifar100"])]) == 2
    said = capsys.readouterr()
    assert "a teacher of 10 classes, found 100" in said.err
    assert "weighing" not in said.out  # nothing that takes minutes has begun
    taught += ["--teacher", str(teachers["digits"])]
    assert main(["train", *network, *whole, *taught]) == 0
    with stopped_once_there_is(tmp_path / "parts" / "resnet" / "digits" / "ckpt_last.pth"):
        assert main(["train", *network, *parts, *taught]) == 128 + signal.SIGTERM
    teachers["digits"].unlink()
    assert main(["train", *network, *parts, "-R"]) == 0
    files = [(tmp_path / n / "resnet" / "digits" / "ckpt_epoch_2_v4.mess").read_bytes() for n in ("whole", "parts")]
    assert files[0] == files[1]


def test_decompress_gives_ordinary_weights_and_inspect_adds_up(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tmp_path / "net.mess"
    assert (
        main(
            [
                "compress",
                str(trained / "ckpt_best.pth"),
                "-o",
                str(stored),
                "-v",
                "v2",
                "--no-verify",
                "--rest-bits",
                "8",
            ]
        )
        == 0
    )
    for ending in ("pth", "safetensors"):
        assert main(["decompress", str(stored), "-o", str(tmp_path / f"net.{ending}")]) == 0
    plain = torch.load(tmp_path / "net.pth", weights_only=True)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in mess.load_state_dict(stored).items())
    capsys.readouterr()
    assert main(["inspect", str(stored), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(told["sections"].values()) == told["bytes"] == stored.stat().st_size
    assert main(["inspect", str(stored)]) == 0
    assert f"{stored.stat().st_size:,} B" in capsys.readouterr().out


BAD_INPUT = [
    (["train", "digits", "-a", "resnet", "--layers", "21"], "6n+2"),
    (["train", "digits", "-a", "shufflenet", "--groups", "7"], "1, 2, 3, 4, 8"),
    (["train", "digits", "-a", "resnt"], "did you mean resnet?"),
    (["train", "digitz"], "did you mean digits?"),
    (["train", "cifar10", "--datapath", "nowhere"], "cifar-10-batches-bin"),
    (["train", "digits", "-T", "-v", "v2"], "--ckpt"),
    (["train", "digits", "-N"], "-v"),
    (["train", "digits", "-N", "-v", "v9"], "v1, v2"),
    (["train", "digits", "-N", "-v", "v4"], "--ckpt with a trained network"),
    (["train", "digits", "-T", "-v", "v4", "--ckpt", "x.mess", "--project"], "--project"),
    (["train", "digits", "-T", "-v", "v4", "--ckpt", "x.mess", "--rate-weight", "0"], "above 0"),
    (["train", "digits", "-N", "-v", "v4", "--scale-bits", "8"], "--scale-bits: expected v2, v2a"),
    (["compress", "x.pth", "-v", "v4", "--pointwise", "8"], "--pointwise: expected v1, v2"),
    (["train", "digits", "-C"], "GPU"),
    (["train", "digits", "-R"], "checkpoint"),
    (["train", "digits", "--epochs", "0"], "at least 1"),
    (["train", "digits", "--lr", "nan"], "above 0"),
    (["train", "digits", "-N", "-v", "v2q", "--qb", "40"], "bits"),
    (["test", "digits"], "--ckpt"),
    (["test", "digits", "--ckpt", "nothing.pth"], "nothing.pth"),
    (["compress", "nothing.pth"], "nothing.pth"),
    (["compress", "nothing.pth", "-v", "v7"], "did you mean"),
    (["compress", "nothing.pth", "--scale-bits", "13"], "2…12, 16 or 32"),
    (["inspect", "nothing.mess"], "nothing.mess"),
    (["tset"], "did you mean test?"),
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="one of these expects that there is no GPU")
@pytest.mark.parametrize(("argv", "said"), BAD_INPUT, ids=[" ".join(argv) for argv, _ in BAD_INPUT])
def test_bad_input_gets_one_line_and_exit_code_2(
    argv: list[str], said: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("mess: ")
    assert said in error
    assert "Traceback" not in error
    assert list(in_folder.rglob("*.mess")) == []


def test_a_pickle_that_runs_code_is_refused_and_not_run(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (Path("exploded"),))

    torch.save({"state_dict": Bomb()}, "bomb.pth")
    for argv in (["compress", "bomb.pth"], ["test", "digits", "-a", "resnet", "--ckpt", "bomb.pth"]):
        assert main(argv) == 2
        assert "could run code" in capsys.readouterr().err
    assert not Path("exploded").exists()


def test_a_file_of_another_network_is_refused_with_both_named(
    trained: Path, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags in (["-a", "resnet", "--layers", "20"], ["-a", "wideresnet"]):
        assert main(["test", "digits", *flags, "--ckpt", str(trained / "ckpt_best.pth")]) == 2
        error = capsys.readouterr().err
        assert "resnet8" in error
        assert flags[1] + (flags[3] if len(flags) > 2 else "16") in error


def test_mess_alone_and_version_say_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "mess demo" in capsys.readouterr().out
    assert main(["--version"]) == 0
    version, reader = capsys.readouterr().out.splitlines()
    assert version == f"mess {mess.__version__}"
    assert reader.startswith("files are read by ")


def test_real_weights_are_stored_and_come_back(shared: Path, tmp_path: Path) -> None:
    for name in ("resnet20-12fca82f", "resnet56-4bfd9763"):
        stored = tmp_path / f"{name}.mess"
        flags = ["-v", "v3", "-d", "4", "--scale-bits", "8", "--offset-bits", "8", "--rest-bits", "8"]
        assert main(["compress", str(shared / "weights" / f"{name}.th"), *flags, "-o", str(stored)]) == 0
        assert mess.load(stored).architecture.slug == name.split("-")[0]
