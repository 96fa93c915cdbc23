"""Layer 8: what vultus bench runs."""

__all__: list[str] = []
