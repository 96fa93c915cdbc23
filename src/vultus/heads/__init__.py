"""Layer 3: head models."""

__all__: list[str] = []
