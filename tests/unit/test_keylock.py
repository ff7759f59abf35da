"""A lock keeps its key and its maps; what leaves the client is enough for whoever searches."""

import pytest
import torch
from torch import nn

from leaklib import attacks, client, data, federated, keylock, metrics, models
from leaklib.leak import stack


def small(seed=0, length=20, **settings):
    """A locked network for 12 x 12 pixels."""
    key = keylock.new_key(length, seed=100 + seed)
    return models.lenet_keylock(1, 12, seed=seed, key=key, **settings)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors.values()])


PRIVATE = {f"lock.{name}" for name in ("gain.weight", "gain.bias", "shift.weight", "shift.bias")}
KINDS = [
    dict(gate=gate, norm=norm) for gate in ("relu", "sigmoid", "none") for norm in (True, False)
]


@pytest.fixture
def batch(small_digits):
    return small_digits[0][:2].double(), small_digits[1][:2]


# --- the lock -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", KINDS)
def test_lock_is_that_of_a_plain_loop(settings, batch):
    """Image by image and channel by channel."""
    lock = small(**settings).double().requires_grad_(False).lock
    x = batch[0]
    got, z = lock(x), lock.conv(x)
    s = {"relu": lambda v: max(v, 0.0), "none": lambda v: v}.get(settings["gate"])
    for i in range(len(x)):
        for o in range(12):
            gamma = lock.gain.weight[o] @ lock.key + lock.gain.bias[o]
            beta = lock.shift.weight[o] @ lock.key + lock.shift.bias[o]
            gamma, beta = (s(float(v)) if s else float(v.sigmoid()) for v in (gamma, beta))
            channel = z[i, o]
            if settings["norm"]:
                channel = (channel - channel.mean()) / (channel.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(got[i, o], gamma * channel + beta, rtol=1e-9, atol=1e-12)


def test_normalisation_is_that_of_batchnorm_for_one_image(batch):
    """In training mode and without gain and shift, as in the published code."""
    lock = small().double().lock
    theirs = nn.BatchNorm2d(12, affine=False).double().train()
    gamma, beta = lock.gains()
    wanted = gamma[:, None, None] * theirs(lock.conv(batch[0][:1])) + beta[:, None, None]
    torch.testing.assert_close(lock(batch[0][:1]), wanted, rtol=1e-9, atol=1e-12)


def test_no_image_depends_on_the_others_of_its_batch(batch):
    model = small().double()
    torch.testing.assert_close(model(batch[0])[:1], model(batch[0][:1]), rtol=1e-9, atol=1e-12)


def test_key_and_maps_learn_and_do_not_respectively(batch):
    model = small(gate="sigmoid").double()
    W, buffers = client.state(model)
    assert set(W) > PRIVATE and "lock.key" in buffers
    after = client.share_weights(model, *batch, lr=0.1)
    assert all((after.update[name] != W[name]).any() for name in PRIVATE), "the maps are trained"


def test_key_is_uniform_and_of_its_seed():
    key = keylock.new_key(4096, seed=3)
    assert key.dtype == torch.float32 and key.shape == (4096,)
    assert key.min() >= 0 and key.max() < 1
    assert abs(key.mean() - 0.5) < 5 * (1 / 12 / 4096) ** 0.5
    assert torch.equal(key, keylock.new_key(4096, seed=3))
    assert not torch.equal(key, keylock.new_key(4096, seed=4))
    assert keylock.new_key().shape == (1024,)


@pytest.mark.parametrize("seed", range(4))
def test_key_has_nothing_to_do_with_the_maps_of_its_seed(seed):
    """Maps from U(-1/sqrt L, 1/sqrt L) and a key apart from them: A k has the deviation 1/3."""
    model = models.lenet_keylock(seed=seed, key=keylock.new_key(seed=seed))
    Ak = model.lock.gain.weight @ model.lock.key
    assert Ak.std() < 0.7 and Ak.abs().max() < 1.5


# --- what leaves the client -----------------------------------------------------------------------


@pytest.mark.parametrize("share", ["gradient", "weights"])
@pytest.mark.parametrize("maps", [False, True])
def test_key_never_leaves_and_maps_only_when_told(share, maps, batch):
    model = small().double()
    settings = {} if share == "gradient" else dict(lr=0.1)
    whole = getattr(client, f"share_{share}")(model, *batch, **settings)
    sent = keylock.shared(model, whole, maps=maps)
    key = model.lock.key
    for part in (sent.weights, sent.update, sent.buffers):
        assert "lock.key" not in part
        assert not any(t.shape == key.shape and torch.allclose(t, key) for t in part.values())
    assert not PRIVATE & (set(sent.weights) | set(sent.update)), "nor the update of the maps"
    assert (set(sent.buffers) == PRIVATE) if maps else not sent.buffers
    for name in sent.update:
        assert torch.equal(sent.update[name], whole.update[name])
    assert set(whole.update) > PRIVATE and "lock.key" in whole.buffers, "the leak is as it was"
    assert set(keylock.private(model)) == PRIVATE | {"lock.key"}


def test_private_parts_are_copies():
    model = small()
    held = keylock.private(model)
    held["lock.key"].zero_()
    assert model.lock.key.any() and not any(t.requires_grad for t in held.values())


def test_opened_network_holds_nothing_private(batch):
    model = small().double()
    opened = keylock.opened(model)
    names = {*dict(opened.named_parameters()), *dict(opened.named_buffers())}
    assert not names & (PRIVATE | {"lock.key"})
    sent = keylock.shared(model, client.share_gradient(model, *batch))
    assert [n for n, _ in opened.named_parameters()] == list(sent.weights)
    assert opened.lock.gamma.tolist() == [1] * 12 and opened.lock.beta.tolist() == [0] * 12


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_opened_with_the_true_gains_is_the_locked_network(settings, seed, batch):
    """The positive control: the same outputs, the same gradient."""
    model = small(seed, **settings).double()
    whole = client.share_gradient(model, *batch)
    gains = [part.detach() for part in model.lock.gains()]
    leak = keylock.guessed(keylock.shared(model, whole), *gains)
    opened = keylock.opened(small(seed, **settings)).double()
    client.check_leak(opened, leak)
    got = client.gradient(opened)(leak.weights, *batch, leak.buffers)
    assert list(got) == [name for name in whole.update if name not in PRIVATE]
    for name in got:
        torch.testing.assert_close(got[name], whole.update[name], rtol=1e-9, atol=1e-12)
    wrong = keylock.guessed(leak, gains[0] + 0.5, gains[1])
    other = client.gradient(opened)(wrong.weights, *batch, wrong.buffers)
    assert not torch.allclose(flat(other), flat(got), rtol=1e-2)


def test_gains_are_those_of_the_maps_and_the_key():
    model = small(gate="sigmoid")
    maps = {n.removeprefix("lock."): t for n, t in keylock.private(model).items()}
    got = keylock.gains(maps, maps.pop("key"), "sigmoid")
    for mine, theirs in zip(got, model.lock.gains(), strict=True):
        torch.testing.assert_close(mine, theirs)


# --- training, and inference without the key ------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """Three clients with a key each: the network, what each kept, and images to test it on."""
    images, labels = data.load("digits", size=12)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    clients = federated.split(images[:1200], labels[:1200], 3)
    test = federated.Client(images[1200:], labels[1200:])
    kept = [keylock.private(small(seed=k, length=64, init="torch")) for k in range(3)]
    model = small(length=64, init="torch", activation="tanh")
    before = [dict(part) for part in kept]
    settings = dict(rounds=8, lr=0.3, batch_size=16, private=kept)
    curve = federated.train(model, clients, test=test, **settings)
    assert curve[-1] > 0.9
    return model, before, kept, test


def test_each_client_keeps_its_key_and_trains_its_maps(trained):
    _, before, kept, _ = trained
    for old, new in zip(before, kept, strict=True):
        assert torch.equal(old["lock.key"], new["lock.key"])
        assert all(not torch.equal(old[name], new[name]) for name in PRIVATE)
    assert not torch.equal(kept[0]["lock.key"], kept[1]["lock.key"])


def test_random_key_opens_about_as_well_as_the_right_one(trained):
    """Inference "without the key": the own maps with a random key, and with another client's.

    Keys from U[0, 1) have one mean, and A k + a is mostly that; so little depends on which key.
    """
    model, _, kept, test = trained
    of = lambda part: federated.accuracy(federated.assign(model, part), *test)  # noqa: E731
    right = [of(part) for part in kept]
    assert min(right) > 0.9, right
    for k, part in enumerate(kept):
        strange = [{"lock.key": keylock.new_key(64, seed=s)} for s in range(900, 904)]
        for other in (*strange, {"lock.key": kept[k - 1]["lock.key"]}):
            assert of(part | other) > right[k] - 0.05
        assert of(kept[k - 1]) > 0.8, "another client's key and maps, trained beside it"


def test_zeroed_maps_answer_nothing_whatever_the_key(trained):
    """What the published code tests instead: it says nothing of keys."""
    model, _, kept, test = trained
    zero = {name: torch.zeros_like(kept[0][name]) for name in PRIVATE}
    logits = [
        federated.assign(model, {**zero, "lock.key": part["lock.key"]})(test.images)
        for part in kept
    ]
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])
    assert (logits[0] == logits[0][0]).all()


