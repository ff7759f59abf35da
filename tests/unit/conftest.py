"""What several of the unit tests share: real digits, and a network that is not leaklib's own."""

import pytest
import torch
from torch import nn
from torch.func import vmap

from leaklib import client, data
from leaklib.leak import Leak, stack

# these problems are small: a second thread gains nothing, and loses much on a busy machine
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    """The reader's environment must not decide what a test sees."""
    for name in ("LEAKLIB_DATA", "LEAKBOOK_BUILD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def some_digits(count, **how):
    """The digits that the bounds of the tests were set on, whatever `data.load` draws by a seed."""
    images, labels = data.load("digits", **how)
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
    return images[rows], labels[rows]


@pytest.fixture(scope="session")
def digits():
    """100 digits (100, 1, 28, 28) and their labels."""
    return some_digits(100)


@pytest.fixture(scope="session")
def small_digits():
    """24 digits of 12 x 12 pixels, where a small network is enough."""
    return some_digits(24, size=12)


@pytest.fixture(scope="session")
def share_each():
    """The stack of what one client an image sends, each from its own model: model_of(i)."""

    def share(model_of, x, y, **settings):
        return stack(
            client.share_gradient(model_of(i), x[i : i + 1], y[i : i + 1], seed=i, **settings)
            for i in range(len(x))
        )

    return share


@pytest.fixture(scope="session")
def weights_of_each():
    """A stack: the weights that a client would send after its steps on each image alone."""

    def send(model, x, y, lr, steps=1, optimizer="sgd"):
        W, buffers = client.state(model)
        g = client.gradient(model)

        def trained(image, label):
            step = lambda W, _: g(W, image[None], label[None], buffers)  # noqa: E731
            return client.local_training(step, W, range(steps), lr=lr, optimizer=optimizer)

        weights = {name: w.expand(len(x), *w.shape) for name, w in W.items()}
        return Leak(weights, vmap(trained)(x, y), "weights", victims=len(x))

    return send


@pytest.fixture
def shrunk(monkeypatch):
    """shrunk(experiment, size=…, IMAGES=…): an experiment on defences, on 60 digits, with these."""
    import _attacked_and_trained as sets

    def shrink(experiment, size=None, **settings):
        digits = data.load("digits", 60, size=size, seed=0)
        load = lambda name, count=None, seed=0: tuple(part[:count] for part in digits)  # noqa: E731
        monkeypatch.setattr(data, "load", load)
        monkeypatch.setattr(sets, "TRAINED_ON", {"digits": ("digits", 40)})
        for name, value in settings.items():
            monkeypatch.setattr(experiment, name, value)
        sets.private_of.cache_clear()

    yield shrink
    sets.private_of.cache_clear()


class Residual(nn.Module):
    """A reader's own network: a residual branch, group normalisation, names unlike leaklib's."""

    def __init__(self, channels: int = 1, classes: int = 10):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 36, classes)

    def forward(self, x):
        h = torch.sigmoid(self.norm(self.stem(x)))
        return self.head((h + torch.tanh(self.branch(h))).flatten(1))


@pytest.fixture
def own_network():
    """seed -> a Residual for 12 x 12 images."""

    def make(seed=0, **settings):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Residual(**settings)

    return make


@pytest.fixture
def device(monkeypatch):
    """device(tensor or module): on a device without float64, in the test that asks for it."""
    from no_float64 import without_float64

    with without_float64(monkeypatch) as move:
        yield move
