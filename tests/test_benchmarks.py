"""The guard of speed and the taking of turns: the parts of benchmarks/ that have to be right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from check import Ratio, losses, ratios
from turns import Window, take_turns


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
