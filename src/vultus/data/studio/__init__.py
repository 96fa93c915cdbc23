"""The virtual capture studio."""

__all__: list[str] = []
