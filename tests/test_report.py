"""What people look at: the page of `mess report`, and that `mess inspect` says the same, on files and on runs."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mess
from format_helpers import example, example_v4, weights
from mess import codec
from mess.cli import main
from mess.cli.report import read_run
from mess.codec.rows import by_reason, rows_of
from mess.models.described import layout_of
from mess.report import distinct, read_facts, read_results
from mess.report.html import VOID
from mess.report.kernel_figures import references
from mess.training.log import CsvLog, EpochReport

VERSIONS = ["v1", "v2", "v2a", "v2q", "v3", "v3a"]
HOSTILE = "<script>alert('x')</script>\"&.weight"
SVG_ALONE = {"path", "use", "rect"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in its place, ids once, links that lead somewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.data: list[dict[str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        assert len(told) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in told:
            self.ids.append(told["id"])
        if "href" in told:
            self.links.append(told["href"])
        self.loads += [told[name] for name in ("src", "srcset", "data", "action", "poster") if name in told]
        self.loads += re.findall(r"url\(([^)]*)\)", " ".join(told.values()))
        if any(name.startswith("data-") for name in told):
            self.data.append(told)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_ALONE
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(path: Path) -> Page:
    """Read a page that must be well-formed and load nothing."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert all(load.startswith("#") for load in page.loads)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    return page


