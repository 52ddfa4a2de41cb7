"""Ship `configs/` inside the package, as `pne_seg/configs`; pyproject.toml holds the rest."""

from setuptools import find_packages, setup

configs = {"pne_seg.configs": "configs", "pne_seg.configs.overlays": "configs/overlays"}
setup(packages=[*find_packages(include=["pne_seg*"]), *configs], package_dir=configs)
