"""Print what a reader of the package has to hold: its lines, files, imports and private helpers."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pne_seg"
COMMANDS = {
    "fit": "import pne_seg.cli.running",
    "predict": "import pne_seg.cli.predict",
    "data/camvid.py": "import pne_seg.data.camvid",
    "PNELoss": "from pne_seg import PNELoss",
}


def main() -> None:
    """Print the figures."""
    files = sorted(PACKAGE.rglob("*.py"))
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    by_package: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for file, count in lines.items():
        parts = file.relative_to(PACKAGE).parts
        package = parts[0] if len(parts) > 1 else "(top level)"
        by_package[package] += count
        counts[package] += 1
    print("| package | lines | files |\n| --- | ---: | ---: |")
    for package, count in by_package.most_common():
        print(f"| {package} | {count} | {counts[package]} |")
    print(f"| **all** | **{sum(lines.values())}** | **{len(files)}** |\n")
    longest = max(files, key=lines.__getitem__)
    print(f"Longest file: {longest.relative_to(ROOT)}, {lines[longest]} lines.")
    print(f"Files under 60 lines: {sum(count < 60 for count in lines.values())}.")
    for name, code in COMMANDS.items():
        print(f"Modules of the package behind {name}: {_modules(code)}.")
    helpers, once = _private_helpers(files)
    print(f"Private functions and methods: {helpers}, of which {once} are named once elsewhere.")


def _modules(code: str) -> int:
    count = "import sys; print(sum(name.startswith('pne_seg') for name in sys.modules))"
    command = [sys.executable, "-c", f"{code}; {count}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return int(done.stdout)


def _private_helpers(files: list[Path]) -> tuple[int, int]:
    helpers = once = 0
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and node.name.startswith("_")
            and not node.name.startswith("__")
        ]
        uses = Counter(
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Name | ast.Attribute)
        )
        helpers += len(names)
        once += sum(uses[name] == 1 for name in names)
    return helpers, once


if __name__ == "__main__":
    main()
