"""The guard of speed, the taking of turns, what is compared with what: parts of benchmarks/ that have to be right."""

from __future__ import annotations

import importlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import answers_figure
import answers_page
import answers_rows
import limits
import peers
import results
import runs
import schemes_page
from check import Ratio, losses, ratios
from turns import Window, take_turns

ROOT = Path(__file__).parents[1]
BENCHMARKS, RESULTS, README = ROOT / "benchmarks", ROOT / "docs" / "results", ROOT / "README.md"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_every_program_can_be_started(name: str) -> None:
    importlib.import_module(name)


def test_the_guard_finds_what_has_become_slower(tmp_path: Path) -> None:
    here = {"machine": "here"}
    training = {"ResNet-20": {"ratio": 1.3, **here}, "scheme": {"cost": {"-N -v v2": 1.1}, **here}}
    (tmp_path / "speed_training.json").write_text(json.dumps(training))
    (tmp_path / "speed_storing.json").write_text(json.dumps({"ResNet-20|v2": {"teraproducts": 0.5, **here}}))
    before = ratios(tmp_path)
    values = {"training ResNet-20": 1.3, "training -N -v v2": 1 / 1.1, "storing ResNet-20|v2": 2.0}
    assert before == {name: Ratio(value, "here") for name, value in values.items()}
    assert losses(before, before) == []
    slower = {**before, "training ResNet-20": Ratio(1.03, "here"), "storing ResNet-20|v2": Ratio(1.7, "here")}
    assert losses(slower, before) == ["training ResNet-20"]
    assert losses({"new": Ratio(0.1, "here")}, before) == []
    assert losses({"training ResNet-20": Ratio(0.1, "elsewhere")}, before) == []


def test_programs_take_turns_and_are_timed_after_the_first_window() -> None:
    order: list[str] = []

    def program(name: str) -> None:
        def run(window: Window) -> None:
            while True:
                order.append(name)
                window(float(len(order)))

        return run

    timed = take_turns({"a": program("a"), "b": program("b")}, 2)
    assert order == ["a", "b"] * 3
    assert timed["a"].losses == [1, 3, 5]
    assert len(timed["b"].wall_s) == len(timed["b"].cpu_s) == 2


def test_a_program_that_fails_ends_the_measurement() -> None:
    def fails(window: Window) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        take_turns({"a": fails}, 1)


def answered(network: str, method: str, setting: str, size: int, **figures: float) -> dict[str, object]:
    place = {"commit": "abc", "machine": "one", "threads": 1, "torch": "2", "seed": 0}
    return {"network": network, "method": method, "setting": setting, "bytes": size, **figures, **place}


def scored(pictures: int, top1: float, agreement: float, divergence: float) -> dict[str, float]:
    return {"pictures": pictures, "top1": top1, "agreement": agreement, "divergence": divergence}


PUBLISHED = [
    {"network": "Many", "data": "CIFAR-10", "method": "Other", "float": "92", "top1": "91", "bytes": "65 kB",
     "counted": "nominal", "trained": "no", "source": "a paper", "read": "read", "beside": "Many"},
]  # fmt: skip


def measured_rows() -> dict[str, dict[str, object]]:
    """Return rows of a network of each kind, as answers.py measures them."""
    rows = [
        answered("Many", "float", "", 4000, **scored(10_000, 92.0, 100, 0)),
        answered("Many", "NNCodec", "qp -30", 2000, **scored(10_000, 92.0, 99.0, 0.001)),
        answered("Many", "NNCodec", "qp -24", 1000, **scored(10_000, 91.7, 98.0, 0.01)),
        answered("Many", "NNCodec", "qp -20", 750, **scored(10_000, 91.6, 97.0, 0.02)),
        answered("Many", "v4, 1,024 images", "as it comes", 900, **scored(10_000, 91.9, 98.5, 0.01)),
        answered("Many", "v4, 1,024 images", "0.02", 500, **scored(10_000, 91.75, 97.5, 0.02)),
        answered("Few", "float", "", 8000, **scored(266, 84.0, 100, 0)),
        answered("Few", "NNCodec", "qp -30", 3000, **scored(266, 84.0, 98.0, 0.002)),
        answered("Few", "NNCodec", "qp -24", 2000, **scored(266, 84.5, 96.6, 0.01)),
        answered("Few", "v4, 128 images", "as it comes", 1500, **scored(266, 83.0, 97.0, 0.006)),
        answered("Few", "v4, 128 images", "0.02", 1000, **scored(266, 84.0, 96.0, 0.01)),
        answered("Boxes", "float", "", 400, error=0.0),
        answered("Boxes", "NNCodec", "qp -38", 200, error=0.005),
        answered("Boxes", "NNCodec", "qp -32", 100, error=0.05),
        answered("Boxes", "v4, no images", "as it comes", 120, error=0.02),
    ]
    return {f"{row['network']}|{row['method']}|{row['setting']}": row for row in rows}


