"""Layer 5: sequences, readers and the virtual studio."""

__all__: list[str] = []
