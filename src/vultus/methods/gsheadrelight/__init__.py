"""GSHeadRelight: a generator of heads as hierarchies of Gaussians that any light can be put on."""

__all__: list[str] = []
