"""Files in repositories of the Hugging Face hub: ``hf://owner/name[/file][@revision]``.

``huggingface_hub`` fetches, keeps its cache, and knows tokens and offline mode; here is said which file of a repository
is meant where none is named.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from mess.errors import DownloadError, OptionError, first_few
from mess.version import __version__

log = logging.getLogger("mess.hub")
Source = TypeVar("Source")
INSTALL = "pip install 'mess-cnn[hub]'"
FORM = "hf://owner/name[/file][@revision]"
# what `Path` makes of hf:// has one stroke; the hub's own form has the revision behind the name
ADDRESS = re.compile(
    r"hf:/+(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<early>refs/\w+/\w+|[^/@]+))?(?:/(?P<file>[^@]+))?(?:@(?P<late>[^@]+))?"
)
KINDS_OF_REPOSITORY = ("datasets", "spaces")
USUAL = ("model.safetensors", "pytorch_model.bin")  # the first that is there is taken
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".pt2", ".th", ".onnx")
STORED = (".mess",)
MANY = 8  # names that an error lists
MAX_CONFIG_BYTES = 1 << 22  # bytes


@dataclass(frozen=True)
class Address:
    """A repository, a file in it and a revision; None where the address says none."""

    repo: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        parts = (self.repo, f"/{self.file}" if self.file else "", f"@{self.revision}" if self.revision else "")
        return "hf://" + "".join(parts)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, in the cache.

    Attributes:
        address: the file under the commit that it is of.
        why: how it was chosen; "" where it was named.
        config: what ``config.json`` says, where it was asked for and is there.
    """

    path: Path
    address: Address
    why: str = ""
    config: dict[str, Any] = field(default_factory=dict, repr=False)


def is_hub(source: object) -> bool:
    """Return whether a path, or what `Path` made of an address, is one of the hub."""
    return isinstance(source, str | os.PathLike) and _text(source).startswith("hf:/")


def parse(source: str | os.PathLike[str]) -> Address:
    """Return what an address names.

    Raises:
        OptionError: an address of another form, or a file outside its repository.
    """
    text = _text(source)
    found = ADDRESS.fullmatch(text)
    said = re.sub("^hf:/+", "hf://", text)
    if found is None or (found["early"] and found["late"]):
        raise OptionError(said, FORM, "another form")
    if found["repo"].partition("/")[0] in KINDS_OF_REPOSITORY:
        raise OptionError(said, f"a repository of a model ({FORM})", "one of another kind")
    name = found["file"]
    if name is not None and {"", ".", ".."} & {*name.split("/")}:
        raise OptionError(said, "a file in the repository", name)
    return Address(found["repo"], name, found["early"] or found["late"])


def local(source: Source, endings: Sequence[str] = STORED) -> Source | Path:
    """Return where a file lies: what is no address as it is, a file of the hub in the cache.

    Raises:
        OptionError, DownloadError: as `fetch`.
    """
    return fetch(source, endings).path if is_hub(source) else source  # type: ignore[arg-type]


def stem(source: str | os.PathLike[str]) -> str:
    """Return what a file made of this one is called: as the repository, or as the file that is named."""
    address = parse(source)
    named = address.file if address.file is not None and Path(address.file).name not in USUAL else None
    return Path(named).stem if named is not None else address.repo.partition("/")[2]


def fetch(source: str | os.PathLike[str], endings: Sequence[str] = WEIGHTS, *, config: bool = False) -> HubFile:
    """Fetch a file into the cache of ``huggingface_hub``, or find it there.

    Where no file is named, it is ``model.safetensors``, else ``pytorch_model.bin``, else the only one with one of
    `endings`, else the only ``.mess`` file.

    Args:
        config: read ``config.json`` too, where the repository has one.

    Raises:
        OptionError: ``huggingface_hub`` is not installed, or an address of another form.
        DownloadError: no such repository, revision or file, several that could be meant, or no connection.
    """
    address, library = parse(source), client()
    why = ""
    if address.file is None:
        address, why = _chosen(library, address, endings)
    path = _fetched(library, address)
    told = _config(library, address) if config else {}
    parts = path.parts
    commit = parts[parts.index("snapshots") + 1] if "snapshots" in parts else address.revision
    found = HubFile(path, Address(address.repo, address.file, commit), why, told)
    log.info("%s is %s", found.address, path)
    return found


