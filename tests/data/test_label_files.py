"""Label files of image sets, as hostile archives have them."""

from __future__ import annotations

import pytest

from vultus.data.label_files import label_table, parse_label, read_label_file


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


@pytest.mark.parametrize("value", ["a\nb", {"a\nb": 1}, ["a\nb"], [{}], [None], None, 3])
def test_entries_and_labels_of_other_kinds_are_refused_in_one_line(value: object) -> None:
    with pytest.raises(ValueError, match=r"^set/labels: an entry must be \[name, num") as of_entry:
        label_table({"labels": [value]}, "labels", "set/labels")
    with pytest.raises(ValueError, match=r"^the label must ") as of_label:
        parse_label(value, 25, "the label")
    assert "\n" not in str(of_entry.value) + str(of_label.value)


def test_two_labels_of_one_image_are_refused() -> None:
    with pytest.raises(ValueError, match=r"set/labels has two labels for 'a/b\.png'"):
        label_table({"labels": [["a/b.png", []], ["a\\b.png", []]]}, "labels", "set/labels")
