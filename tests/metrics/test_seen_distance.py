from __future__ import annotations

import pytest
import torch

from vultus.geometry.cameras import Camera, look_at
from vultus.geometry.mesh_sampling import sample_surface
from vultus.geometry.meshes import TriangleMesh
from vultus.metrics.seen_distance import seen_by, seen_distance


def square(z: float, size: float = 0.2, *, faces_back: bool = False) -> TriangleMesh:
    """A square about the z axis that faces +z, or -z."""
    half = 0.5 * size
    corners = [[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return TriangleMesh(torch.tensor(corners), faces.flip(1) if faces_back else faces)


def joined(*meshes: TriangleMesh) -> TriangleMesh:
    starts = [0]
    for mesh in meshes:
        starts.append(starts[-1] + len(mesh.vertices))
    return TriangleMesh(
        torch.cat([mesh.vertices for mesh in meshes]),
        torch.cat([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
    )


def camera(eye: tuple[float, float, float], focal: float = 100.0) -> Camera:
    intrinsics = torch.tensor([[[focal, 0, 50], [0, focal, 50], [0, 0, 1.0]]])
    return Camera(look_at(torch.tensor([eye]), torch.zeros(1, 3)), intrinsics, 100, 100)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


FRONT, BACK = camera((0.0, 0.0, 1.0)), camera((0.0, 0.0, -1.0))


def test_a_wall_is_seen_from_its_front_only():
    mesh = square(0.0)
    points = sample_surface(mesh.vertices, mesh.faces, 200, generator())
    assert bool(seen_by(mesh, points, FRONT).all())
    assert not bool(seen_by(mesh, points, BACK).any())
    assert bool(seen_by(mesh, points, Camera.stack([BACK, FRONT])).all())


def test_points_outside_the_picture_are_not_seen():
    mesh = square(0.0)
    points = sample_surface(mesh.vertices, mesh.faces, 4000, generator())
    # With this lens the picture is 0.1 m wide at one metre: a quarter of the square.
    seen = seen_by(mesh, points, camera((0.0, 0.0, 1.0), focal=1000.0))
    assert float(seen.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert float(points.points[seen].abs().max()) <= 0.05 + 1e-5


def test_what_hides_behind_another_wall_does_not_count():
    mesh = joined(square(0.1), square(0.0))
    reference = square(0.1)
    all_of_it = seen_distance(reference, mesh, FRONT, generator=generator(), num_points=3000)
    # Perspective: the far wall's rim shows beside the near one, no more.
    hidden = seen_distance(mesh, reference, FRONT, generator=generator(), num_points=3000)
    near_share = 0.5 + 0.5 * (1 - (0.9**-1) ** 2 if 0.9**-1 < 1 else 0.0)
    assert hidden.share == pytest.approx(near_share, abs=0.03)
    assert hidden.distance.accuracy < 1.5
    assert all_of_it.reference_share == pytest.approx(near_share, abs=0.03)
    assert all_of_it.distance.completeness < 1.5


def test_a_gap_between_walls_is_measured_in_millimetres_both_ways():
    found = seen_distance(square(0.004), square(0.0), FRONT, generator=generator(), num_points=3000)
    assert found.distance.accuracy == pytest.approx(4.0, abs=0.2)
    assert found.distance.completeness == pytest.approx(4.0, abs=0.2)
    assert found.distance.f_score == 0.0


def test_nothing_below_the_floor_counts():
    upper = TriangleMesh(
        square(0.0).vertices.clamp(min=torch.tensor([-1.0, 0.0, -1.0])), square(0.0).faces
    )
    with_floor = {"generator": generator(), "num_points": 3000, "floor": 0.0}
    found = seen_distance(upper, square(0.0), FRONT, **with_floor)
    assert found.distance.completeness < 1.5
    assert found.reference_share == pytest.approx(0.5, abs=0.03)
    everything = seen_distance(upper, square(0.0), FRONT, generator=generator(), num_points=3000)
    assert everything.distance.completeness > 20.0


def test_surfaces_that_no_camera_sees_are_an_error():
    with pytest.raises(ValueError, match="no point of the mesh is seen"):
        seen_distance(square(0.0), square(0.0), BACK, generator=generator(), num_points=100)
    with pytest.raises(ValueError, match="no point of the reference is seen"):
        seen_distance(
            square(0.0),
            square(0.0, faces_back=True),
            FRONT,
            generator=generator(),
            num_points=100,
        )
