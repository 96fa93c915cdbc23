"""Layer 6: the five systems."""

__all__: list[str] = []