def test_our_smallest_good_file_meets_one_that_is_as_good() -> None:
    rows = measured_rows()
    ours, peer = answers_rows.pair(answers_rows.of(rows, "Many"), "v4, 1,024 images")
    assert (ours["bytes"], peer["bytes"]) == (500, 1000)  # both lose at most 0.3 points; 91.6 loses more
    ours, peer = answers_rows.pair(answers_rows.of(rows, "Few"), "v4, 128 images")
    assert (ours["bytes"], peer["bytes"]) == (1500, 3000)  # its 96.6 % are enough, but less than our 97 %
    ours, peer = answers_rows.pair(answers_rows.of(rows, "Boxes"), "v4, no images")
    assert ours is None
    assert peer["bytes"] == 200


def test_other_seeds_are_shown_and_none_is_chosen() -> None:
    rows = measured_rows()
    for seed, size, top1 in ((1, 480, 91.95), (2, 550, 91.65)):
        row = answered("Many", "v4, 1,024 images", f"0.02, seed {seed}", size, **scored(10_000, top1, 97.5, 0.02))
        rows[f"seed {seed}"] = {**row, "seed": seed}
    ours, _ = answers_rows.pair(answers_rows.of(rows, "Many"), "v4, 1,024 images")
    assert (ours["bytes"], ours["n"]) == (510, 3)  # the mean of 500, 480 and 550
    text = "\n".join(answers_page.page(rows, [], {}))
    assert "| 0.02 | 3 | 510 (480 to 550) | 0.22 (0.05 to 0.35) points | 20.0 (20.0 to 20.0) |" in text
    assert "| v4, 1,024 images | 0.02, seed 2 | 550 |" in text


def test_bytes_at_equal_divergence_are_read_between_files() -> None:
    own = answers_rows.of(measured_rows(), "Many")
    between = dict(own[-1], bytes=500, divergence=0.01 * 10**-0.5)  # half way from 0.01 to 0.001
    assert answers_rows.at_equal(own, between) == pytest.approx(500 / (2000 * 1000) ** 0.5)
    assert answers_rows.at_equal(own, dict(between, divergence=0.5)) is None


def test_a_default_keeps_the_answers_or_the_accuracy() -> None:
    rows = measured_rows()
    whole = rows["Few|float|"]
    assert not answers_rows.keeps(rows["Few|v4, 128 images|as it comes"], whole)
    assert answers_rows.keeps(dict(whole, agreement=99.2, top1=83.0), whole)
    assert answers_rows.keeps(dict(whole, agreement=97.0, top1=83.75), whole)
    assert not answers_rows.keeps(rows["Boxes|v4, no images|as it comes"], rows["Boxes|float|"])


