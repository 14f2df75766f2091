"""Pictures of every kind that people bring."""
import numpy as np
import pytest
from PIL import Image

from attnlib.data.pictures import attempts, read_picture, span

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def saved(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_a_picture_of_the_right_size_is_left_as_it_is(tmp_path):
    path = saved(tmp_path / "a b.png", COLOUR)
    assert np.array_equal(read_picture(path, 32, 3), COLOUR)
    grey = read_picture(path, 32, 1)
    assert grey.shape == (32, 32, 1)
    expected = COLOUR @ [0.299, 0.587, 0.114]               # ITU-R 601, as Pillow says
    assert np.abs(grey[..., 0] - expected).max() <= 1
    three = read_picture(saved(tmp_path / "g.png", COLOUR[..., 0]), 32, 3)
    assert np.array_equal(three, np.repeat(COLOUR[..., :1], 3, axis=2))


def test_the_middle_square_is_taken_and_averaged_and_not_sampled(tmp_path):
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = (200, 100, 50)                         # the middle third alone is coloured
    for name, array in (("wide", wide), ("high", wide.transpose(1, 0, 2))):
        x = read_picture(saved(tmp_path / f"{name}.png", np.ascontiguousarray(array)), 28, 3)
        assert (x == [200, 100, 50]).all()
    stripes = np.zeros((320, 320), np.uint8)
    stripes[:, ::2] = 255
    x = read_picture(saved(tmp_path / "s.png", stripes), 32, 1)
    assert abs(x.mean() - 127.5) < 2 and x.std() < 8


def test_it_is_turned_as_the_camera_says(tmp_path):
    for turn, expected in {1: COLOUR, 3: np.rot90(COLOUR, 2), 6: np.rot90(COLOUR, -1),
                           8: np.rot90(COLOUR)}.items():
        exif = Image.Exif()
        exif[0x0112] = turn
        path = saved(tmp_path / "t.png", COLOUR, exif=exif)
        assert np.array_equal(read_picture(path, 32, 3), expected)


def test_sixteen_bits_and_floats_keep_their_greys(tmp_path):
    grey = COLOUR[..., 0]
    for name, deep in {"i.png": grey.astype(np.uint16) * 257,
                       "f.tiff": (grey / 255).astype(np.float32)}.items():
        assert np.array_equal(read_picture(saved(tmp_path / name, deep), 32, 1)[..., 0], grey)


def test_floats_that_rounding_left_above_one_are_still_light_from_0_to_1():
    assert span("F", 0, 1.01) == (0, 1) and span("F", 0, 200.0) == (0, 255)


def test_what_is_transparent_is_white(tmp_path):
    clear = np.dstack([COLOUR, np.zeros((32, 32), np.uint8)])
    clear[:16, :, 3] = 255
    x = read_picture(saved(tmp_path / "c.png", clear), 32, 3)
    assert np.array_equal(x[:16], COLOUR[:16]) and (x[16:] == 255).all()


@pytest.mark.parametrize("kind", ["jpg RGB", "jpg CMYK", "bmp RGB", "gif P", "webp RGB", "png 1",
                                  "png LA", "tiff RGB", "ppm RGB"])
def test_every_common_type_is_read(tmp_path, kind):
    ending, mode = kind.split()
    path = saved(tmp_path / f"x.{ending}", np.full((50, 70, 3), 255, np.uint8), mode)
    for channels in (1, 3):
        x = read_picture(path, 32, channels)
        assert x.shape == (32, 32, channels) and x.dtype == np.uint8 and x.min() >= 250


def test_every_bad_file_is_named_in_one_go(tmp_path):
    good = saved(tmp_path / "good.png", COLOUR)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes(good.read_bytes()[:200])
    (tmp_path / "folder.png").mkdir()
    names = ["text.png", "good.png", "half.png", "folder.png", "none.png"]
    found = list(attempts([str(tmp_path / n) for n in names], 32, 3))
    assert [path for path, image, _ in found if image is not None] == [str(good)]
    words = {path.rpartition("/")[2]: why for path, _, why in found if why}
    assert set(words) == {"text.png", "half.png", "folder.png", "none.png"}
    assert "not a picture" in words["text.png"] and "cannot be read" in words["half.png"]
    assert "directory" in words["folder.png"] and "No such file" in words["none.png"]
