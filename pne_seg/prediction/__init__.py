"""Prediction of images from anywhere, and of the data's test split."""

from pne_seg.prediction.input_data import InputData

__all__ = ["InputData"]
