"""SphereHead: a generator of full heads whose features lie on planes of two sphere systems."""

__all__: list[str] = []
