"""What the soak found, for people, and its figure of losses drawn over each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import described

INTRODUCTION = """# The same run, whatever happens to it

Made by `make soak` (benchmarks/soak.py): the real command line, `mess train digits -a resnet --layers 8
--width-mult 0.25 -b 240 --epochs 2 --save-every 2 --ema 0.9`, ended by real signals and gone on with by `-R`. "Equal"
means the same SHA-256 of weights, averaged weights, momenta, best accuracy and log as the run that nobody interrupted.
"""
CHAIN = {
    "whole --sync-bn": ("1 process, --sync-bn", "-", "#31688e", 2.5),
    "chain --sync-bn": ("chain, --sync-bn", "--", "#fde725", 1.5),
    "whole without": ("1 process", "-", "#35b779", 2.5),
    "chain without": ("chain", "--", "#440154", 1.5),
}


def page(rows: dict[str, Any]) -> list[str]:
    """Return the page."""
    lines = INTRODUCTION.splitlines()
    for name, text in (
        ("interrupted, 1 process", _interrupted),
        ("interrupted, 2 processes", _interrupted),
        ("killed while saving", _killed),
        ("torchrun", _torchrun),
        ("full disk", _full_disk),
        ("chain", _chain),
    ):
        if name in rows:
            lines += ["", f"## {name[0].upper()}{name[1:]}", "", *text(rows[name]), "", described(rows[name])]
    return lines


def _interrupted(row: dict[str, Any]) -> list[str]:
    kinds = f"{row['SIGTERM']} SIGTERM, {row['SIGKILL']} kill -9"
    return [
        f"{row['interruptions']} interruptions at random moments ({kinds}), of any one process of the run.",
        f"{row['exit 143']} times the run was past its start, saved and left with exit code 143.",
        f"**{row['equal']} of {row['runs']} runs ended equal.**",
    ]


def _killed(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['kills']} times kill -9 within a process that does nothing but save, {row['saves']:,} saves in all.",
        f"**{row['lost']} times less was there than it had said was saved**, {row['damaged']} times the newer",
        f"generation was damaged. The {row['leftovers']} temporary files that were left are removed when a run starts.",
    ]


def _torchrun(row: dict[str, Any]) -> list[str]:
    one, two = ("**equal**" if row[name] else "**not equal**" for name in ("one machine", "two machines"))
    return [
        "One of two processes is killed by kill -9 after the first epoch; torchrun starts both anew, without `-R`,",
        f"and they finish: {one} with `--standalone`, {two} with two agents that meet over c10d, as two machines do.",
    ]


def _full_disk(row: dict[str, Any]) -> list[str]:
    if "skipped" in row:
        return [f"Skipped: {row['skipped']}."]
    end = "**equal**" if row["equal in the end"] else "**not equal**"
    return [
        f"On a disk that holds two checkpoints the run warned {row['warnings']} times, went on to its end and left",
        f"with exit code {row['exit code']}. The newest state that loads is the one after epoch {row['epoch']}. With",
        f"room again, `-R` ended {end}.",
    ]


def _chain(row: dict[str, Any]) -> list[str]:
    lines = [
        "From 1 process to 2, to 1, to 3 and back to 1, moved within epochs, against the run that stayed on 1, for 6",
        "epochs of the same network.",
        "",
        "| | loss apart at most | in the last epoch | weights apart, of their norm | best top-1 %, whole / chain |",
        "|---|---:|---:|---:|---:|",
    ]
    for label, shown in (("--sync-bn", "`--sync-bn`"), ("without", "BatchNorm of each part")):
        whole, moved = row[f"whole {label}"], row[f"chain {label}"]
        apart = {int(step): abs(moved["loss"][step] - loss) for step, loss in whole["loss"].items()}
        last = max(x for step, x in apart.items() if step > max(apart) * 5 // 6)
        numbers = f"{max(apart.values()):.4f} | {last:.4f} | {row[f'weights {label}']:.1e}"
        lines.append(f"| {shown} | {numbers} | {whole['best top-1']:.2f} / {moved['best top-1']:.2f} |")
    return [*lines, "", "![training loss of the four runs](soak.png)"]


def by_step(run: dict[str, Any]) -> list[tuple[int, float]]:
    """Return (step, loss) in order; a file of results has its keys in the order of text."""
    return sorted((int(step), loss) for step, loss in run["loss"].items())


def draw(row: dict[str, Any], path: Path) -> None:
    """Draw the loss of all four runs over each other, and below how far each chain is from its whole run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(9, 6), sharex=True, layout="constrained", height_ratios=[2, 1]
    )
    for name, (label, style, colour, width) in CHAIN.items():
        steps, losses = zip(*by_step(row[name]), strict=True)
        above.plot(steps, losses, style, color=colour, linewidth=width, label=label)
    for label, colour in (("--sync-bn", "#31688e"), ("without", "#35b779")):
        pairs = zip(by_step(row[f"whole {label}"]), by_step(row[f"chain {label}"]), strict=True)
        steps, apart = zip(*((step, max(1e-5, abs(one - other))) for (step, one), (_, other) in pairs), strict=True)
        below.semilogy(steps, apart, color=colour)
    for step, now in ((8, "2"), (16, "1"), (21, "3"), (28, "1")):
        for axes in (above, below):
            axes.axvline(step, color="grey", linewidth=0.6, linestyle=":")
        place = {"xytext": (3, 4), "textcoords": "offset points"}
        above.annotate(f"{now} process{'es' if now != '1' else ''}", (step, above.get_ylim()[0]), fontsize=8, **place)
    above.set_title(
        "A run moved between 1, 2 and 3 processes, over the run that stayed on one", fontsize=11, loc="left"
    )
    above.set_ylabel("training loss, mean since the epoch began")
    below.set_ylabel("distance (printed to 1e-4)")
    below.set_xlabel("step")
    above.legend(frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
