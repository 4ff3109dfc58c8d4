"""What a person reads before anything runs: help, suggestions, completion, with colour only where there is some."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mess.cli import VERBS, main, make_parser, module_of
from mess.cli.parser import Parser

FLAGS = [
    (["train", "--epoch", "3"], "expected one of its flags (did you mean --epochs?), found --epoch"),
    (["train", "--learning_rate=1"], "did you mean --learning-rate?"),
    (["train", "--epochs", "many"], "--epochs: expected a whole number, found 'many'"),
    (["train", "--lr", "fast"], "--lr/--learning-rate: expected a number, found 'fast'"),
    (["train", "--lr"], "--lr/--learning-rate: expected one value, found none"),
    (["train", "--schedule", "cosin"], "did you mean cosine?"),
    (["compress"], "mess compress: expected CKPT, found nothing. `mess compress --help`"),
    (["decompress", "a", "b"], "expected -o/--output, found nothing"),
    (["inspect", "a", "b"], "expected nothing more, found 'b'"),
    (["train", "-N", "-v", "v22"], "did you mean v2?"),
    (["train", "--name", "../elsewhere"], "--name: expected a name of one folder"),
    (["completion", "fish"], "SHELL: expected one of bash, zsh, tcsh"),
    (["insepct"], "did you mean inspect?"),
]


@pytest.mark.parametrize(("argv", "said"), FLAGS, ids=[" ".join(argv) for argv, _ in FLAGS])
def test_a_mistake_gets_one_line_with_the_way_out(
    argv: list[str], said: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_for_80_columns_and_examples_that_parse(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    help_text = capsys.readouterr().out
    assert max(map(len, help_text.splitlines())) <= 80
    help_text = help_text.replace(" \\\n    ", " ")
    examples = re.findall(rf"^  (?:eval \"\$\()?mess {verb}(?=[ )]|$)(.*?)(?:  .*|\)\"|>.*)?$", help_text, re.MULTILINE)
    assert examples
    for example in examples:
        make_parser(verb).parse(example.split())


def test_help_says_first_what_has_to_be_typed_and_keeps_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, usage in (("train", "[FLAG ...] [DATA]"), ("compress", "[FLAG ...] CKPT [CKPT ...]")):
        assert f"Usage: mess {verb} {usage}\n" in make_parser(verb).format_help()
    parser = Parser("mess imagined", "What `pip install 'mess-cnn[onnx]'` brings.", "Examples:\n  mess imagined [red]")
    assert "mess-cnn[onnx]" in parser.format_help()
    assert "mess imagined [red]" in parser.format_help()


def test_help_says_how_many_bits_the_rest_has_in_v4() -> None:
    for verb in ("train", "compress"):
        assert "(default: 32; v4: what each vector is worth, 8 in training)" in " ".join(
            make_parser(verb).format_help().split()
        )


def on_a_terminal(command: list[str], **environment: str) -> str:
    """Return what a command writes to a terminal of 80 columns."""
    outer, inner = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    settings = {"TERM": "xterm-256color", "COLUMNS": "80", **environment}
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, env=env | settings):
        os.close(inner)
        said = b""
        try:
            while part := os.read(outer, 65536):
                said += part
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(outer)
    return said.decode()


def test_colour_is_for_terminals_that_have_it_and_not_forbidden() -> None:
    mess = [sys.executable, "-m", "mess"]
    assert "\x1b[36mmess demo" in on_a_terminal(mess)
    plain = on_a_terminal(mess, NO_COLOR="1")
    assert "\x1b[3" not in plain
    piped = subprocess.run(mess, capture_output=True, text=True, check=True).stdout
    assert "\x1b" not in piped
    assert "mess demo" in piped
    assert max(map(len, piped.splitlines())) <= 80


def test_completion_knows_verbs_flags_and_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scripts = {}
    for shell in ("bash", "zsh"):
        assert main(["completion", shell]) == 0
        scripts[shell] = capsys.readouterr().out
        assert all(module_of(verb) and verb in scripts[shell] for verb in VERBS)
        assert "shufflenetv2" in scripts[shell]
        assert "--offset-bits" in scripts[shell]
    (tmp_path / "mess.bash").write_text(scripts["bash"])
    asked = """
        source mess.bash
        complete_line() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            completer=$(complete -p mess | sed 's/.*-F //; s/ .*//')
            $completer mess "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "${COMPREPLY[*]}"
        }
        complete_line mess insp
        complete_line mess train --arch mobilenetv
        complete_line mess compress --vers
    """
    bash = shutil.which("bash")
    assert bash is not None
    run = subprocess.run([bash, "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [line.strip() for line in run.stdout.splitlines()] == ["inspect", "mobilenetv2", "--version"]
