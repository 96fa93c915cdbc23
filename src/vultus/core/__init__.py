"""Layer 0: config, seeding, files, images and video, run folders, assets, threads and vectors."""

__all__: list[str] = []
