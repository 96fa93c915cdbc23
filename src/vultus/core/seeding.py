"""Random numbers: one seed for everything, independent streams by name, state for checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "capture_random_state",
    "derive_seed",
    "exact_on_cpu",
    "make_deterministic",
    "numpy_generator",
    "restore_random_state",
    "seed_everything",
    "torch_generator",
]

_GENERATOR_PREFIX = "generator."


def derive_seed(seed: int, name: str) -> int:
    """Derive the 63-bit seed of the stream called ``name``.

    Streams with different names are independent, so that adding one never shifts another.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def torch_generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the torch generator of a named stream."""
    return torch.Generator(device).manual_seed(derive_seed(seed, name))


def numpy_generator(seed: int, name: str) -> np.random.Generator:
    """Make the NumPy generator of a named stream."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, name)))


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices)."""
    random.seed(derive_seed(seed, "python"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)  # noqa: NPY002 - libraries may draw from it
    torch.manual_seed(derive_seed(seed, "torch"))


def make_deterministic() -> None:
    """Let torch use algorithms that give the same bits in every run, or raise where it has none.

    Must be called before the first matrix product on a GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Memory that is written before it is read need not be cleared.
    _choose_algorithms(is_exact=True, clears_memory=False)


@contextmanager
def exact_on_cpu(device: torch.device) -> Iterator[None]:
    """Let torch give the same bits inside, whenever it runs on a CPU with as many threads.

    Threads otherwise add gradients of rows that were picked several times, such as those of
    triangles with several primitives, in the order in which they arrive, which is slower, too. Work
    on a GPU, where it costs time, is left as it is: see ``make_deterministic``.
    """
    is_exact = torch.are_deterministic_algorithms_enabled()
    if device.type != "cpu" or is_exact:
        yield
        return
    clears_memory = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    _choose_algorithms(is_exact=True, clears_memory=False)
    try:
        yield
    finally:
        _choose_algorithms(is_exact=False, clears_memory=clears_memory)


def _choose_algorithms(*, is_exact: bool, clears_memory: bool) -> None:
    torch.use_deterministic_algorithms(is_exact)
    torch.utils.deterministic.fill_uninitialized_memory = clears_memory  # pyright: ignore[reportAttributeAccessIssue]


def capture_random_state(
    generators: Mapping[str, torch.Generator | np.random.Generator] | None = None,
) -> dict[str, Tensor]:
    """Take down the state of all global generators, and of the named ones given.

    Returns:
        Byte tensors by name, ready for a checkpoint.
    """
    version, words, gauss = random.getstate()
    state = {
        "python": _to_bytes([version, list(words), gauss]),
        "numpy": _to_bytes(np.random.get_state(legacy=False)),  # noqa: NPY002 - see seed_everything
        "torch_cpu": torch.get_rng_state(),
    }
    for index in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        state[f"torch_cuda_{index}"] = torch.cuda.get_rng_state(index)
    for name, generator in (generators or {}).items():
        state[_GENERATOR_PREFIX + name] = (
            generator.get_state()
            if isinstance(generator, torch.Generator)
            else _to_bytes(generator.bit_generator.state)
        )
    return state


def restore_random_state(
    state: Mapping[str, Tensor],
    generators: Mapping[str, torch.Generator | np.random.Generator] | None = None,
) -> None:
    """Put back what ``capture_random_state`` took down, in place.

    A CUDA state is put back only where that device exists.

    Raises:
        ValueError: If the state of a generator is missing, damaged, or belongs to a generator not
            given.
    """
    given = generators or {}
    wanted = {"python", "numpy", "torch_cpu"} | {_GENERATOR_PREFIX + name for name in given}
    known = {key for key in state if not key.startswith("torch_cuda_")}
    if wanted != known:
        raise ValueError(f"random state must have {sorted(wanted)}, got {sorted(known)}")
    with _naming("python"):
        version, words, gauss = _from_bytes(state["python"])
        random.setstate((version, tuple(words), gauss))
    with _naming("numpy"):
        np.random.set_state(_from_bytes(state["numpy"]))  # noqa: NPY002 - see seed_everything
    with _naming("torch_cpu"):
        torch.set_rng_state(state["torch_cpu"].cpu())
    for index in range(torch.cuda.device_count()):
        if f"torch_cuda_{index}" in state:
            with _naming(f"torch_cuda_{index}"):
                torch.cuda.set_rng_state(state[f"torch_cuda_{index}"].cpu(), index)
    for name, generator in given.items():
        stored = state[_GENERATOR_PREFIX + name].cpu()
        with _naming(_GENERATOR_PREFIX + name):
            if isinstance(generator, torch.Generator):
                generator.set_state(stored)
            else:
                generator.bit_generator.state = _from_bytes(stored)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Tell which state it is that a generator cannot take."""
    try:
        yield
    except (LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"random state {key!r} cannot be put back: {reason}") from error


def _to_bytes(value: Any) -> Tensor:
    text = json.dumps(value, default=lambda array: array.tolist())
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _from_bytes(data: Tensor) -> Any:
    # States of NumPy have whole numbers of 128 bits, which files.parse_json refuses.
    return json.loads(bytes(data.cpu().tolist()))
