"""The benchmark of rendering: what it calls, how often, and what it divides by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tiny_captures import film_fake_head, tiny_surfhead
from vultus.bench import rendering
from vultus.bench.rendering import bench_rendering, fit_camera
from vultus.data.sequence import HeadSequence
from vultus.geometry.cameras import Camera, look_at, project_points
from vultus.heads.base import HeadPose
from vultus.methods.surfhead.model import SurfHead
from vultus.render.output import RenderOutput


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_fake_head(tmp_path_factory.mktemp("rendering") / "capture")


class Counting(SurfHead):
    """Remembers what was rendered."""

    def render(self, pose: HeadPose, camera: Camera, step: int | None = None) -> RenderOutput:
        self.seen.append(pose.expression_coeffs)
        return super().render(pose, camera, step)

    seen: list[torch.Tensor | None]


def test_rounds_are_whole_and_time_is_that_of_a_picture(
    sequence: HeadSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    avatar = Counting(tiny_surfhead(), sequence, 0)
    avatar.seen = []

    def clock() -> Iterator[float]:
        # Rounds of 6, 8 and 7 seconds, twice.
        for start in range(6):
            yield 100.0 * start
            yield 100.0 * start + (6.0, 8.0, 7.0)[start % 3]

    ticks = clock()
    monkeypatch.setattr(rendering.time, "perf_counter", lambda: next(ticks))
    camera = sequence.frames[0].camera
    moving, still = bench_rendering(avatar, camera, 7, scene="a head")
    assert (moving.total.median, moving.total.minimum) == (1.0, 6.0 / 7)
    assert moving.scene == "a head"
    assert (moving.facts["poses"], still.facts["poses"]) == ("track plays", "one pose")
    assert moving.facts["surfels"] == avatar.summary()["surfels"]
    # Three rounds of seven and three that do not count, for each row.
    assert len(avatar.seen) == 2 * (3 + 3 * 7)
    expected = avatar.track.expression_coeffs
    assert expected is not None
    played = torch.cat([row for row in avatar.seen[3:10] if row is not None])
    assert torch.equal(played, expected[torch.arange(7) % 5])
    stood = torch.cat([row for row in avatar.seen[24:] if row is not None])
    assert torch.equal(stood, expected[:1].expand(24, -1))


def test_a_fitted_camera_shows_the_same_in_another_size() -> None:
    intrinsics = torch.tensor([[[300.0, 0, 90], [0, 310, 130], [0, 0, 1]]])
    camera = Camera(look_at(torch.tensor([[0.1, 0.2, 1.0]]), torch.zeros(3)), intrinsics, 200, 250)
    fitted = fit_camera(camera, 550, 802)
    points = 0.1 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    old, _ = project_points(points[None], camera)
    new, _ = project_points(points[None], fitted)
    # 2.75 times as wide; 3.208 times as high would not fit, so there are margins.
    margin = torch.tensor([0.0, 0.5 * (802 - 2.75 * 250)])
    torch.testing.assert_close(new, 2.75 * old + margin, atol=1e-3, rtol=0)
    assert (fitted.width, fitted.height) == (550, 802)


def test_counts_below_one_are_refused(sequence: HeadSequence) -> None:
    avatar = SurfHead(tiny_surfhead(), sequence, 0)
    with pytest.raises(ValueError, match="frames be positive, got 1 and 0"):
        bench_rendering(avatar, sequence.frames[0].camera, 0)
