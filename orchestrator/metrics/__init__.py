"""What `/metrics` shows: the definitions of all metrics, and sums of counts and seconds."""

from orchestrator.metrics.definitions import DEFINITIONS, Definition, Kind, Source
from orchestrator.metrics.sums import Series, Sums
from orchestrator.metrics.timings import Timings

__all__ = ["DEFINITIONS", "Definition", "Kind", "Series", "Source", "Sums", "Timings"]
