"""What every run carries beside its steps: checkpoints, figures, summary, predictions."""

from pne_seg.callbacks.checkpoints import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from pne_seg.callbacks.figures import Figures
from pne_seg.callbacks.finite_loss import FiniteLoss
from pne_seg.callbacks.image_scores import ImageScores
from pne_seg.callbacks.labels import LabelledPixels
from pne_seg.callbacks.prediction_writer import PredictionWriter
from pne_seg.callbacks.summary import Summary

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "Figures",
    "FiniteLoss",
    "ImageScores",
    "LabelledPixels",
    "LastCheckpoint",
    "PredictionWriter",
    "Summary",
]
