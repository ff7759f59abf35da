"""How many of each class a batch holds, by each rule; and where a rule's assumption breaks."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from leaklib import client, data, labels, metrics, models
from leaklib.leak import stack

C = 10


@pytest.fixture(scope="module")
def halves():
    """The private half of the digits, and the attacker's own."""
    images, numbers = data.load("digits")
    return (images[:900], numbers[:900]), images[900:1200]


def batches(of, B, count=20, model_of=lambda seed: models.lenet(1, 28, seed=seed)):
    """A stack of batches with the labels behind them (V, B)."""
    images, numbers = of
    draw = torch.Generator().manual_seed(B)
    rows = torch.randint(len(images), (count, B), generator=draw)
    shared = [client.share_gradient(model_of(i), images[r], numbers[r]) for i, r in enumerate(rows)]
    return stack(shared), numbers[rows]


def count(numbers):
    return torch.stack([row.bincount(minlength=C) for row in numbers])


@pytest.mark.parametrize(("B", "bound"), [(8, 0.97), (64, 0.97), (256, 0.95)])
@pytest.mark.parametrize("rule", ["images of one's own", "the system"])
def test_counts_are_right_before_training(rule, B, bound, halves):
    mine, others = halves
    leak, numbers = batches(mine, B)
    found = labels.counts(models.lenet(1, 28), leak, others if rule != "the system" else None)
    assert (found.sum(1) == B).all() and (found >= 0).all() and found.dtype == torch.int64
    assert metrics.count_accuracy(found, numbers) >= bound


def test_noise_is_enough_to_estimate_the_mean_probabilities_of_pytorchs_initialisation(halves):
    model_of = lambda seed: models.lenet(1, 28, init="torch", seed=seed)  # noqa: E731
    leak, numbers = batches(halves[0], 32, 10, model_of)
    noise = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert metrics.count_accuracy(labels.counts(models.lenet(1, 28), leak, noise), numbers) == 1


def test_identity_is_exact_with_the_true_mean_probabilities(halves):
    """Images of one's own that happen to be the private ones: n_j = B (mean p_j - dl/db_j)."""
    images, numbers = halves[0]
    for seed, activation in enumerate(("sigmoid", "relu", "tanh")):
        model = models.mlp(1, 28, (30,), activation=activation, seed=seed)
        leak = client.share_gradient(model, images[:50], numbers[:50])
        found = labels.counts(model, leak, images[:50])
        assert torch.equal(found, numbers[:50].bincount(minlength=C))


def test_one_leak_and_a_stack_agree_and_each_victims_own_weights_count(halves):
    (images, numbers), others = halves
    leaks = [
        client.share_gradient(
            models.lenet(1, 28, seed=i), images[20 * i :][:20], numbers[20 * i :][:20]
        )
        for i in range(3)
    ]
    other = models.lenet(1, 28, seed=99)
    for rule in (
        lambda leak: labels.counts(other, leak),
        lambda leak: labels.counts(other, leak, others),
        labels.llg,
    ):
        assert torch.equal(rule(stack(leaks)), torch.stack([rule(leak) for leak in leaks]))


def test_counts_of_one_image_are_its_label(halves):
    leak, numbers = batches(halves[0], 1, 20)
    one = count(numbers)
    assert torch.equal(labels.counts(models.lenet(1, 28), leak), one)
    assert torch.equal(labels.llg(leak), one) and torch.equal(labels.grad_inversion(leak), one)


def test_own_network_and_layer_by_name(own_network, small_digits):
    x, y = small_digits
    right = 0
    for seed in range(5):
        leak = client.share_gradient(own_network(seed), x[:16], y[:16])
        found = labels.counts(own_network(seed), leak, x[16:], layer="head")
        assert torch.equal(found, labels.counts(own_network(seed), leak, x[16:]))
        right += metrics.count_accuracy(found, y[:16]) / 5
    assert right > 0.9


def test_grad_inversion_finds_classes_that_do_not_repeat_and_refuses_more_images_than_classes():
    images, numbers = data.load("digits")
    right = 0
    for seed in range(10):
        present = torch.randperm(C, generator=torch.Generator().manual_seed(seed))[:6]
        rows = torch.stack([(numbers == c).nonzero()[seed, 0] for c in present])
        model = models.lenet(1, 28, activation="relu", init="torch", seed=seed)
        leak = client.share_gradient(model, images[rows], numbers[rows])
        right += metrics.count_accuracy(labels.grad_inversion(leak), numbers[rows]) / 10
    assert right > 0.95
    with pytest.raises(ValueError, match="^leak: got 11 images of 10 classes"):
        labels.grad_inversion(dataclasses.replace(leak, batch_size=11))


