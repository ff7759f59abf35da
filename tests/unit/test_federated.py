"""The server's loop is FedSGD and FedAvg, and it learns."""

import pytest
import torch
import torch.nn.functional as F

from leaklib import client, data, defenses, federated, keylock, models


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
@pytest.mark.parametrize("device", ["cpu"] + ["cuda"] * torch.cuda.is_available())
def test_every_image_goes_to_exactly_one_client(alpha, seed, device):
    images = torch.arange(200.0, device=device).reshape(200, 1, 1, 1)
    labels = torch.arange(200, device=device) % 10
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


# --- batches of a round, and what clients keep ----------------------------------------------------


def test_fedsgd_of_drawn_batches(clients):
    """Each client sends the gradient of some of its images, others each round, weighed by all."""
    model, before = model_of(), weights(model_of())
    leaks = federated.fedsgd_round(model, clients, lr=0.4, batch_size=5, seed=3)
    assert [leak.batch_size for leak in leaks] == [4, 5, 5]
    mean = {n: sum(k * leak.update[n] for k, leak in zip((4, 7, 13), leaks)) / 24 for n in before}
    assert_close(weights(model), {n: before[n] - 0.4 * mean[n] for n in before})
    x, y = clients[1]
    rows = [
        subset
        for subset in torch.combinations(torch.arange(7), 5)
        if torch.allclose(
            client.share_gradient(model_of(), x[subset], y[subset]).update["fc.weight"],
            leaks[1].update["fc.weight"], rtol=1e-9, atol=1e-12,
        )
    ]  # fmt: skip
    assert len(rows) == 1, "five different images of its own"
    again, other = (
        federated.fedsgd_round(model_of(), clients, lr=0.4, batch_size=5, seed=s)[2].update
        for s in (3, 4)
    )
    assert torch.equal(again["fc.bias"], leaks[2].update["fc.bias"])
    assert not torch.equal(other["fc.bias"], leaks[2].update["fc.bias"])


def test_fedsgd_of_batches_as_large_as_all_is_fedsgd(clients):
    one, two = model_of(), model_of()
    federated.fedsgd_round(one, clients, lr=0.4, batch_size=13)
    federated.fedsgd_round(two, clients, lr=0.4)
    assert_close(weights(one), weights(two))


@pytest.fixture
def locked():
    """seed -> a network with a lock, whose key and maps stay with a client."""

    def make(seed=0):
        key = keylock.new_key(6, seed=50 + seed)
        return models.lenet_keylock(1, 12, seed=seed, key=key, gate="sigmoid", width=3).double()

    return make


def test_private_parts_stay_with_their_clients(clients, locked):
    """Against each client's training by hand, with its own part in the network."""
    kept = [keylock.private(locked(10 + k)) for k in range(3)]
    before = [dict(part) for part in kept]
    model, start = locked(), weights(locked())
    settings = dict(lr=0.3, epochs=2, batch_size=3)
    leaks = federated.fedavg_round(model, clients, private=kept, seed=2, **settings)
    total = {}
    for k, mine in enumerate(clients):
        net = locked()
        net.load_state_dict({**net.state_dict(), **before[k]})
        alone = client.share_weights(net, *mine, seed=2 * 3 + k, **settings)
        sent = {n: t for n, t in alone.update.items() if n not in kept[k]}
        assert_close(leaks[k].update, sent)
        assert not {*leaks[k].weights, *leaks[k].update, *leaks[k].buffers} & set(kept[k])
        assert_close(
            kept[k], {**before[k], **{n: alone.update[n] for n in before[k] if n in alone.update}}
        )
        assert torch.equal(kept[k]["lock.key"], before[k]["lock.key"])
        for name, tensor in sent.items():
            total[name] = total.get(name, 0) + len(mine.images) / 24 * tensor
    assert "lock.gain.weight" in start and "lock.gain.weight" not in total
    assert_close(weights(model), total)


