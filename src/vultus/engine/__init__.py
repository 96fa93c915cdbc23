"""Layer 7: training, evaluation, checkpoints."""

__all__: list[str] = []