def test_llg_reads_small_batches_and_loses_large_ones(halves):
    """As its assumption says: with n_i / B near mean p_i, the sign has nothing to go by."""
    model_of = lambda seed: models.lenet(1, 28, init="torch", seed=seed)  # noqa: E731
    shares = []
    for B in (4, 64):
        leak, numbers = batches(halves[0], B, 20, model_of)
        found = labels.llg(leak)
        assert (found.sum(1) == B).all()
        shares.append(metrics.count_accuracy(found, numbers))
    assert shares[0] > 0.9 and shares[1] < 0.75


def test_llg_follows_its_published_steps(halves):
    """Against the loop over classes and images, written out."""
    leak, _ = batches(halves[0], 12, 10)
    for v, counted in enumerate(labels.llg(leak).tolist()):
        g = leak.direction["fc.weight"][v].double().sum(1).tolist()
        m = (1 + 1 / C) / 12 * sum(value for value in g if value < 0)
        found = [0] * C
        for i in sorted(range(C), key=lambda i: g[i]):
            if g[i] < 0 and sum(found) < 12:
                found[i] += 1
                g[i] -= m
        while sum(found) < 12:
            i = min(range(C), key=lambda i: g[i])
            found[i] += 1
            g[i] -= m
        assert counted == found


@pytest.mark.parametrize("seed", range(5))
def test_whole_numbers_are_the_nearest_that_sum_to_the_batch(seed):
    """Against every way to share B images among the classes."""
    B, classes = 5, 4
    n = 3 * torch.randn(
        30, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    n += (B - n.sum(1, keepdim=True)) / classes
    ways = [w for w in itertools.product(range(B + 1), repeat=classes) if sum(w) == B]
    ways = torch.tensor(ways, dtype=torch.float64)
    best = torch.cdist(n, ways).min(1).values
    found = labels._whole_numbers(n, B)
    assert (found.sum(1) == B).all() and (found >= 0).all()
    assert torch.allclose((n - found).norm(dim=1), best)


def test_listed_labels_are_those_that_the_counts_stand_for(halves):
    assert labels.listed(torch.tensor([2, 0, 1])).tolist() == [0, 0, 2]
    _, numbers = batches(halves[0], 6, 5)
    assert torch.equal(labels.listed(count(numbers)), numbers.sort(1).values)
    for wrong in (
        torch.tensor([1.0, 2.0]),
        torch.tensor([-1, 2]),
        torch.zeros(3, dtype=torch.int64),
    ):
        with pytest.raises(ValueError, match="^counts: got"):
            labels.listed(wrong)
    with pytest.raises(ValueError, match="^counts: got sums of"):
        labels.listed(torch.tensor([[1, 1], [1, 2]]))


# --- weights, where the learning rate and the number of steps are known -------------------------


def rounds(of, B, lr, model_of, count=4, **settings):
    """What clients send after a round, what they would send of a gradient, and the labels."""
    images, numbers = of
    rows = torch.randint(len(images), (count, B), generator=torch.Generator().manual_seed(B))
    batches = [(model_of(i), images[r], numbers[r]) for i, r in enumerate(rows)]
    sent = [client.share_weights(*b, lr=lr, seed=i, **settings) for i, b in enumerate(batches)]
    shared = [client.share_gradient(*b) for b in batches]
    return stack(sent), stack(shared), numbers[rows]


def pytorchs(seed):
    return models.lenet(1, 28, init="torch", seed=seed)


@pytest.mark.parametrize("lr", [1e-3, 1e-2, 1e-1])
@pytest.mark.parametrize("rule", ["images of one's own", "the system"])
def test_one_step_of_weights_counts_as_its_gradient_does(rule, lr, halves):
    """The client took its gradient at W_t, however far the step then went."""
    mine, others = halves
    own = others[:50] if rule != "the system" else None
    for model_of in (pytorchs, lambda seed: models.lenet(1, 28, seed=seed)):
        in_double = lambda i, of=model_of: of(i).double()  # noqa: E731
        of = (mine[0].double(), mine[1])
        sent, shared, numbers = rounds(of, 16, lr, in_double, count=3)
        found = labels.counts(in_double(0), sent, own, lr=lr)
        assert torch.equal(found, labels.counts(in_double(0), shared, own))
        assert metrics.count_accuracy(found, numbers) > 0.9


@pytest.mark.parametrize("B", [8, 32])
@pytest.mark.parametrize(
    ("lr", "settings", "bound"),
    [
        (1e-3, dict(steps=5), 0.97), (1e-2, dict(steps=5), 0.97), (1e-1, dict(steps=5), 0.75),
        (1e-3, dict(epochs=1, batch_size=4), 0.97), (1e-2, dict(epochs=1, batch_size=4), 0.85),
    ],
)  # fmt: skip
def test_counts_out_of_several_steps(lr, settings, bound, B, halves):
    mine, others = halves
    sent, _, numbers = rounds(mine, B, lr, pytorchs, **settings)
    steps = settings.get("steps", B // 4)
    for own in (None, others):
        found = labels.counts(pytorchs(0), sent, own, lr=lr, steps=steps)
        assert (found.sum(1) == B).all() and (found >= 0).all()
        assert metrics.count_accuracy(found, numbers) >= bound


def test_learning_rate_and_steps_have_to_be_the_clients(halves):
    """Told a tenth of the learning rate, the attacker takes the gradient for ten times as large."""
    mine, others = halves
    sent, _, numbers = rounds(mine, 32, 1e-2, pytorchs, steps=5)
    share = lambda **told: metrics.count_accuracy(  # noqa: E731
        labels.counts(pytorchs(0), sent, others, **told), numbers
    )
    assert share(lr=1e-2, steps=5) > 0.95
    assert share(lr=1e-3, steps=5) < 0.8 and share(lr=1e-2) < 0.9


def test_mean_probabilities_are_those_along_the_steps(halves):
    """Against the mean over the weights at which each step began, on a line nearly."""
    (images, numbers), others = halves
    model = pytorchs(0).double()
    x, y, own = images[:20].double(), numbers[:20], others[:30].double()
    W, _ = client.state(model)
    for steps in (1, 2, 6):
        way = [client.share_weights(model, x, y, lr=1e-3, steps=j).update for j in range(1, steps)]
        leak = client.share_weights(model, x, y, lr=1e-3, steps=steps)
        p = [torch.func.functional_call(model, w, (own,)).softmax(-1).mean(0) for w in (W, *way)]
        wanted = torch.stack(p).mean(0)
        got = labels._mean_probabilities(model, leak, own, steps, C)[0]
        end = torch.func.functional_call(model, leak.update, (own,)).softmax(-1).mean(0)
        assert (got - wanted).norm() <= 0.03 * (end - p[0]).norm()


def test_counts_of_a_round_by_each_victims_own_weights(halves):
    (images, numbers), others = halves
    sent = [
        client.share_weights(
            pytorchs(i), images[8 * i :][:8], numbers[8 * i :][:8], lr=0.1, steps=3
        )
        for i in range(3)
    ]
    for own in (None, others[:30]):
        told = dict(lr=0.1, steps=3)
        together = labels.counts(pytorchs(9), stack(sent), own, **told)
        alone = [labels.counts(pytorchs(i), leak, own, **told) for i, leak in enumerate(sent)]
        assert torch.equal(together, torch.stack(alone))


def test_bad_input_is_refused(halves):
    (images, numbers), others = halves
    model = models.lenet(1, 28)
    leak = client.share_gradient(model, images[:4], numbers[:4])
    sent = client.share_weights(model, images[:4], numbers[:4], lr=0.1)
    with pytest.raises(ValueError, match="^leak: got weights.*unknown scale"):
        labels.counts(model, sent)
    for told, name in ((dict(lr=0.1), "lr"), (dict(steps=3), "steps")):
        with pytest.raises(
            ValueError, match=f"^{name}: got .* for a gradient, whose scale is known"
        ):
            labels.counts(model, leak, **told)
    for wrong in (dict(lr=0.0), dict(lr=float("nan")), dict(steps=0), dict(steps=-1)):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"^{name}: got .*positive"):
            labels.counts(model, sent, **dict(lr=0.1) | wrong)
    for wrong in (others[:0], [1, 2], others[:, :, :20]):
        with pytest.raises(ValueError, match="^images: got"):
            labels.counts(model, leak, wrong)
    with pytest.raises(ValueError, match=r"^leak\.weights"):
        labels.counts(models.lenet(1, 12), leak)
    headless = nn.Sequential(nn.Flatten(), nn.Linear(784, C, bias=False))
    with pytest.raises(ValueError, match="^layer: .*no bias"):
        labels.counts(headless, client.share_gradient(headless, images[:4], numbers[:4]))
    deep = models.mlp(1, 28, (20,))
    with pytest.raises(ValueError, match="^layer: .*20 outputs in a network of 10"):
        labels.counts(
            deep, client.share_gradient(deep, images[:4], numbers[:4]), others, layer="fc1"
        )
