"""Layer 4: losses."""

__all__: list[str] = []
