"""The unpickler reads data of known kinds and never runs what a pickle asks for."""

from __future__ import annotations

import builtins
import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from vultus.core.safe_pickle import (
    PickledGlobal,
    PickledObject,
    load_object_array,
    load_pickle,
    parse_pickle,
)

_PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def _parse(data: bytes, **options: Any) -> Any:
    return parse_pickle(data, "file.pkl", **options)


# ---- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_plain_containers_come_back_equal_in_every_protocol(protocol: int) -> None:
    value = {
        "text": "ä",
        "bytes": b"\x00\xff",
        "numbers": [1, -(2**80), 0.1, True, None, 1 + 2j],
        "tuple": (1, (2, [3])),
        "set": {1, 2},
        "frozen": frozenset({3}),
        "buffer": bytearray(b"ab"),
        "ordered": collections.OrderedDict(b=1, a=2),
        "default": collections.defaultdict(list, x=[1]),
        3: "an integer key",
    }
    read = _parse(pickle.dumps(value, protocol))
    assert read == value
    assert list(read["ordered"]) == ["b", "a"]


@pytest.mark.parametrize("protocol", _PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(5, dtype=">u2"),
        np.array([True, False]),
        np.array(["ab", "cde"]),
        np.array([b"ab", b"c"]),
        np.zeros((0, 3)),
        np.array(2.5),
        np.array([1 + 2j, 3], np.complex64),
        np.array([{"a": 1}, None, [2]], object),
        np.float64(1.5),
        np.int32(-3),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_arrays_and_their_scalars_come_back_equal(array: Any, protocol: int) -> None:
    read = _parse(pickle.dumps({"a": array}, protocol))["a"]
    assert type(read) is type(array)
    assert read.shape == array.shape
    assert read.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(read, array)


@pytest.mark.parametrize("layout", ["csc", "csr", "coo"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrices_come_back_equal(layout: str, kind: str) -> None:
    dense = np.random.default_rng(0).random((5, 7)) * (
        np.random.default_rng(1).random((5, 7)) > 0.6
    )
    matrix = getattr(scipy.sparse, f"{layout}_{kind}")(dense)
    read = _parse(pickle.dumps(matrix))
    assert type(read) is type(matrix)
    assert np.array_equal(read.toarray(), dense)


def test_a_python_2_pickle_of_a_sparse_matrix_is_read() -> None:
    # Written by hand: protocol 2, old module names, byte strings for arrays.
    values = np.array([1.0, 2.0])
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02%s\x89\x88\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U%c%stb"
    )

    def encode(kind: bytes, data: bytes) -> bytes:
        return array % (kind, len(data), data)

    indices, starts = np.array([0, 2], "<i4"), np.array([0, 1, 1, 2], "<i4")
    data = (
        b"\x80\x02ccopy_reg\n_reconstructor\ncscipy.sparse.csc\ncsc_matrix\nc__builtin__\nobject\n"
        b"N\x87R}(U\x06_shapeK\x03K\x03\x86U\x04data"
        + encode(b"f8", values.tobytes())
        + b"U\x07indices"
        + encode(b"i4", indices.tobytes())
    )
    pointer = array.replace(b"K\x02\x85c", b"K\x04\x85c", 1) % (b"i4", 16, starts.tobytes())
    read = _parse(data + b"U\x06indptr" + pointer + b"U\x08maxprintK\x32ub.")
    assert np.array_equal(read.toarray(), [[1, 0, 0], [0, 0, 0], [0, 0, 2]])


@pytest.fixture
def chumpy() -> Iterator[types.SimpleNamespace]:
    """Stand-ins with chumpy's module and class names, there only while the pickle is written."""
    ch, reordering = types.ModuleType("chumpy.ch"), types.ModuleType("chumpy.reordering")
    array_class = type("Ch", (), {"__module__": "chumpy.ch", "__qualname__": "Ch"})
    select_class = type("Select", (), {"__module__": "chumpy.reordering", "__qualname__": "Select"})
    ch.Ch, reordering.Select = array_class, select_class  # type: ignore[attr-defined]
    modules = {
        "chumpy": types.ModuleType("chumpy"),
        "chumpy.ch": ch,
        "chumpy.reordering": reordering,
    }
    sys.modules.update(modules)
    yield types.SimpleNamespace(Ch=array_class, Select=select_class)
    for name in modules:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_chumpy_arrays_become_arrays_without_chumpy(
    chumpy: types.SimpleNamespace, protocol: int
) -> None:
    values = np.arange(12.0).reshape(4, 3)
    array, select = chumpy.Ch(), chumpy.Select()
    array.x, array._dirty_vars, array._itr = values, set(), None
    select.a, select.idxs, select.preferred_shape = array, np.array([0, 5, 11]), (3, 1)
    data = pickle.dumps({"shapedirs": array, "chosen": select}, protocol)
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        del sys.modules[name]
    read = _parse(data)
    assert np.array_equal(read["shapedirs"], values)
    assert np.array_equal(read["chosen"], [[0.0], [5.0], [11.0]])
    assert not any(name.startswith("chumpy") for name in sys.modules)


def test_shared_and_cyclic_containers_stay_so() -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    read = _parse(pickle.dumps({"a": inner, "b": inner}))
    assert read["a"] is read["b"]
    assert read["a"][1] is read["a"]


class _Module:
    def __init__(self) -> None:
        self.weight = np.ones(2)
        self.itself = self


def test_inert_objects_come_back_as_descriptions_even_when_they_contain_themselves() -> None:
    name = f"{_Module.__module__}._Module"
    read = _parse(pickle.dumps([_Module(), _Module]), inert=[name])
    assert isinstance(read[0], PickledObject)
    assert read[0].name == name
    assert read[0].state["itself"] is read[0]
    assert np.array_equal(read[0].state["weight"], np.ones(2))
    assert read[1] == PickledGlobal(name)


def test_object_arrays_of_numpy_files_are_read(tmp_path: Path) -> None:
    value = {"init_xyz": np.arange(6.0).reshape(2, 3)}
    np.save(tmp_path / "a.npy", np.array(value, dtype=object), allow_pickle=True)
    read = load_object_array(tmp_path / "a.npy")
    assert np.array_equal(read["init_xyz"], value["init_xyz"])
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"b\.npy: must hold pickled objects, got an array of"):
        load_object_array(tmp_path / "b.npy")


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"{'descr': '|O', 'fortran_order': False, 'shape': (3L", b"[" * 900, b"\xff" * 9],
)
def test_object_arrays_without_a_header_are_refused(header: bytes, tmp_path: Path) -> None:
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    (tmp_path / "a.npy").write_bytes(start + header + pickle.dumps([1]))
    with pytest.raises(ValueError, match=r"a\.npy: not a readable \.npy file: \S") as caught:
        load_object_array(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


# ---- what is refused -------------------------------------------------------------------------


class _Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


def _hostile_values(marker: str) -> dict[str, Any]:
    source = f"open({marker!r}, 'w')"
    return {
        "os.system": _Call(os.system, f"touch {marker}"),
        "builtins.eval": _Call(builtins.eval, source),
        "builtins.exec": _Call(builtins.exec, source),
        "builtins.getattr": _Call(getattr, "x", "upper"),
        "builtins.open": _Call(open, marker, "w"),
        "builtins.__import__": _Call(builtins.__import__, "this"),
        "subprocess.Popen": _Call(subprocess.Popen, ["touch", marker]),
        "nested": {"a": [1, ({"b": _Call(os.system, f"touch {marker}")},)]},
        "as a key": {_Call(builtins.eval, source): 1},
        "inside an array": np.array([_Call(os.system, f"touch {marker}")], dtype=object),
        "as an argument": _Call(collections.OrderedDict, _Call(builtins.eval, source)),
        "numpy function": _Call(np.load, marker),
        "a class that is not known": _Module(),
    }


@pytest.mark.parametrize("name", list(_hostile_values("")))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_hostile_pickles_are_refused_and_nothing_runs(
    name: str, protocol: int, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(_hostile_values(str(marker))[name], protocol))
    with pytest.raises(
        ValueError, match=r"file\.pkl: not a readable pickle: '.+' is not allowed"
    ) as e:
        load_pickle(path)
    assert "\n" not in str(e.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "module_and_name",
    [
        "os\nsystem",
        "posix\nsystem",
        "builtins\neval",
        "__builtin__\neval",
        "numpy.core.multiarray\n_reconstruct.__globals__",
        "collections\nOrderedDict.__class__",
        "collections\n_sys.modules",
        "numpy\n_core.multiarray",
        "torch\nload",
        "vultus.core.safe_pickle\nload_pickle",
    ],
)
def test_the_refused_name_is_in_the_message(module_and_name: str) -> None:
    dotted = module_and_name.replace("\n", ".")
    with pytest.raises(ValueError, match="is not allowed") as caught:
        _parse(f"c{module_and_name}\n.".encode())
    assert repr(dotted) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.", "argument"),  # state of a class
        (b"ccollections\nOrderedDict\nN}X\x01\x00\x00\x00aK\x01s\x86b.", "argument"),  # slot state
        (b"]}X\x01\x00\x00\x00aK\x01sb.", "__dict__"),  # state of a list
        (b"ccollections\nOrderedDict\n)R)R.", "not callable"),  # call of an object
        (b"K\x01)R.", "not callable"),
        (b"cnumpy\nndarray\n(K\x02\x85tR.", "may be mentioned but not built"),
        (b"ccopyreg\n_reconstructor\nK\x01K\x02K\x03\x87R.", "must be called with a class"),
        (b"ccollections\nOrderedDict\n)}X\x01\x00\x00\x00aK\x01s\x92.", "keyword"),  # NEWOBJ_EX
        (b"\x80\x02\x82\x01.", "extension registry"),
        (b"K\x00r\xff\xff\xff\x7f.", "memo index of 2147483647"),
        (b"K\x05Q.", "persistent identifiers are not allowed"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R.", "array type 'V8' is not supported"),
        (b"cnumpy\ndtype\nX\x09\x00\x00\x00i4,(2,)f8\x85R.", "is not supported"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.", "encoding 'rot'"),
        (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "with a size"),
        (b"", "."),
        (b"not a pickle", "."),
        (b"(" * 1000 + b".", "."),
    ],
)
def test_misuse_of_allowed_names_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"file\\.pkl: not a readable pickle: .*{reason}"):
        _parse(data)


