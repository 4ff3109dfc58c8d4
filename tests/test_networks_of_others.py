"""Modules that v4 is given: whatever is around them, whatever they answer with, and inputs they do not take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import mess
from mess.errors import OptionError

IMAGES = torch.randn(12, 3, 12, 12, generator=torch.Generator().manual_seed(0))
QUICK = {"scheme": "v4", "divergence": 0.5}


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(512, 4))


def pruned() -> nn.Module:
    net = plain()
    nn.utils.prune.l1_unstructured(net[1], "weight", 0.5)
    net(IMAGES)
    return net


def normed() -> nn.Module:
    net = plain()
    nn.utils.spectral_norm(net[0])
    net(IMAGES)
    return net


class Answers(nn.Module):
    """Answers with more than one tensor."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind, self.body, self.head = kind, plain(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        first = self.body(x)
        second = self.head(first)
        return (first, second) if self.kind is tuple else {"out": first, "aux": second}


class Pairs(nn.Module):
    """Takes two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = plain()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.body(x + y)


class Tokens(nn.Module):
    """Answers with integers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = plain()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).argmax(1)


WRAPPED = {
    "DataParallel": nn.DataParallel(plain()),
    "averaged": torch.optim.swa_utils.AveragedModel(plain()),
    "compiled": torch.compile(plain(), backend="eager"),
    "both": torch.compile(nn.DataParallel(plain()), backend="eager"),
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_wrapped_network_is_stored_under_plain_names(kind: str, version: str, tmp_path: Path) -> None:
    options = {**QUICK, "calibration": IMAGES} if version == "v4" else {"scheme": "v2"}
    mess.compress(WRAPPED[kind], tmp_path / "net.mess", **options)
    assert mess.load_state_dict(tmp_path / "net.mess").keys() == plain().state_dict().keys()
    assert mess.load_into(WRAPPED[kind], tmp_path / "net.mess") is WRAPPED[kind]
    mess.compress(plain(), tmp_path / "plain.mess", **options)
    assert mess.load_into(plain(), tmp_path / "net.mess")
    if version == "v2":
        assert (tmp_path / "plain.mess").stat().st_size == (tmp_path / "net.mess").stat().st_size


class TwoParts(nn.Module):
    """Has one part that is compiled and stands in two places, and one that is not."""

    def __init__(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.body = wrap(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)))
        self.more = nn.ModuleList([self.body[0] if wrap is same else self.body._orig_mod[0], nn.Conv2d(8, 8, 3)])
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.more[1](self.body(x) + self.more[0](x)).mean((2, 3)))


def same(module: nn.Module) -> nn.Module:
    return module


@pytest.mark.parametrize("options", [{"scheme": "v2"}, {**QUICK, "calibration": IMAGES}], ids=["v2", "v4"])
def test_a_compiled_part_is_stored_under_plain_names(options: dict[str, object], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, compiled = TwoParts(same), TwoParts(partial(torch.compile, backend="eager"))
    compiled.load_state_dict(dict(zip(compiled.state_dict(), net.state_dict().values(), strict=True)))
    before = list(compiled.state_dict())
    for name, given in {"plain": net, "compiled": compiled}.items():
        mess.compress(given, tmp_path / f"{name}.mess", **options)
        mess.compress(given.state_dict(), tmp_path / f"{name}_state.mess", "v2")
    for kind in ("", "_state"):
        plain_file, file = (tmp_path / f"{name}{kind}.mess" for name in ("plain", "compiled"))
        assert file.read_bytes() == plain_file.read_bytes()
    mess.load_into(compiled, tmp_path / "plain.mess")
    stored = mess.load_state_dict(tmp_path / "compiled.mess")
    now = {name.replace("_orig_mod.", ""): tensor for name, tensor in compiled.state_dict().items()}
    assert stored.keys() == now.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in now.items())
    assert list(compiled.state_dict()) == before
    assert "body._orig_mod.0.weight" in before


def test_a_wrapped_network_of_the_zoo_is_still_one(tmp_path: Path) -> None:
    mess.compress(nn.DataParallel(mess.create_model("resnet", layers=8)), tmp_path / "net.mess", scheme="v2")
    assert mess.load(tmp_path / "net.mess").architecture.layers == 8


@pytest.mark.filterwarnings("ignore:.*spectral_norm")
@pytest.mark.parametrize("make", [pruned, normed, lambda: Answers(tuple), lambda: Answers(dict)])
def test_hooks_that_compute_weights_and_answers_of_several_tensors(make, tmp_path: Path) -> None:
    net = make()
    mess.compress(net, tmp_path / "net.mess", **{**QUICK, "divergence": 5.0}, calibration=IMAGES)
    back = mess.load_state_dict(tmp_path / "net.mess")
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in net.state_dict().items()}
    assert all(bool(t.isfinite().all()) for t in back.values())


