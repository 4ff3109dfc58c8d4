"""What a notebook, or print, shows of reports and files: whole, escaped, in the colours of the page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import nn

import mess


class Page(HTMLParser):
    """Holds each element to its end, and gathers text and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.styles, self.tags = "", "", set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        self.styles += "".join(value or "" for name, value in attrs if name == "style")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.fixture
def report(tmp_path: Path) -> mess.SizeReport:
    torch.manual_seed(0)
    blocks = nn.Sequential()
    for number in range(20):
        blocks.add_module(f"<img src=x>{number}", nn.Conv2d(4, 4, 3, padding=1))
    return mess.compress(blocks, tmp_path / "a&b<script>.mess", "v2", verify=False)


def test_reports_and_files_are_tables_in_notebooks(report: mess.SizeReport) -> None:
    for shown in (report, mess.inspect(report.path)):
        page = Page(shown._repr_html_())
        assert page.tags <= {"div", "b", "br", "span", "table", "tr", "td", "th"}  # nothing that a name made
        assert f"{report.bytes:,} B" in page.text
        assert f"{report.ratio:.1f} times smaller" in page.text
        assert "<img src=x>" in page.text
        assert len(page.text) < 3000
        assert "#fff" not in page.styles
        assert page.styles.count("color:inherit") > 5
    assert "a&b<script>.mess" in Page(report._repr_html_()).text
    assert "8 of 19, the worst" in Page(report._repr_html_()).text
    assert "little is left" in Page(report._repr_html_()).text


def test_what_is_printed_is_worth_it(report: mess.SizeReport) -> None:
    info = mess.inspect(report.path)
    assert str(report).splitlines()[0] == f"{report.path}: {report._size()}"
    assert "by itself (the references themselves): <img src=x>0.weight" in str(report)
    assert str(report).splitlines()[-1].startswith("little is left")
    assert str(info).splitlines()[0] == "weights of a network of its own, scheme v2"
    counts = [int(line.split(" B")[0].split()[-1].replace(",", "")) for line in str(info).splitlines()[2:]]
    assert sum(counts) == info.bytes


def test_what_was_seen_is_told(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    report = mess.compress(network, tmp_path / "net.mess", calibration=torch.rand(8, 3, 8, 8), verify=False)
    assert str(report.look) in str(report)
    assert str(report.look).split(",")[0] in Page(report._repr_html_()).text
    assert "as seen before it was written: " in str(mess.inspect(report.path))
