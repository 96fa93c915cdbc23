"""Layer 3: networks."""

__all__: list[str] = []
