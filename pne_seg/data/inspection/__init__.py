"""A complete check of a data set: `inspect` decodes it, `report_text` says what was found."""

from pne_seg.data.inspection.check import SPLITS, inspect
from pne_seg.data.inspection.findings import Finding, Inspection, SplitFigures
from pne_seg.data.inspection.rendering import as_json, report_text

__all__ = [
    "SPLITS",
    "Finding",
    "Inspection",
    "SplitFigures",
    "as_json",
    "inspect",
    "report_text",
]
