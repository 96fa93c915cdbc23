"""Label files of image sets, as hostile archives have them."""

from __future__ import annotations

import pytest

from vultus.data.label_files import read_label_file


@pytest.mark.parametrize(("content", "message"), [
    (b'{"labels": [["a.png", [1' + b"0" * 400 + b"]]]}", "set/labels: whole numbers must fit 64"),
    (b'{"labels": ' + b"9" * 5000 + b"}", "set/labels: whole numbers must fit 64"),
    (b'{"labels"', "set/labels:1: not JSON"),
    (b"\xff\xfe\x00", "set/labels: not JSON"),
    (b"[" * 100_000, "set/labels: not JSON: nested too deeply"),
    (b"[]", "set/labels must hold"),
])  # fmt: skip
def test_damaged_label_files_are_refused_by_their_name(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_label_file(content, "set/labels")
    assert "\n" not in str(caught.value)
