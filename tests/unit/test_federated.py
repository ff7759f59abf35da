"""The server's loop is FedSGD and FedAvg, and it learns."""

import pytest
import torch
import torch.nn.functional as F

from leaklib import client, data, defenses, federated, models


def model_of(seed=0):
    return models.mlp(1, 12, hidden=(10,), seed=seed).double()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.fixture
def clients(small_digits):
    """Three clients with 4, 7 and 13 images."""
    x, y = small_digits[0].double(), small_digits[1]
    parts = zip(x.split([4, 7, 13]), y.split([4, 7, 13]), strict=True)
    return [federated.Client(*part) for part in parts]


def sgd_step(model, x, y, lr):
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return {n: p.detach() - lr * p.grad for n, p in model.named_parameters()}


def assert_close(got, wanted):
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name], rtol=1e-9, atol=1e-12)


# --- dealing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [None, 100.0, 1.0, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_every_image_goes_to_exactly_one_client(alpha, seed):
    images = torch.arange(200.0).reshape(200, 1, 1, 1)
    labels = torch.arange(200) % 10
    dealt = federated.split(images, labels, 12, alpha=alpha, seed=seed)
    assert len(dealt) == 12 and all(len(c.images) == len(c.labels) >= 1 for c in dealt)
    numbers = torch.cat([c.images.flatten() for c in dealt])
    assert sorted(numbers.tolist()) == list(range(200))
    for c in dealt:
        assert torch.equal(c.labels, labels[c.images.flatten().long()]), "image and label together"


def test_even_split_is_even_and_random():
    images, labels = torch.arange(50.0).reshape(50, 1, 1, 1), torch.arange(50) % 5
    one, same, other = (federated.split(images, labels, 4, seed=s) for s in (1, 1, 2))
    assert sorted(len(c.images) for c in one) == [12, 12, 13, 13]
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0].images, other[0].images)
    assert not torch.equal(one[0].images.flatten().sort().values, torch.arange(13.0))


def test_small_alpha_means_few_classes():
    labels = torch.arange(1000) % 10
    images = torch.zeros(1000, 1, 1, 1)

    def largest_share(alpha):
        dealt = federated.split(images, labels, 5, alpha=alpha, seed=0)
        table = torch.stack([c.labels.bincount(minlength=10) for c in dealt]).float()
        return float((table / table.sum(0)).amax(0).mean())  # of each class, at one client

    assert largest_share(0.05) > 0.8 > 0.35 > largest_share(100.0)


@pytest.mark.parametrize("count", [0, -1, 11])
def test_there_are_no_more_clients_than_images(count):
    with pytest.raises(ValueError, match=f"^clients: got {count}; wanted 1 to 10"):
        federated.split(torch.zeros(10, 1, 1, 1), torch.zeros(10).long(), count)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_alpha_is_positive(alpha):
    with pytest.raises(ValueError, match=f"^alpha: got {alpha}; .*positive"):
        federated.split(torch.zeros(10, 1, 1, 1), torch.zeros(10).long(), 2, alpha=alpha)


# --- rounds -------------------------------------------------------------------------------------


def test_fedsgd_is_gradient_descent_on_the_pooled_data(clients):
    """Clients of different sizes: the mean is weighted by them."""
    x, y = (torch.cat(parts) for parts in zip(*clients, strict=True))
    model, pooled = model_of(), model_of()
    for _ in range(3):
        wanted = sgd_step(pooled, x, y, lr=0.4)
        leaks = federated.fedsgd_round(model, clients, lr=0.4)
        pooled.load_state_dict(wanted)
        assert_close(weights(model), wanted)
    assert [leak.batch_size for leak in leaks] == [4, 7, 13]
    assert all(leak.kind == "gradient" for leak in leaks)


def test_fedavg_of_one_client_and_one_full_batch_is_one_step(clients):
    model = model_of()
    wanted = sgd_step(model_of(), *clients[1], lr=0.4)
    federated.fedavg_round(model, clients[1:2], lr=0.4, epochs=1, batch_size=None)
    assert_close(weights(model), wanted)


def test_fedavg_of_full_batches_and_one_epoch_is_fedsgd(clients):
    average, descent = model_of(), model_of()
    federated.fedavg_round(average, clients, lr=0.4, batch_size=None)
    federated.fedsgd_round(descent, clients, lr=0.4)
    assert_close(weights(average), weights(descent))