# --- attacks --------------------------------------------------------------------------------------


def photo_leaks(**settings):
    """Three photographs behind three locks: (opened, shared, with the maps, gains, x)."""
    x, y = data.load("photos", 3, seed=0)
    nets = [models.lenet_keylock(seed=i, key=keylock.new_key(seed=i), **settings) for i in range(3)]
    each = [client.share_gradient(net, x[i, None], y[i, None]) for i, net in enumerate(nets)]
    sent, told = (
        stack(keylock.shared(n, leak, maps) for n, leak in zip(nets, each, strict=True))
        for maps in (False, True)
    )
    gains = [torch.stack(g).detach() for g in zip(*(net.lock.gains() for net in nets), strict=True)]
    return keylock.opened(nets[0]), sent, told, gains, x


HALF = torch.full((12,), 0.5)
PHOTO, DIGIT = (1, 3, 32, 32), (1, 1, 12, 12)


def test_lock_without_normalisation_gives_way_to_who_knows_nothing():
    opened, sent, _, gains, x = photo_leaks(gate="sigmoid", norm=False)
    out = keylock.attack(opened, keylock.guessed(sent, HALF, HALF), PHOTO, steps=1000)
    scores = metrics.ssim(out.images[:, 0], x)
    assert scores.mean() > 0.9 and scores.min() > 0.85, scores
    for name, true in zip(("gamma", "beta"), gains, strict=True):
        assert out.unknowns[name].shape == (3, 12)
        assert (out.unknowns[name] - true).abs().mean() < 0.3 * (true - 0.5).abs().mean()


