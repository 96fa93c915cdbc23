"""Layer 0: config, seeding, files, run folders, threads and vectors."""

__all__: list[str] = []
