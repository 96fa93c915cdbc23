"""Layer 4: image, map and mesh metrics, and the named protocols that apply them."""

from vultus.metrics.catalogue import METRICS, Metric, Sample, UnavailableError
from vultus.metrics.mesh_distance import MeshDistance, mesh_distance, point_distance
from vultus.metrics.protocols import PROTOCOLS, MaskKind, Measurement, Protocol
from vultus.metrics.seen_distance import SeenDistance, seen_distance
from vultus.metrics.summary import Summary, SummaryRow, summarize

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "MaskKind",
    "Measurement",
    "MeshDistance",
    "Metric",
    "Protocol",
    "Sample",
    "SeenDistance",
    "Summary",
    "SummaryRow",
    "UnavailableError",
    "mesh_distance",
    "point_distance",
    "seen_distance",
    "summarize",
]
