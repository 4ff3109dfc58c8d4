"""ImageNet from the three official archives, which everyone has to get in person: checked, unpacked, counted.

::

    ILSVRC2012_img_train.tar   a tar of 1,000 tars      → train/n01440764/…
    ILSVRC2012_img_val.tar     50,000 images          → val/n01440764/…   by the devkit's ground truth
    ILSVRC2012_devkit_t12.tar.gz

A class folder of train appears when it is complete, and val when all of it is, so an interrupted run goes on where it
was: whole classes, and images of val that are there, are not written again.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from mess.errors import DownloadError
from mess.fetch.archives import DAMAGE, checked_name, open_tar
from mess.fetch.download import DownloadProgress, matches, no_progress
from mess.files import atomic_write

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
TERMS = (
    "ImageNet is given for research, to people who accept its terms: sign in at https://image-net.org/download-images "
    "and fetch the three ILSVRC2012 archives, or accept the terms at "
    "https://huggingface.co/datasets/ILSVRC/imagenet-1k and make a token at https://huggingface.co/settings/tokens"
)


@dataclass(frozen=True)
class Official:
    """What the archives are to be: their hashes, and what is in them."""

    hashes: dict[str, str]
    classes: int
    train: int
    val: int


OFFICIAL = Official(
    {
        TRAIN: "md5:1d675b47d978889d74fa0da5fadfb00e",
        VAL: "md5:29b22e2961454d5413ddabcf34fc5622",
        DEVKIT: "md5:fa75699e90414af021442c21a62c3abf",
    },
    classes=1000,
    train=1_281_167,
    val=50_000,
)


def prepare_imagenet(
    archives: Path,
    root: Path,
    *,
    official: Official = OFFICIAL,
    workers: int = 4,
    progress: DownloadProgress = no_progress,
) -> None:
    """Unpack the archives in `archives` into `root`/train and `root`/val, and count what is there.

    Raises:
        DownloadError: an archive that is missing or wrong, no room, or images that are missing afterwards.
    """
    for name in official.hashes:
        if not (archives / name).is_file():
            raise DownloadError(archives / name, "the official archive", "none", TERMS)
    _check_space(archives, root)
    for name, digest in official.hashes.items():
        _check_hash(archives / name, digest, root, progress)
    _unpack_train(archives / TRAIN, root / "train", workers, progress)
    _unpack_val(archives / VAL, archives / DEVKIT, root / "val", official, progress)
    count_imagenet(root, official)


def count_imagenet(root: Path, official: Official = OFFICIAL) -> None:
    """Compare classes and images with what there should be.

    Raises:
        DownloadError: what is missing or too much.
    """
    wnids = []
    for split, wanted in (("train", official.train), ("val", official.val)):
        if not (root / split).is_dir():
            raise DownloadError(root / split, f"{official.classes:,} class folders", "none")
        folders = sorted(p for p in (root / split).iterdir() if p.is_dir() and not p.name.startswith("."))
        wnids.append([p.name for p in folders])
        if len(folders) != official.classes:
            raise DownloadError(root / split, f"{official.classes:,} class folders", f"{len(folders):,}")
        found = sum(sum(1 for _ in folder.iterdir()) for folder in folders)
        if found != wanted:
            raise DownloadError(root / split, f"{wanted:,} images", f"{found:,}")
    if wnids[0] != wnids[1]:
        odd = sorted(set(wnids[0]) ^ set(wnids[1]))
        raise DownloadError(root, "the same classes in train and val", f"{', '.join(odd[:3])} in one of them only")


def _check_space(archives: Path, root: Path) -> None:
    """Refuse a disk that cannot take what is still to be unpacked."""
    parts = [name for name, split in ((TRAIN, "train"), (VAL, "val")) if not (root / split).exists()]
    wanted = sum((archives / name).stat().st_size for name in parts)
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < wanted:
        found = f"{free / 1e9:.1f} GB"
        raise DownloadError(root, f"{wanted / 1e9:.1f} GB of room", found, "Make room, or give another --datapath")


def _check_hash(path: Path, expected: str, root: Path, progress: DownloadProgress) -> None:
    """Hash an archive once; a note in `root` says that this very file was right."""
    note = root / ".archives.json"
    known = json.loads(note.read_text()) if note.exists() else {}
    status = path.stat()
    mark = [status.st_size, status.st_mtime_ns, expected]
    if known.get(path.name) == mark:
        return
    if not matches(path, expected, progress):
        raise DownloadError(path, f"the official archive ({expected})", "another hash", "It is damaged: fetch it again")
    atomic_write(note, json.dumps({**known, path.name: mark}).encode())


def _unpack_train(archive: Path, target: Path, workers: int, progress: DownloadProgress) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with open_tar(archive) as outer:
        members = [m for m in outer if m.isfile() and m.name.endswith(".tar")]
    done, size = 0, sum(member.size for member in members)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for taken in pool.map(lambda m: _unpack_class(archive, m, target), members):
            done += taken
            progress("unpacking train", done, size)


def _unpack_class(archive: Path, member: tarfile.TarInfo, target: Path) -> int:
    """Unpack the tar of one class, through a file handle of its own; return its bytes."""
    wnid = checked_name(member.name, archive).stem
    folder, scratch = target / wnid, target / f".{wnid}"
    if folder.is_dir():
        return member.size
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with archive.open("rb") as file:
        file.seek(member.offset_data)
        inner = BytesIO(file.read(member.size))
    try:
        with tarfile.open(fileobj=inner) as packed:
            for name, image in _images(packed, archive):
                (scratch / name).write_bytes(_content(packed, image))
    except DAMAGE as error:
        raise DownloadError(f"{archive}: {member.name}", "a tar of images", f"a damaged one ({error})") from error
    scratch.replace(folder)
    return member.size


def _unpack_val(archive: Path, devkit: Path, target: Path, official: Official, progress: DownloadProgress) -> None:
    if target.is_dir():
        return
    wnids = _ground_truth(devkit, official)
    scratch = target.with_name(".val")
    for wnid in set(wnids):
        (scratch / wnid).mkdir(parents=True, exist_ok=True)
    count, done, size = 0, 0, archive.stat().st_size
    with open_tar(archive) as packed:
        for name, image in _images(packed, archive):
            number = name.removesuffix(".JPEG").rpartition("_")[2]
            if not number.isdigit() or not 1 <= int(number) <= len(wnids):
                raise DownloadError(archive, f"images ILSVRC2012_val_… 1 to {len(wnids)}", name)
            path = scratch / wnids[int(number) - 1] / name
            if not (path.exists() and path.stat().st_size == image.size):
                path.write_bytes(_content(packed, image))
            count, done = count + 1, done + image.size
            progress("unpacking val", done, size)
    if count != len(wnids):
        raise DownloadError(archive, f"{len(wnids):,} images", f"{count:,}")
    scratch.replace(target)


def _ground_truth(devkit: Path, official: Official) -> list[str]:
    """Return the wnid of each validation image, in the order of their numbers."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DownloadError("scipy", "the package, which reads the devkit", "none", "pip install scipy") from error
    with open_tar(devkit) as packed:
        files = {Path(m.name).name: m for m in packed.getmembers() if m.isfile()}
        contents = []
        for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
            source = packed.extractfile(files[name]) if name in files else None
            if source is None:
                raise DownloadError(devkit, f"a file {name} in it", "none")
            contents.append(source.read())
    synsets = loadmat(BytesIO(contents[0]), squeeze_me=True)["synsets"]
    wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets if int(row["num_children"]) == 0}
    numbers = [int(line) for line in contents[1].split()]
    if len(numbers) != official.val or not set(numbers) <= wnid_of.keys():
        raise DownloadError(devkit, f"ground truth of {official.val:,} images", f"{len(numbers):,} lines")
    return [wnid_of[number] for number in numbers]


def _images(packed: tarfile.TarFile, archive: Path) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield (file name, member) of each image; refuse anything else."""
    for member in packed:
        if member.isdir():
            continue
        name = checked_name(member.name, archive).name
        if not member.isfile() or not name.upper().endswith((".JPEG", ".JPG")):
            raise DownloadError(archive, "images alone", repr(member.name)[:80])
        yield name, member


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = packed.extractfile(member)
    return b"" if source is None else source.read()
