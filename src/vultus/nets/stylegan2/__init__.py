"""Parts of style-based generators and their discriminators, in plain PyTorch.

``filters`` (resampling), ``layers`` (equalised layers), ``modulation``, ``mapping`` (z to w),
``synthesis`` (w to images) and ``discriminator``.
"""

__all__: list[str] = []
