"""One reader per folder format."""

__all__: list[str] = []
