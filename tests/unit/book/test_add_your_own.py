"""What the page "Add your own attack or defence" promises to readers with parts of their own."""

from dataclasses import replace

import pytest
import torch

from leaklib import (
    attacks,
    client,
    data,
    defenses,
    distances,
    federated,
    metrics,
    models,
    priors,
    solvers,
)
from leaklib.leak import stack

SHAPE = (1, 1, 25, 25)


@pytest.fixture(scope="module")
def faces():
    return data.load("faces")[0]


def sent(images, defense=None, **weights):
    """One client an image, each with its own network."""
    share = client.share_weights if weights else client.share_gradient
    return stack(
        share(
            models.lenet(1, 25, seed=i), images[i : i + 1], torch.tensor([i % 10]),
            defense=defense, seed=i, **weights,
        )
        for i in range(len(images))
    )  # fmt: skip


def attacked(leak, attack=attacks.idlg, steps=60, **part):
    return attack(models.lenet(1, 25), leak, SHAPE, steps=steps, **part)


def per_row(f, tensor):
    return f.reshape(-1, *[1] * (tensor.ndim - 1)) * tensor


def stretch(direction, generator):
    """Each row times a random positive factor: a defence of the reader's own."""
    return {
        name: per_row((torch.randn(len(g), generator=generator).to(g) - 0.5).exp(), g)
        for name, g in direction.items()
    }


def rows_free(gradient, leak):
    """The attacker who knows of `stretch`."""
    fitted = {}
    for name, g in gradient.items():
        h, row = leak.direction[name].reshape(len(g), -1), g.reshape(len(g), -1)
        f = (row * h).sum(1) / (row.square().sum(1) + 1e-12)
        fitted[name] = per_row(f, g)
    return fitted


def test_a_defence_of_ones_own_stops_the_naive_attacker_and_not_the_one_who_knows(faces):
    images = faces[[11, 24, 32]]
    leak = sent(images, stretch)
    assert metrics.ssim(attacked(leak).images, images).max() < 0.3
    knowing = attacked(leak, defend=rows_free).images
    assert metrics.ssim(knowing, images).min() > 0.9


def test_a_defence_of_ones_own_composes_and_can_be_trained_with(small_digits):
    x, y = small_digits
    joined = defenses.compose(stretch, defenses.clip(1.0))
    clients = federated.split(x, y, 3)
    settings = dict(play=federated.fedsgd_round, rounds=2, lr=0.5, defense=joined, test=clients[0])
    curves = [federated.train(models.lenet(1, 12, seed=0), clients, **settings) for _ in range(2)]
    assert curves[0] == curves[1]


def test_weight_decay_in_place_of_the_gradient_is_found_by_an_unknown_of_ones_own(faces):
    def in_place(model, generator, loss):
        g = client.gradient(model)
        return lambda W, x, y, buffers=None: {
            n: d + 0.5 * W[n] for n, d in g(W, x, y, buffers).items()
        }

    def predict(g, leak, x, q, c):
        step = g(leak.weights, x, q, leak.buffers)
        return {n: d + c["decay"] * leak.weights[n] for n, d in step.items()}

    leak = sent(faces[11:13], client.InPlaceOfGradient(in_place), lr=0.1)
    assert metrics.ssim(attacked(leak, attacks.dlm_plus).images, faces[11:13]).max() < 0.5
    out = attacked(leak, attacks.fedavg, steps=100, predict=predict, unknowns={"decay": 0.0})
    assert metrics.ssim(out.images, faces[11:13]).min() > 0.9
    assert torch.allclose(out.unknowns["decay"], torch.tensor(0.5), atol=0.02)


def test_a_change_of_the_weights_of_ones_own_hides_small_steps(faces):
    short = client.OnWeights(lambda W, _: {n: w.bfloat16().to(w) for n, w in W.items()})
    scores = {
        lr: metrics.ssim(
            attacked(sent(faces[11:12], short, lr=lr), attacks.dlm_plus).images, faces[11:12]
        ).item()
        for lr in (1.0, 0.01)
    }
    assert scores[1.0] > 0.95 and scores[0.01] < 0.7


def test_each_word_of_ones_own_recovers_the_face(faces):
    def l1(g, h):
        return sum((g[name] - h[name]).abs().sum() for name in h)

    def adam_first(objective, z, *, steps, **settings):
        begun = solvers.adam(objective, z, steps=steps // 4, **settings)
        return solvers.lbfgs(objective, begun.z, steps=steps - steps // 4, **settings)

    def row_sums(leak, model=None, loss=None):
        return leak.direction["fc.weight"].sum(-1).argmin(-1, keepdim=True)

    leak = sent(faces[11:12])
    words = {
        "start": faces[50:].mean(0),
        "distance": l1,
        "prior": lambda x: 1e-6 * x.square().sum(),
        "solver": adam_first,
        "labels": row_sums,
    }
    for name, word in words.items():
        mine = replace(attacks.idlg, **{name: word})
        assert mine.changed == [name]
        out = attacked(leak, mine)
        assert metrics.ssim(out.images, faces[11:12]).item() > 0.8, name


def test_a_distance_that_passes_zero_ends_the_attack_there(faces):
    """Why a distance of one's own has to be positive: the page shows this mistake."""

    def logarithm(g, h):
        return sum((g[name] - h[name]).square().sum() for name in h).log()

    out = attacked(sent(faces[11:12]), distance=logarithm)
    assert out.objective.item() <= 0 and out.evaluations.item() < 60
    assert not metrics.ssim(out.images, faces[11:12]).item() > 0.9


def test_what_one_believes_of_images_can_be_learnt_from_public_ones(faces):
    """Twelve faces under noise: above the control that sees no message, and the right ones."""
    images, public = faces[:12], faces[20:].flatten(1)
    C = torch.cov(public.T)
    S = 0.8 * C + 0.2 * C.diagonal().mean() * torch.eye(len(C))
    m, root = public.mean(0), torch.linalg.cholesky(torch.linalg.inv(S))
    leak = sent(images, defenses.gaussian(0.1))
    settings = dict(distance=distances.likelihood(0.1), steps=100)
    prior = lambda x: ((x.flatten(1) - m) @ root).square().sum() / 2  # noqa: E731
    learnt = attacked(leak, prior=prior, **settings).images
    smooth = attacked(leak, prior=priors.smooth(0.1), **settings).images
    control = m.reshape(1, 1, 25, 25).expand(12, -1, -1, -1)
    ssim = metrics.ssim(learnt, images)
    assert ssim.mean() > metrics.ssim(control, images).mean() + 0.1
    assert ssim.mean() > metrics.ssim(smooth, images).mean() + 0.2
    nearest = (learnt - images).square().mean((-3, -2, -1)).argmin(1)
    assert (nearest == torch.arange(12)).sum() >= 9