@pytest.mark.parametrize(("levels", "reason"), [(9_000, "recursion"), (100_000, "nests more")])
def test_deep_nesting_is_refused_not_fatal(levels: int, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"not a readable pickle: .*{reason}"):
        _parse(b"]" * levels + b"a" * (levels - 1) + b".")


@pytest.mark.parametrize("shape", [(3,), (-1,), (2**40, 2**40), "ab", (1.5,)])
def test_arrays_whose_bytes_do_not_fit_their_shape_are_refused(shape: Any) -> None:
    state = (1, shape, np.dtype("f8"), False, b"\0" * 16)

    class Array:
        def __reduce__(self) -> Any:
            return (np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state)  # type: ignore[attr-defined]

    with pytest.raises(ValueError, match="not a readable pickle"):
        _parse(pickle.dumps(Array()))


def test_structured_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="not supported"):
        _parse(pickle.dumps(np.zeros(2, dtype=[("a", "f4"), ("b", "O")])))


# Damaged text may hold escape sequences that Python does not know.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_truncated_and_damaged_pickles_are_read_or_refused_but_nothing_else() -> None:
    value = {
        "a": np.arange(6.0),
        "b": [1, {"c": (2, "x")}],
        "s": scipy.sparse.csc_matrix(np.eye(3)),
    }
    data = pickle.dumps(value, 2)
    for length in range(len(data) - 1):
        with pytest.raises(ValueError, match=r"file\.pkl: not a readable pickle"):
            _parse(data[:length])
    generator = np.random.default_rng(0)
    for _ in range(1000):
        copy = bytearray(data)
        for position in generator.integers(0, len(data), 2):
            copy[position] = generator.integers(0, 256)
        try:
            _parse(bytes(copy))
        except ValueError as error:
            message = str(error)
            assert message.startswith("file.pkl: not a readable pickle")
            assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.pkl does not exist"):
        load_pickle(tmp_path / "a.pkl")
    with pytest.raises(FileNotFoundError, match=r"a\.npy does not exist"):
        load_object_array(tmp_path / "a.npy")


