"""Layer 8: files to take away."""

__all__: list[str] = []
