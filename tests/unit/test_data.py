"""Real images: their shapes, where they come from, and what happens when they do not come."""

import functools
import http.client
import http.server
import io
import struct
import threading
import urllib.error

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from leaklib import data


def assert_images(images, labels, shape):
    assert images.shape == shape and labels.shape == shape[:1]
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    assert images.isfinite().all() and images.min() >= 0 and images.max() <= 1


# --- the embedded sets --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [("photos", (72, 3, 32, 32)), ("digits", (1797, 1, 28, 28)), ("faces", (100, 1, 25, 25))],
)
def test_embedded_sets(name, shape):
    images, labels = data.load(name)
    assert_images(images, labels, shape)
    spread = images.flatten(1).std(1)
    assert (spread > 0.02).all(), "no picture is empty"
    assert images.max() > 0.9 and images.min() < 0.1, "the range is used"
    again, same = data.load(name)
    assert torch.equal(images, again) and torch.equal(labels, same)


def test_photos_are_the_default_and_begin_with_whole_pictures():
    images, labels = data.load()
    assert data.names() == data.PICTURES and len(data.PICTURES) == 8
    assert labels[:8].tolist() == list(range(8)), "each picture whole, in order"
    assert labels.bincount().tolist() == [9] * 8 and len(images) >= 64
    assert len(torch.unique(images.flatten(1), dim=0)) == len(images), "no crop twice"


def test_photos_are_sharp_at_any_size():
    """They are cut from the pictures at the size asked for, not enlarged from 32."""
    small, (large, labels) = data.load("photos")[0], data.load("photos", size=64)
    assert_images(large, labels, (72, 3, 64, 64))
    shrunk = torch.nn.functional.interpolate(large[:8], size=(32, 32), mode="area")
    assert (shrunk - small[:8]).abs().mean() < 0.01
    blown_up = torch.nn.functional.interpolate(small[:8], scale_factor=2)
    assert (large[:8] - blown_up).abs().mean() > 0.02


def test_digits_show_their_labels():
    images, labels = data.load("digits")
    means = torch.stack([images[labels == c].mean(0) for c in range(10)])
    nearest = (images[:, None] - means).square().flatten(2).sum(2).argmin(1)
    assert (nearest == labels).float().mean() > 0.85
    assert data.names("digits") == tuple("0123456789")


@pytest.mark.parametrize("name", ["photos", "digits", "faces"])
def test_count_draws_by_seed(name):
    everything, all_labels = data.load(name)
    one, labels = data.load(name, 10, seed=1)
    assert_images(one, labels, (10, *everything.shape[1:]))
    assert torch.equal(one, data.load(name, 10, seed=1)[0])
    assert not torch.equal(one, data.load(name, 10, seed=2)[0])
    assert torch.equal(one[:4], data.load(name, 4, seed=1)[0]), "the first are the same"
    for image, label in zip(one, labels, strict=True):
        match = (everything == image).flatten(1).all(1)
        assert match.any() and label in all_labels[match]
    assert len(data.load(name, len(everything))[0]) == len(everything)


@pytest.mark.parametrize("name", ["photos", "digits", "faces"])
@pytest.mark.parametrize("size", [8, 25, 40])
def test_size_resizes(name, size):
    images, labels = data.load(name, 5, size=size)
    assert_images(images, labels, (5, images.shape[1], size, size))


def test_global_generator_is_not_used():
    before = torch.get_rng_state()
    data.load("digits", 5, seed=3)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["photos", "digits"])
def test_wrong_arguments_are_refused(name):
    for count in (0, -1, 5000, 2.5, "3", True):
        with pytest.raises(ValueError, match=f"^count: got {count}; wanted 1 to .*{name}"):
            data.load(name, count)
    for size in (0, -4, 8.5, "8", True):
        with pytest.raises(ValueError, match=f"^size: got {size}; .*positive"):
            data.load(name, 2, size=size)


