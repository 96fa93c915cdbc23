"""Layer 1: pure geometry."""

__all__: list[str] = []
