"""A defence at the client's door: what is one, and what it may send."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from leaklib import client, defenses
from leaklib._defended import checked_defense, checked_update, defended

OTHERS = (client.InPlaceOfGradient, client.OnWeights)


def direction():
    g = torch.Generator().manual_seed(0)
    return {"w": torch.randn(3, 4, generator=g), "b": torch.randn(4, generator=g)}


def sent_by(defend, g=None):
    return defended(defend, g or direction(), torch.Generator().manual_seed(1))


# --- what is a defence ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "defense",
    [
        None,
        defenses.prune(0.5),
        defenses.compose(defenses.prune(0.9), defenses.gaussian(1.0)),
        lambda g, _: g,
        defenses.dp_sgd(1, 1),
        defenses.weights_noise(1e-3),
    ],
    ids=["none", "prune", "several", "a function", "DP-SGD", "noise on weights"],
)
def test_defences_of_all_kinds_pass(defense):
    checked_defense(defense, *OTHERS)


NO_DEFENSES = {
    "A2 a list of defences": [defenses.prune(0.9), defenses.gaussian(1.0)],
    "A2 a tuple of defences": (defenses.prune(0.9), defenses.gaussian(1.0)),
    "A2 the name of a defence": "prune",
    "A2 a number": 0.9,
    "a tensor": torch.tensor(0.9),
    "a dict": {"prune": 0.9},
    "true": True,
    "nothing in a list": [],
}


@pytest.mark.parametrize("what", NO_DEFENSES)
def test_what_is_no_defence_is_refused(what):
    with pytest.raises(ValueError, match=r"^defense: got .*several as defenses\.compose\(…\)"):
        checked_defense(NO_DEFENSES[what], *OTHERS)


def test_kind_that_the_message_has_no_place_for_is_refused():
    with pytest.raises(ValueError, match="^defense: got OnWeights; wanted one of `defenses`"):
        checked_defense(defenses.weights_noise(1e-3), client.InPlaceOfGradient)


# --- what a defence may send ----------------------------------------------------------------------


def test_update_comes_back_as_the_defence_made_it():
    g = direction()
    for defend in (defenses.prune(0.5), defenses.clip(0.1), defenses.half()):
        wanted = defend(direction(), torch.Generator())
        got = sent_by(defend)
        assert list(got) == list(wanted) and all(torch.equal(got[n], wanted[n]) for n in g)


def test_update_has_the_order_the_type_and_no_graph_of_what_it_was():
    """Which layer is the last one is told by the order."""
    g = {n: t.double().requires_grad_() for n, t in direction().items()}
    backwards = lambda g, _: OrderedDict((n, (2 * g[n]).half()) for n in reversed(g))  # noqa: E731
    sent = defended(backwards, g, torch.Generator())
    assert type(sent) is dict and list(sent) == ["w", "b"]
    for name, tensor in sent.items():
        assert tensor.dtype == torch.float64 and not tensor.requires_grad
        torch.testing.assert_close(tensor, 2 * g[name].detach(), rtol=1e-3, atol=1e-3)


BROKEN = {
    "A2 nothing": (lambda g, _: None, "NoneType back"),
    "a list": (lambda g, _: list(g.values()), "list back"),
    "one tensor": (lambda g, _: g["w"], "Tensor back"),
    "itself": (lambda g, _: defenses.prune(0.5), "function back"),
    "A2 one tensor less": (lambda g, _: {"w": g["w"]}, r"\['w'\] back"),
    "one tensor more": (lambda g, _: {**g, "c": g["w"]}, r"\['b', 'c', 'w'\] back"),
    "other names": (lambda g, _: {f"module.{n}": t for n, t in g.items()}, "module.b"),
    "A2 another shape": (lambda g, _: {**g, "w": g["w"].mT}, r"shape \(4, 3\) .* for 'w'"),
    "a flat tensor": (lambda g, _: {**g, "w": g["w"].flatten()}, r"shape \(12,\) .* for 'w'"),
    "a shape that broadcasts": (lambda g, _: {**g, "b": g["b"][:1]}, r"shape \(1,\) .* for 'b'"),
    "whole numbers": (lambda g, _: {n: t.sign().char() for n, t in g.items()}, "torch.int8"),
    "truth values": (lambda g, _: {n: t > 0 for n, t in g.items()}, "torch.bool"),
    "complex numbers": (lambda g, _: {n: t + 0j for n, t in g.items()}, "torch.complex64"),
    "sparse tensors": (lambda g, _: {n: t.to_sparse() for n, t in g.items()}, "back for 'w'"),
    "arrays": (lambda g, _: {n: t.numpy() for n, t in g.items()}, "ndarray back for 'w'"),
    "numbers": (lambda g, _: {n: float(t.sum()) for n, t in g.items()}, "float back for 'w'"),
    "NaN": (lambda g, _: {n: t / 0 * 0 for n, t in g.items()}, "NaN or infinite .* for 'w'"),
    "infinite": (lambda g, _: {**g, "b": g["b"] / 0}, "NaN or infinite .* for 'b'"),
    "too large for the type": (lambda g, _: {n: 1e300 * t.double() for n, t in g.items()}, "NaN"),
    "one argument": (lambda g: g, "raised TypeError"),
    "three arguments": (lambda g, generator, seed: g, "raised TypeError"),
    "a word that it lacks": (lambda g, _: g.mul(2), "raised AttributeError"),
    "a name of another network": (lambda g, _: {**g, "w": g["fc.weight"]}, "raised KeyError"),
    "its own error": (lambda g, _: defenses.prune(2.0), "raised ValueError .p: got 2.0"),
    "A2 a defence that was not made": (defenses.prune, "prune, which raised ValueError .p: got"),
    "several that were not made": (defenses.compose, "compose, which raised ValueError"),
    "a clip that was not made": (defenses.clip, "clip, which raised"),
    "a mask that was not made": (defenses.random_mask, "random_mask, which raised"),
    "half, not made": (defenses.half, "half, which raised"),
    "noise on weights, not made": (defenses.weights_sparsify, "weights_sparsify, which raised"),
    "a network": (nn.Linear(3, 3), "Linear, which raised"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_defence_that_does_not_send_what_it_was_given_is_refused(what):
    defend, told = BROKEN[what]
    with pytest.raises(ValueError, match=f"^defense: got .*{told}"):
        sent_by(defend)


def test_errors_that_are_not_of_the_call_are_left_alone():
    def full(g, _):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        sent_by(full)


def test_numbers_that_were_not_finite_before_are_not_the_defences_fault():
    g = {"w": torch.tensor([torch.nan, 1.0])}
    assert checked_update(g, g)["w"].isnan().any()


def test_sixteen_bits_may_be_too_few():
    with pytest.raises(ValueError, match="^defense: got NaN or infinite entries back for 'w'"):
        sent_by(defenses.half(), {"w": torch.tensor([1e5, 1.0])})
    assert sent_by(defenses.half(torch.bfloat16), {"w": torch.tensor([1e5])})["w"].isfinite()


# --- at the client's door -------------------------------------------------------------------------


def in_place(change):
    """A defence in place of the gradient, which sends `change` of the weights."""
    return client.InPlaceOfGradient(lambda model, _, loss: lambda W, x, y, buffers: change(W))


def shares():
    """{name: (defense) -> leak}: the two messages of a client, the second after two steps."""
    model, g = nn.Linear(3, 4), torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, generator=g), torch.tensor([0, 3])
    return {
        "gradient": lambda d: client.share_gradient(model, x, y, defense=d),
        "weights": lambda d: client.share_weights(model, x, y, lr=0.1, steps=2, defense=d),
    }


CHANGES = {
    "nothing": lambda W: None,
    "one tensor less": lambda W: {"weight": W["weight"]},
    "a shape that broadcasts": lambda W: {n: t.sum() for n, t in W.items()},
    "NaN": lambda W: {n: t * torch.nan for n, t in W.items()},
}


@pytest.mark.parametrize("message", shares())
@pytest.mark.parametrize("what", CHANGES)
def test_no_client_sends_what_a_defence_broke(message, what):
    """A2: functions, defences in place of the gradient at every step, and those of weights."""
    share, change = shares()[message], CHANGES[what]
    kinds = [in_place(change), lambda W, _: change(W)]
    if message == "weights":
        kinds += [client.OnWeights(kinds[1], both) for both in (False, True)]
    for defense in kinds:
        with pytest.raises(ValueError, match="^defense: got .* back"):
            share(defense)


@pytest.mark.parametrize("message", shares())
@pytest.mark.parametrize("what", NO_DEFENSES)
def test_no_client_sends_undefended_what_is_no_defence(message, what):
    with pytest.raises(ValueError, match="^defense: got .*defenses.compose"):
        shares()[message](NO_DEFENSES[what])


def test_defence_of_weights_with_other_arguments_is_refused():
    with pytest.raises(ValueError, match="^defense: got <lambda>, which raised TypeError"):
        shares()["weights"](client.OnWeights(lambda W: W))


def test_gradient_that_overflows_is_not_blamed_on_a_defence_that_nobody_asked_for():
    model, x, y = nn.Linear(2, 3), torch.full((1, 2), 1e30), torch.tensor([0])
    nn.init.constant_(model.weight, 0)
    square = lambda z, y: z.square().sum()  # noqa: E731
    nn.init.constant_(model.bias, 1e9)
    assert client.share_gradient(model, x, y, loss=square).update["weight"].isinf().any()