def test_a_hostile_numpy_header_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': ()}\n"
    stream = io.BytesIO()
    stream.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    (tmp_path / "a.npy").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match=r"a\.npy: not a readable \.npy file"):
        load_object_array(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x02}K\x01" + b"2\x86" * 40 + b"K\x01s.", "would unfold to more than"),
        (b"\x80\x04(K\x01" + b"2\x86" * 40 + b"\x91.", "would unfold to more than"),
        (b"\x80\x02K\x01q\x00" + b"h\x000h\x00\x86q\x00" * 60 + b".", "more than"),
        (b"\x80\x02cnumpy\ndtype\nK\x01" + b"2\x86" * 28 + b"\x85R.", "would unfold"),
        (b"\x80\x02}N" + b"\x85" * 300_000 + b"K\x01s.", "nests more than 10000 levels"),
        (b"\x80\x02cnumpy\ndtype\nK\x01" + b"2\x86" * 20 + b"\x85R.", "is not supported"),
    ],
    ids=("key", "set", "memo", "message", "levels", "short message"),
)
def test_pickles_that_unfold_without_end_are_refused_at_once(content: bytes, reason: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match=reason) as caught:
        parse_pickle(content, "p.pkl")
    assert time.perf_counter() - started < 5
    assert len(str(caught.value)) < 600


def test_what_is_shared_and_grows_is_no_bomb() -> None:
    shared = ["text" * 10, 3]
    deep: list[Any] = []
    numbered = {i: (i, str(i)) for i in range(9)}
    value = {"many": [shared] * 1000, "deep": deep, ("a", ("b", 1)): numbered}
    node = deep
    for k in range(40):
        node.extend([k, []])
        node = node[1]
    for protocol in range(6):
        assert parse_pickle(pickle.dumps(value, protocol), "p.pkl") == value
