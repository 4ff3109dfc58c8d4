"""A file is never worse than it says: networks and inputs of kinds that once came back wrong without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import mess
from learned_networks import pictures
from mess.cli import main, make_parser
from mess.cli.idle import idle_flags
from mess.errors import OptionError
from mess.foreign.nested import choose_weights
from mess.recipes.job import RateChoice
from mess.scheme.learned import known_outputs
from mess.storing.look import FloatNetwork, Look


def small(classes: int = 5, *after: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    return nn.Sequential(*conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes), *after).eval()


@pytest.mark.parametrize("head", [nn.Linear(64, 3), nn.Linear(64, 12), nn.Identity()], ids=["3", "12", "none"])
@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_network_of_the_zoo_that_was_changed_comes_back_as_it_is(head: nn.Module, version: str) -> None:
    net = mess.create_model("resnet", dataset="cifar10", layers=8, width_mult=0.25)
    net.linear = nn.Linear(16, head.out_features) if isinstance(head, nn.Linear) else head
    images = pictures(8) if version == "v4" else None
    back = mess.load_state_dict(mess.dumps(net, version, images))
    assert {n: x.shape for n, x in back.items()} == {n: x.shape for n, x in net.state_dict().items()}


def test_an_attribute_named_architecture_is_the_users_own(tmp_path: Path) -> None:
    net = small()
    net.architecture = "vgg"  # type: ignore[assignment]
    assert mess.compress(net, tmp_path / "net.mess", "v2").bytes > 0


class Tabular(nn.Module):
    """Raw measurements, far from zero beside what they vary by, such as a pressure in pascals."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.norm, self.wide, self.out = nn.BatchNorm1d(4), nn.Linear(4, 16), nn.Linear(16, 5)
        self.norm.running_mean = torch.tensor([101325.0, 288.0, 0.5, 0.0])
        self.norm.running_var = torch.tensor([2.0, 100.0, 0.1, 1.0])

    def forward(self, x_NF: Tensor) -> Tensor:
        return self.out(torch.relu(self.wide(self.norm(x_NF))))

    def inputs(self, count: int, seed: int) -> Tensor:
        drawn = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
        return drawn * self.norm.running_var.sqrt() + self.norm.running_mean


@pytest.mark.parametrize("looked_at", [False, True])
def test_batch_norm_of_inputs_far_from_zero_bears_storing(looked_at: bool) -> None:
    net = Tabular().eval()
    file = mess.dumps(net, calibration=net.inputs(64, 0) if looked_at else None)
    again, inputs = mess.load_into(Tabular(), file).eval(), net.inputs(256, 1)
    wanted, found = net(inputs), again(inputs)
    assert (found - wanted).square().sum() < 0.02 * (wanted - wanted.mean(0)).square().sum()


def test_buffers_are_kept_to_the_bit(quick_synthesis: None) -> None:
    net = small()
    net.register_buffer("grid", torch.arange(5000.0) + 0.5)
    for images in (pictures(8), None):
        assert torch.equal(mess.load_state_dict(mess.dumps(net, calibration=images))["grid"], net.grid)


def test_a_softmax_at_the_end_is_looked_through() -> None:
    images, plain, sure, other = pictures(64), small(), small(5, nn.Softmax(1)), small()
    with torch.no_grad():
        for net in (plain, sure, other):
            net[7].weight.mul_(30.0)
        other[3].weight.mul_(0.8)
    (bare,), (soft,) = known_outputs(plain, images), known_outputs(sure, images)
    assert (bare.scores, bare.probabilities, soft.probabilities) == (True, False, True)
    looks = [FloatNetwork(net, images, held_out=True).look(other.state_dict()) for net in (plain, sure)]
    assert looks[1].divergence == pytest.approx(looks[0].divergence, rel=1e-3)
    assert looks[1].divergence > 0.001


def test_an_error_that_three_outputs_share_is_seen() -> None:
    images, net, other = pictures(64), small(3), small(3)
    with torch.no_grad():
        other[-1].bias.add_(1.0)  # which class scores would not mind, and three ages do
    look = FloatNetwork(net, images, held_out=True).look(other.state_dict())
    assert look.error is not None
    assert look.error > 1
    assert look.divergence > 0.1
    assert look.is_noise
    assert "relative squared error" in str(look)


def test_labels_come_as_a_column_and_are_checked(tmp_path: Path) -> None:
    net, images = small(), pictures(64)
    right = net(images).argmax(1)
    flat, column = (
        mess.compress(net, tmp_path / "net.mess", calibration=[(images, labels)], max_drop=10.0).bytes
        for labels in (right, right[:, None])
    )
    assert flat == column
    for labels, said in (
        (nn.functional.one_hot(right, 5), "class number"),
        (right.float(), "class number"),
        ((right + 1) % 5, "more often than by chance"),
    ):
        with pytest.raises(OptionError, match=said):
            mess.compress(net, tmp_path / "net.mess", calibration=[(images, labels)], max_drop=10.0)


