"""Pictures on disk: own folders, worker processes, every kind of file, and views that are Pillow's own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mess.data import Batches, decode, open_dataset, workers
from mess.data.decode import CorruptImageError, EncodedImage
from mess.data.views import centre_view, load_image
from mess.errors import DataError, OptionError


def test_own_folders_are_classes_in_sorted_order_for_any_number_of_workers(pictures: Path) -> None:
    data = open_dataset(str(pictures), train=True, resize=32, crop=24)
    assert data.info.class_names == ("a_cat", "b_dog")
    assert data.info.num_classes == 2
    runs = [list(Batches(data, 5, train=True, workers=n).epoch(1)) for n in (0, 2)]
    for (a, b), (c, d) in zip(*runs, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_imagenet_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"imagenet: expected a folder with train and val.*`mess fetch imagenet "):
        open_dataset("imagenet", tmp_path, train=True)
    for split in ("train", "val"):
        (tmp_path / "imagenet" / split / "n01440764").mkdir(parents=True)
    with pytest.raises(DataError, match="train: expected images to train on, found none"):
        open_dataset("imagenet", tmp_path, train=True)


def test_what_other_programs_leave_in_folders_is_no_class_and_no_picture(pictures: Path) -> None:
    train = pictures / "train"
    for hidden in (
        train / ".ipynb_checkpoints" / "x.jpg",
        train / "a_cat" / "._0.png",
        train / "a_cat" / ".thumbs" / "0.png",
    ):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes(b"no picture")
    (train / "a_cat" / "notes.txt").write_text("none either")
    (train / "a_cat" / "deeper").mkdir()
    name = "deeper/grüße \udcff.JPG"  # not every name is UTF-8
    (train / "a_cat" / name).write_bytes((train / "a_cat" / "1.jpg").read_bytes())
    data = open_dataset(str(pictures), train=True)
    assert data.info.class_names == ("a_cat", "b_dog")
    assert data.labels_N.tolist() == [0] * 7 + [1] * 6
    assert list(data.paths) == [
        *(train / "a_cat" / n for n in ("0.png", "1.jpg", "2.png", "3.jpg", "4.png", "5.jpg", name)),
        *(train / "b_dog" / n for n in ("0.png", "1.jpg", "2.png", "3.jpg", "4.png", "5.jpg")),
    ]
    assert data.paths[-1] == train / "b_dog" / "5.jpg"
    assert data.paths[5:8] == list(data.paths)[5:8]
    with pytest.raises(IndexError):
        data.paths[13]
    for sizes, flag in (({"resize": 0}, "--resize"), ({"crop": -1}, "--crop")):
        with pytest.raises(OptionError, match=flag):
            open_dataset(str(pictures), train=True, **sizes)


def test_a_folder_without_test_pictures_is_split_by_name_once_and_for_all(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(60):
            Image.new("RGB", (4, 4)).save(tmp_path / label / f"{i}.png")
    train, test = (set(open_dataset(str(tmp_path), train=part).paths) for part in (True, False))
    assert not train & test
    assert len(train) + len(test) == 120
    assert 3 <= len(test) <= 25  # a tenth, by chance
    (tmp_path / "a" / "new.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    again, tested = (set(open_dataset(str(tmp_path), train=part).paths) for part in (True, False))
    assert train <= again  # a new picture moves no other
    assert test <= tested


def test_workers_serve_epoch_after_epoch_also_when_one_is_left_early(pictures: Path) -> None:
    data = open_dataset(str(pictures), train=True, resize=32, crop=24, jitter=0.4)
    batches, alone = (Batches(data, 3, train=True, workers=n) for n in (2, 0))
    next(iter(batches.epoch(0)))
    for epoch in (0, 1):
        for (a, b), (c, d) in zip(batches.epoch(epoch), alone.epoch(epoch), strict=True):
            assert torch.equal(a, c)
            assert torch.equal(b, d)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="workers would not inherit the patch")
def test_a_worker_that_dies_is_an_error_and_no_wait_for_ever(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "load_image", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    data = open_dataset(str(pictures), train=True, crop=24)
    with pytest.raises(DataError, match="workers that decode images"):
        list(Batches(data, 3, train=True, workers=2).epoch(0))


def test_colours_change_by_chance_and_the_same_for_the_same_sample(pictures: Path) -> None:
    plain, coloured = (open_dataset(str(pictures), train=True, crop=24, jitter=share) for share in (0.0, 0.4))
    views = [load_image(coloured, 0, seed=0, epoch=e).int() for e in (0, 0)]
    assert torch.equal(*views)
    assert (views[0] - load_image(plain, 0, seed=0, epoch=0)).abs().max() > 10
    with pytest.raises(OptionError, match="--jitter"):
        open_dataset(str(pictures), train=True, jitter=1.0)


def test_a_corrupt_picture_is_left_out_of_training_and_stops_a_test(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "val"):
        (pictures / split / "a_cat" / "0.png").write_bytes(b"no picture")
    data = open_dataset(str(pictures), train=True, crop=24)
    assert sum(len(labels) for _, labels in Batches(data, 5, train=True).epoch(0)) == 11
    assert "0.png" in caplog.text
    for picture in (pictures / "train").rglob("*.*"):
        picture.write_bytes(b"no picture")
    with pytest.raises(DataError, match="5 that cannot"):  # a whole batch of them is no batch
        list(Batches(data, 5, train=True).epoch(0))
    test = open_dataset(str(pictures), train=False, crop=24)
    with pytest.raises(DataError, match=r"1 that cannot: .*0\.png"):
        list(Batches(test, 2, train=False).epoch(0))


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where simplejpeg has no wheel, Pillow decodes all: nothing a network sees may depend on it."""
    if request.param == "Pillow":
        monkeypatch.setattr(decode, "simplejpeg", None)
    return request.param


