"""Layer 4: loss terms as pure functions, photometric and regularising."""

from vultus.losses import regularizers
from vultus.losses.photometric import dssim, l1, masked_mean

__all__ = ["dssim", "l1", "masked_mean", "regularizers"]
