"""`mess compress`: a checkpoint or any weights file becomes a `.mess` file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from mess import hub
from mess.cli.flags import CUDA, DATAPATH, FORCE, GPU, KEY, Flag, add_bit_flags, add_flags, add_normalisation_flags
from mess.cli.output import make_console
from mess.cli.parser import Gather
from mess.cli.shapes import finer_layers, kept_layers, shape_of_input
from mess.cli.stored import as_json, headline, show, summary
from mess.display.sizes import parse_size
from mess.display.stages import Stages
from mess.errors import EXIT_BAD_INPUT, MessError, OptionError
from mess.files import check_output, files_in, named_files
from mess.names import DATASETS, DEFAULT_VERSION, DIVERGENCE, VERSIONS

if TYPE_CHECKING:
    import torch

    from mess.storing import SizeReport, StoreOptions

    Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]

EXAMPLES = """Examples:
  mess compress checkpoint/resnet/cifar10/ckpt_best.pth -v v2
  mess compress weights.pth -v v2a --scale-bits 8 --offset-bits 8 --rest-bits 8 -o small.mess
  mess compress weights.safetensors -v v3 -d 4 --pointwise 8
  mess compress weights.pth -v v4 --calibration cifar10 --datapath ../data
  mess compress weights.pth -v v4 --calibration cifar10 --target-size 60KB
  mess compress weights.pth --keep linear --finer layer3=2
  mess compress model.onnx -o model.mess
  mess compress weights.pth --calibration imagenet -C
  mess compress hf://timm/resnet18.a1_in1k -o resnet18.mess
  mess compress checkpoint/ -o stored/ --json"""
SMALL_IMAGES = ("digits", "cifar10", "cifar100")  # datasets of a normalisation of their own
ENDINGS = (".pth", ".pt", ".pt2", ".th", ".safetensors", ".onnx")  # of files that are stored where a folder is named
WARNING = "{} puts references in the place of kernels: until -T, little is left of a network not trained for it"


FLAGS = (
    Flag("-v --version", f"{' | '.join(VERSIONS)} (default: {DEFAULT_VERSION})", "VER", default=DEFAULT_VERSION),
    Flag("-o --output", "file, for several CKPT a folder (default: beside CKPT, of the hub here, NAME_VERSION.mess)",
         "FILE", Path),
    Flag("-d --bind-size", "kernels a unit, v3 and v3a (default: 2)", "N", int, 2),
    Flag("--qb --quant-bit", "bits, v2q (default: 8)", "N", int, 8, dest="qb"),
    KEY,
    Flag("--arch", "the network that weights are of: timm:NAME or torchvision:NAME, which the file then says, or "
         "package.module:function", "NAME"),
    CUDA,
    GPU,
    FORCE,
    Flag("--no-verify", "do not read the file back in a fresh process"),
    Flag("--json", "for programs: what was written, on standard output"),
    Flag("--self-contained", "keep names and shapes in the file in any case"),
)  # fmt: skip
LAYERS = (
    Flag("--keep", "store these bit for bit; may be said several times", "PATTERN", kept_layers, dest="layer_rules",
         action=Gather),
    Flag("--finer", "v4: F times finer steps than the rate gives; 2 is about a bit a weight more", "PATTERN=F",
         finer_layers, dest="layer_rules", action=Gather),
)  # fmt: skip
LEARNED = (
    Flag("--calibration", "what v4 looks at: training images of a dataset, a folder of images, or inputs in .npy or "
         ".npz", "DATA"),
    Flag("--validation", "images held out, to measure on what is lost: DATA:train or DATA:val (DATA alone means val), "
         "or .npy", "DATA"),
    DATAPATH,
    Flag("--divergence", "how far what the network says may stray, looked at before the file is written; smaller: "
         f"larger files (default: {DIVERGENCE:g})", "NATS", float),
    Flag("--input-shape", "shape of one input, where no ONNX model or dataset says it (default: the first usual one "
         "that runs)", "C,H,W", shape_of_input),
    Flag("--target-size", "size of the file: 90000, 90KB, 1.5MB", "SIZE"),
    Flag("--max-drop", "points of accuracy that may be lost, as measured on images that nothing is learned from", "P",
         float),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess compress`."""
    parser.add_argument(
        "ckpt",
        metavar="CKPT",
        type=Path,
        nargs="+",
        help="checkpoint, state dict (.pth, .th), .safetensors, .onnx or .mess; a folder stands for all of them in it; "
        f"{hub.FORM} is a file of the Hugging Face hub",
    )
    add_flags(parser, None, FLAGS)
    about = "PATTERN: a tensor, or a module and all in it, with * and ?.\nOf those that match the last says all."
    add_flags(parser, "single layers", LAYERS, about)
    add_flags(parser, "version v4", LEARNED)
    add_bit_flags(parser)
    add_normalisation_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Store each file, read it back, report."""
    from mess.cli.choices import one_device, store_options
    from mess.data.info import check_normalisation

    check_normalisation(args.mean, args.std)
    args.target_size = parse_size(args.target_size)
    options, device = store_options(args), one_device(args)
    if args.calibration is not None and not options.scheme().learned:
        raise OptionError("--calibration", "a version that looks at images (-v v4)", args.version)
    if args.validation is not None and args.calibration is None:
        raise OptionError("--validation", "--calibration beside it, images to learn from", "none")
    console = make_console(args, stderr=args.json)
    files = list(dict.fromkeys(named_files(args.ckpt, ENDINGS, "CKPT")))
    reports: list[SizeReport] = []
    failed = 0
    for path, output in outputs_of(files, args.output, options.tag):
        try:
            report = _store(args, path, output, options, device, console)
        except MessError as error:
            if len(files) == 1:
                raise
            failed += 1
            console.print(f"[bold red]{escape(str(path))}[/]: {escape(str(error))}", soft_wrap=True)
            continue
        reports.append(report)
        if len(files) == 1:
            show(console, report, verified=not args.no_verify)
        else:
            console.print(headline(report), soft_wrap=True)
    if args.json:
        told = [as_json(report) for report in reports]
        print(json.dumps(told[0] if len(files) == 1 else told, indent=1))
    elif len(files) > 1:
        console.print(summary(reports, failed), soft_wrap=True)
    return EXIT_BAD_INPUT if failed else 0


def _store(
    args: argparse.Namespace, path: Path, output: Path, options: StoreOptions, device: torch.device, console: Console
) -> SizeReport:
    """Store one file."""
    from mess.foreign.nested import told_of
    from mess.models import Architecture
    from mess.storing import Request, store
    from mess.storing.sources import input_facts, projected_in, read_network

    check_output(output, overwrite=args.force, source=path)
    weights, about, facts = read_network(path, args.key, args.arch)
    facts |= input_facts({"mean": args.mean, "std": args.std})
    for note in about.get("notes", ()):
        console.print(escape(note), soft_wrap=True)
    if (told := told_of(about)) is not None:
        console.print(escape(told), soft_wrap=True)
    if (told := taken_normalisation(args, about | facts)) is not None:
        console.print(f"[yellow]{escape(told)}[/]", soft_wrap=True)
    if not options.scheme().learned:
        console.print(f"[yellow]{escape(WARNING.format(options.version))}[/]", soft_wrap=True)
    described = about.get("architecture")
    with closing(Stages(console, f"storing {path.name} as {options.tag}")) as stages:
        request = Request(
            options,
            calibration_images(args, about | facts, weights),
            None if args.validation is None else held_out_images(args, about | facts, weights),
            architecture=Architecture.from_dict(described) if described else None,
            about=facts,
            projected=projected_in(about, options.scheme()),
            overwrite=args.force,
            verify=not args.no_verify,
            device=device,
            input_shape=args.input_shape,
            progress=stages,
        )
        return store(weights, output, request)


def outputs_of(files: Sequence[Path], output: Path | None, tag: str) -> list[tuple[Path, Path]]:
    """Return each file and where it goes: beside it, under the name given, or for several into the folder given.

    Raises:
        OptionError: one name for several files, or two files that would get one name.
    """
    into = output is not None and (output.is_dir() or len(files) > 1)
    if output is not None and into and output.exists() and not output.is_dir():
        raise OptionError("--output", f"a folder for {len(files)} files", output)
    pairs = []
    for path in files:
        name = f"{hub.stem(path) if hub.is_hub(path) else path.stem}_{tag}.mess"
        beside = Path(name) if hub.is_hub(path) else path.with_name(name)
        pairs.append((path, beside if output is None else output / beside.name if into else output))
    names = [made for _, made in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError("--output", "files whose names differ", f"{twice.count(twice[0])} that become {twice[0]}")
    if output is not None and into:
        output.mkdir(parents=True, exist_ok=True)
    return pairs


def calibration_images(
    args: argparse.Namespace, about: Mapping[str, Any], network: Any = None
) -> Iterable[Any] | torch.Tensor | None:
    """Return what v4 looks at: numbers of a file, or training images of a dataset or a folder, as the file says."""
    if args.calibration is None:
        return None
    if not _is_without_classes(args.calibration):
        return _images(args.calibration, args, about, network, train=True)
    from mess.image_inputs import FACTS, input_view
    from mess.storing.calibration import as_inputs, cut_for, side_of

    view = input_view(about, args.calibration, side=side_of(network, args.input_shape))
    how = {name: getattr(view, name) for name in FACTS}
    return as_inputs(args.calibration, lambda: cut_for(network, None, how, args.input_shape))


def _is_without_classes(named: str) -> bool:
    """Return whether a folder has images and no class folders: a look asks for no classes."""
    from mess.class_folders import folders_in
    from mess.image_inputs import ENDINGS

    folder = Path(named)
    return named not in DATASETS and folder.is_dir() and not folders_in(folder) and bool(files_in(folder, ENDINGS))


def taken_normalisation(args: argparse.Namespace, about: Mapping[str, Any]) -> str | None:
    """Say how images of a folder are normalised where nobody has said it; None: somebody has, or there is none."""
    unsaid = [name for name in ("mean", "std") if about.get(name) is None]
    if not unsaid or args.calibration is None or args.calibration in DATASETS or _are_arrays(args.calibration):
        return None
    if (about.get("architecture") or {}).get("dataset", DATASETS[0]) not in SMALL_IMAGES:
        return None  # `mess train` takes a folder's images, and ImageNet's, in this way
    told = " and ".join(f"the {name}" for name in unsaid)
    flags = " and ".join(f"--{name}" for name in unsaid)
    return f"{args.calibration}: images are normalised by {told} of ImageNet, as nothing says others ({flags} do)"


def held_out_images(
    args: argparse.Namespace, about: Mapping[str, Any], network: object = None
) -> Batches | torch.Tensor:
    """Return what is lost is measured on: the numbers of a file, or images of the split that is named."""
    named, colon, split = args.validation.rpartition(":")
    if not colon or split not in ("train", "val"):
        named, split = args.validation, "val"
    return _images(named, args, about, network, train=split == "train")


def _are_arrays(named: str) -> bool:
    return named.lower().endswith((".npy", ".npz"))


def _images(
    named: str, args: argparse.Namespace, about: Mapping[str, Any], network: object, *, train: bool
) -> Batches | torch.Tensor:
    if _are_arrays(named):
        from mess.storing.calibration import read_arrays

        return read_arrays(named)
    from mess.recipes import DataChoice, calibration_batches, data_of
    from mess.storing.calibration import side_of, taken_by

    # where labels are compared with they are to be the network's
    choice = DataChoice(named, args.datapath, classes=None if args.max_drop is None else about.get("classes"))
    batches = calibration_batches(data_of(choice, about, side_of(network, args.input_shape)), train=train)
    return taken_by(network, args.input_shape, batches)
