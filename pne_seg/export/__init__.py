"""A trained network for use without this project: safetensors, ONNX, torch.export, and a card.

`pne_seg.export.writer.export` writes the folder; `pne_seg.load` reads it back.
"""