def digits_behind(small_digits, maps=False, **settings):
    """Three digits behind small locks: (opened, shared, gains, images, labels)."""
    x, y = small_digits[0][:3], small_digits[1][:3]
    nets = [small(seed=i, **settings) for i in range(3)]
    leak = stack(
        keylock.shared(net, client.share_gradient(net, x[i, None], y[i, None]), maps)
        for i, net in enumerate(nets)
    )
    gains = [torch.stack(g).detach() for g in zip(*(net.lock.gains() for net in nets), strict=True)]
    return keylock.opened(nets[0]), leak, gains, x, y[:, None]


def test_true_gains_are_the_positive_control_and_a_guess_is_worse(small_digits):
    opened, leak, gains, x, y = digits_behind(small_digits, gate="sigmoid", norm=False)
    settings = dict(labels=y, steps=150)
    true = attacks.idlg(opened, keylock.guessed(leak, *gains), DIGIT, **settings)
    assert metrics.success_rate(true.images, x) == 1
    naive = attacks.idlg(opened, keylock.guessed(leak, HALF + 0.4, HALF), DIGIT, **settings)
    assert metrics.success_rate(naive.images, x) == 0


@pytest.mark.parametrize("search", ["gains", "key"])
@pytest.mark.parametrize("gate", ["sigmoid", "none"])
def test_gains_or_key_are_found_with_the_image(search, gate, small_digits):
    opened, leak, _, x, y = digits_behind(small_digits, maps=True, gate=gate, norm=False)
    predict = {"gains": keylock.gains_searched(), "key": keylock.key_searched(gate)}[search]
    guessed = keylock.guessed(leak, HALF, HALF)
    out = keylock.attack(opened, guessed, DIGIT, predict=predict, steps=400)
    assert torch.equal(out.labels, y), "the label is read off"
    assert metrics.ssim(out.images[:, 0], x).min() > 0.9
    shapes = {"gains": {"gamma": (3, 12), "beta": (3, 12)}, "key": {"key": (3, 20)}}
    assert {n: tuple(c.shape) for n, c in out.unknowns.items()} == shapes[search]
    first = {n: c[1] for n, c in out.unknown_snapshots.items()}
    assert all((c == 0.5).all() for c in first.values()), "from one half"


