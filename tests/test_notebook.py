"""The notebook runs from top to bottom, offline and on the CPU, and shows what it promises."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pne_seg.runs import read_history

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "finetune_colab.ipynb"
SHRUNK = """
PRETRAINED, SCENES, EPOCHS, FORMATS = False, 48, 2, "safetensors"
MORE = ["--data.num_workers=0", "--data.height=64", "--data.width=80", "--trainer.accelerator=cpu"]
MORE += ["--trainer.log_every_n_steps=1", "--model.network.decoder_channels=16"]
"""
CUT_OFF = """
train("without_pne", "--model.contrast", "null", "--trainer.max_epochs", "1")
(ROOT / "runs/without_pne/0/metrics.json").unlink()  # as if the session had ended
"""


def test_no_outputs_are_kept() -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
def test_it_runs_and_shows_both_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook's own draws inline
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = notebook.cells
    (parameters,) = [i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", ())]
    cells.insert(parameters + 1, nbformat.v4.new_code_cell(SHRUNK))
    (second,) = [i for i, c in enumerate(cells) if c.source.startswith("without_pne = train")]
    cells.insert(second, nbformat.v4.new_code_cell(CUT_OFF))
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    nbformat.write(notebook, tmp_path / "executed.ipynb")

    runs = tmp_path / "runs"
    assert {str(run.relative_to(runs)) for run in runs.glob("*/*")} == {
        *("with_pne/0", "without_pne/0", "without_pne/1"),
    }
    # The one cut off after its first epoch of six steps went on from there.
    steps = {run: [step for step, _ in read_history(runs / run)["train/loss"]] for run in
             ("with_pne/0", "without_pne/0", "without_pne/1")}  # fmt: skip
    assert steps["without_pne/0"] == steps["with_pne/0"][:6]
    assert steps["without_pne/1"] == steps["with_pne/0"][6:]
    assert "train/loss_contrast" in read_history(runs / "with_pne" / "0")
    assert "train/loss_contrast" not in read_history(runs / "without_pne" / "1")

    found = {name: json.loads((runs / name / "metrics.json").read_text())["val/mIoU"]
             for name in ("with_pne/0", "without_pne/1")}  # fmt: skip
    table = outputs(cells, "compared.round(2)")["text/html"]
    for miou in found.values():
        assert f"{100 * miou:.2f}" in table

    for text in (
        *('checked.figures["mosaic_train"]', 'with_pne.figures["predictions"]', "shown = min("),
        *("painted = ", "logged = ", 'with_pne.figures["embeddings"]', "overlay(images[0])"),
        "with_pne = train(",  # the live curves
    ):
        picture = base64.b64decode(outputs(cells, text)["image/png"])
        assert len(np.unique(decoded(picture).reshape(-1, 3), axis=0)) > 20, text
    assert "Segmenter" in outputs(cells, "segmenters = {")["text/plain"]
    assert (tmp_path / "model.zip").stat().st_size > 10**6
    exported = runs / "with_pne" / "0" / "export" / "best"
    assert (exported / "model.safetensors").is_file()


def decoded(png: bytes) -> Any:
    import cv2

    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def outputs(cells: list[Any], text: str) -> dict[str, str]:
    """Return the data that the cell with a text shows, by type; the last of each."""
    (cell,) = [c for c in cells if c.cell_type == "code" and text in c.source]
    return {kind: data for shown in cell.outputs for kind, data in shown.get("data", {}).items()}
