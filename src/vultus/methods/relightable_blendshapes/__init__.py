"""Relightable Gaussian Blendshapes: blended Gaussians with materials, lit by an environment map."""

__all__: list[str] = []