def test_the_page_has_every_row_and_sets_ours_beside_the_goal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured_rows()
    text = "\n".join(answers_page.page(rows, PUBLISHED, {"Few": ["v4, no images: 0.01"]}))
    assert (
        "| Many, CIFAR-10 | Other | 92 | 91 | 65 kB | nominal | no | a paper | read | 500; 91.75 (92.00); v4, 1,02"
        in text
    )
    assert "- Few: v4, no images: 0.01." in text
    assert (
        "| Many | v4, 1,024 images | 0.02 | 1 | 500 | 0.25 points | 1,000 | 0.30 points | 0.50 | ≤ 0.40 | 0.67 |"
        in text
    )
    assert (
        "| Few | v4, 128 images | as it comes | 1 | 1,500 | 3.0 % changed | 3,000 | 2.0 % changed | 0.50 | ≤ 0.50"
        in text
    )
    assert "| Boxes | v4, no images | – | – | – | – | 200 | 0.005 | – | – | – |" in text
    assert text.count("**missed**") == 2
    for row in rows.values():
        assert f"| {row['method']} | {row['setting']} | {row['bytes']:,} |" in text
    without = {key: row for key, row in rows.items() if not str(row["method"]).startswith("v4")}
    assert "| Many | – | – | – | – | – | 1,000 | 0.30 points |" in "\n".join(answers_page.page(without, [], {}))
    monkeypatch.setattr(answers_figure, "RESULTS", tmp_path)
    answers_figure.draw(rows)
    assert all((tmp_path / f"answers{theme}.png").stat().st_size > 1000 for theme in ("", "-dark"))
    assert answers_page.page({}, PUBLISHED, {})  # nothing is measured yet


def test_every_page_of_results_is_what_its_json_gives() -> None:
    made = results.pages()
    written = {path.stem: path.read_text() for path in RESULTS.glob("*.md")}
    assert {name: "\n".join(lines).rstrip("\n") + "\n" for name, lines in made.items()} == written


def test_figures_of_the_readme_are_among_the_rows() -> None:
    """Every line of README's table has the bytes, accuracy and float accuracy of a row."""
    table = re.findall(r"^\|.*\| ([\d,]+) \| ([\d.]+)(?: \(([\d.]+)\))? \|", README.read_text(), re.MULTILINE)
    rows = json.loads((RESULTS / "answers.json").read_text())
    known = {(f"{row['bytes']:,}", f"{row.get('top1', 0):.2f}") for row in rows.values()}
    assert len(table) > 10
    assert {(size, top1) for size, top1, _ in table} <= known


def test_a_training_is_run_once_and_resumed_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr(runs, "setting", lambda: {"commit": "abc"})
    run = runs.Run("small", "Many", "v2", "retrained", "-T -v v2 --ckpt WEIGHTS/net.th", 2, file="ckpt_best_v2.mess")
    run.finish(tmp_path)
    assert "-T" in commands[-1]
    assert "-R" not in commands[-1]
    assert f"{runs.CIFAR_WEIGHTS}/net.th" in commands[-1]
    (run.folder / "ckpt_last.pth").touch()
    run.finish(tmp_path)  # its other flags are in the checkpoint, and -R beside -T is refused
    assert "-R" in commands[-1]
    assert "-T" not in commands[-1]
    run.path.touch()
    (run.folder / "log.csv").write_text("epoch,total_seconds\n1,5.5\n2,11.2\n")
    run.finish(tmp_path)
    assert len(commands) == 2
    assert run.facts() == {"epochs": 2, "train_seconds": 11, "trained": "abc"}


def test_the_schemes_page_says_what_is_measured_and_what_is_not() -> None:
    rows = {
        name: {**answered("ResNet-20", *name.split("|"), size, **scored(10_000, top1, 100, 0))}
        for name, size, top1 in (("float|", 4000, 92.0), ("v2|stored, 8 bits", 500, 20.5))
    }
    text = "\n".join(schemes_page.page(rows))
    assert "| v2 | 500 → 20.50 |" in text
    assert "- ResNet-20, v2, retrained, --project, 2 epochs" in text


def test_integers_of_a_dead_channel_are_finite() -> None:
    weight = torch.tensor([[0.5, -1.0], [1e-10, -1e-11], [0.0, 0.0]])
    back = peers.integers({"weight": weight}, 8).weights["weight"]
    torch.testing.assert_close(back, weight, atol=0.005, rtol=0)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM here")
def test_a_limit_ends_what_takes_too_long_and_the_one_around_it_goes_on() -> None:
    def nested() -> None:
        with limits.limited(0.1):
            with limits.limited(5.0):
                pass
            time.sleep(5)

    with pytest.raises(limits.OutOfTimeError, match="more than 0 s"):
        nested()
    time.sleep(0.01)  # none is left