def test_one_leak_is_a_stack_of_one(small_digits):
    net, half = small(gate="sigmoid", norm=False).double(), HALF.double()
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    leak = keylock.guessed(keylock.shared(net, client.share_gradient(net, x, y)), half, half)
    assert leak.buffers["lock.gamma"].shape == (12,)
    settings = dict(shape=DIGIT, steps=20)
    one = keylock.attack(keylock.opened(net), leak, **settings)
    two = keylock.attack(keylock.opened(net), stack([leak, leak]), **settings)
    torch.testing.assert_close(one.images[0], two.images[1], rtol=1e-6, atol=1e-8)
    assert one.unknowns["gamma"].shape == (1, 12)


class Nested(nn.Module):
    """A reader's own network, whose lock lies deeper."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            keylock.KeyLock(nn.Conv2d(1, 4, 3), keylock.new_key(8), "sigmoid")
        )
        self.head = nn.Linear(400, 10)

    def forward(self, x):
        return self.head(self.body(x).tanh().flatten(1))


def test_lock_inside_of_the_readers_own_network(batch):
    model = Nested().double()
    whole = client.share_gradient(model, *batch)
    sent = keylock.shared(model, whole)
    opened = keylock.opened(model)
    assert not any(isinstance(part, keylock.KeyLock) for part in opened.modules())
    gains = [part.detach() for part in model.body[0].gains()]
    leak = keylock.guessed(sent, *gains, lock="body.0")
    got = client.gradient(opened)(leak.weights, *batch, leak.buffers)
    for name in sent.update:
        torch.testing.assert_close(got[name], whole.update[name], rtol=1e-9, atol=1e-12)
    assert isinstance(model.body[0], keylock.KeyLock), "the model is as it was"


# --- errors ---------------------------------------------------------------------------------------


def test_lock_has_a_known_gate_and_a_key():
    with pytest.raises(ValueError, match="^gate: got 'tanh'; wanted one of relu, sigmoid, none"):
        small(gate="tanh")
    for length in (0, -1):
        with pytest.raises(ValueError, match=f"^length: got {length}; wanted a positive"):
            keylock.new_key(length)


def test_network_without_a_lock_has_nothing_to_keep(batch):
    model = models.lenet(1, 12).double()
    leak = client.share_gradient(model, *batch)
    for ask in (keylock.private, keylock.opened, lambda net: keylock.shared(net, leak)):
        with pytest.raises(ValueError, match="^model: got a network without a KeyLock; wanted one"):
            ask(model)


def test_guess_has_a_number_for_each_channel(batch):
    model = small().double()
    leak = keylock.shared(model, client.share_gradient(model, *batch))
    with pytest.raises(ValueError, match=r"^gamma, beta: got .*\(11,\).*; wanted \(12,\)"):
        keylock.guessed(leak, torch.ones(11), torch.ones(12))
    with pytest.raises(ValueError, match=r"^gamma, beta: got .*; wanted \(2, 12\)"):
        keylock.guessed(stack([leak, leak]), torch.ones(3, 12), torch.ones(12))


def test_search_is_for_gains_or_the_key_and_needs_its_beginning(small_digits):
    opened, leak, _, _, _ = digits_behind(small_digits)
    guessed = keylock.guessed(leak, HALF, HALF)
    with pytest.raises(ValueError, match="^gate: got 'tanh'; wanted one of relu, sigmoid, none"):
        keylock.key_searched("tanh")
    with pytest.raises(ValueError, match=r"^leak.buffers: got no 'lock.gain.weight'; .*maps=True"):
        keylock.attack(opened, guessed, DIGIT, predict=keylock.key_searched())
    with pytest.raises(ValueError, match="^leak.buffers: got no 'lock.gamma'"):
        keylock.attack(opened, leak, DIGIT)
