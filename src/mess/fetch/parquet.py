"""ImageNet from the Hugging Face Hub, for those who have accepted its terms there: shards in, class folders out.

Each shard is fetched, checked against the SHA-256 that the Hub says, turned into images and removed; a note says
which shards are done, so an interrupted run goes on with the next.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import requests

from mess.errors import DownloadError
from mess.fetch.download import TIMEOUT, DownloadProgress, Remote, fetch
from mess.fetch.imagenet import OFFICIAL, TERMS, Official, count_imagenet

HUB = "https://huggingface.co"
DATASET = "ILSVRC/imagenet-1k"
SPLITS = {"train": "train", "validation": "val"}
WNID = re.compile(r"n\d{8}")
REPEATED = re.compile(r"_n\d{8}(?=\.\w+$)")  # the Hub puts the class behind the official name once more


def fetch_imagenet_parquet(
    root: Path, token: str, *, hub: str = HUB, official: Official = OFFICIAL, progress: DownloadProgress | None = None
) -> None:
    """Fetch all shards of train and validation into `root`/train and `root`/val, and count what is there.

    Args:
        token: of an account that has accepted the terms.

    Raises:
        DownloadError: no access (with the page to click on), a shard that does not arrive, or images missing.
    """
    headers = {"Authorization": f"Bearer {token}"}
    done = root / ".shards"
    done.mkdir(parents=True, exist_ok=True)
    shards = sorted(_shards(hub, headers), key=lambda shard: shard[0])  # train before validation: it names the classes
    for number, (name, digest) in enumerate(shards, start=1):
        if (done / name).exists():
            continue
        shown = f"{name} ({number} of {len(shards)})"
        remote = Remote(shown, (f"{hub}/datasets/{DATASET}/resolve/main/data/{name}",), digest, TERMS)
        path = fetch(remote, root / name, headers=headers, progress=progress)
        _unpack(path, root)
        (done / name).touch()
        path.unlink()
    count_imagenet(root, official)


def hub_token() -> str | None:
    """Return the user's token: HF_TOKEN, or the one that `hf auth login` has kept."""
    kept = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface") / "token"
    return os.environ.get("HF_TOKEN") or (kept.read_text(encoding="utf-8").strip() if kept.is_file() else None)


def _shards(hub: str, headers: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (name, hash) of the shards that the Hub lists."""
    url = f"{hub}/api/datasets/{DATASET}/tree/main/data?limit=1000"
    try:
        answer = requests.get(url, headers=headers, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise DownloadError(hub, "an answer", f"none ({type(error).__name__})") from error
    if answer.status_code in (401, 403):
        raise DownloadError(DATASET, "a token of an account that has accepted the terms", answer.status_code, TERMS)
    if answer.status_code != 200:
        raise DownloadError(url, "a list of files", f"status {answer.status_code}")
    for entry in answer.json():
        name = Path(str(entry.get("path", ""))).name
        if name.endswith(".parquet") and name.partition("-")[0] in SPLITS:
            yield name, f"sha256:{entry['lfs']['oid']}" if "lfs" in entry else ""


def _unpack(path: Path, root: Path) -> None:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DownloadError("pyarrow", "the package, which reads the shards", "none", "pip install pyarrow") from error
    split = SPLITS[path.name.partition("-")[0]]
    number = 0
    for batch in ParquetFile(path).iter_batches(batch_size=256, columns=["image", "label"]):
        for image, label in zip(batch.column("image").to_pylist(), batch.column("label").to_pylist(), strict=True):
            name = Path(image.get("path") or f"{path.stem}-{number}.JPEG").name
            folder = root / split / _wnid(name, label, root)
            folder.mkdir(parents=True, exist_ok=True)
            # under the official name, so that images are numbered as from the official archives
            (folder / REPEATED.sub("", name)).write_bytes(image["bytes"])
            number += 1


def _wnid(name: str, label: int, root: Path) -> str:
    """Return the class of an image: as its name says, else by its label, which counts the sorted classes."""
    found = WNID.findall(name)
    if found:
        return found[-1]
    classes = sorted(p.name for p in (root / "train").iterdir())
    if not 0 <= label < len(classes):
        raise DownloadError(name, f"a label 0 to {len(classes) - 1}", label)
    return classes[label]