def test_pictures_of_every_kind_are_read(pictures: Path, decoder: str) -> None:
    folder = pictures / "val" / "a_cat"
    for old in folder.iterdir():
        old.unlink()
    grey = Image.fromarray(np.linspace(0, 255, 30 * 40).reshape(30, 40).astype(np.uint8))
    grey.save(folder / "grey.png")
    grey.save(folder / "grey.jpg", quality=100)
    Image.fromarray((np.linspace(0, 255, 30 * 40).reshape(30, 40) * 257).astype(np.uint16)).save(folder / "sixteen.png")
    grey.convert("RGB").convert("CMYK").save(folder / "cmyk.jpg", quality=100)
    Image.new("RGBA", (30, 40), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("1", (9, 7), 1).save(folder / "bits.png")
    palette = Image.new("P", (30, 40), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(0, (0, 0, 30, 20))
    palette.save(folder / "palette.png", transparency=0)
    palette.save(folder / "palette.gif")
    Image.new("RGB", (1, 1), (9, 8, 7)).save(folder / "dot.png")
    Image.new("RGB", (1, 30_000), (9, 8, 7)).save(folder / "line.png")
    data = open_dataset(str(pictures), train=False, resize=20, crop=20)
    got = {p.name: load_image(data, i, seed=0, epoch=0) for i, p in enumerate(data.paths) if p.parent == folder}
    assert all(view.shape == (3, 20, 20) and view.dtype == torch.uint8 for view in got.values())
    assert got["dot.png"][:, 0, 0].tolist() == got["line.png"][:, 9, 9].tolist() == [9, 8, 7]
    assert got["clear.png"].min() == got["bits.png"].min() == 255  # transparent pixels show white
    assert got["palette.png"][:, 2, 9].tolist() == [255, 255, 255]
    assert got["palette.gif"][:, 2, 9].tolist() == [255, 0, 0]
    assert got["palette.png"][:, 17, 9].tolist() == got["palette.gif"][:, 17, 9].tolist() == [0, 0, 255]
    for name in ("sixteen.png", "grey.jpg", "cmyk.jpg"):
        assert (got[name].int() - got["grey.png"].int()).abs().max() <= 2, name
    trained = open_dataset(str(pictures / "val"), train=True, crop=20)
    assert all(load_image(trained, i, seed=0, epoch=0).shape == (3, 20, 20) for i in range(len(trained)))


@pytest.mark.parametrize("ending", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("lie", range(1, 9))
def test_pictures_stand_as_exif_says(lie: int, ending: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(lie).integers(0, 256, (3, 5, 3), dtype=np.uint8)).resize((48, 32))
    exif = image.getexif()
    exif[0x0112] = lie
    image.save(tmp_path / f"a.{ending}", exif=exif)
    with Image.open(tmp_path / f"a.{ending}") as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened))
    picture = EncodedImage(tmp_path / f"a.{ending}")
    assert np.array_equal(picture.pixels(), wanted)
    assert picture.size == ((32, 48) if lie >= 5 else (48, 32))


def test_damaged_exif_is_left_alone_without_a_word(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4), "blue")
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "a description of some length"
    image.save(tmp_path / "a.jpg", exif=exif)
    whole = (tmp_path / "a.jpg").read_bytes()
    at = whole.index(b"Exif")
    for place in range(at + 6, at + 60):
        (tmp_path / "a.jpg").write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        assert EncodedImage(tmp_path / "a.jpg").pixels().shape in ((4, 6, 3), (6, 4, 3))  # warnings are errors in tests


def test_decoders_agree_at_every_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smooth = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    for subsampling in (0, 2):
        path = tmp_path / f"{subsampling}.jpg"
        Image.fromarray(smooth).resize((410, 303)).save(path, subsampling=subsampling)
        fast = [EncodedImage(path).pixels(shrink) for shrink in (1, 1.9, 2, 5, 9)]
        with monkeypatch.context() as without:
            without.setattr(decode, "simplejpeg", None)
            slow = [EncodedImage(path).pixels(shrink) for shrink in (1, 1.9, 2, 5, 9)]
        assert [x.shape for x in fast] == [(303, 410, 3), (303, 410, 3), (152, 205, 3), (76, 103, 3), (38, 52, 3)]
        assert all(np.array_equal(a, b) for a, b in zip(fast, slow, strict=True))


