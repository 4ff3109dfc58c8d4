"""The flags of `mess train`, `mess test` and `main.py`: the specification's, word for word, then ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from mess.data import dataset_names
from mess.errors import OptionError, one_of
from mess.models import ARCHITECTURES
from mess.storing_v4 import REST_BITS

SPECIFIED_DATASETS = ("cifar10", "cifar100", "imagenet")
VERSIONS = ("v1", "v2", "v2a", "v2q", "v3", "v3a")


def add_specified_flags(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add every flag of the specification's `main.py`, with its letters, names and defaults.

    Args:
        several: DATA and ARCH take several names, and none means all (`mess train-all`).

    A default shown as text but stored as None (``--layers``, ``--groups``) lets a family put its own in its place.
    """
    names = " | ".join(dataset_names())
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="*" if several else "?",
        default=list(SPECIFIED_DATASETS) if several else "cifar10",
        type=_dataset,
        help=f"dataset: {names}, or a folder of class folders (default: "
        f"{', '.join(SPECIFIED_DATASETS) if several else 'cifar10'})",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "-a",
        "--arch",
        metavar="ARCH",
        nargs="+" if several else None,
        default=sorted(ARCHITECTURES) if several else "mobilenet",
        type=_architecture,
        help=f"model architecture: {' | '.join(sorted(ARCHITECTURES))} (default: {'all' if several else 'mobilenet'})",
    )
    network.add_argument(
        "--layers",
        metavar="N",
        type=int,
        help="number of layers in ResNet/ResNeXt/WideResNet (default: 16, or where a family has no "
        "16: ResNet 20 and ResNeXt 29, on ImageNet 18 and 50; WideResNet 50 on ImageNet)",
    )
    network.add_argument(
        "--width-mult",
        metavar="WM",
        type=float,
        default=1.0,
        help="width multiplier to thin a network uniformly at each layer; the widening factor of "
        "WideResNet (default: 1.0)",
    )
    network.add_argument(
        "--groups",
        metavar="N",
        type=int,
        help="number of groups for ShuffleNet (default: 2), cardinality of ResNeXt (default: 32)",
    )

    run = parser.add_argument_group("run")
    run.add_argument(
        "-j",
        "--workers",
        metavar="N",
        type=int,
        default=8,
        help="number of data loading workers (default: 8); sets held in memory need none",
    )
    run.add_argument(
        "-b",
        "--batch-size",
        metavar="N",
        type=int,
        default=128,
        help="mini-batch size (default: 128), the total of all devices",
    )
    run.add_argument("-p", "--print-freq", metavar="N", type=int, default=100, help="print frequency (default: 100)")
    run.add_argument(
        "--ckpt",
        metavar="PATH",
        help="checkpoint or .mess file for resuming, testing or retraining: a path, or a name in "
        "checkpoint/ARCH/DATA (default: none)",
    )
    run.add_argument("-R", "--resume", action="store_true", help="resume the run of --ckpt, or the newest")
    run.add_argument("-E", "--evaluate", action="store_true", help="test the network of --ckpt")
    run.add_argument("-C", "--cuda", action="store_true", help="use CUDA")
    run.add_argument(
        "-T",
        "--retrain",
        action="store_true",
        help="retrain: a .mess file with -v, or with -Q a plain checkpoint whose kernels are rounded",
    )
    run.add_argument(
        "-g",
        "--gpuids",
        metavar="GPUIDS",
        type=int,
        nargs="+",
        default=[0],
        help="GPU ids, one process each (default: 0)",
    )
    run.add_argument(
        "--datapath",
        metavar="PATH",
        type=Path,
        default=Path("../data"),
        help="where the datasets are (default: ../data)",
    )

    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs", metavar="N", type=int, default=200, help="number of total epochs to run (default: 200)"
    )
    training.add_argument(
        "--lr",
        "--learning-rate",
        metavar="LR",
        type=float,
        help="initial learning rate (default: 0.1, with -T 0.01)",
    )
    training.add_argument("--momentum", metavar="M", type=float, default=0.9, help="momentum (default: 0.9)")
    training.add_argument(
        "--wd",
        "--weight-decay",
        metavar="W",
        type=float,
        default=5e-4,
        help="weight decay, not on BatchNorm or biases (default: 5e-4)",
    )

    scheme = parser.add_argument_group("storing scheme")
    scheme.add_argument(
        "-v", "--version", metavar="VER", help=f"version of the scheme: {' | '.join(VERSIONS)} | v4 (default: none)"
    )
    scheme.add_argument(
        "-d",
        "--bind-size",
        metavar="N",
        type=int,
        default=2,
        help="kernels bound to one unit in v3 and v3a (default: 2)",
    )
    scheme.add_argument("-N", "--new", action="store_true", help="train with the scheme of -v")
    scheme.add_argument(
        "-s",
        "--save-epoch",
        metavar="N",
        type=int,
        default=10,
        help="epochs between checkpoints, and between applications of the scheme (default: 10)",
    )
    scheme.add_argument(
        "--nl",
        "--nuc-loss",
        dest="nl",
        action="store_true",
        help="add the nuclear norm term: references that span more",
    )
    scheme.add_argument(
        "--nls",
        "--nl-scale",
        dest="nls",
        metavar="NLS",
        type=float,
        default=1.0,
        help="scale of the nuclear norm term (default: 1.0)",
    )
    scheme.add_argument(
        "--pl",
        "--pcc-loss",
        dest="pl",
        action="store_true",
        help="add the Pearson correlation term: references that resemble each other less",
    )
    scheme.add_argument(
        "--pls",
        "--pl-scale",
        dest="pls",
        metavar="PLS",
        type=float,
        default=1.0,
        help="scale of the Pearson correlation term (default: 1.0)",
    )
    scheme.add_argument("-Q", "--quant", action="store_true", help="round kernels to --qb bits (with -T)")
    scheme.add_argument(
        "--qb",
        "--quant-bit",
        dest="qb",
        metavar="N",
        type=int,
        default=8,
        help="bits of the rounded kernels, for -Q and v2q (default: 8)",
    )


