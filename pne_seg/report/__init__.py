"""Pictures of a run: arrays and numbers in, PNG files out.

Nothing here knows the network or the training loop. Loading this package does not load
matplotlib (the functions do, when called), and none of them touches pyplot, the chosen backend or
the global `rcParams`, so that a notebook's own figures stay as they are.
"""

from pne_seg.report.class_iou import plot_class_iou
from pne_seg.report.colours import colour_labels, error_map, overlay
from pne_seg.report.confusion import plot_confusion_matrix
from pne_seg.report.curves import plot_curves
from pne_seg.report.embeddings import Embeddings, plot_embeddings
from pne_seg.report.label_histogram import plot_label_histogram
from pne_seg.report.mosaics import MAX_IMAGES, training_mosaic, validation_mosaic

__all__ = [
    "MAX_IMAGES",
    "Embeddings",
    "colour_labels",
    "error_map",
    "overlay",
    "plot_class_iou",
    "plot_confusion_matrix",
    "plot_curves",
    "plot_embeddings",
    "plot_label_histogram",
    "training_mosaic",
    "validation_mosaic",
]
