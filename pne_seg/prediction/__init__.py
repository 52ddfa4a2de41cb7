"""Predicting images from anywhere: what is read, what is written, how a stopped run goes on.

inputs.py      a file, folder or glob → sources and their names
video.py       videos as frames, and back
dataset.py     sources as a data set; `InputData`, which stands in for a run's data
loading.py     batches of what is left, without the files that cannot be read
outputs.py     the files of a prediction, and which of them are there
benchmarks.py  the files that the benchmarks' servers take
stamps.py      what a written file was made of, kept in the file itself
job.py         all of it together
"""

from pne_seg.prediction.dataset import InputData

__all__ = ["InputData"]
