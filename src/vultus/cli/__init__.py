"""Layer 9: one file per command."""

__all__: list[str] = []
