"""Pictures of a run: arrays and numbers in, matplotlib figures out, `save_figure` writes them.

matplotlib is loaded when something is drawn, and pyplot never.
"""

from pne_seg.visualization.class_plots import plot_class_iou, plot_label_histogram
from pne_seg.visualization.colors import color_labels, error_map, overlay
from pne_seg.visualization.confusion_plot import plot_confusion_matrix
from pne_seg.visualization.figure import save_figure
from pne_seg.visualization.mosaics import (
    MAX_IMAGES,
    SuspectCrop,
    plot_legend,
    suspects_mosaic,
    training_mosaic,
    validation_mosaic,
)
from pne_seg.visualization.training_plots import Embeddings, plot_curves, plot_embeddings

__all__ = [
    "MAX_IMAGES",
    "Embeddings",
    "SuspectCrop",
    "color_labels",
    "error_map",
    "overlay",
    "plot_class_iou",
    "plot_confusion_matrix",
    "plot_curves",
    "plot_embeddings",
    "plot_label_histogram",
    "plot_legend",
    "save_figure",
    "suspects_mosaic",
    "training_mosaic",
    "validation_mosaic",
]
