"""Config files give back equal dataclasses, and every error names its dotted field."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from vultus.core.config import (
    add_new_fields,
    config_from_data,
    config_to_data,
    load_config,
    nan_fields,
    save_config,
    with_absolute_paths,
)


class _Shape(enum.Enum):
    SURFEL = 1
    GAUSSIAN = 2


@dataclass(frozen=True)
class _Optim:
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    milestones: tuple[int, ...] = (10, 20)


@dataclass(frozen=True)
class _Orbit:
    radius: float = 1.0


@dataclass(frozen=True)
class _Spiral:
    radius: float = 1.0
    turns: int = 2


@dataclass(frozen=True)
class _Config:
    data: Path = Path("captures/a")
    steps: Annotated[int, "a marker of the command line"] = 100
    mode: Literal["fast", "exact", 3] = "fast"
    shape: _Shape = _Shape.SURFEL
    resume: Path | None = None
    scale: int | float = 2
    weight: float | None = None
    optim: _Optim = field(default_factory=_Optim)
    second_optim: _Optim | None = None
    path: _Orbit | _Spiral = field(default_factory=_Orbit)
    weights: dict[str, float] = field(default_factory=lambda: {"l1": 0.8})
    sizes: list[tuple[int, int]] = field(default_factory=lambda: [(1, 2)])
    is_dry_run: bool = False

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")


_VARIANTS = [
    _Config(),
    _Config(data=Path("/x/ä b"), mode=3, shape=_Shape.GAUSSIAN, resume=Path("r"), scale=2.5),
    _Config(scale=3.0, weight=1.5, second_optim=_Optim(0.1, (0.0, 1.0), ())),
    _Config(path=_Spiral(2.0, 5), weights={}, sizes=[], is_dry_run=True),
    _Config(weight=math.inf, optim=_Optim(learning_rate=-math.inf)),
    _Config(weight=0.1 + 0.2, optim=_Optim(1e-300, (5e-324, 1.7976931348623157e308))),
]


@pytest.mark.parametrize("config", _VARIANTS)
def test_a_config_comes_back_from_its_file_equal_and_of_the_same_types(
    config: _Config, tmp_path: Path
) -> None:
    save_config(tmp_path / "config.json", config)
    loaded = load_config(tmp_path / "config.json", _Config)
    assert loaded == config
    assert repr(loaded) == repr(config)  # tells 3 from 3.0, tuples from lists


def test_files_older_than_a_field_get_its_default() -> None:
    config = _Config(steps=7, optim=_Optim(milestones=(1,)), weights={"l1": 1.0})
    data = config_to_data(config)
    del data["mode"], data["optim"]["betas"], data["second_optim"]
    completed = add_new_fields(data, _Config())
    assert config_from_data(_Config, completed) == config
    assert "mode" not in data
    # What is wrong stays wrong.
    assert add_new_fields([1], _Config()) == [1]
    with pytest.raises(ValueError, match=r"config\.unknown"):
        config_from_data(_Config, add_new_fields({"unknown": 1}, _Config()))


def test_not_a_number_comes_back_as_such() -> None:
    data = json.loads(json.dumps(config_to_data(_Config(weight=math.nan)), allow_nan=False))
    weight = config_from_data(_Config, data).weight
    assert weight is not None
    assert math.isnan(weight)


def _edited(path: str, value: Any) -> dict[str, Any]:
    data = config_to_data(_Config(second_optim=_Optim()))
    *parents, last = path.split(".")
    target = data
    for parent in parents:
        target = target[parent]
    target[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("steps", "7", r"config\.steps must be int, got '7'"),
        ("steps", True, r"config\.steps must be int, got True"),
        ("steps", 7.0, r"config\.steps must be int, got 7\.0"),
        ("steps", -1, r"config: steps must not be negative, got -1"),
        ("mode", "slow", r"config\.mode must be one of 'fast', 'exact', 3, got 'slow'"),
        ("mode", True, r"config\.mode must be one of"),
        ("shape", "CUBE", r"config\.shape must be one of SURFEL, GAUSSIAN, got 'CUBE'"),
        ("resume", 3, r"config\.resume must be Path or None, got 3"),
        ("is_dry_run", 1, r"config\.is_dry_run must be bool, got 1"),
        ("optim.learning_rate", "fast", r"config\.optim\.learning_rate must be float, got 'fast'"),
        ("optim.learning_rate", None, r"config\.optim\.learning_rate must be float, got None"),
        ("optim.betas", [0.5], r"config\.optim\.betas must have 2 items, got 1"),
        ("optim.betas", [0.5, "a"], r"config\.optim\.betas\[1\] must be float, got 'a'"),
        ("optim.typo", 1, r"config\.optim\.typo is not known; _Optim has: learning_rate, betas"),
        ("second_optim.betas", 3, r"config\.second_optim\.betas must be tuple\[float, float\]"),
        ("optim", 3, r"config\.optim must be an object"),
        ("path.class", "Line", r"config\.path\.class must be one of _Orbit, _Spiral, got 'Line'"),
        ("path.class", [], r"config\.path\.class must be one of _Orbit, _Spiral, got \[\]"),
        ("path.turns", 1, r"config\.path\.turns is not known"),
        ("a\nb", 1, r"config\.'a\\nb' is not known"),
        ("weights", {"l1": "x"}, r"config\.weights\.l1 must be float, got 'x'"),
        ("sizes", [[1, 2], [3]], r"config\.sizes\[1\] must have 2 items, got 1"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_field(
    path: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config_from_data(_Config, _edited(path, value))
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named() -> None:
    data = config_to_data(_Config())
    del data["optim"]["betas"]
    with pytest.raises(ValueError, match=r"config\.optim\.betas is missing"):
        config_from_data(_Config, data)


def test_values_that_do_not_fit_their_annotation_are_refused_when_written() -> None:
    config = _Config()
    object.__setattr__(config, "steps", "many")
    with pytest.raises(ValueError, match=r"config\.steps must be int, got 'many'"):
        config_to_data(config)


@dataclass(frozen=True)
class _Ambiguous:
    source: Path | str = "a"


@dataclass(frozen=True)
class _Unsupported:
    anything: object = None


def test_a_value_that_would_change_its_type_on_reading_is_refused() -> None:
    with pytest.raises(ValueError, match=r"config\.source cannot be read back"):
        config_to_data(_Ambiguous())


def test_a_field_type_without_a_meaning_in_json_is_refused() -> None:
    with pytest.raises(ValueError, match=r"config\.anything has a type that config files do not"):
        config_to_data(_Unsupported())


@dataclass(frozen=True)
class _Files:
    path: Path | None = None
    name: str = "a.png"


@dataclass(frozen=True)
class _Sources:
    files: _Files
    other: Path = Path("c")


def test_paths_are_named_from_the_root_also_in_nested_dataclasses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = with_absolute_paths(_Sources(_Files(Path("b"))))
    assert found == _Sources(_Files(tmp_path / "b"), tmp_path / "c")
    assert with_absolute_paths(_Files()) == _Files()


def test_a_damaged_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{\n"steps": }')
    with pytest.raises(ValueError, match=r"config\.json:2: not JSON"):
        load_config(tmp_path / "config.json", _Config)


def test_strings_are_never_evaluated(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    hostile = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    loaded = config_from_data(_Config, _edited("data", hostile))
    assert loaded.data == Path(hostile)
    assert not marker.exists()


def test_numbers_that_are_none_are_found_by_their_dotted_names():
    config = _Config(weight=math.nan, optim=_Optim(learning_rate=math.nan))
    assert sorted(nan_fields(config)) == ["optim.learning_rate", "weight"]
    assert nan_fields(_Config(weight=math.inf)) == []
