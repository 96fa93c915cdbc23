"""The Triton kernel against the PyTorch form that defines it, in float64."""

from __future__ import annotations

import pytest
import torch

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.geometry.meshes import vertex_normals
from vultus.kernels.vertex_normals import IncidentFaces, incident_normals


def random_faces(num_faces: int, num_vertices: int) -> torch.Tensor:
    """Some with equal corners; the last vertices have none."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, num_vertices - 3, (num_faces, 3), generator=generator)


def test_incident_faces_are_those_that_name_the_vertex() -> None:
    faces = random_faces(80, 40)
    incident = IncidentFaces.build(faces, 40)
    assert incident.starts[-1] == 3 * len(faces)
    for vertex in range(40):
        start, end = incident.starts[vertex : vertex + 2].tolist()
        found = sorted(incident.corners[start:end].tolist())
        expected = [face for face in faces.tolist() for corner in face if corner == vertex]
        assert found == sorted(expected)


@pytest.mark.triton
@pytest.mark.parametrize("batch", [1, 3])
def test_normals_are_those_of_the_definition(batch: int) -> None:
    device, faces = triton_device(), random_faces(80, 40)
    generator = torch.Generator().manual_seed(2)
    vertices = torch.randn(batch, 40, 3, generator=generator, dtype=torch.float64)
    incident = IncidentFaces.build(faces.to(device), 40)
    found = incident_normals(vertices.float().to(device), incident)
    expected = vertex_normals(vertices, faces)
    torch.testing.assert_close(found.cpu().double(), expected, atol=1e-5, rtol=0)
    assert bool((found[:, -3:] == 0).all())


@pytest.mark.triton
def test_vertices_of_another_type_are_refused() -> None:
    device = triton_device()
    incident = IncidentFaces.build(random_faces(4, 9).to(device), 9)
    with pytest.raises(TypeError, match="vertices must be float32"):
        incident_normals(torch.zeros(1, 9, 3, dtype=torch.float64, device=device), incident)


@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernel_compiles_without_spilling(capability: int) -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    with recorded_launches() as launches:
        incident_normals(torch.zeros(1, 40, 3), IncidentFaces.build(random_faces(80, 40), 40))
    assert [launch.kernel.fn.__name__ for launch in launches] == ["sum_faces"]
    assert compile_launch(launches[0], capability).stack == 0
