"""What people type in Python: names, sizes, paths, and messages in Python's own words."""

from __future__ import annotations

import copy
import inspect
import io
from pathlib import Path

import pytest
import torch
from torch import nn

import mess
from mess.cli import main
from mess.display.sizes import parse_size
from mess.errors import OptionError, WeightsError
from mess.scheme import SCHEMES
from mess.storing import StoreOptions

NET = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(512, 4))
IMAGES = torch.randn(16, 3, 12, 12)


def test_a_scheme_that_is_none_is_told_of_in_the_words_of_python(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^scheme: expected one of") as caught:
        mess.compress(NET, tmp_path / "net.mess", scheme="v5")
    assert all(name in str(caught.value) for name in SCHEMES)
    for options, said in (
        ({"scheme": "v3", "bind": 9999}, "^bind: "),
        ({"scheme": "v4", "bind": 4}, "^bind: expected v3, v3a beside it, found v4"),
        ({"scheme": "v2", "quant_bits": 4}, "^quant_bits: expected v2q beside it, found v2"),
        ({"scheme": "v2", "about": 5}, "^about: expected a mapping of names to JSON values, found int"),
        ({"scheme": "v2", "scale_bits": 1}, "^scale_bits: "),
        ({"scheme": "v2", "linear": True}, "^linear: expected pointwise"),
        ({"scheme": "v2", "target_size": 10}, "^target_size: "),
        ({"scheme": "v4", "target_size": "much"}, "^target_size: expected a size such as"),
        ({"scheme": "v4", "target_size": 1e5}, "^target_size: expected a size such as"),
        ({"key": "ema"}, "^key: expected a file of weights beside it, found Sequential"),
    ):
        with pytest.raises(OptionError, match=said) as caught:
            mess.compress(NET, tmp_path / "net.mess", **options)
        assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("90000", 90000), (90000, 90000), ("90KB", 90000), ("90 kib", 92160), ("1.5MB", 1500000), (".5MB", 500000),
     (None, None)],
)  # fmt: skip
def test_sizes(text: str | int | None, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KB", "0", 0, -5, "-5", "5TB", True, 1.5, "1e5"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(OptionError, match="a size such as"):
        parse_size(text)  # type: ignore[arg-type]


def test_a_target_size_may_be_written_with_its_unit(tmp_path: Path) -> None:
    report = mess.compress(NET, tmp_path / "net.mess", scheme="v4", calibration=IMAGES, target_size="3KB")
    assert report.bytes <= 3000


def test_a_path_is_stored_as_the_command_stores_it(tmp_path: Path) -> None:
    state = mess.create_model("resnet", layers=8).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(
        {"state_dict": state, "ema": {"state_dict": {n: t + 1 for n, t in state.items()}}, "std": [1, 2, 3.0]}, path
    )
    for given in (path, str(path)):
        mess.compress(given, tmp_path / "net.mess", scheme="v2", key="state_dict")
        assert torch.equal(mess.load(tmp_path / "net.mess").state_dict()["conv1.weight"], state["conv1.weight"])
    assert mess.inspect(tmp_path / "net.mess").network["std"] == [1.0, 2.0, 3.0]
    mess.compress(path, tmp_path / "net.mess", scheme="v2", about={"std": [4.0, 4.0, 4.0]})
    assert torch.equal(mess.load(tmp_path / "net.mess").state_dict()["conv1.weight"], state["conv1.weight"] + 1)
    assert mess.inspect(tmp_path / "net.mess").network["std"] == [4.0, 4.0, 4.0]
    with pytest.raises(OptionError, match="the very file that is read"):
        mess.compress(path, path, scheme="v2")
    with pytest.raises(mess.MessError, match="nothing of that name"):
        mess.compress(tmp_path / "none.pth", tmp_path / "again.mess")
    with pytest.raises(WeightsError, match="a module, or a mapping of names to tensors, found int"):
        mess.compress(3, tmp_path / "again.mess")  # type: ignore[arg-type]


@pytest.mark.parametrize("network", ["zoo", "other"])
def test_the_same_weights_give_the_same_bytes_from_any_container(network: str, tmp_path: Path) -> None:
    weights = (mess.create_model("resnet", layers=8) if network == "zoo" else NET).state_dict()
    mess.compress(weights, tmp_path / "first.mess", "v2", about={"mean": [0.5] * 3, "std": [1.0] * 3})
    kinds = ("pth", "safetensors", "mess")
    for kind in kinds[:2]:
        assert main(["decompress", str(tmp_path / "first.mess"), "-o", str(tmp_path / f"first.{kind}")]) == 0
    for kind in kinds:
        normalised = ["--mean", *["0.5"] * 3, "--std", *["1"] * 3]
        again = ["compress", str(tmp_path / f"first.{kind}"), "-v", "v2", "-o", str(tmp_path / f"{kind}_command.mess")]
        assert main([*again, "--no-verify", *(normalised if kind != "mess" else [])]) == 0
        about = {"mean": [0.5] * 3, "std": [1.0] * 3}
        mess.compress(tmp_path / f"first.{kind}", tmp_path / f"{kind}.mess", "v2", about=about, verify=False)
    for end in (".mess", "_command.mess"):
        assert len({(tmp_path / f"{kind}{end}").read_bytes() for kind in kinds}) == 1
    with pytest.raises(OptionError, match="key: expected a checkpoint beside it"):
        mess.compress(tmp_path / "first.mess", tmp_path / "x.mess", key="ema")


def test_an_output_that_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    told: list[object] = []
    (tmp_path / "net.mess").write_bytes(b"x")
    quick = {"scheme": "v4", "calibration": IMAGES, "progress": lambda *x: told.append(x)}
    with pytest.raises(FileExistsError, match=r"net\.mess"):
        mess.compress(NET, tmp_path / "net.mess", overwrite=False, **quick)
    with pytest.raises(mess.MessError, match="a folder that is there"):
        mess.compress(NET, tmp_path / "nowhere" / "net.mess", **quick)
    assert told == []
    assert (tmp_path / "net.mess").read_bytes() == b"x"


def test_bytes_and_open_files_are_read_as_paths_are(tmp_path: Path) -> None:
    network = mess.create_model("resnet", layers=8).eval()
    mess.compress(network, tmp_path / "net.mess", "v2")
    content = (tmp_path / "net.mess").read_bytes()
    assert mess.dumps(network, "v2") == content
    torch.save(network.state_dict(), tmp_path / "net.pth")
    assert mess.dumps(tmp_path / "net.pth", options=StoreOptions("v2")) == content
    wanted = mess.load_state_dict(tmp_path / "net.mess")
    for source in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        found = mess.load_state_dict(source)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    with (tmp_path / "net.mess").open("rb") as file:
        assert torch.equal(mess.load(file).conv1.weight, wanted["conv1.weight"])
    assert mess.load_into(mess.create_model("resnet", layers=8), content).conv1.weight.equal(wanted["conv1.weight"])
    assert mess.inspect(content) == mess.inspect(tmp_path / "net.mess")
    for wrong in (io.StringIO("text"), 3):
        with pytest.raises(mess.FormatError, match="a path, bytes or a file open in binary mode"):
            mess.load(wrong)  # type: ignore[arg-type]


def test_networks_come_in_the_dtype_and_on_the_device_asked_for(tmp_path: Path) -> None:
    content = mess.dumps(mess.create_model("resnet", layers=8), "v2")
    model = mess.loads(content, device="meta", dtype=torch.float16)
    assert {(x.dtype, x.device.type) for x in model.parameters()} == {(torch.float16, "meta")}
    state = mess.load_state_dict(content, dtype=torch.bfloat16)
    assert state["conv1.weight"].dtype == torch.bfloat16
    assert state["bn1.num_batches_tracked"].dtype == torch.int64
    with pytest.raises(OptionError, match=r"^dtype: expected a dtype of floats"):
        mess.load(content, dtype=torch.int8)


@pytest.mark.parametrize("stage", ["weighing channels", "rounding", "looking at what it answers", "writing", "reading"])
def test_stopping_leaves_everything_as_it_was(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if stage == "reading":
        monkeypatch.setattr("mess.codec.verification.subprocess.run", stop)
    network = copy.deepcopy(NET).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    (tmp_path / "net.mess").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        mess.compress(
            network, tmp_path / "net.mess", calibration=IMAGES, progress=lambda what, *_: stage in what and stop()
        )
    assert [path.name for path in tmp_path.iterdir()] == ["net.mess"]
    assert (tmp_path / "net.mess").read_bytes() == b"before"
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_every_option_is_in_the_signature() -> None:
    kinds = {parameter.kind for parameter in inspect.signature(mess.compress).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    assert set(dir(mess)) == set(mess.__all__)


def test_a_report_is_one_short_line(tmp_path: Path) -> None:
    report = mess.compress(mess.create_model("resnet", layers=20), tmp_path / "net.mess", scheme="v2")
    assert len(repr(report)) < 200 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet50", "did you mean resnet.*resnet with layers 50"),
        ("ResNet-18", "did you mean resnet.*resnet with layers 18"),
        ("wide_resnet50_2", "did you mean wideresnet.*wideresnet with layers 50"),
        ("resnext50_32x4d", "did you mean resnext.*resnext with layers 50"),
        ("mobilenet_v2", "did you mean mobilenetv2.*found mobilenet_v2$"),
        ("shufflenet_v2_x1_0", "did you mean shufflenetv2.*found shufflenet_v2_x1_0$"),
        ("vgg16", "^arch: expected one of .*found vgg16$"),
    ],
)
def test_names_of_other_libraries_are_understood_well_enough_to_help(name: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        mess.create_model(name)
