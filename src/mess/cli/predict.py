"""`mess predict`: what a stored network says of images."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from mess import hub
from mess.cli.flags import Flag, add_flags, add_normalisation_flags
from mess.cli.output import make_console
from mess.cli.shapes import shape_of_input
from mess.errors import OptionError

EXAMPLES = """Examples:
  mess predict net.mess cat.jpg dog.png
  mess predict net.mess photos/ --csv > predicted.csv
  mess predict net.mess photos/ --json --top 1
  mess predict net.mess cat.jpg --classes names.txt"""


FLAGS = (
    Flag("file", "a network of the zoo, of a catalogue, or from ONNX", "FILE.mess", Path),
    Flag("images", "images, and folders of them", "IMAGE", Path, nargs="+"),
    Flag("--top", "classes an image, the likeliest (default: 5)", "N", int, 5),
    Flag("--classes", "names of the classes: a file, one a line, a folder of class folders, or imagenet (default: as "
         "the file says, else its dataset; those of ImageNet need timm or torchvision)", "FILE", Path),
    Flag("--csv", "for tables: picture, place, class, name, probability"),
    Flag("--json", "for programs: the same"),
    Flag("--input-shape", "shape of one input, where ONNX left it open", "C,H,W", shape_of_input),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess predict`."""
    add_flags(parser, None, FLAGS)
    add_normalisation_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Read, predict, print."""
    from mess.recipes.predicting import images_in, open_classifier, predict

    if args.top < 1:
        raise OptionError("--top", "at least 1", args.top)
    if args.csv and args.json:
        raise OptionError("--csv", "one form", "--json as well")
    images = images_in(args.images)
    shape = args.input_shape
    model, view = open_classifier(hub.local(args.file), mean=args.mean, std=args.std, classes=args.classes, shape=shape)
    found = predict(model, view, images, count=args.top, shape=shape)
    if args.json:
        rows = [
            {"picture": str(p.path), "top": [{"class": c, "name": n, "probability": x} for c, n, x in p.top]}
            for p in found
        ]
        print(json.dumps(rows, indent=1))
        return 0
    if args.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["picture", "place", "class", "name", "probability"])
        for p in found:
            writer.writerows([str(p.path), k, c, n, f"{x:.6f}"] for k, (c, n, x) in enumerate(p.top, 1))
        return 0
    console = make_console(args)
    for p in found:
        console.print(f"[bold]{escape(str(p.path))}[/]", soft_wrap=True)
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
        table.add_column(justify="right")
        for _, name, chance in p.top:
            table.add_row(f"  {chance:.1%}", escape(name), f"[cyan]{'━' * round(20 * chance)}[/]")
        console.print(table)
    return 0