def test_inputs_that_would_not_be_looked_at_are_refused(tmp_path: Path) -> None:
    net, images = small(), pictures(8)
    with pytest.raises(OptionError, match="calibration beside it"):
        mess.compress(net, tmp_path / "net.mess", validation=images, max_drop=5.0)
    with pytest.raises(OptionError, match="v4"):
        mess.compress(net, tmp_path / "net.mess", "v2", images)


class Boxes(IterableDataset):
    """Pictures with what is on them; a stream that knows its length."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield from ((image, {"boxes": [[0, 0, 1, 1]]}) for image in pictures(8))

    def __len__(self) -> int:
        return 8


def test_datasets_of_boxes_and_streams_are_inputs_too(tmp_path: Path) -> None:
    report = mess.compress(small(), tmp_path / "net.mess", calibration=Boxes())
    assert report.look is not None
    assert report.look.inputs == 8


def test_a_network_of_two_inputs_is_told_why_nothing_is_looked_at(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.layer(left) + self.layer(right)

    assert "several inputs (left, right)" in mess.compress(Two(), tmp_path / "net.mess").unseen


def test_made_up_inputs_are_said_to_be(quick_synthesis: None, tmp_path: Path) -> None:
    net = mess.create_model("resnet", dataset="cifar10", layers=8, width_mult=0.25)
    look = mess.compress(net, tmp_path / "net.mess").look
    assert look is not None
    assert look.made_up
    assert "made-up inputs" in str(look)
    assert "made_up" in look.facts()
    assert "made-up" not in str(Look(8, 0.1, 99.0))


def test_weights_under_a_name_of_their_own_are_found() -> None:
    weights = {"lstm.weight": torch.zeros(3, 4)}
    trained = {"step": 7, "model_of_ours": weights, "optimizer_state": {"state": {0: {}}, "param_groups": []}}
    choice = choose_weights(trained)
    assert (choice.found, choice.key) == (weights, "model_of_ours")


def test_the_price_of_bits_is_the_same_from_the_command_and_from_python() -> None:
    args = make_parser("train").parse_args(["digits", "-a", "resnet"])
    assert args.rate_weight == RateChoice().weight


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["-v", "v2"], "--version says nothing without -N or -T"),
        (["--fixed-index", "--nls", "2"], "--nl-scale says nothing without --nl"),
        (["--rate-weight", "2"], "--rate-weight says nothing without -v v4"),
        (
            ["-N", "-v", "v2", "--project", "--fixed-index"],
            "--fixed-index says nothing without -N or -T, and no --project",
        ),
        (["-g", "0"], "--gpuids says nothing without -C"),
        (["-N", "-v", "v2", "-d", "4"], "--bind-size says nothing without -v v3 or -v v3a"),
        (["-N", "-v", "v2", "--qb", "4"], "--quant-bit says nothing without -Q or -v v2q"),
        (["--key", "state_dict"], "--key says nothing without --ckpt, or beside -R"),
        (["--eager"], "--eager says nothing without -C"),
        (["--deterministic"], "--deterministic says nothing without -C"),
        (["--crop", "24"], "--crop says nothing without images in files"),
        (["--resize", "40"], "--resize says nothing without images in files"),
        (["--jitter", "0.4"], "--jitter says nothing without images in files"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
@pytest.mark.usefixtures("a_handful_of_digits")
def test_flags_that_say_nothing_are_told(
    typed: list[str], said: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["train", "digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25", "--epochs", "1", *typed]) == 0
    )
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["-N", "-v", "v4"], True),
        (["-N", "-v", "v4", "--teacher", "other.pth"], True),
        (["-N", "-v", "v4", "--teacher", "labels"], False),
        (["-T", "-v", "v4"], False),
        (["-T", "-v", "v4", "--teacher", "other.pth"], True),
        (["-N", "-v", "v2"], False),
        ([], False),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_labels_are_smoothed_only_where_labels_are_learned(typed: list[str], told: bool) -> None:
    args = make_parser("train").parse(["digits", "-a", "resnet", "--label-smoothing", "0.1", *typed])
    assert ("label_smoothing" in idle_flags(args)) == told


@pytest.mark.usefixtures("a_handful_of_digits")
def test_a_test_says_that_sizes_say_nothing_of_sets_in_memory(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = mess.create_model("resnet", dataset="digits", layers=8, width_mult=0.25)
    torch.save(net.state_dict(), "net.pth")
    small = ["digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25", "--ckpt", "net.pth", "--crop", "24"]
    assert main(["test", *small]) == 0
    assert "--crop says nothing without images in files" in capsys.readouterr().out