def test_three_dimensions(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv3d(3, 8, 3), nn.Conv3d(8, 8, 3), nn.Flatten(), nn.Linear(64, 4))
    mess.compress(net, tmp_path / "net.mess", **{**QUICK, "divergence": 5.0}, calibration=torch.randn(6, 3, 6, 6, 6))
    mess.load_into(net, tmp_path / "net.mess")


@pytest.mark.parametrize(
    ("net", "inputs", "said"),
    [
        (plain(), torch.randn(4, 3, 5, 5), r"calibration: expected inputs that the network runs on.*\(3, 5, 5\)"),
        (plain(), torch.randn(4, 1, 12, 12), r"calibration: expected inputs .*channels"),
        (Pairs(), IMAGES, "calibration: expected inputs .*one tensor a batch.*missing 1 required positional argument"),
        (
            nn.Sequential(plain(), nn.Threshold(100.0, float("nan"))),
            IMAGES,
            "answers are finite, found NaN or infinity",
        ),
        (Tokens(), IMAGES, "expected a network that answers with float tensors"),
    ],
    ids=["size", "channels", "two inputs", "NaN", "integers"],
)
def test_what_cannot_be_run_is_refused_before_any_work(
    net: nn.Module, inputs: Tensor, said: str, tmp_path: Path
) -> None:
    told: list[object] = []
    with pytest.raises(OptionError, match=said):
        mess.compress(net, tmp_path / "net.mess", **QUICK, calibration=inputs, progress=lambda *x: told.append(x))
    assert told == []


