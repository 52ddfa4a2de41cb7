"""Ship `configs/` inside the package, as `pne_seg/configs`; pyproject.toml holds the rest."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["pne_seg*"]), "pne_seg.configs"],
    package_dir={"pne_seg.configs": "configs"},
)