def add_more_flags(parser: argparse.ArgumentParser) -> None:
    """Add what the specification leaves open; every default keeps its behaviour."""
    more = parser.add_argument_group("more about training")
    more.add_argument(
        "--schedule",
        choices=("cosine", "step", "onecycle"),
        default="cosine",
        help="learning rate over the run (default: cosine)",
    )
    more.add_argument("--warmup", metavar="N", type=float, default=0.0, help="epochs of linear warm-up (default: 0)")
    more.add_argument("--label-smoothing", metavar="E", type=float, default=0.0, help="label smoothing (default: 0)")
    more.add_argument(
        "--ema",
        metavar="D",
        type=float,
        default=0.0,
        help="decay of an average of the weights, which is then what is tested and kept (default: 0, off)",
    )
    more.add_argument(
        "--precision",
        choices=("32", "bf16", "16"),
        default="32",
        help="arithmetic of the forward and backward pass (default: 32)",
    )
    more.add_argument(
        "--save-every",
        metavar="N",
        help="also save ckpt_last.pth within an epoch: every 500 steps, or every 10m minutes (default: never)",
    )
    more.add_argument(
        "--log",
        choices=("csv", "tensorboard"),
        default="csv",
        help="tensorboard: also write curves for TensorBoard beside log.csv (default: csv)",
    )
    more.add_argument("--seed", metavar="N", type=int, default=0, help="seed of every random draw (default: 0)")
    more.add_argument(
        "--processes",
        metavar="N",
        type=int,
        default=1,
        help="CPU processes that share a batch, without -C (default: 1)",
    )
    more.add_argument(
        "--sync-bn",
        action="store_true",
        help="BatchNorm over all processes instead of each one's part: slower, and the same on any number of them",
    )
    more.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        type=Path,
        default=Path("checkpoint"),
        help="where checkpoints go, in ARCH/DATA (default: checkpoint)",
    )
    more.add_argument(
        "--name",
        metavar="NAME",
        help="folder of this run in place of ARCH, so that two sizes of a family do not share one (default: ARCH)",
    )
    more.add_argument(
        "--project",
        action="store_true",
        help="with -N or -T: replace the kernels every -s epochs, instead of training through the decoder",
    )
    more.add_argument("--fixed-index", action="store_true", help="with -N or -T: keep every unit's reference")
    more.add_argument(
        "--pretrained",
        action="store_true",
        help="start from public weights (`mess fetch weights --list`); another class count gets a new last layer",
    )
    add_key_flag(more)
    more.add_argument(
        "--rate-weight",
        metavar="L",
        type=float,
        default=0.05,
        help="with -v v4: loss that one bit a weight costs; larger makes smaller files (default: 0.05)",
    )
    more.add_argument(
        "--teacher",
        metavar="CKPT",
        help="with -v v4: the float network whose answers are learned, of any architecture, or labels (default: with "
        "-N the network of --ckpt, with -T labels)",
    )
    add_bit_flags(parser)
    add_normalisation_flags(parser)
    add_picture_flags(parser)


