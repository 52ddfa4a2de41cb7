"""Locate a source of weights: find it on this machine, or fetch it."""

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import torch

from pne_seg.errors import UserError
from pne_seg.files import check_regular
from pne_seg.runs import Run

_WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in a saved network's folder or repository, the preferred one first."""

HUB = re.compile(r"hf://([^/@]+/[^/@]+)(?:@(refs/[^/]+/[^/]+|[^/]+))?(?:/(.+))?")
"""Repository, revision and file of a hub source, the latter two optional."""

_HASH = re.compile(r"-(?!20\d{6}\.)([0-9a-f]{8,64})\.[a-z]+$")  # except a date


def locate(source: str) -> Path:
    """Find the file of a source, as for `read_weights`; one from the network is kept.

    From the Hugging Face hub in its cache, from an address where `torch.hub` keeps its checkpoints;
    a hash in the name, as in `resnet18-5c106cde.pth`, is checked.
    """
    if source.startswith("hf://"):
        found = HUB.fullmatch(source)
        if found is None:
            raise UserError(
                f"{source}: expected hf://OWNER/NAME, hf://OWNER/NAME@REVISION or a file."
            )
        repository, revision, file = found.groups()
        return fetch_from_hub(repository, [file] if file else _WEIGHTS_FILES, revision)
    if source.startswith(("http://", "https://")):
        return _from_address(source)
    if not source:
        raise UserError("No source of weights: give a file, a folder, hf://… or an address.")
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return _in_folder(path, source)
        if path.is_file():
            return path
        if path.exists():
            check_regular(path, source)
    except OSError as error:
        raise UserError(f"{source[:200]}: {error.strerror}.") from error
    hub = ""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not path.parent.exists():
        hub = f" For a repository of the Hugging Face hub, give hf://{source}."
    raise UserError(f"{source}: no such file or folder.{hub}")


def config_beside(file: Path, source: str) -> Path | None:
    """Find the `config.json` beside a saved network's weights, if there is one."""
    if hub := HUB.fullmatch(source):
        try:
            return fetch_from_hub(hub[1], ["config.json"], hub[2])
        except UserError:
            return None
    beside = file.with_name("config.json")
    return beside if beside.is_file() and "://" not in source else None


def shown_source(source: str) -> str:
    """Return a source without what must not be published: an address's user, password and query."""
    if not source.startswith(("http://", "https://")):
        return source
    parts = urlsplit(source)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _in_folder(folder: Path, source: str) -> Path:
    run = Run(folder)
    if run.config.is_file():
        return run.checkpoint("best")
    for name in _WEIGHTS_FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{source}: the folder is neither a run's nor a saved network's (with "
        f"{' or '.join(_WEIGHTS_FILES)}). Give the file itself."
    )


def _from_address(source: str) -> Path:
    from pne_seg.data.download import RemoteFile, fetch  # seconds to import, for this way only

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if found := _HASH.search(urlsplit(source).path):
        return fetch(RemoteFile(source, hash=f"sha256:{found[1]}"), folder)
    # Nothing in the name tells two files apart that come from different places.
    place = hashlib.sha256(source.encode()).hexdigest()[:8]
    return fetch(RemoteFile(source), folder / place)


def fetch_from_hub(repository: str, names: Sequence[str], revision: str | None) -> Path:
    """Fetch the first of some files that a repository of the Hugging Face hub has."""
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    where = f"hf://{repository}" + (f"@{revision}" if revision else "")
    offline = False
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # a line for each retry; the result is reported once
    try:
        for name in names:
            try:
                return Path(
                    hf_hub_download(repository, name, revision=revision, local_files_only=offline)
                )
            except hub.LocalEntryNotFoundError:
                offline = True  # another file may be in the cache: do not ask the network again
            except hub.EntryNotFoundError:
                offline = False
    except hub.GatedRepoError as error:
        raise UserError(
            f"{where}: the repository is gated. Accept its terms on its page, then log in with "
            "`hf auth login`, or set HF_TOKEN."
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise UserError(
            f"{where}: the hub has no such repository, or it is private: for one of yours, log in "
            "with `hf auth login`, or set HF_TOKEN."
        ) from error
    except hub.RevisionNotFoundError as error:
        raise UserError(f"{where}: the repository has no revision {revision}.") from error
    except (OSError, ValueError) as error:  # no answer, another one, or no name of a file
        raise UserError(f"{where}: {' '.join(str(error).split())[:200]}") from error
    finally:
        logger.setLevel(level)
    if offline:
        raise UserError(
            f"{where}: not in the cache, and the hub cannot be reached (no network, or "
            "HF_HUB_OFFLINE is set). Connect once, or give a local file."
        )
    raise UserError(f"{where}: the repository has no file {' or '.join(names)}.")
