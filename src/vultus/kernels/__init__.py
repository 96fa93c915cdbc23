"""Layer 2: one folder per hot operation, each with ref, cpu and gpu backends."""

__all__: list[str] = []
