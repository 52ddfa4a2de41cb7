"""Callbacks of the runs: checkpoints, resume, signals, guards, figures, summary, page."""

from pne_seg.callbacks.checkpoints import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from pne_seg.callbacks.contrast_diagnostics import ContrastDiagnostics
from pne_seg.callbacks.exact_resume import ExactResume
from pne_seg.callbacks.figures import Figures
from pne_seg.callbacks.guards import FiniteTraining, LabeledPixels
from pne_seg.callbacks.image_scores import ImageScores
from pne_seg.callbacks.live_curves import LiveCurves
from pne_seg.callbacks.run_page import RunPage
from pne_seg.callbacks.stop_on_signal import StopOnSignal, Stopped
from pne_seg.callbacks.summary import Summary
from pne_seg.callbacks.suspect_labels import SuspectLabels

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "ContrastDiagnostics",
    "ExactResume",
    "Figures",
    "FiniteTraining",
    "ImageScores",
    "LabeledPixels",
    "LastCheckpoint",
    "LiveCurves",
    "RunPage",
    "StopOnSignal",
    "Stopped",
    "Summary",
    "SuspectLabels",
]
