"""Random transformations of what a discriminator sees, so that few images suffice.

``draws`` (which transformation each image gets), ``warp`` and ``colors`` (its application, with
gradients of any order), ``control`` (how often).
"""

__all__: list[str] = []
