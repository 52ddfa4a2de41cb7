"""The measurements for a GPU run where there is none, at small sizes, by the command itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu

CHECKOUT = Path(__file__).parent.parent


@pytest.mark.slow
def test_all_parts_run_on_a_cpu(tmp_path: Path) -> None:
    command = ["bash", str(CHECKOUT / "benchmarks" / "gpu.sh")]
    done = subprocess.run(
        [*command, "--device", "cpu", "--small", "--output", "figures"],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "figures" / "gpu.json").read_text())
    assert list(report["parts"]) == list(gpu.PARTS)
    rows = {name: part["rows"] for name, part in report["parts"].items()}
    assert len(rows["golden"]) == len(list((CHECKOUT / "tests/contrast/golden").glob("*.npz")))
    for row in rows["golden"]:
        assert max(value for name, value in row.items() if name != "case") < 1e-5
    assert {row["loss"] for row in rows["projection"]} == set(gpu.CONTRASTS)
    assert all(row["compiled, ms"] > 0 for row in rows["projection"])
    assert rows["loader"][0]["loader, images/s"] > 0
    tables = (tmp_path / "figures" / "gpu.md").read_text()
    for name in gpu.PARTS:
        assert f"## {name}\n" in tables


def test_a_part_that_fails_is_reported_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[gpu.Row]:
        """Break."""
        raise RuntimeError("out of memory")

    monkeypatch.setitem(gpu.PARTS, "losses", broken)
    only = ["--only", "losses", "golden"]
    assert gpu.main(["--device", "cpu", "--small", "--output", str(tmp_path), *only]) == 1
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["parts"]["losses"]["failed"] == "RuntimeError: out of memory"
    assert len(report["parts"]["golden"]["rows"]) > 0
    assert "**Failed**: RuntimeError: out of memory" in (tmp_path / "gpu.md").read_text()
