"""GaussianHead: a cloud of Gaussians that a network moves and a tri-plane colours."""

__all__: list[str] = []
