"""Prediction of images from anywhere.

inputs.py          a file, folder or glob → sources and their names
video.py           videos as frames, and back
input_data.py      sources as a data set; `InputData`, the data module of `--input`
remaining.py       batches of what is left, without the files that cannot be read
outputs.py         the files of a prediction and their content
submission.py      the files that the servers of benchmarks take
manifest.py        `predictions.json`: which files are there, and what they were predicted from
prediction_run.py  all of it together
"""

from pne_seg.prediction.input_data import InputData

__all__ = ["InputData"]
