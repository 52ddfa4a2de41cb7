"""A complete check of a data set: `inspect` decodes it, `report_text` describes the result."""

from pne_seg.data.inspection.check import SPLITS, inspect
from pne_seg.data.inspection.report import Inspection, as_json, report_text

__all__ = ["SPLITS", "Inspection", "as_json", "inspect", "report_text"]
