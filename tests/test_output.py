"""How much is said: nothing, the usual, or everything; the same for every verb, and never on the wrong stream."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

import mess
from mess.cli import VERBS, main, make_parser


@pytest.fixture
def net(in_folder: Path) -> None:
    model = mess.create_model("resnet", layers=8)
    torch.save(model.state_dict(), "net.pth")
    mess.compress(model, "net.mess", "v2", verify=False)


def test_every_verb_takes_both_flags_and_not_at_once(net: None, capfd: pytest.CaptureFixture) -> None:
    for verb in VERBS:
        assert {"--quiet", "--verbose"} <= {*make_parser(verb).flags()}
    assert main(["inspect", "net.mess", "--quiet", "--verbose"]) == 2
    assert "expected one of --quiet and --verbose" in capfd.readouterr().err


def test_quiet_says_errors_and_what_programs_ask_for(net: None, capfd: pytest.CaptureFixture) -> None:
    words = ["compress", "net.pth", "-v", "v2", "--no-verify", "--force", "--quiet"]
    for told in (words, ["verify", "net.mess", "--quiet"], ["diff", "net.pth", "net.mess", "--quiet"]):
        assert main(told) == 0
        assert capfd.readouterr() == ("", "")
    assert main([*words, "--json"]) == 0
    out, err = capfd.readouterr()
    assert (json.loads(out)["file"], err) == ("net_v2.mess", "")
    assert main(["verify", "nowhere.mess", "--quiet"]) == 2
    assert main(["inspect", "net.pth", "--quiet"]) == 2
    assert "expected a .mess file" in capfd.readouterr().err


def test_verbose_says_what_is_done_on_standard_error(net: None, capfd: pytest.CaptureFixture) -> None:
    words = ["compress", "net.pth", "-v", "v2", "--no-verify", "--force"]
    main(words)
    usual = capfd.readouterr()
    assert usual.err == ""
    main([*words, "--verbose"])
    out, err = capfd.readouterr()
    assert out == usual.out
    assert "mess.weights: net.pth: 44 tensors" in err
    assert "bytes written" in err
    assert err.count(f"mess {mess.__version__}: compress") == 1
    assert main(["inspect", "net.pth", "--verbose"]) == 2
    assert "Traceback" in capfd.readouterr().err
    assert main(["inspect", "net.pth"]) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_warnings_of_the_library_come_once_and_plain(net: None, capfd: pytest.CaptureFixture) -> None:
    for _ in range(2):
        main(["verify", "net.mess"])
    capfd.readouterr()
    logging.getLogger("mess.data").warning("left out 1 file")
    assert capfd.readouterr().err == "left out 1 file\n"