def test_unknown_set_gets_the_list_of_those_there_are():
    with pytest.raises(ValueError, match="^name: got 'imagenet'; .*photos, digits, faces, mnist"):
        data.load("imagenet")
    with pytest.raises(ValueError, match="^name: got 'faces'; .*photos"):
        data.names("faces")


@pytest.mark.parametrize("name", ["olivetti", "cats_dogs"])
def test_set_that_nobody_downloads_names_the_embedded_ones(name, tmp_path, monkeypatch):
    for folder in (None, tmp_path):
        if folder:
            monkeypatch.setenv("LEAKLIB_DATA", str(folder))
        with pytest.raises(RuntimeError, match=f"{name}.npz.*LEAKLIB_DATA.*photos, digits, faces"):
            data.load(name)


# --- a folder of one's own ----------------------------------------------------------------------


def npz(folder, name="mnist", **changed):
    pixels = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
    held = dict(images=pixels, labels=np.arange(6)) | changed
    np.savez(folder / f"{name}.npz", **{k: v for k, v in held.items() if v is not None})
    return pixels


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKLIB_DATA", str(tmp_path))
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "cifar10", "lfw", "olivetti", "cats_dogs"])
def test_folder_comes_first(name, folder):
    pixels = npz(folder, name)
    images, labels = data.load(name)
    assert_images(images, labels, (6, 3, 4, 4))
    assert torch.equal(images[5, 1, 2, 3], torch.tensor(pixels[5, 2, 3, 1] / 255).float())
    assert labels.tolist() == list(range(6))
    assert data.load(name, 2, size=8)[0].shape == (2, 3, 8, 8)


def broken_files():
    good = io.BytesIO()
    np.savez(good, images=np.zeros((6, 4, 4, 1), np.uint8), labels=np.arange(6))
    flipped = bytearray(good.getvalue())
    flipped[200:260] = b"\xff" * 60
    return {
        "empty": b"",
        "not a file of NumPy": b"<html>404</html>",
        "cut off": good.getvalue()[: len(good.getvalue()) // 2],
        "damaged": bytes(flipped),
    }


@pytest.mark.parametrize("case", broken_files())
def test_file_that_cannot_be_read_is_named(case, folder):
    (folder / "mnist.npz").write_bytes(broken_files()[case])
    with pytest.raises(ValueError, match="mnist.npz: got a file that cannot be read"):
        data.load("mnist")


@pytest.mark.parametrize(
    "changed",
    [
        dict(labels=None), dict(images=None), dict(images=np.zeros((6, 4, 4, 1))),
        dict(images=np.zeros((6, 4, 4), np.uint8)), dict(labels=np.arange(5)),
        dict(labels=np.zeros((6, 1), int)), dict(labels=np.array([object()] * 6)),
        dict(labels=np.arange(6) / 2),
    ],
)  # fmt: skip
def test_file_that_holds_something_else_is_named(changed, folder):
    npz(folder, **changed)
    with pytest.raises(ValueError, match=r"mnist\.npz: got .*wanted images"):
        data.load("mnist")


# --- through torchvision ------------------------------------------------------------------------

PIXELS = np.arange(5 * 28 * 28, dtype=np.uint8).reshape(5, 28, 28)


def write_mnist(dataset, whole=True):
    """The four files of MNIST with five images each, or the first of them half written."""
    import pathlib

    folder = pathlib.Path(dataset.raw_folder)
    folder.mkdir(parents=True)
    images = struct.pack(">IIII", 0x803, 5, 28, 28) + PIXELS.tobytes()
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images if whole else images[:999])
        if not whole:
            return
        labels = struct.pack(">II", 0x801, 5) + bytes([7, 2, 1, 0, 4])
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "deep" / "cache")
    return data.CACHE