SURROUNDINGS = {
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "meta": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("kind", SURROUNDINGS)
@pytest.mark.parametrize("version", ["v2", "v4"])
def test_what_torch_is_told_around_it_changes_no_byte(kind: str, version: str, tmp_path: Path) -> None:
    net, options = plain(), {**QUICK, "calibration": IMAGES} if version == "v4" else {"scheme": "v2"}
    mess.compress(net, tmp_path / "usual.mess", verify=False, **options)
    with SURROUNDINGS[kind]():
        mess.compress(net, tmp_path / "other.mess", **options)
    assert (tmp_path / "other.mess").read_bytes() == (tmp_path / "usual.mess").read_bytes()


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_another_default_dtype_changes_no_byte(version: str, tmp_path: Path) -> None:
    net, options = plain(), {**QUICK, "calibration": IMAGES} if version == "v4" else {"scheme": "v2"}
    mess.compress(net, tmp_path / "usual.mess", verify=False, **options)
    torch.set_default_dtype(torch.float64)
    try:
        mess.compress(net, tmp_path / "other.mess", verify=False, **options)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (tmp_path / "other.mess").read_bytes() == (tmp_path / "usual.mess").read_bytes()


def test_a_network_made_in_inference_mode_is_stored(tmp_path: Path) -> None:
    with torch.inference_mode():
        mess.compress(plain(), tmp_path / "net.mess", **QUICK, calibration=IMAGES.clone())
    assert mess.load_into(plain(), tmp_path / "net.mess")


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_the_network_and_the_callers_random_numbers_stay_as_they_are(version: str, tmp_path: Path) -> None:
    net = plain().train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net(IMAGES).sum().backward()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes, grad, state = [m.training for m in net.modules()], net[1].weight.grad.clone(), torch.get_rng_state()
    mess.compress(
        net, tmp_path / "net.mess", **({**QUICK, "calibration": IMAGES} if version == "v4" else {"scheme": "v2"})
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert modes == [m.training for m in net.modules()]
    assert not net[0].weight.requires_grad
    assert torch.equal(net[1].weight.grad, grad)
    assert torch.equal(torch.get_rng_state(), state)


def test_channels_last_is_stored_as_any_other_layout(tmp_path: Path) -> None:
    made = []
    for net in (plain(), plain().to(memory_format=torch.channels_last)):
        mess.compress(net, tmp_path / "net.mess", scheme="v2", verify=False)
        made.append((tmp_path / "net.mess").read_bytes())
    assert made[0] == made[1]


class InPlace(nn.Module):
    """Normalises its inputs where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.body = plain()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.sub_(0.5).mul_(2.0))


def test_inputs_stay_as_they_are_where_a_network_changes_its_own(tmp_path: Path) -> None:
    inputs = IMAGES.clone()
    mess.compress(InPlace(), tmp_path / "net.mess", **{**QUICK, "divergence": 5.0}, calibration=inputs)
    assert torch.equal(inputs, IMAGES)


@pytest.mark.parametrize("calibration", [IMAGES, None], ids=["images", "none"])
def test_how_numbers_lie_in_memory_does_not_tell(calibration: Tensor | None, tmp_path: Path) -> None:
    strided = {name: torch.stack([x, x], -1)[..., 0] for name, x in plain().state_dict().items()}
    last = plain().to(memory_format=torch.channels_last)
    networks = {"v2": [plain().state_dict(), strided], "v4": [plain(), last]}
    for version, alike in networks.items():
        options = {"scheme": version} if version == "v2" else {"calibration": calibration}
        for place, net in enumerate(alike):
            mess.compress(net, tmp_path / f"{place}.mess", verify=False, **options)
        assert (tmp_path / "0.mess").read_bytes() == (tmp_path / "1.mess").read_bytes()


def detached(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().numpy())


def recomputed(net: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(net, x, use_reentrant=True)


class Through(nn.Module):
    """Runs a network in some way of its own."""

    def __init__(self, way: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.way = plain(), way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self.body, x)


@pytest.mark.parametrize(
    ("way", "inputs", "said"),
    [
        (lambda net, x: torch.no_grad()(net)(x), IMAGES, "answers have gradients"),
        (lambda net, x: detached(net(x)), IMAGES, "answers have gradients"),
        (lambda net, x: torch.ones(4) * net(x).numel(), IMAGES, "answers have gradients"),
        (recomputed, IMAGES, r"calibration: expected inputs that the network runs on.*use_reentrant"),
        (lambda net, x: net(x), IMAGES * 1e19, "range that the network was trained on"),
    ],
    ids=["no_grad", "NumPy", "constant", "reentrant", "huge"],
)
def test_networks_without_gradients_and_inputs_beyond_all_range_get_one_line(
    way, inputs: Tensor, said: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=said):
        mess.compress(Through(way), tmp_path / "net.mess", **QUICK, calibration=inputs)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("options", [{"scheme": "v2"}, {"scheme": "v4"}], ids=["v2", "v4"])
def test_programs_are_stored_as_their_weights_are(options: dict[str, object], tmp_path: Path) -> None:
    net = plain()
    mess.compress(torch.jit.script(net), tmp_path / "program.mess", **options)
    mess.compress(net.state_dict(), tmp_path / "weights.mess", **options)
    assert (tmp_path / "program.mess").read_bytes() == (tmp_path / "weights.mess").read_bytes()


def grown(factor: float) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(factor)
    return net


@pytest.mark.parametrize("factor", [1e13, 1e20])
def test_made_up_images_beyond_all_range_are_no_reason_to_refuse(factor: float, tmp_path: Path) -> None:
    net = grown(factor)
    report = mess.compress(net, tmp_path / "net.mess")
    assert "beyond float32 on images that were made up" in report.unseen
    assert report.look is None
    assert max(report.error.values()) < 1e-4
    with pytest.raises(OptionError, match=r"target_size.*beyond float32.*calibration"):
        mess.compress(net, tmp_path / "net.mess", target_size=1000)


def test_one_given_input_beyond_all_range_is_told(tmp_path: Path) -> None:
    plain = torch.rand(8, 3, 32, 32)
    wide = torch.cat([plain, torch.full((1, 3, 32, 32), 1e30)])
    for given in ({"calibration": wide}, {"calibration": plain, "validation": wide * 1e8}):
        with pytest.raises(OptionError, match="range that the network was trained on"):
            mess.compress(grown(1e2), tmp_path / "net.mess", divergence=1e-4, **given)


class Restless(nn.Module):
    """Has dropout that is never off."""

    def __init__(self) -> None:
        super().__init__()
        self.body = plain()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(nn.functional.dropout(x, 0.1, training=True))


def test_callers_go_on_with_their_own_random_numbers(tmp_path: Path) -> None:
    net, files = Restless(), []
    for draws in (0, 3):
        torch.manual_seed(5)
        torch.rand(draws)
        before = torch.get_rng_state()
        mess.compress(net, tmp_path / "net.mess", calibration=IMAGES, divergence=0.3, verify=False)
        assert torch.equal(torch.get_rng_state(), before)
        files.append((tmp_path / "net.mess").read_bytes())
    assert files[0] == files[1]


def test_one_input_is_looked_at_too(tmp_path: Path) -> None:
    look = mess.compress(plain(), tmp_path / "net.mess", calibration=IMAGES[:1], divergence=1e-3, verify=False).look
    assert look is not None
    assert look.divergence < 2e-3


@pytest.mark.parametrize(
    "layer", [nn.ConvTranspose2d(3, 6, 3, groups=3), nn.Bilinear(12, 12, 4)], ids=lambda x: type(x).__name__
)
def test_networks_of_other_layers_than_convolutions_and_linear_ones_are_weighed_by_gradients(
    layer: nn.Module, tmp_path: Path
) -> None:
    net = Through(lambda body, x: body(x[:, 0], x[:, 1]) if isinstance(body, nn.Bilinear) else body(x))
    net.body = layer
    report = mess.compress(net, tmp_path / "net.mess", calibration=IMAGES, verify=False)
    assert report.look is not None
    assert max(report.error.values()) < 0.1


@pytest.mark.parametrize("seed", ["x", 1 << 70, 0.5])
def test_a_seed_that_is_no_whole_number_of_64_bits_is_told(seed: object, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="seed"):
        mess.compress(plain(), tmp_path / "net.mess", calibration=IMAGES, seed=seed)
