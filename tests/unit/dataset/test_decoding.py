import contextlib
import io
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from cloudseg.dataset import decoding
from cloudseg.dataset.decoding import ImageError, TurnedError, decode_image, decoding_bytes, load_image


def scene(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(120, 40, (height // 4 + 1, width // 4 + 1, 3))
    return cv2.resize(noise.clip(0, 255).astype("uint8"), (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(image, suffix: str = ".png", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, {".png": "png", ".jpg": "jpeg"}[suffix], **options)
    return file.getvalue()


def test_png_comes_back_exactly_whatever_its_name(tmp_path):
    image = scene()
    (tmp_path / "a.jpg").write_bytes(encoded(image, ".png"))
    loaded = load_image(tmp_path / "a.jpg")
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, image)


def test_jpeg_decodes_as_opencv_decodes_it():
    data = encoded(scene(), ".jpg", quality=90)
    pixels, kind = decode_image(data)
    expected = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert kind == "rgb"
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_orientation_in_exif_is_refused(orientation):
    """OpenCV and browsers turn such a picture, Pillow does not, and labels fit both ways."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with pytest.raises(TurnedError, match=f"its EXIF orientation is {orientation}"):
        decode_image(encoded(scene(40, 60), ".jpg", exif=exif))


@pytest.mark.parametrize("orientation", [0, 1, 9, 1000])
def test_an_orientation_that_turns_nothing_is_fine(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(40, 60), ".jpg", exif=exif)
    pixels, _ = decode_image(data)
    assert pixels.shape == cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (40, 60, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_nobody_can_read_is_no_orientation():
    data = encoded(scene(40, 60), ".jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert decode_image(data)[0].shape == (40, 60, 3)


def test_more_pixels_than_pillow_takes_for_a_bomb_are_read_up_to_a_limit_of_our_own(monkeypatch, tmp_path):
    file = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(file, "png")  # 200 megapixels in 24 kB
    (tmp_path / "a.png").write_bytes(file.getvalue())
    assert decoding_bytes(tmp_path / "a.png") == 8 * 200_000_000 + len(file.getvalue())
    monkeypatch.setattr(decoding, "MOST_PIXELS", 10**8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"expected at most 100 megapixels, got 200 \(10000x20000\); cut it"):
            decode_image(file.getvalue())


def test_a_large_image_is_decoded_in_strips_without_a_seam(monkeypatch):
    monkeypatch.setattr(decoding, "STRIP", 7)
    image = scene(40, 60)
    for mode in ("RGB", "L", "P", "RGBA", "1"):
        picture = Image.fromarray(image).convert(mode)
        file = io.BytesIO()
        picture.save(file, "png")
        np.testing.assert_array_equal(decode_image(file.getvalue())[0], np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(("options", "a_pixel"), [({}, 8), ({"progressive": True}, 14)])
def test_the_memory_that_decoding_takes_is_told_by_the_header(tmp_path, options, a_pixel):
    data = encoded(scene(200, 300), ".jpg", **options)
    path = tmp_path / "a.jpg"
    for content, expected in ((data[:2000], 2000 + 200 * 300 * a_pixel), (b"<html>", 6), (b"", 0)):
        path.write_bytes(content)
        assert decoding_bytes(path) == expected
    assert decoding_bytes(tmp_path / "none.jpg") == 0


def test_an_animation_is_refused():
    file = io.BytesIO()
    Image.fromarray(scene()).save(file, "png", save_all=True, append_images=[Image.fromarray(scene(seed=1))])
    with pytest.raises(ImageError, match="an animation of 2 frames"):
        decode_image(file.getvalue())


def test_whatever_is_cut_short_or_flipped_is_an_image_or_an_image_error(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in (".png", ".jpg"):
        data = encoded(scene(), suffix)
        for stop in range(0, 60):
            with pytest.raises(ImageError):
                decode_image(data[:stop])
        for _ in range(300):
            spoiled = bytearray(data)
            for place in rng.integers(0, len(data), 3):
                spoiled[place] = rng.integers(0, 256)
            with contextlib.suppress(ImageError):
                decode_image(bytes(spoiled))
            (tmp_path / "a.jpg").write_bytes(spoiled)
            decoding_bytes(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grey_is_repeated(suffix):
    pixels, kind = decode_image(encoded(scene()[..., 0], suffix))
    assert (pixels.shape, kind) == ((40, 60, 3), "grey")
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped_with_a_warning(tmp_path, mode):
    image = Image.fromarray(scene()).convert(mode)
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a\.png: its transparency is dropped"):
        pixels = load_image(tmp_path / "a.png")
    assert pixels.shape == (40, 60, 3)
    if mode == "RGBA":
        np.testing.assert_array_equal(pixels, scene())


def test_a_palette_is_looked_up():
    image = Image.fromarray(scene()).quantize(16)
    file = io.BytesIO()
    image.save(file, "png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, kind = decode_image(file.getvalue())
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
    assert kind == "rgb"


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_truncated_jpeg_is_refused(tmp_path, part, options):
    """OpenCV only warns about it and fills the rest with grey."""
    data = encoded(scene(200, 300), ".jpg", **options)
    (tmp_path / "cut.jpg").write_bytes(data[: int(part * len(data))])
    with pytest.raises(ImageError, match=r"cut\.jpg: "):
        load_image(tmp_path / "cut.jpg")


def test_a_jpeg_that_lacks_its_last_byte_is_refused():
    with pytest.raises(ImageError, match="truncated"):
        decode_image(encoded(scene(), ".jpg")[:-1])


def test_a_truncated_png_is_refused():
    with pytest.raises(ImageError):
        decode_image(encoded(scene())[:-200])


def test_a_png_with_a_flipped_byte_is_refused():
    data = bytearray(encoded(scene()))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError):
        decode_image(bytes(data))


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_refused(channels):
    image = np.zeros((40, 60, channels), np.uint16)
    with pytest.raises(ImageError, match="16 bits per channel"):
        decode_image(cv2.imencode(".png", image)[1].tobytes())


def test_cmyk_is_refused():
    file = io.BytesIO()
    Image.fromarray(scene()).convert("CMYK").save(file, "jpeg")
    with pytest.raises(ImageError, match="CMYK"):
        decode_image(file.getvalue())


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "an empty file"), (b"GIF89a...", "neither JPEG nor PNG"), (b"<html>", "neither")]
)
def test_what_is_no_image_is_refused(data, message):
    with pytest.raises(ImageError, match=message):
        decode_image(data)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        load_image(tmp_path / "gone.jpg")
