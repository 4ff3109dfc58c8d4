"""What several processes do once for all of them, and what they send one another: two of them, over gloo."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mess.data import workers
from mess.data.folder import ImageFolder
from mess.data.info import KNOWN
from mess.devices import Devices, open_devices
from mess.training import Hooks, TrainOptions, fit
from mess.training.run import Run
from test_devices import run
from training_fakes import FakeBatches, tiny


def look(devices: Devices, folder: str) -> None:
    """Train two epochs and write what this process did."""
    called: list[str] = []
    wrapped: list[Any] = []
    setup, state = type(devices).setup, Run.state

    def noted_setup(self: Devices, *parts: Any) -> Any:
        made = setup(self, *parts)
        wrapped.append(made[0]._forward_module)
        return made

    def noted_state(self: Run, sums: list[float]) -> Any:
        called.append("state")
        return state(self, sums)

    def learned() -> dict[str, torch.Tensor]:
        called.append("learn")
        return {"index": torch.arange(4) + devices.rank}

    def before_epoch(epoch: int, model: nn.Module) -> None:
        if epoch == 1:  # another reference is the best in each process: the first one's counts
            model.index_N.fill_(10 * (devices.rank + 1))

    type(devices).setup, Run.state = noted_setup, noted_state  # type: ignore[method-assign]
    index = devices.once(learned)["index"].tolist()
    model = tiny(0.0)
    model.register_buffer("index_N", torch.full((3,), devices.rank), persistent=False)
    data = [FakeBatches(16, 8, train=t, rank=devices.rank, world=devices.world_size) for t in (True, False)]
    options = TrainOptions(epochs=2, batch_size=8, lr=0.01, save_epoch=1)
    fit(model, *data, options, devices, hooks=Hooks(before_epoch=before_epoch), checkpoint_dir=Path(folder))
    sent = sorted({str(buffer.dtype) for buffer in wrapped[0].modules_buffers})
    found = {"index": index, "called": called, "sent": sent, "index_N": model.index_N.tolist()}
    (Path(folder) / f"{devices.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two")
    result = run(__file__, folder)
    assert result.returncode == 0, result.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_references_are_learned_in_one_process_for_all(two: list[dict[str, Any]]) -> None:
    assert [found["called"].count("learn") for found in two] == [1, 0]
    assert [found["index"] for found in two] == [[0, 1, 2, 3]] * 2


def test_one_process_copies_the_state_for_all(two: list[dict[str, Any]]) -> None:
    assert [found["called"].count("state") for found in two] == [2, 0]


def test_integers_are_not_sent_with_each_step_but_once_an_epoch(two: list[dict[str, Any]]) -> None:
    assert [found["sent"] for found in two] == [["torch.float32"]] * 2
    assert [found["index_N"] for found in two] == [[10] * 3] * 2


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("cores", "processes", "expected"), [(16, 1, 8), (16, 4, 4), (2, 4, 1)])
def test_processes_of_a_machine_share_its_cores(
    cores: int, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    folder = ImageFolder(KNOWN["imagenet"], [], torch.zeros(0).numpy(), train=False)
    made = workers.ImageDecoder(folder, seed=0, workers=8, smallest=0, processes_here=processes)
    assert made._loader.num_workers == expected


if __name__ == "__main__":
    torch.set_num_threads(1)
    opened = open_devices(processes=2)
    opened.launch(look, opened, sys.argv[1])
