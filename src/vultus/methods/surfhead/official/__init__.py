"""Checkpoints of the published SurFhead and GaussianAvatars programs, read and written."""

__all__: list[str] = []
