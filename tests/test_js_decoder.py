"""The decoder for browsers: in Node the same bits as Python's, and the page in a real browser."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import json
import math
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mess
from c_decoder import ROOT, examples, expected
from damage import mutants
from mess import codec
from mess.data import digits
from mess.errors import FormatError

NODE = shutil.which("node")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE = ROOT / "examples" / "browser"
WASM = ROOT / "decoder" / "js" / "mess.wasm"
needs_node = pytest.mark.skipif(NODE is None, reason="there is no Node here")


def told(script: str, *arguments: object, text: str = "") -> list:
    """Return the JSON that a script of these tests prints."""
    command = [str(NODE), ROOT / "tests" / script, *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_every_version_decodes_to_the_bits_that_python_reads(tmp_path: Path) -> None:
    files = {name: (tmp_path / f"{n}.mess", content) for n, (name, content) in enumerate(examples().items())}
    for path, content in files.values():
        path.write_bytes(content)
    for name, found in zip(files, told("js_decoder.mjs", *(path for path, _ in files.values())), strict=True):
        wanted = expected(files[name][1])
        assert found["bytes"] == len(files[name][1])
        assert {n: (t["dtype"], tuple(t["shape"]), t["hash"]) for n, t in found["tensors"].items()} == {
            n: (dtype, shape, hashlib.sha256(content).hexdigest()) for n, (dtype, shape, content) in wanted.items()
        }, name
        for tensor, (dtype, _, bits) in wanted.items():
            if dtype == "float16":
                floats = np.frombuffer(bits, np.float16).astype(float).tolist()
                as_text = {np.inf: "Infinity", -np.inf: "-Infinity"}
                told_ = [as_text.get(x, "NaN" if np.isnan(x) else x) for x in floats]
                assert found["tensors"][tensor]["floats"] == told_
        info = _inspected(files[name][0])
        assert {layer["name"]: layer["bytes"] for layer in found["layers"] if layer["kind"][0] in "PMCBb"} == {
            t.name: t.bytes for t in info.tensors if t.stored not in ("sum of references", "tied")
        }


def _inspected(path: Path) -> codec.FileInfo:
    return mess.inspect(path)


@needs_node
def test_damaged_files_are_errors(tmp_path: Path) -> None:
    paths, refused = [], []
    for number, content in enumerate(mutants(examples()["exponents"], 60, 4)):
        paths.append(tmp_path / f"{number}.mess")
        paths[-1].write_bytes(content)
        try:
            codec.reconstruct(codec.read_model(content))
            refused.append(False)
        except FormatError:
            refused.append(True)
    found = told("js_decoder.mjs", *paths)
    assert ["error" in answer for answer in found] == refused
    assert all(answer["text"] for answer in found if "error" in answer)


@needs_node
def test_the_pages_network_answers_as_pytorch_does() -> None:
    pytest.importorskip("sklearn")
    images = digits.load_digits(train=False)
    some = (images.images_NCHW[::40].float() / 255 - 0.3053) / 0.3760
    answers = mess.load(PAGE / "digits.mess")(some)
    found = told("js_answers.mjs", PAGE / "digits.mess", text=json.dumps(some.flatten(1).tolist()))
    np.testing.assert_allclose(found, answers.detach().numpy(), rtol=1e-3, atol=1e-3)


@needs_node
def test_the_package_holds_all_that_it_needs(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here")
    package = tmp_path / "node_modules" / "mess-decoder"
    package.parent.mkdir()
    command = [npm, "pack", "--silent", "--offline", f"--cache={tmp_path / 'cache'}", f"--pack-destination={tmp_path}"]
    subprocess.run([*command, str(ROOT / "decoder" / "js")], check=True, capture_output=True, timeout=60)
    (archive,) = tmp_path.glob("mess-decoder-*.tgz")
    shutil.unpack_archive(archive, tmp_path)
    (tmp_path / "package").rename(package)
    assert {p.name for p in package.iterdir()} == {
        "LICENSE", "README.md", "mess.d.ts", "mess.js", "mess.wasm", "package.json",
    }  # fmt: skip
    script = tmp_path / "read.mjs"
    script.write_text(
        "import { load } from 'mess-decoder';"
        f"console.log((await load({json.dumps(str(PAGE / 'digits.mess'))})).layers.length);"
    )
    assert subprocess.run([str(NODE), script], check=True, capture_output=True, text=True).stdout == "16\n"


def test_the_module_is_small() -> None:
    content = WASM.read_bytes()
    assert len(content) <= 40_000
    assert len(gzip.compress(content, 9)) <= 20_000


@needs_node
def test_the_module_is_what_its_source_compiles_to(tmp_path: Path) -> None:
    if not (shutil.which("clang") and shutil.which("wasm-ld")):
        pytest.skip("there is no clang with wasm-ld here")
    made = subprocess.run(["make", "-n", "-s", "wasm"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (tmp_path / "decoder").symlink_to(ROOT / "decoder")
    subprocess.run(
        made.strip().replace("decoder/js/mess.wasm", str(tmp_path / "mess.wasm")), shell=True, cwd=ROOT, check=True,
        capture_output=True,
    )  # fmt: skip
    told_ = "import { load, useWasm } from './decoder/js/mess.js';"
    told_ += f"await useWasm('{tmp_path}/mess.wasm'); const net = await load('examples/browser/digits.mess');"
    told_ += "console.log(JSON.stringify([...net.get('conv1.weight').data]));"
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", told_], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    weight = mess.load_state_dict(PAGE / "digits.mess")["conv1.weight"].flatten().tolist()
    assert json.loads(done.stdout) == weight


@pytest.fixture
def server() -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(ROOT))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def arc(x: float, y: float, rx: float, ry: float, start: int, end: int) -> list[list[float]]:
    angles = [math.radians(start + (end - start) * i / 20) for i in range(21)]
    return [[round(x + rx * math.cos(a), 3), round(y + ry * math.sin(a), 3)] for a in angles]


DRAWN = {
    "0": [arc(0.5, 0.5, 0.22, 0.34, 0, 360)],
    "3": [arc(0.47, 0.32, 0.2, 0.17, -150, 90) + arc(0.47, 0.67, 0.22, 0.18, -90, 150)],
}


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
@pytest.mark.parametrize("digit", DRAWN)
def test_a_browser_reads_the_file_and_knows_what_is_drawn(server: str, digit: str, tmp_path: Path) -> None:
    strokes = urllib.parse.quote(json.dumps(DRAWN[digit]))
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=20000", "--dump-dom", f"{server}/examples/browser/index.html#strokes={strokes}"]
    page = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout
    assert 'data-ready="yes"' in page
    assert f'id="answer">{digit}<' in page
    assert f"{(PAGE / 'digits.mess').stat().st_size:,} bytes, 16 layers" in page
    rows = re.findall(r"<tr><td>([\w.]+)</td>.*?<td>([\d,]+)</td>", page)
    assert len(rows) == 16
    assert dict(rows)["layer3.0.conv2.weight"] != "0"
