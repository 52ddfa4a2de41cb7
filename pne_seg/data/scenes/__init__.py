"""Scenes, the embedded data set: procedural street scenes. No files, no download."""

from pne_seg.data.scenes.classes import IGNORE, SCENE_CLASSES, SCENE_PALETTE
from pne_seg.data.scenes.datamodule import SceneDataset, Scenes
from pne_seg.data.scenes.renderer import draw_scene, render_scene, with_rim

__all__ = [
    "IGNORE",
    "SCENE_CLASSES",
    "SCENE_PALETTE",
    "SceneDataset",
    "Scenes",
    "draw_scene",
    "render_scene",
    "with_rim",
]