def test_what_is_corrupt_does_not_depend_on_the_decoder(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"more behind the end")
    assert EncodedImage(path).pixels().shape == (90, 90, 3)
    for content in (whole[: len(whole) // 2], whole[:100], b"", b"\xff\xd8\xff\xe0"):
        path.write_bytes(content)
        with pytest.raises(CorruptImageError, match=r"a\.jpg"):
            EncodedImage(path).pixels()


def test_a_large_picture_is_decoded_smaller_without_moving_the_crop(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:1201, 0:1603]
    pixels = np.stack([rows * 255 // 1201, columns * 255 // 1603, (rows + columns) % 256 // 2], 2).astype(np.uint8)
    for ending in ("jpg", "png"):
        (tmp_path / ending / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / ending / "a" / f"0.{ending}", quality=97)
    small, exact = (open_dataset(str(tmp_path / ending), train=True, crop=64) for ending in ("jpg", "png"))
    for epoch in range(8):
        a, b = (load_image(data, 0, seed=0, epoch=epoch)[:2].int() for data in (small, exact))
        assert (a - b).abs().max() <= 3  # half a pixel of the decoded picture is at most one level here


def test_validation_views_are_pillows_own_resize_and_crop(shared: Path) -> None:
    different = values = 0
    for path in sorted((shared / "data" / "imagenet-sample").rglob("*.JPEG")):
        with Image.open(path) as image:
            large = image.convert("RGB")
        large = large.resize([256 * side // min(large.size) for side in large.size], Image.Resampling.BILINEAR)
        left, top = (round((side - 224) / 2) for side in large.size)
        wanted = np.asarray(large.crop((left, top, left + 224, top + 224)), dtype=int).transpose(2, 0, 1)
        off = np.abs(centre_view(EncodedImage(path).pixels(), 256, 224).numpy() - wanted)
        assert off.max() <= 1  # torch counts in 16-bit weights, Pillow in 32-bit: a rounding may fall the other way
        different, values = different + np.count_nonzero(off), values + off.size
    assert values == 60 * 3 * 224 * 224
    assert different < 0.003 * values


def grey(array: np.ndarray, path: Path) -> np.ndarray:
    """Save greys, and return the one channel that comes back."""
    Image.fromarray(array).save(path)
    pixels_HWC = EncodedImage(path).pixels()
    assert (pixels_HWC == pixels_HWC[..., :1]).all()
    return pixels_HWC[..., 0]


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_greys_of_16_bits_are_scaled_by_their_depth_however_dark_they_are(ending: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64)[None].repeat(4, 0)
    for most, brightest in ((65535, 255), (32768, 128), (260, 1), (250, 1), (100, 0)):
        assert grey((ramp * most).astype(np.uint16), tmp_path / f"{most}.{ending}").max() == brightest


def test_floating_point_greys_are_scaled_from_1_and_refused_beyond(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(4, 0)
    assert grey(ramp, tmp_path / "a.tif")[0].tolist() == list(range(256))
    assert grey(ramp / 5, tmp_path / "b.tif").max() == 51
    for wrong in (ramp * 2 - 1, ramp * 255, ramp * np.nan):
        with pytest.raises(CorruptImageError, match=r"c\.tif \(floating-point greys, which have to be within 0 and 1"):
            grey(wrong, tmp_path / "c.tif")


def test_greys_that_have_no_range_are_refused_and_named(tmp_path: Path) -> None:
    for name, most in (("large.tif", 10**6), ("small.tif", 200)):  # a small one may be anything, too
        with pytest.raises(CorruptImageError, match=f"{name}.*greys of more than 16 bits"):
            grey(np.linspace(0, most, 64).astype(np.int32)[None], tmp_path / name)


def test_what_is_no_image_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("a text")
    with pytest.raises(CorruptImageError, match=r"a\.jpg \(no image of a known kind\)"):
        EncodedImage(tmp_path / "a.jpg")


@pytest.mark.parametrize("ending", ["png", "tif", "gif", "webp", "bmp", "tga", "jp2", "avif", "ppm", "jpg"])
def test_whatever_is_wrong_with_a_picture_its_file_is_named(ending: str, tmp_path: Path) -> None:
    """Each of Pillow's readers has errors of its own, such as RuntimeError of damaged AVIFs."""
    random = np.random.default_rng(0)
    path = tmp_path / f"a.{ending}"
    try:
        Image.fromarray(random.integers(0, 256, (24, 31, 3), dtype=np.uint8)).save(path)
    except (ValueError, OSError, KeyError):
        pytest.skip(f"this Pillow writes no {ending}")
    whole = path.read_bytes()
    for turn in range(60):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[random.integers(min(len(damaged), 400))] = random.integers(256)
        path.write_bytes(damaged if turn % 3 else whole[: random.integers(len(whole))])
        with suppress(CorruptImageError):  # which names it; nothing else may come out
            EncodedImage(path).pixels()