def _chosen(library: ModuleType, address: Address, endings: Sequence[str]) -> tuple[Address, str]:
    names, where = _names(library, address)
    for ending in (endings, STORED):
        fitting = sorted(name for name in names if name.lower().endswith(tuple(ending)))
        usual = [name for name in USUAL if name in fitting]
        if usual or len(fitting) == 1:
            name = (usual or fitting)[0]
            others = [other for other in fitting if other != name]
            why = f"{address}: {name}" + (f", in place of {first_few(others)}" if others else "")
            return Address(address.repo, name, address.revision), why + where
        if fitting:
            listed = first_few(fitting, MANY)
            hint = f"Name one: {Address(address.repo, fitting[0], address.revision)}"
            raise DownloadError(address, "one file that can be meant", f"{listed}{where}", hint)
    ends = ", ".join(dict.fromkeys((*endings, *STORED)))
    raise DownloadError(address, f"a file that ends in {ends}", (first_few(sorted(names), MANY) or "none") + where)


def _names(library: ModuleType, address: Address) -> tuple[list[str], str]:
    """Return the names of a repository's files, and where they are from if it is not the hub itself."""
    try:
        with refusals(library, address):
            return list(library.HfApi().list_repo_files(address.repo, revision=address.revision)), ""
    except DownloadError as error:
        answered = isinstance(error.__cause__, library.errors.HfHubHTTPError | ValueError)
        if not answered and (names := _cached(library, address)):
            return names, " (of what is in the cache)"
        raise


def _cached(library: ModuleType, address: Address) -> list[str]:
    try:
        repositories = library.scan_cache_dir().repos
    except library.CacheNotFound:
        return []
    wanted = address.revision or "main"
    return [
        file.file_path.relative_to(revision.snapshot_path).as_posix()
        for repository in repositories
        if repository.repo_id == address.repo and repository.repo_type == "model"
        for revision in repository.revisions
        if wanted in revision.refs or wanted == revision.commit_hash
        for file in revision.files
    ]


def _fetched(library: ModuleType, address: Address) -> Path:
    with refusals(library, address):
        return Path(
            library.hf_hub_download(
                address.repo, address.file, revision=address.revision, library_name="mess-cnn",
                library_version=__version__,
            )
        )  # fmt: skip


def _config(library: ModuleType, address: Address) -> dict[str, Any]:
    """Return what a repository says of its network; {} where it says nothing that can be read."""
    try:
        path = _fetched(library, Address(address.repo, "config.json", address.revision))
        if path.stat().st_size > MAX_CONFIG_BYTES:
            return {}
        told = json.loads(path.read_text(encoding="utf-8"))
    except (DownloadError, OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


@contextmanager
def refusals(library: ModuleType, address: Address) -> Iterator[None]:
    """Turn the library's errors into ours, which say what to do."""
    errors = library.errors
    try:
        yield
    except errors.GatedRepoError as error:
        hint = f"Ask for it at https://huggingface.co/{address.repo}, then `hf auth login`"
        raise DownloadError(
            address, "a repository that you may read", "one whose owner lets readers in", hint
        ) from error
    except errors.RepositoryNotFoundError as error:
        hint = "A private one needs a token: `hf auth login`, or HF_TOKEN"
        raise DownloadError(address, "a repository on the hub", "none of that name", hint) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(address, "a revision of the repository", address.revision) from error
    except errors.LocalEntryNotFoundError as error:
        raise DownloadError(address, "an answer of the hub, or the file in the cache", "neither") from error
    except errors.EntryNotFoundError as error:
        raise DownloadError(address, "a file in the repository", f"no {address.file}") from error
    except errors.OfflineModeIsEnabled as error:
        said = "neither: HF_HUB_OFFLINE is set"
        raise DownloadError(address, "an answer of the hub, or the file in the cache", said) from error
    except (errors.HFValidationError, ValueError) as error:
        raise DownloadError(address, FORM, str(error).partition("\n")[0]) from error
    except (errors.HTTPError, OSError) as error:
        raise DownloadError(address, "an answer of the hub", str(error).partition("\n")[0] or "none") from error


def client() -> ModuleType:
    """Return ``huggingface_hub``; raises OptionError where it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise OptionError("hf://", "the package huggingface_hub", "none", INSTALL) from error
    return huggingface_hub


def _text(source: str | os.PathLike[str]) -> str:
    return source.as_posix() if isinstance(source, Path) else os.fspath(source)
