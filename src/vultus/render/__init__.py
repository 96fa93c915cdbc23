"""Layer 3: primitives to images."""

__all__: list[str] = []
