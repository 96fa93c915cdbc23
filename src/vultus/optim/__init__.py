"""Layer 3: schedules and optimisers."""

__all__: list[str] = []
