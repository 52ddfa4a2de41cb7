"""A complete check of a data set: `inspect` decodes it, `report_text` says what was found."""

from pne_seg.data.inspection.check import SPLITS, inspect
from pne_seg.data.inspection.report import as_json, report_text
from pne_seg.data.inspection.results import Finding, Inspection, SplitFigures

__all__ = [
    "SPLITS",
    "Finding",
    "Inspection",
    "SplitFigures",
    "as_json",
    "inspect",
    "report_text",
]
