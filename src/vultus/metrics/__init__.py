"""Layer 4: metrics."""

__all__: list[str] = []
