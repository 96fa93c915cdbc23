"""The report page: everything is inside it, and nothing that it shows can break it."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
import torch

from vultus.core.image_io import write_image
from vultus.export.report import Curve, Report, Table, render_report


def test_pictures_are_embedded_byte_by_byte(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    write_image(picture, torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)))
    page = render_report(Report("title", "lead", media=[(picture, "caption")]))
    (data,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(data) == picture.read_bytes()
    assert "<figcaption>caption</figcaption>" in page


def test_films_play_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"film")
    page = render_report(Report("title", "lead", media=[(tmp_path / "a.mp4", "caption")]))
    assert f'<video src="data:video/mp4;base64,{base64.b64encode(b"film").decode()}"' in page


def test_text_is_escaped_wherever_it_stands(tmp_path: Path) -> None:
    bad = '<script>"&'
    write_image(tmp_path / "a.png", torch.zeros(3, 2, 2))
    report = Report(
        bad,
        bad,
        media=[(tmp_path / "a.png", bad)],
        tables=[Table(bad, [bad], [[bad]], bad)],
        curves=[Curve(bad, [1.0, 2.0], [0.0, 1.0])],
        commands=[(bad, bad)],
        facts={bad: bad},
    )
    page = render_report(report)
    assert "<script>" not in page
    # Title twice, lead, caption twice, four in the table, label and text of the curve, two
    # commands, two facts.
    assert page.count("&lt;script&gt;") == 15


def test_missing_numbers_are_said_to_be_missing() -> None:
    page = render_report(Report("t", "l", tables=[Table("a", ["m", "v"], [["psnr", None]])]))
    assert '<td class="number">not available</td>' in page


def test_curves_fill_their_box_and_leave_out_what_is_not_a_number() -> None:
    curve = Curve("loss", [0.0, 5.0, 10.0], [4.0, float("nan"), 2.0])
    page = render_report(Report("t", "l", curves=[curve]))
    (points,) = re.findall(r'<polyline points="([^"]+)"', page)
    assert points == "40.0,22.0 290.0,128.0"
    lonely = Curve("loss", [1.0], [1.0])
    assert "<svg" not in render_report(Report("t", "l", curves=[lonely]))


def test_what_cannot_be_embedded_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        render_report(Report("t", "l", media=[(tmp_path / "gone.png", "")]))
    with pytest.raises(ValueError, match=r"film\.avi: a report embeds \.png, \.jpg, \.mp4"):
        render_report(Report("t", "l", media=[(tmp_path / "film.avi", "")]))