def test_accuracy_with_private_parts_is_the_mean_over_the_clients(clients, locked):
    kept = [keylock.private(locked(10 + k)) for k in range(3)]
    model = locked()
    test = federated.Client(*(torch.cat(parts) for parts in zip(*clients, strict=True)))
    curve = federated.train(model, clients, test=test, rounds=2, lr=0.3, private=kept)
    each = [federated.accuracy(federated.assign(model, part), *test) for part in kept]
    assert curve[-1] == pytest.approx(sum(each) / 3)


def test_private_parts_are_one_for_each_client(clients, locked):
    with pytest.raises(ValueError, match="^private: got 2 of them; wanted 3, one for each client"):
        kept = [keylock.private(locked(k)) for k in range(2)]
        federated.fedavg_round(locked(), clients, lr=0.1, private=kept)


def test_assigning_changes_what_is_named():
    model, before = model_of(), weights(model_of())
    assert federated.assign(model, {"fc.bias": torch.arange(10.0)}) is model
    assert torch.equal(model.fc.bias, torch.arange(10.0).double()) and model.fc.bias.requires_grad
    assert torch.equal(model.fc1.weight, before["fc1.weight"])
    network = torch.nn.BatchNorm1d(2)
    federated.assign(network, {"running_mean": torch.tensor([3.0, 4.0])})
    assert network.running_mean.tolist() == [3, 4]
    with pytest.raises(ValueError, match=r"^tensors: got 'nothing'; wanted names of the network"):
        federated.assign(model, {"nothing": torch.ones(1)})


# --- secure aggregation ---------------------------------------------------------------------------


def updates_of(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [
        {"a": torch.randn(40, 50, generator=g), "b": 100 * torch.randn(7, generator=g)}
        for _ in range(n)
    ]


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("seed", range(2))
def test_masks_cancel_in_the_sum(n, seed):
    updates = updates_of(n)
    before = [{name: t.clone() for name, t in u.items()} for u in updates]
    total = federated.unmask_sum(federated.mask_pairwise(updates, seed))
    for name in ("a", "b"):
        exact = sum(u[name].double() for u in updates)
        assert total[name].dtype == torch.float64
        assert (total[name] - exact).abs().max() <= n * 2.0**-24
        assert all(torch.equal(u[name], old[name]) for u, old in zip(updates, before))


def test_one_masked_message_is_uniform():
    """Every one of its 64 bits is a fair coin, whatever the update; also where that is zero."""
    for updates in (updates_of(3), [{"a": torch.zeros(40, 50)}] * 3):
        for message in federated.mask_pairwise(updates, seed=1):
            m = message["a"].flatten()
            assert m.dtype == torch.int64
            ones = torch.stack([(m >> bit) & 1 for bit in range(64)]).double().mean(1)
            assert (ones - 0.5).abs().max() < 5 * (0.25 / 2000) ** 0.5
            top = ((m >> 60) + 8).bincount(minlength=16).double()
            assert ((top - 125).square() / 125).sum() < 50, "chi-square of 15 degrees of freedom"


def test_masks_say_nothing_of_the_update_and_differ():
    updates = updates_of(3)
    one, again, other = (federated.mask_pairwise(updates, seed) for seed in (0, 0, 1))
    for k in range(3):
        assert torch.equal(one[k]["a"], again[k]["a"])
        assert not torch.equal(one[k]["a"], other[k]["a"])
        pair = torch.stack([one[k]["a"].flatten().double(), updates[k]["a"].flatten().double()])
        assert abs(pair.corrcoef()[0, 1]) < 5 / 2000**0.5
    partial = federated.unmask_sum(one[:2])["a"]
    assert partial.abs().median() > 1e9, "two of three tell nothing"


def test_gradients_of_clients_are_summed_behind_masks(clients):
    leaks = federated.fedsgd_round(model_of(), clients, lr=0.1)
    total = federated.unmask_sum(federated.mask_pairwise([leak.update for leak in leaks]))
    for name in leaks[0].update:
        exact = sum(leak.update[name] for leak in leaks)
        torch.testing.assert_close(total[name], exact, rtol=0, atol=3 * 2.0**-24)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_sum_of_the_largest_entries_fits(n):
    most = 2.0**39 / n
    for sign in (1, -1):
        updates = [{"a": torch.tensor([sign * 0.999 * most])}] * n
        total = federated.unmask_sum(federated.mask_pairwise(updates))["a"]
        torch.testing.assert_close(total, n * updates[0]["a"].double())
    for wrong in (most, -most, float("inf"), float("nan")):
        updates = [{"a": torch.tensor([0.0, wrong])}, *[{"a": torch.zeros(2)}] * (n - 1)]
        with pytest.raises(ValueError, match="^updates: got entries that are not below"):
            federated.mask_pairwise(updates)


def test_one_client_cannot_hide_in_a_sum():
    with pytest.raises(ValueError, match="^updates: got 1 of them; wanted two clients or more"):
        federated.mask_pairwise(updates_of(1))


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
        settings = dict(test=clients[0], rounds=2, lr=0.2, batch_size=3)
        federated.train(model, clients, seed=seed, **settings)
        return weights(model)["fc.weight"]

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))

    seeds = []
    play = lambda model, clients, *, seed: seeds.append(seed)  # noqa: E731
    federated.train(model_of(), clients, test=clients[0], rounds=3, play=play)
    assert len(set(seeds)) == 3


