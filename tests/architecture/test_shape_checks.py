"""The suite checks shapes only if jaxtyping and beartype are both switched on."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from vultus.geometry.cameras import opengl_to_opencv


def test_a_wrong_shape_raises(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--jaxtyping-packages"):
        pytest.skip("run with --jaxtyping-packages=vultus,beartype.beartype")
    with pytest.raises(jaxtyping.TypeCheckError, match="camera_to_world"):
        opengl_to_opencv(torch.zeros(2, 3, 4))
