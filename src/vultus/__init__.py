"""One toolkit for 3D human heads: generate, capture, drive, relight, export."""

__all__ = ["__version__"]

__version__ = "0.1.0"
