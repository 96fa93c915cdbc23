"""Lights and reflectance."""

__all__: list[str] = []