def test_training_by_fedsgd_is_judged_on_what_is_given(clients):
    model, play = model_of(), federated.fedsgd_round
    curve = federated.train(model, clients[:2], test=clients[2], rounds=2, play=play, lr=0.1)
    assert curve[-1] == federated.accuracy(model, *clients[2])


def test_neither_the_rate_nor_the_test_set_is_guessed(clients):
    with pytest.raises(TypeError, match="lr"):
        federated.train(model_of(), clients, test=clients[0])
    with pytest.raises(TypeError, match="test"):
        federated.train(model_of(), clients, lr=0.1)


def test_accuracy_is_the_share_of_right_answers():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 5.0]])
    assert federated.accuracy(torch.nn.Identity(), logits, torch.tensor([0, 1, 1, 1])) == 0.75


def test_settings_are_positive(clients):
    with pytest.raises(ValueError, match="^rounds: got 0; .*positive"):
        federated.train(model_of(), clients, test=clients[0], rounds=0, lr=0.1)
    for wrong in (dict(lr=-0.1), dict(lr=0.1, epochs=0), dict(lr=0.1, batch_size=0)):
        name, value = list(wrong.items())[-1]
        with pytest.raises(ValueError, match=f"^{name}: got {value}; .*positive"):
            federated.fedavg_round(model_of(), clients, **wrong)
    for wrong in (dict(lr=-0.1), dict(lr=0.1, batch_size=0)):
        name, value = list(wrong.items())[-1]
        with pytest.raises(ValueError, match=f"^{name}: got {value}; .*positive"):
            federated.fedsgd_round(model_of(), clients, **wrong)


@pytest.mark.parametrize(
    "defense", [defenses.gaussian(0.1), defenses.weights_noise(0.1), defenses.random_mask(0.9)]
)
def test_a_defence_leaves_alone_what_a_client_keeps(defense, small_digits):
    x, y = small_digits[0][:8], small_digits[1][:8]
    clients = federated.split(x, y, 2, seed=0)
    settings = dict(lr=0.1, batch_size=None)
    kept = {}
    for name, chosen in (("with", defense), ("without", None)):
        model = models.lenet_keylock(1, 12, key=keylock.new_key(16))
        private = [keylock.private(model) for _ in clients]
        (leak, _) = federated.fedavg_round(
            model, clients, private=private, defense=chosen, **settings
        )
        kept[name] = (private, leak.update["fc.weight"])
    for ours, theirs in zip(kept["with"][0], kept["without"][0]):
        assert all(torch.equal(ours[n], t) for n, t in theirs.items())
    assert not torch.equal(kept["with"][1], kept["without"][1])


def test_tensors_of_another_shape_are_not_assigned():
    with pytest.raises(ValueError, match=r"^tensors\['fc.bias'\]: got shape \(1,\); wanted the"):
        federated.assign(models.lenet(1, 12), {"fc.bias": torch.zeros(1)})
