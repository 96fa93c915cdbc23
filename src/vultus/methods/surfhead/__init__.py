"""SurfHead."""

__all__: list[str] = []
