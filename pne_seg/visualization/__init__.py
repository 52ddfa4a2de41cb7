"""Pictures of a run: arrays and numbers in, matplotlib figures out, `save_figure` writes them.

Nothing here knows the network or the training loop. Loading this package does not load
matplotlib (the functions do, when called), and none of them touches pyplot, the chosen backend or
the global `rcParams`, so that a notebook's own figures stay as they are.
"""

from pne_seg.visualization.bars import plot_class_iou, plot_label_histogram
from pne_seg.visualization.colors import color_labels, error_map, overlay
from pne_seg.visualization.confusion import plot_confusion_matrix
from pne_seg.visualization.curves import plot_curves
from pne_seg.visualization.embeddings import Embeddings, plot_embeddings
from pne_seg.visualization.figure import save_figure
from pne_seg.visualization.mosaics import MAX_IMAGES, training_mosaic, validation_mosaic

__all__ = [
    "MAX_IMAGES",
    "Embeddings",
    "color_labels",
    "error_map",
    "overlay",
    "plot_class_iou",
    "plot_confusion_matrix",
    "plot_curves",
    "plot_embeddings",
    "plot_label_histogram",
    "save_figure",
    "training_mosaic",
    "validation_mosaic",
]