def shown(page: Page, name: str) -> dict[str, int]:
    return {found[f"data-{name}"]: int(found["data-bytes"]) for found in page.data if f"data-{name}" in found}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of nobody's zoo with everything a file can hold, under every version."""
    folder = tmp_path_factory.mktemp("own")
    torch.save(weights(), folder / "own.pth")
    for version in VERSIONS:
        codec.write_model(folder / f"{version}.mess", example(version))
    return folder


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-8, and its files under v2a and v4."""
    folder = tmp_path_factory.mktemp("zoo")
    torch.manual_seed(0)
    model = mess.create_model("resnet", dataset="cifar10", layers=8)
    torch.save(model.state_dict(), folder / "net.pth")
    mess.compress(model, folder / "v2a.mess", scheme="v2a", scale_bits=8, offset_bits=8, rest_bits=16)
    codec.write_model(folder / "v4.mess", as_sums(folder / "v2a.mess", model.state_dict()), layout=layout_of)
    return folder


def as_sums(path: Path, state: dict[str, torch.Tensor]) -> codec.StoredModel:
    """Return a network as v4 stores it: kernels as sums of nine eigen-kernels, other weights as integers."""
    stored = codec.read_model(path, layout=layout_of)
    kernels_NU = torch.cat([w.reshape(-1, 9) for w in state.values() if w.shape[2:] == (3, 3)]).double()
    refs_TU = torch.linalg.eigh(kernels_NU.T @ kernels_NU).eigenvectors.T.flip(0).numpy()
    one = codec.NumberArray(np.ones(1, np.int32), "int32", 1.0)
    eigen = codec.NumberArray(np.rint(refs_TU * 500).astype(np.int32).reshape(-1), "int32", 1 / 500)
    books = [codec.Codebook(None, 1, 1, False, one), codec.Codebook(None, 9, 9, False, eigen)]
    entries = {name: entry for name, entry in stored.entries.items() if name not in state or state[name].ndim == 1}
    for name, weight in state.items():
        if weight.ndim > 1:
            book = int(weight.shape[2:] == (3, 3))
            units_RCU = weight.double().numpy().reshape(len(weight), -1, books[book].unit)
            terms_RCT = units_RCU @ refs_TU.T if book else units_RCU
            step = float(np.float32(0.3 * terms_RCT.std()))
            integers = np.rint(terms_RCT / step).astype(np.int32)
            entries[name] = codec.Expanded(tuple(weight.shape), "float32", book, integers, step)
    return codec.StoredModel(stored.network, {"version": "v4"}, books, entries)


def write_log(folder: Path, epochs: int, of: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = CsvLog(folder / "log.csv")
    for epoch in range(1, epochs + 1):
        scores = (2.0 / epoch, 50.0 + epoch, 2.1 / epoch, 49.0 + epoch, 90.0, 49.0 + epoch)
        log.append(EpochReport(epoch, of, 0.1 / epoch, *scores, 60.0, 60.0 * epoch))


def test_the_best_epoch_is_the_one_that_the_run_chose(tmp_path: Path) -> None:
    """With a price on bits it need not be the most accurate one."""
    log = CsvLog(tmp_path / "log.csv")
    for epoch, top1, best, of in ((1, 95.0, 1, 95.0), (2, 90.0, 2, 90.0), (3, 95.0, 2, 90.0)):
        log.append(EpochReport(epoch, 3, 0.1, 1.0, 90.0, 1.0, top1, 99.0, of, 60.0, 60.0 * epoch, 2.0, best))
    assert read_run(tmp_path, "run").best == (90.0, 2)


@pytest.mark.parametrize("most", [None, 24, 3, 1])
def test_rows_add_up_to_the_file_however_few_they_are(most: int | None, own: Path, zoo: Path) -> None:
    for path in (*own.glob("*.mess"), *zoo.glob("*.mess")):
        info = mess.inspect(path)
        rows = rows_of(info, most)
        assert sum(row.bytes for row in rows) == info.bytes == path.stat().st_size
        assert sum(row.numbers for row in rows) == info.numbers
        assert sum(len(group) for group in by_reason(info.tensors).values()) < len(info.tensors)


def test_inspect_tells_a_person_and_a_program_the_same(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = zoo / "v2a.mess"
    assert main(["inspect", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sha256"] == mess.inspect(path).sha256
    assert told["bytes"] == sum(told["sections"].values())
    assert set(told["crc32"]) == set(told["sections"]) - {"header"}
    kernel = next(t for t in told["tensors"] if t["name"] == "layer2.0.conv1.weight")
    assert kernel["forms"] == {"indices": "int64", "scales": "rounded to 8 bits", "offsets": "rounded to 8 bits"}
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    for part in (f"{told['bytes']:,} B", f"{told['ratio']:.1f}×", told["sha256"], *told["crc32"].values()):
        assert part in said
    for name in ("layer2.0.conv1.weight", "kernel layer before the references", "linear layer", "two vectors"):
        assert name in said


def test_a_page_says_what_inspect_says(
    own: Path, zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, path in enumerate((*sorted(own.glob("*.mess")), *sorted(zoo.glob("*.mess")))):
        assert main(["report", str(path), "-o", str(tmp_path / f"{number}.html")]) == 0
        page = checked(tmp_path / f"{number}.html")
        capsys.readouterr()
        assert main(["inspect", str(path), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert shown(page, "section") == told["sections"]
        layers = shown(page, "layer")
        by_itself = {t["name"]: t["bytes"] for t in told["tensors"] if len(t["shape"]) > 1 and t["stored"] != "tied"}
        assert by_itself.items() <= layers.items()
        assert sum(layers.values()) == told["bytes"] == path.stat().st_size
        text = " ".join(page.text)
        assert f"{told['bits_per_weight']:.2f}" in text
        assert told["sha256"] in text


def test_a_report_of_several_files_and_a_run_is_one_page_and_many_figures(zoo: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_log(run, 3, 10)
    for name in ("ckpt_best_v2a.mess", "ckpt_epoch_1_v2a.mess", "ckpt_epoch_2_v2a.mess"):
        shutil.copy(zoo / "v2a.mess", run / name)
    rows = {"ResNet-8|float|": {"bytes": 300_000, "top1": 80.0}, "ResNet-8|v4|small": {"bytes": 9_000, "top1": 79.0},
            "ResNet-80|v4|small": {"bytes": 9_000, "top1": 79.5}}  # fmt: skip
    (tmp_path / "peers.json").write_text(json.dumps(rows))
    output, figures = tmp_path / "all.html", tmp_path / "figures"
    again = [str(run / "ckpt_best_v2a.mess"), str(run)]  # what is named twice is shown once
    command = ["report", str(zoo / "v4.mess"), str(run), *again, "--original", str(zoo / "net.pth")]
    command += ["--results", str(tmp_path / "peers.json"), "-o", str(output), "--figures", str(figures)]
    assert main(command) == 0
    page = checked(output)
    text = " ".join(page.text)
    for part in ("The files compared", "3 of 10", "52.00%", "left at this pace", "ResNet-8: size against accuracy",
                 "The kernels that changed most", "Integers by term", "The references"):  # fmt: skip
        assert part in text
    assert "ResNet-80" not in text
    assert text.count("3 of 10") == 1
    names = {path.stem for path in figures.glob("*.png")}
    assert names == {path.stem for path in figures.glob("*.svg")}
    assert {"top1", "loss", "learning-rate", "bytes-by-epoch", "size-accuracy-ResNet-8"} <= names
    assert {
        "ckpt-best-v2a-references",
        "ckpt-best-v2a-alpha",
        "ckpt-best-v2a-beta",
        "ckpt-best-v2a-index",
        "ckpt-best-v2a-error",
        "ckpt-best-v2a-worst-kernels",
    } <= names
    assert {"v4-integers-1", "v4-references-1", "v4-steps", "v4-bytes-by-layer"} <= names
    pictures = {}
    for path in figures.glob("*.png"):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"))
        assert (pixels < 200).mean() > 0.001, f"{path.name} is empty"
        pictures[path.stem] = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert len(set(pictures.values())) == len(pictures)


def test_what_storing_changed_is_what_compress_said(own: Path, zoo: Path) -> None:
    state = {name: tensor.float().numpy() for name, tensor in weights().items()}
    said = mess.compress(weights(), own / "again.mess", scheme="v3", pointwise=4, scale_bits=8).error
    facts = read_facts(own / "again.mess", [state])
    assert facts.loss is not None
    assert {name: facts.loss.by_layer[name] for name in said} == pytest.approx(said, rel=1e-5)
    errors = [kernel.error for kernel in facts.loss.worst]
    assert errors == sorted(errors, reverse=True)
    worst = facts.loss.worst[0]
    np.testing.assert_array_equal(worst.before, state[worst.layer][worst.place].astype(np.float64))
    other = {name: tensor.float().numpy() for name, tensor in weights(seed=1).items()}
    assert read_facts(own / "again.mess", [other]).loss is None
    assert read_facts(own / "again.mess", [other, state]).loss.by_layer == facts.loss.by_layer
    (own / "again.mess").unlink()


def test_references_are_counted_and_put_in_the_order_of_use(own: Path) -> None:
    stored = codec.read_model(own / "v3.mess")
    facts = read_facts(own / "v3.mess")
    kernels, slices = facts.books
    assert (kernels.kernel, kernels.what) == ((3, 3), "units of 2 3×3 kernels")
    assert (slices.kernel, slices.what) == ((), "slices of 4 weights")
    uses = [kernels.uses_K[k] for k in kernels.order]
    assert uses == sorted(uses, reverse=True)
    units = sum(len(e.index_N) for e in stored.entries.values() if isinstance(e, codec.Matched) and e.book == 0)
    assert sum(uses) == units == len(kernels.scale_N)
    assert references(kernels, "title").get_supxlabel().startswith("red: above 0, blue: below; the most used first")


def test_of_integers_on_a_trellis_its_steps_are_counted(tmp_path: Path) -> None:
    codec.write_model(tmp_path / "plain.mess", example_v4())
    codec.write_model(tmp_path / "trellis.mess", example_v4(trellises=True))
    plain, trellis = (read_facts(tmp_path / f"{name}.mess") for name in ("plain", "trellis"))
    for before, after in zip(plain.books, trellis.books, strict=True):
        np.testing.assert_array_equal(before.terms_TM, after.terms_TM)
    coarser = {name: step / plain.steps[name] for name, step in trellis.steps.items()}
    assert coarser == {"a.weight": 4, "b.weight": 1, "fc.weight": 4}


def test_a_name_in_a_file_is_text_and_nothing_else(tmp_path: Path) -> None:
    state = {name: torch.randn(4, 4, 3, 3) for name in ("a.weight", HOSTILE, "$x^{.weight", "鍵.weight")}
    path = tmp_path / "a<b>&.mess"
    mess.compress(state, path, scheme="v2")
    torch.save(state, tmp_path / "net.pth")
    output = tmp_path / "page.html"
    command = ["report", str(path), "-o", str(output), "--original", str(tmp_path / "net.pth"), "--title", "<b>&"]
    assert main([*command, "--figures", str(tmp_path / "figures")]) == 0
    first = output.read_bytes()
    page = checked(output)
    assert main(command) == 0
    assert output.read_bytes() == first
    assert html.escape(HOSTILE) in output.read_text()
    assert HOSTILE in page.text


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "ckpt_last.pth").touch()
    assert main(["report", str(run), "-o", str(tmp_path / "page.html")]) == 0
    assert "No epoch is done yet" in " ".join(checked(tmp_path / "page.html").text)
    write_log(run, 1, 1)
    assert main(["report", str(run), "-o", str(tmp_path / "page.html")]) == 0
    assert "50.00%" in " ".join(checked(tmp_path / "page.html").text)


@pytest.mark.parametrize("kind", ["output", "missing", "folder", "original", "results", "log"])
def test_what_cannot_be_reported_is_said_in_one_line(
    kind: str, own: Path, zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").write_text("a,b\n1,2\n")
    (tmp_path / "rows.json").write_text('{"x": 1}')
    file, page = str(own / "v2.mess"), str(tmp_path / "page.html")
    arguments, said = {
        "output": ([file, "-o", file], "ends in .html"),
        "missing": ([str(tmp_path / "none.mess"), "-o", page], "none.mess"),
        "folder": ([str(tmp_path), "-o", page], "log.csv"),
        "original": ([file, "--original", str(zoo / "net.pth"), "-o", page], "net.pth"),
        "results": ([file, "--results", str(tmp_path / "rows.json"), "-o", page], "rows with network"),
        "log": ([str(tmp_path / "run"), "-o", page], "log.csv"),
    }[kind]
    before = Path(file).read_bytes()
    assert main(["report", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert Path(file).read_bytes() == before
    assert not Path(page).exists()


def test_runs_and_files_have_names_that_differ_and_no_more() -> None:
    paths = [Path("/a/resnet/digits"), Path("/b/resnet/digits"), Path("/b/mobilenet/digits")]
    assert distinct(paths, 2) == ["a/resnet/digits", "b/resnet/digits", "mobilenet/digits"]
    assert distinct(paths[:1], 2) == ["resnet/digits"]
    assert distinct([Path("net.mess"), Path("x/net.mess"), Path("other.mess")]) == [
        "net.mess",
        "x/net.mess",
        "other.mess",
    ]
    assert distinct([Path("net.mess")] * 2) == ["net.mess"] * 2


def test_results_of_a_checkout_are_read(zoo: Path) -> None:
    rows = read_results(Path(__file__).parents[1] / "docs" / "results" / "answers.json")
    assert {"v4, no images", "NNCodec", "float"} <= {row.method for row in rows}
    assert all(row.bytes > 0 and 0 <= row.top1 <= 100 for row in rows)


def test_a_browser_shows_the_page_at_any_width_without_scrolling_sideways(zoo: Path, own: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    write_log(tmp_path / "run", 3, 10)
    page = tmp_path / "page.html"
    files = [str(zoo / "v2a.mess"), str(zoo / "v4.mess"), str(own / "v3.mess")]
    originals = ["--original", str(zoo / "net.pth"), str(own / "own.pth")]
    assert main(["report", *files, str(tmp_path / "run"), *originals, "-o", str(page)]) == 0
    frames = "".join(
        f'<iframe srcdoc="{html.escape(page.read_text())}" style="width:{width}px;height:900px"></iframe>'
        for width in (400, 1400)
    )
    measure = """addEventListener("load", () => { document.body.dataset.found = JSON.stringify(
        [...document.querySelectorAll("iframe")].map(frame => { const d = frame.contentDocument;
        return [frame.clientWidth, d.documentElement.scrollWidth, d.querySelectorAll("svg.figure").length,
        Math.min(...[...d.querySelectorAll("svg")].map(x => x.getBoundingClientRect().height))] })) })"""
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(f"<!doctype html><body>{frames}<script>{measure}</script></body>")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [chromium, *flags, "--dump-dom", wrapper.as_uri()], capture_output=True, text=True, check=False, timeout=240
    )
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    for width, needed, charts, smallest in json.loads(html.unescape(found[1])):
        assert needed <= width
        assert charts >= 9
        assert smallest > 8
