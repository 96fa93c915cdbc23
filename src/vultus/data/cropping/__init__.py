"""Photographs of heads from any side as crops with camera labels, as SphereHead's toolbox makes."""

__all__: list[str] = []
