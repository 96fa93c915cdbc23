"""``python -m vultus`` is the command ``vultus``."""

from vultus.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
