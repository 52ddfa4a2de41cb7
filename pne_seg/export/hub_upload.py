"""Upload an export to the Hugging Face hub."""

import re
from pathlib import Path

from pne_seg.errors import UserError
from pne_seg.exported import FILES, NEW_CARD

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check_push(repository: str) -> None:
    """Refuse what cannot succeed, before anything is written.

    Raises:
        UserError: the name is none, or there is no token.
    """
    from huggingface_hub import get_token

    if not _NAME.fullmatch(repository):
        raise UserError(f"--push {repository}: expected the name of a repository, user/name.")
    if get_token() is None:
        raise UserError(
            f"--push {repository}: not logged in to the Hugging Face hub. Run `hf auth login`, or "
            "set HF_TOKEN to a token that may write (https://huggingface.co/settings/tokens)."
        )


def is_public(repository: str, if_new: bool) -> bool:
    """Return whether everyone can see what is uploaded.

    Args:
        repository: `user/name`.
        if_new: whether a new repository is public.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        return not api.repo_info(repository).private if api.repo_exists(repository) else if_new
    except Exception:  # the network is down, say: rather too careful than not
        return True


def push(folder: Path, repository: str, public: bool) -> str:
    """Upload an export; the repository is created if there is none.

    Args:
        folder: of the export.
        repository: `user/name`.
        public: whether a new repository is public.

    Returns:
        Its address.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    sent = [name for name in FILES if name != NEW_CARD and (folder / name).is_file()]
    try:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=sent,
            delete_patterns=[name for name in FILES if name not in sent],  # of an earlier export
            commit_message="Export of pne_seg",
        )
    except Exception as error:  # of the hub, the network, the proxy …
        raise UserError(
            f"--push {repository}: {' '.join(str(error).split())[:300]}\n  The export is whole in "
            f"{folder}; `hf upload {repository} {folder}` sends it too."
        ) from error
    return str(address)