@pytest.mark.parametrize(
    ("name", "dataset"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_download_that_succeeds_is_kept_and_used_again(name, dataset, cache, monkeypatch):
    calls = []

    def download(self):
        calls.append(self.root)
        write_mnist(self)

    monkeypatch.setattr(getattr(torchvision.datasets, dataset), "download", download)
    images, labels = data.load(name)
    assert_images(images, labels, (5, 1, 28, 28))
    assert torch.equal(images[:, 0], torch.from_numpy(PIXELS).float() / 255)
    assert labels.tolist() == [7, 2, 1, 0, 4]
    assert [p.name for p in cache.iterdir()] == [name]
    assert torch.equal(data.load(name)[0], images) and len(calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("File not found or corrupted."),
        urllib.error.URLError("no route to host"),
        ConnectionResetError("reset by peer"),
        http.client.IncompleteRead(b"half"),
        EOFError("compressed file ended before the end-of-stream marker"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_broken_download_leaves_nothing_behind(error, cache, monkeypatch):
    def download(self):
        write_mnist(self, whole=False)
        raise error

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            data.load("mnist")
    else:
        with pytest.raises(RuntimeError, match="'mnist' is not here.*photos, digits, faces"):
            data.load("mnist")
    assert not cache.exists() or not any(cache.iterdir())

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", write_mnist)
    assert len(data.load("mnist")[0]) == 5, "the next attempt starts afresh"


def test_sets_of_colour_and_of_which_split(cache, monkeypatch):
    """What torchvision is asked for, and that colour images keep their channels."""
    asked = []

    class Fake:
        def __init__(self, root, **settings):
            asked.append(settings)
            __import__("pathlib").Path(root).mkdir(parents=True, exist_ok=True)

        def __iter__(self):
            return iter([(Image.fromarray(np.full((4, 4, 3), 51, np.uint8)), 3)] * 2)

    for name in ("cifar10", "cifar10_train", "cifar100", "lfw"):
        monkeypatch.setattr(torchvision.datasets, data.TORCHVISION[name], Fake)
        images, labels = data.load(name)
        assert_images(images, labels, (2, 3, 4, 4))
        torch.testing.assert_close(images, torch.full_like(images, 0.2))
    assert [a.get("train", a.get("split")) for a in asked[::2]] == [False, True, False, "test"]
    assert [a["download"] for a in asked] == [True, False] * 4


# --- a picture of one's own ---------------------------------------------------------------------


def picture(width=60, height=40, mode="RGB", kind="png"):
    """Left half red, right half blue (or dark and bright), as the bytes of a file."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0], pixels[:, width // 2 :, 2] = 255, 255
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format=kind)
    return file.getvalue()


def assert_red_and_blue(x, size=32):
    assert_images(x, torch.zeros(1).long(), (1, 3, size, size))
    assert (x[0, 0, :, : size // 2 - 2] > 0.9).all() and (x[0, 2, :, : size // 2 - 2] < 0.1).all()
    assert (x[0, 2, :, size // 2 + 2 :] > 0.9).all() and (x[0, 0, :, size // 2 + 2 :] < 0.1).all()


def test_picture_from_anywhere_in_memory(tmp_path):
    file = tmp_path / "mine.png"
    file.write_bytes(picture())
    pixels = np.asarray(Image.open(file))
    for source in (
        file, str(file), picture(), bytearray(picture()), memoryview(picture()),
        io.BytesIO(picture()), Image.open(file), pixels, pixels / 255, pixels.astype("f2") / 255,
        pixels.astype(np.uint16) * 257, pixels > 0, pixels[:, ::-1][:, ::-1],
        np.dstack([pixels, np.full_like(pixels[..., :1], 255)]),
    ):  # fmt: skip
        assert_red_and_blue(data.open_image(source))
    with file.open("rb") as opened:
        assert_red_and_blue(data.open_image(opened))


def test_picture_from_an_address(tmp_path):
    (tmp_path / "mine.png").write_bytes(picture())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            assert_red_and_blue(data.open_image(f"{address}/mine.png", size=16), size=16)
            assert_red_and_blue(data.open_image(f"{address}/mine.png".replace("http", "HTTP")))
            with pytest.raises(ValueError, match="^source: got 'http.*404"):
                data.open_image(f"{address}/other.png")
        finally:
            server.shutdown()


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (50, 50), (401, 33), (8, 8)])
def test_largest_centred_square_is_taken(width, height):
    assert_red_and_blue(data.open_image(picture(width, height)))


@pytest.mark.parametrize("kind", ["png", "webp", "gif", "bmp"])
@pytest.mark.parametrize("size", [8, 50])
def test_formats_and_sizes(kind, size):
    assert_red_and_blue(data.open_image(picture(kind=kind), size=size), size=size)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_pictures_have_three_equal_channels(mode):
    x = data.open_image(picture(mode=mode))
    assert_images(x, torch.zeros(1).long(), (1, 3, 32, 32))
    assert torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK"])
def test_pictures_with_other_modes(mode):
    kind = "tiff" if mode == "CMYK" else "png"
    assert_red_and_blue(data.open_image(picture(mode=mode, kind=kind)))


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
def test_photograph_stands_as_its_camera_says(deep):
    """A telephone stores the picture lying and says so in the file."""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270 degrees to show
    if deep:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(RAMP.T[::-1])).save(file, format="png", exif=exif)
        return assert_is_ramp(data.open_image(file.getvalue()))
    lying = Image.open(io.BytesIO(picture(40, 40))).rotate(90, expand=True)
    file = io.BytesIO()
    lying.save(file, format="png", exif=exif)
    assert_red_and_blue(data.open_image(file.getvalue()))


RAMP = np.tile(np.linspace(0, 65535, 256).round().astype(np.uint16), (256, 1))


def assert_is_ramp(x):
    """From black to white, each of 32 columns a mean of eight: .008 and .992 at the ends."""
    assert x.shape == (1, 3, 32, 32) and torch.equal(x[:, 0], x[:, 1])
    columns = x[0, 0].mean(0)
    wanted = (torch.arange(32) + 0.5) / 32
    torch.testing.assert_close(columns, wanted, atol=0.012, rtol=0)
    assert abs(float(x.mean()) - 0.5) < 0.005
    assert 0.002 < float(columns[0]) < 0.02 and 0.98 < float(columns[-1]) < 0.998


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_picture_of_16_bits_keeps_its_shades(kind):
    """A14: Pillow alone cuts them off above 255 of 65,535."""
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, format=kind)
    assert_is_ramp(data.open_image(file.getvalue()))


@pytest.mark.parametrize(
    "pixels",
    [
        RAMP,
        RAMP.astype(">u2"),
        RAMP / 65535,
        RAMP.astype(np.float32) / 65535,
        (RAMP // 257).astype(np.uint8),
        RAMP[..., None],
        Image.fromarray(RAMP),
        Image.fromarray((RAMP / 65535).astype(np.float32)),
        Image.frombytes("I;16B", (256, 256), RAMP.astype(">u2").tobytes()),
    ],
    ids=["uint16", "the other end first", "floats", "float32", "uint8", "one channel", "I;16", "F",
         "I;16B"],
)  # fmt: skip
def test_pixels_of_many_types_keep_their_shades(pixels):
    """A14"""
    assert_is_ramp(data.open_image(pixels))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode):
    """Its colour under the glass is nobody's business: here black."""
    glass = np.zeros((40, 40, 4), np.uint8)
    glass[:, :20, 3] = 255
    file = io.BytesIO()
    image = Image.fromarray(glass)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(file, format="png")
    for source in (image, file.getvalue(), glass):
        x = data.open_image(source)
        assert x[..., :15].max() < 0.1 and x[..., 17:].min() > 0.9


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_picture_of_an_animation_is_taken(kind):
    first = Image.open(io.BytesIO(picture()))
    file = io.BytesIO()
    first.save(file, format=kind, save_all=True, append_images=[first.rotate(180)], lossless=True)
    assert_red_and_blue(data.open_image(file.getvalue()))


def saved_as(pixels, kind):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


NO_PICTURES = {
    "nothing": None,
    "a number": 5,
    "a list of pixels": [[0, 255]],
    "a tensor": torch.rand(3, 8, 8),
    "an open text": io.StringIO("pixels"),
    "a dict": {"path": "mine.png"},
    "pixels of 64 bits": RAMP.astype(np.int64),
    "pixels with a sign": RAMP.astype(np.int32),
    "floats from 0 to 255": RAMP / 257,
    "floats from -1": RAMP / 32768 - 1,
    "NaN": np.full((8, 8), np.nan),
    "complex": np.zeros((8, 8), complex),
    "objects": np.array([[None, 1], [2, 3]]),
    "texts": np.array([["a", "b"]]),
    "one axis": np.zeros(64, np.uint8),
    "channels first": np.zeros((3, 8, 8), np.uint8),
    "two channels": np.zeros((8, 8, 2), np.uint8),
    "a batch": np.zeros((1, 8, 8, 3), np.uint8),
    "no pixel": np.zeros((0, 8), np.uint8),
    "no pixel in a picture": Image.new("RGB", (0, 8)),
    "wide numbers, white unknown": Image.fromarray(RAMP.astype(np.int32)),
    "floats from 0 to 255 in a picture": Image.fromarray((RAMP / 257).astype(np.float32)),
    "a TIFF of floats": saved_as((RAMP / 257).astype(np.float32), "TIFF"),
    "a TIFF of 32 bits": saved_as(RAMP.astype(np.int32), "TIFF"),
    "a path with a zero": "mine\0.png",
}


@pytest.mark.filterwarnings("ignore")  # NumPy's, of complex numbers
@pytest.mark.parametrize("what", NO_PICTURES)
def test_what_has_no_known_white_or_no_pixels_is_refused(what):
    """A14"""
    with pytest.raises(
        ValueError, match="^source: got .*; wanted a path, address or bytes of an i"
    ):
        data.open_image(NO_PICTURES[what])


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it finds in them
def test_pictures_that_were_damaged_are_refused_or_opened():
    """Whatever a decoder raises."""
    draws = np.random.default_rng(0)
    for kind in ("png", "gif", "webp", "bmp", "jpeg", "tiff"):
        whole = np.frombuffer(picture(kind=kind), np.uint8)
        for _ in range(60):
            broken = whole.copy()
            broken[draws.integers(0, min(len(whole), 80), 3)] = draws.integers(0, 256, 3)
            try:
                x = data.open_image(broken.tobytes(), 8)
            except ValueError as error:
                assert str(error).startswith("source: got ")
            else:
                assert x.shape == (1, 3, 8, 8) and 0 <= x.min() <= x.max() <= 1


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"not an image",
        picture()[:60],
        picture()[:-30],
        "nothing/here.png",
        "http://127.0.0.1:9/a.png",
        "http://127.0.0.1:9/with a space.png",
    ],
    ids=["empty", "garbage", "a head", "cut off", "no file", "no server", "no address"],
)
def test_what_is_not_an_image_is_refused(source):
    with pytest.raises(ValueError, match="^source: got .*wanted a path, address or bytes"):
        data.open_image(source)


def test_folder_is_no_image(tmp_path):
    with pytest.raises(ValueError, match="^source: "):
        data.open_image(tmp_path)


@pytest.mark.parametrize("size", [0, -3, 8.0, 2.5, "32", None, (32, 32), True, float("nan")])
def test_size_of_a_picture_is_positive(size):
    with pytest.raises(ValueError, match="^size: got .*positive"):
        data.open_image(picture(), size=size)


def test_endless_address_is_cut(monkeypatch):
    monkeypatch.setattr(data, "DOWNLOAD_LIMIT", 100)
    reply = io.BytesIO(picture())
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: reply)
    with pytest.raises(ValueError, match="^source: .*more than 100 bytes"):
        data.open_image("https://example.org/large.png")
