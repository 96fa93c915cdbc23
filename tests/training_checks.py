"""Trainings of tiny captures, and what is asked of them whatever the method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from vultus.core.run_folder import RunFolder
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.engine.checkpoint import restore_weights, take_checkpoint
from vultus.engine.fit import fit
from vultus.methods.base import ReconstructionMethod
from vultus.methods.schedule import FitSettings

__all__ = [
    "assert_equal_tensors",
    "assert_gradients_reach_everything",
    "assert_reloads_exactly",
    "assert_resumes_exactly",
    "picture_error",
    "trained",
]

AvatarT = TypeVar("AvatarT", bound=ReconstructionMethod)


def trained(
    method: Callable[..., AvatarT],
    sequence: HeadSequence,
    config: FitSettings,
    path: Path,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> AvatarT:
    """Train a new avatar on the training pictures of a capture; ``options`` are those of ``fit``.

    Args:
        method: The class of the avatar.
        sequence: The capture.
        config: Settings of that method.
        path: The run folder to create.
        seed: Of the avatar and of the order of pictures.
        device: Where it trains.
        **options: Passed to ``fit``.
    """
    avatar = method(config, sequence, seed, device)
    run = RunFolder.create(path, config, seed=seed)
    fit(avatar, FrameStore(sequence, "train"), config, run, seed, **options)
    return avatar


def picture_error(avatar: ReconstructionMethod, sequence: HeadSequence) -> float:
    """Mean absolute difference between the training pictures and their renderings."""
    frames = FrameStore(sequence, "train")
    batch = frames.batch(range(len(frames)))
    output = avatar.render(avatar.track[batch.timesteps], batch.camera)
    return float((output.image - batch.rgb).abs().mean())


def assert_equal_tensors(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """Same names, same bits."""
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def assert_gradients_reach_everything(optimizer: torch.optim.Optimizer) -> None:
    """Every parameter has a gradient: finite, and somewhere not zero."""
    for group in optimizer.param_groups:
        (parameter,) = group["params"]
        assert parameter.grad is not None, group["name"]
        assert parameter.grad.isfinite().all(), group["name"]
        assert float(parameter.grad.abs().max()) > 0, group["name"]


def assert_reloads_exactly(
    method: Callable[..., ReconstructionMethod],
    sequence: HeadSequence,
    config: FitSettings,
    path: Path,
) -> None:
    """An avatar of another seed that reads a run's last checkpoint renders what that run's does."""
    avatar = trained(method, sequence, config, path)
    again = method(config, sequence, 99)
    assert restore_weights(RunFolder.open(path), again) == config.steps
    camera = sequence.split("val")[0].camera
    for timestep in (0, 4):
        left, right = (a.render(a.track[timestep], camera).image for a in (avatar, again))
        assert torch.equal(left, right)


def assert_resumes_exactly(
    method: Callable[..., ReconstructionMethod],
    sequence: HeadSequence,
    config: FitSettings,
    path: Path,
) -> list[dict[str, Any]]:
    """A training that is killed at its first evaluation and resumed gives the bits of a whole one.

    Returns:
        The log, which must be the same too.
    """
    assert config.checkpoint_every < config.evaluate_every < 2 * config.checkpoint_every
    whole = trained(method, sequence, config, path / "whole")
    frames = FrameStore(sequence, "train")
    run = RunFolder.create(path / "parts", config, seed=0)

    def kill(step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(method(config, sequence, 0), frames, config, run, 0, evaluate=kill)
    assert run.checkpoint_steps() == [config.checkpoint_every]
    resumed = method(config, sequence, 0)
    assert fit(resumed, frames, config, run, 0).first_step == config.checkpoint_every
    left, right = (take_checkpoint(avatar, config.steps) for avatar in (whole, resumed))
    assert_equal_tensors(left.weights, right.weights)
    assert_equal_tensors(left.optimizer, right.optimizer)
    log = run.read_metrics()
    assert log == RunFolder(path / "whole").read_metrics()
    return log
