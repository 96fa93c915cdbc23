"""Collections of random people as image sets for generators: labels, masks, known lights."""

__all__: list[str] = []