def test_fedavg_is_the_weighted_mean_of_what_was_sent(clients):
    model = model_of()
    before = weights(model)
    leaks = federated.fedavg_round(model, clients, lr=0.4, epochs=2, batch_size=3)
    assert_close(leaks[0].weights, before)
    mean = {n: sum(k * leak.update[n] for k, leak in zip((4, 7, 13), leaks)) / 24 for n in before}
    assert_close(weights(model), mean)
    assert all(leak.kind == "weights" for leak in leaks)
    alone = client.share_weights(model_of(), *clients[0], lr=0.4, epochs=2, batch_size=3, seed=0)
    assert_close(leaks[0].update, alone.update)


@pytest.mark.parametrize("play", [federated.fedsgd_round, federated.fedavg_round])
def test_rounds_are_reproducible_and_defended(play, clients):
    def after(defense, seed):
        model = model_of()
        play(model, clients, lr=0.4, defense=defense, seed=seed)
        return weights(model)["fc.bias"]

    noise = defenses.gaussian(0.1)
    assert torch.equal(after(noise, 1), after(noise, 1))
    assert not torch.allclose(after(noise, 1), after(noise, 2))
    assert not torch.allclose(after(noise, 1), after(None, 1))


@pytest.mark.parametrize("play", [federated.fedsgd_round, federated.fedavg_round])
def test_clients_do_not_share_their_noise(play, clients):
    """Equal noise would be told apart by subtracting two messages."""
    same = [clients[0]] * 2
    leaks = play(model_of(), same, lr=0.1, defense=defenses.gaussian(1.0))
    assert not torch.allclose(leaks[0].update["fc.bias"], leaks[1].update["fc.bias"])


def test_frozen_layers_stay(clients):
    model = model_of()
    model.fc1.requires_grad_(False)
    before = weights(model)
    federated.fedsgd_round(model, clients, lr=0.4)
    after = weights(model)
    assert torch.equal(after["fc1.weight"], before["fc1.weight"])
    assert not torch.equal(after["fc.weight"], before["fc.weight"])


# --- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_training_on_digits_learns(activation):
    images, labels = data.load("digits", size=12)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    test = federated.Client(images[1400:], labels[1400:])
    model = models.mlp(1, 12, hidden=(64,), activation=activation)
    untrained = federated.accuracy(model, *test)
    clients = federated.split(images[:1400], labels[:1400], 4)
    curve = federated.train(model, clients, rounds=12, lr=0.5, batch_size=16, test=test)
    assert len(curve) == 12 and curve[-1] == federated.accuracy(model, *test)
    assert curve[-1] > 0.85 > 0.3 > untrained


def test_training_is_reproducible_and_each_round_has_its_own_seed(clients):
    def trained(seed):
        model = model_of()
        federated.train(model, clients, rounds=2, lr=0.2, batch_size=3, seed=seed)
        return weights(model)["fc.weight"]

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))

    seeds = []
    federated.train(
        model_of(), clients, rounds=3, play=lambda model, clients, *, seed, lr: seeds.append(seed)
    )
    assert len(set(seeds)) == 3


def test_training_by_fedsgd_without_a_test_set(clients):
    model = model_of()
    curve = federated.train(model, clients, rounds=2, play=federated.fedsgd_round, lr=0.1)
    x, y = (torch.cat(parts) for parts in zip(*clients, strict=True))
    assert curve[-1] == federated.accuracy(model, x, y)


def test_accuracy_is_the_share_of_right_answers():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 5.0]])
    assert federated.accuracy(torch.nn.Identity(), logits, torch.tensor([0, 1, 1, 1])) == 0.75


def test_settings_are_positive(clients):
    with pytest.raises(ValueError, match="^rounds: got 0; .*positive"):
        federated.train(model_of(), clients, rounds=0)
    for wrong in (dict(lr=-0.1), dict(lr=0.1, epochs=0), dict(lr=0.1, batch_size=0)):
        name, value = list(wrong.items())[-1]
        with pytest.raises(ValueError, match=f"^{name}: got {value}; .*positive"):
            federated.fedavg_round(model_of(), clients, **wrong)
    with pytest.raises(ValueError, match=r"^lr: got -0\.1; .*positive"):
        federated.fedsgd_round(model_of(), clients, lr=-0.1)
