"""A file and its card into a repository of the Hugging Face hub, in one commit, only where somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mess.errors import OptionError
from mess.hub.files import Address, client, parse, refusals

CARD = "README.md"


@dataclass(frozen=True)
class Uploaded:
    """Where a file lies now, and whether its card went with it; one that was there is left alone."""

    url: str
    card: bool


def check_repository(named: str) -> str:
    """Return the repository that ``owner/name`` or ``hf://owner/name`` names.

    Raises:
        OptionError: another form.
    """
    address = parse(named if named.startswith("hf:") else f"hf://{named}")
    if address.file is not None or address.revision is not None:
        raise OptionError(named, "a repository, owner/name", "a file or a revision beside it")
    return address.repo


def upload(path: Path, repo: str, card: str, *, private: bool = False, replace_card: bool = False) -> Uploaded:
    """Upload a file under its own name, and its card; the repository is made where there is none.

    Args:
        repo: as `check_repository` returns it.
        private: of a repository that is made.
        replace_card: also where the repository has one.

    Raises:
        OptionError: ``huggingface_hub`` is not installed.
        DownloadError: the hub refuses, or does not answer.
    """
    hub = client()
    with refusals(hub, Address(repo)):
        api = hub.HfApi(library_name="mess-cnn")
        api.create_repo(repo, private=private or None, exist_ok=True)
        with_card = replace_card or not api.file_exists(repo, CARD)
        parts = {path.name: str(path)} | ({CARD: card.encode()} if with_card else {})
        operations = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=part) for name, part in parts.items()]
        done = api.create_commit(repo, operations, commit_message=f"Upload {path.name}")
    return Uploaded(str(done.commit_url), with_card)