def add_key_flag(parser: argparse._ActionsContainer) -> None:
    """Add where in a checkpoint the weights are."""
    parser.add_argument(
        "--key",
        metavar="NAME",
        help="where the weights are in a checkpoint that has several: state_dict, model.ema (default: averaged ones, "
        "where there are some)",
    )


def add_bit_flags(parser: argparse.ArgumentParser) -> None:
    """Add how the numbers of a `.mess` file are stored."""
    bits = parser.add_argument_group("numbers in the .mess file")
    bits.add_argument(
        "--scale-bits", metavar="B", type=int, default=32, help="bits of α: 2-12, 16 or 32 (default: 32; v4 has no α)"
    )
    bits.add_argument(
        "--offset-bits", metavar="B", type=int, default=32, help="bits of β: 2-12, 16 or 32 (default: 32; v4 has no β)"
    )
    bits.add_argument(
        "--rest-bits",
        metavar="B",
        type=int,
        default=32,
        help=f"bits of all that is stored as it is: 2-12, 16 or 32 (default: 32; v4: {REST_BITS})",
    )
    bits.add_argument(
        "--pointwise",
        metavar="D",
        type=int,
        help="store 1x1 convolutions too, as slices of D numbers (default: as they are)",
    )
    bits.add_argument("--linear", action="store_true", help="with --pointwise: linear layers too")


def add_normalisation_flags(parser: argparse.ArgumentParser) -> None:
    """Add how the network's input was normalised; weights trained elsewhere differ in it."""
    group = parser.add_argument_group("input of the network")
    for flag, what in (("--mean", "mean of R, G, B in 0…1"), ("--std", "their standard deviation")):
        group.add_argument(
            flag, metavar="X", type=float, nargs=3, help=f"{what} (default: the file's, else the dataset's)"
        )


def add_picture_flags(parser: argparse.ArgumentParser) -> None:
    """Add how pictures of folders are prepared."""
    group = parser.add_argument_group("pictures in folders")
    group.add_argument("--resize", metavar="N", type=int, help="shorter side in tests (default: 256)")
    group.add_argument("--crop", metavar="N", type=int, help="side of what the network sees (default: 224)")
    group.add_argument(
        "--jitter",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="change brightness, contrast and saturation by up to this share in training (default: 0)",
    )


def _architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        raise OptionError("--arch", one_of(sorted(ARCHITECTURES), name), name)
    return name


def _dataset(name: str) -> str:
    """Refuse a name that is neither a dataset nor a folder, before anything slow starts."""
    if name not in dataset_names() and not Path(name).is_dir():
        raise OptionError("DATA", one_of(dataset_names(), name) + " or a folder of class folders", name)
    return name
