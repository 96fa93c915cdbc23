"""Numbers that all backends share."""

from __future__ import annotations

__all__ = ["EDGE_TOLERANCE", "MAX_WALK"]

EDGE_TOLERANCE = 1e-5
"""How far outside a triangle, in barycentric coordinates, a pixel centre still counts: rounding
must not let it slip between two neighbours."""
MAX_WALK = 16
"""Triangles that are crossed at most on the way from one pixel centre to the next."""
