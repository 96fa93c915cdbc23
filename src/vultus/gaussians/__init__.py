"""Layer 4: Gaussian containers, densification and files."""

__all__: list[str] = []
