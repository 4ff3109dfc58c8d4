"""`--config run.toml`: any flag of any verb, what is typed first, and nothing that is not understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mess
from mess.cli import VERBS, main, make_parser
from mess.cli.config import flags_of
from mess.errors import OptionError

RUN = """
datapath = "here"
key = "ema"           # no flag of some verbs
[train]
data = "digits"
arch = "resnet"
epochs = 7
lr = 1
gpuids = [0, 1]
mean = [0.1, 0.2, 0.3]
new = true
nl = false
learning-rate = 0.5
[compress]
ckpt = ["a.pth", "b.pth"]
target-size = "60KB"
[decompress]
output = "x.pth"
file = "net.mess"
"""


def parsed(verb: str, *words: str):
    return make_parser(verb).parse([*words, "--config", "run.toml"])


@pytest.fixture
def written(in_folder: Path) -> Path:
    Path("run.toml").write_text(RUN)
    return in_folder / "run.toml"


def test_a_file_holds_flags_and_what_is_typed_comes_first(written: Path) -> None:
    args = parsed("train")
    assert (args.data, args.arch, args.epochs, args.lr, args.gpuids) == ("digits", "resnet", 7, 0.5, [0, 1])
    assert (args.mean, args.new, args.nl, args.key) == ([0.1, 0.2, 0.3], True, False, "ema")
    assert args.datapath == Path("here")
    assert args.explicit["epochs"] == ["--epochs", "7"]
    assert "config" not in args.explicit
    assert "momentum" not in args.explicit
    args = parsed("train", "cifar10", "--epochs", "3", "-g", "2")
    assert (args.data, args.epochs, args.gpuids, args.lr) == ("cifar10", 3, [2], 0.5)


def test_what_has_to_be_typed_may_stand_in_a_file(written: Path) -> None:
    args = parsed("compress")
    assert (args.ckpt, args.target_size) == ([Path("a.pth"), Path("b.pth")], "60KB")
    assert parsed("compress", "c.pth").ckpt == [Path("c.pth")]
    args = parsed("decompress", "--force")
    assert (args.file, args.output, args.force) == (Path("net.mess"), Path("x.pth"), True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "run.toml: epoch: expected a flag of some verb (did you mean epochs?), found epoch"),
        ("[train]\nepoch = 3", "run.toml: [train] epoch: expected a flag of mess train (did you mean epochs?)"),
        ("[train]\nforce = true", "expected a flag of mess train"),
        ("[tarin]\nepochs = 3", "did you mean train?"),
        ("epochs = 'many'", "run.toml: epochs: expected what the flag takes"),
        ("epochs = true", "a number or a string, found True"),
        ("epochs = [1, 2]", "epochs: expected one value, found 2"),
        ("mean = [1, 2]", "mean: expected 3 values, found 2"),
        ("cuda = 1", "cuda: expected true or false, found 1"),
        ("schedule = 'cosin'", "schedule: expected what the flag takes"),
        (
            "data = 'cifar11'",
            "run.toml: data: expected one of digits, cifar10, cifar100, imagenet (did you mean cifar10?)",
        ),
        ("config = 'other.toml'", "config: expected a flag"),
        ("epochs = ", "run.toml: expected a TOML file"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_was_meant(text: str, said: str, in_folder: Path) -> None:
    Path("run.toml").write_text(text)
    with pytest.raises(OptionError) as error:
        parsed("train")
    assert said in str(error.value)


def test_every_verb_takes_it_and_says_so(in_folder: Path, capfd: pytest.CaptureFixture) -> None:
    for verb in VERBS:
        assert "--config FILE" in make_parser(verb).format_help()
        assert not {"config", "help"} & flags_of(make_parser(verb)).keys()
    mess.compress(mess.create_model("resnet", layers=8), "net.mess", "v2", verify=False)
    Path("look.toml").write_text("file = 'net.mess'\njson = true\n")
    assert main(["inspect", "--config=look.toml"]) == 0
    assert json.loads(capfd.readouterr().out)["bytes"] == Path("net.mess").stat().st_size
    assert main(["inspect", "--config"]) == 2
    assert main(["inspect", "--config", "nowhere.toml"]) == 2
    assert "nowhere.toml: No such file" in capfd.readouterr().err
