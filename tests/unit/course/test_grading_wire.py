"""What goes between the grader and a submission: every kind there and back, and nothing else."""

import contextlib
import io
import json
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leaklib import client, models
from leaklib.chain import LAYERS, Activation, Layer
from leaklib.course.grading import wire
from leaklib.leak import Leak

# no clock on a busy machine, the same examples everywhere, and no files of its own
fuzz = settings(deadline=None, derandomize=True, database=None)


def back(value, plain=False):
    return wire.unpack(wire.pack(value), plain)


def framed(tree, tensors=b""):
    tree = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return wire.HEADER.pack(len(tree), len(tensors)) + tree + tensors


NO_TENSORS = wire.pack(None)[wire.HEADER.size + len(b'["plain", null]') :]

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@fuzz
@given(plain_values)
def test_plain_values_come_back_as_they_were(value):
    assert back(value, plain=True) == value
    assert repr(back(value)) == repr(value)  # a tuple is no list, True is not 1


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_a_value_error(noise):
    for content in (noise, framed(noise, NO_TENSORS), framed(["plain", 1], noise)):
        for plain in (True, False):
            with contextlib.suppress(ValueError):
                wire.unpack(content, plain)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.tuples(
            st.sampled_from(["plain", "tensor", "list", "tuple", "dict", "leak", "network"]), inner
        ).map(list)
    ),
    max_leaves=15,
)


@settings(fuzz, max_examples=300)
@given(trees, st.booleans())
def test_any_tree_is_a_value_or_a_value_error(tree, plain):
    with contextlib.suppress(ValueError):
        wire.unpack(framed(tree, NO_TENSORS), plain)


@settings(fuzz, max_examples=200)
@given(st.data())
def test_a_frame_with_a_wrong_byte_is_a_value_or_a_value_error(data):
    packed = bytearray(wire.pack({"a": [torch.arange(6.0).view(2, 3), (1, "x")]}))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packed)))
    for content in (bytes(packed), bytes(packed[:cut])):
        with contextlib.suppress(ValueError):
            wire.unpack(content)


def test_numbers_that_are_none_come_back():
    assert math.isnan(back(float("nan"))) and back(-math.inf) == -math.inf


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).view(2, 3),
        torch.rand(2, 3, 4).permute(2, 0, 1),
        torch.ones(3, requires_grad=True),
        torch.zeros(0, 4),
        torch.tensor(2.5, dtype=torch.float64),
        torch.tensor([True, False]),
        torch.ones(1).expand(5),
    ],
)
def test_a_tensor_comes_back_with_its_type_and_shape_and_no_graph(tensor):
    got = back(tensor, plain=True)
    assert got.dtype == tensor.dtype and got.shape == tensor.shape and torch.equal(got, tensor)
    assert not got.requires_grad


def test_tensors_that_share_their_memory_come_back_apart():
    x = torch.zeros(4)
    first, second = back([x, x[:2]])
    first[0] = 1
    assert second[0] == 0


def test_an_array_comes_back_as_a_tensor_and_its_number_as_a_number():
    assert torch.equal(back(np.arange(3)), torch.arange(3))
    assert type(back(np.float32(0.5))) is float and type(back(np.bool_(True))) is bool


def test_a_leak_comes_back_whole():
    model = models.lenet(classes=4, size=12, channels=1, seed=0)
    leak = client.share_gradient(model, torch.rand(1, 1, 12, 12), torch.tensor([1]))
    got = back(leak)
    assert (got.kind, got.batch_size, got.victims) == (leak.kind, leak.batch_size, leak.victims)
    assert list(got.update) == list(leak.update)
    assert all(torch.equal(got.update[name], g) for name, g in leak.update.items())
    assert all(torch.equal(got.weights[name], w) for name, w in leak.weights.items())


@pytest.mark.parametrize("training", [True, False])
def test_a_network_comes_back_and_computes_the_same(training):
    model = models.lenet(classes=4, size=12, channels=1, seed=0).train(training)
    x = torch.rand(2, 1, 12, 12)
    got = back(model)
    assert got.training is training and torch.equal(got(x), model(x))
    assert list(got.state_dict()) == list(model.state_dict())


def test_the_layers_that_are_sent_are_these():
    assert set(wire.kinds()) == {
        "Linear", "Conv2d", "Flatten", "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "SiLU", "GELU",
        "Softplus",
    }  # fmt: skip
    assert all(kind is getattr(nn, name) for name, kind in wire.kinds().items())


def test_every_layer_named_comes_back():
    made = {
        "Linear": nn.Linear(3, 2, bias=False), "LeakyReLU": nn.LeakyReLU(0.3),
        "Conv2d": nn.Conv2d(2, 4, 3, 2, 1, 2, 2, False, "reflect"), "Flatten": nn.Flatten(2),
        "GELU": nn.GELU("tanh"), "Softplus": nn.Softplus(2.0, 10.0),
    }  # fmt: skip
    for name in wire.kinds():
        layer = made.get(name) or getattr(nn, name)()
        assert str(back(nn.Sequential(layer))) == str(nn.Sequential(layer))


def test_a_network_in_double_precision_stays_so():
    network = wire.unpack(wire.pack(models.mlp(size=4, hidden=(3,)).double()))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_from_a_stranger_neither_leaks_nor_networks_come():
    for value in (nn.Sequential(nn.Flatten()), Leak({}, {}, "gradient")):
        with pytest.raises(ValueError, match="what `pack` makes"):
            back(value, plain=True)


class Own:
    pass


@pytest.mark.parametrize(
    "value, name",
    [
        (Own(), "Own"), ({1: {2: Own()}}, "Own"), (lambda: 1, "function"), ({1}, "set"),
        (iter([]), "list_iterator"), (1j, "complex"), (b"x", "bytes"), (nn.Linear(1, 1), "Linear"),
    ],
)  # fmt: skip
def test_what_cannot_go_is_named(value, name):
    with pytest.raises(TypeError, match=f"a value of type {name}"):
        wire.pack(value)


def test_a_network_of_other_layers_is_named():
    class Flatten(nn.Flatten):
        pass

    for layer in (nn.BatchNorm2d(3), nn.Sequential(nn.Flatten()), Flatten()):
        with pytest.raises(TypeError, match=f"a layer of type {type(layer).__name__}"):
            wire.pack(nn.Sequential(layer))


class Linear(nn.Module):
    """A layer of one's own, by a name of PyTorch's."""

    in_features, out_features, bias = 3, 2, None

    def forward(self, x):
        return x


def test_an_entry_of_the_registry_sends_no_layer_of_ones_own(monkeypatch):
    for kind in (Own, Linear):
        layer = type(kind.__name__, (Linear,), {})()
        monkeypatch.setitem(LAYERS, type(layer), Activation(settings=()))
        with pytest.raises(TypeError, match=f"a layer of type {kind.__name__}$"):
            wire.pack(nn.Sequential(layer))
    assert wire.kinds()["Linear"] is nn.Linear and "Own" not in wire.kinds()


def test_an_entry_of_the_registry_sends_pytorchs_own_layer_with_plain_settings(monkeypatch):
    for layer, name in ((nn.ELU(0.5), "alpha"), (nn.ZeroPad2d(1), "padding")):
        with pytest.raises(TypeError, match="a network with a layer of type"):
            wire.pack(nn.Sequential(layer))
        monkeypatch.setitem(LAYERS, type(layer), Layer(settings=(name,)))
        assert str(back(nn.Sequential(layer))) == str(nn.Sequential(layer))


def test_settings_that_are_not_plain_are_not_sent(monkeypatch):
    monkeypatch.setitem(LAYERS, nn.CircularPad2d, Layer(settings=("padding",)))
    for padding in (torch.ones(4), nn.Flatten(), [1, 1], (1, (1, 1))):
        layer = nn.CircularPad2d(1)
        layer.__dict__["padding"] = padding
        with pytest.raises(TypeError, match="CircularPad2d, whose settings are not plain"):
            wire.pack(nn.Sequential(layer))


@pytest.mark.parametrize(
    "layer",
    [
        ("Bilinear", {"in1_features": 1, "in2_features": 1, "out_features": 1}),
        ("Module", {}), ("modules", {}), ("__class__", {}), ("ELU", {"alpha": 1.0}),
        (["Tanh"], {}), (None, {}), ("Tanh", None), ("Flatten", {"start_dim": 1}),
        ("Tanh", {"inplace": True}),
        ("LeakyReLU", {"negative_slope": torch.ones(1)}),
        ("LeakyReLU", {"negative_slope": [1]}),
    ],
)  # fmt: skip
def test_a_network_that_names_anything_else_does_not_come(layer, monkeypatch):
    monkeypatch.setattr(wire, "_layer", lambda _: layer)
    packed = wire.pack(nn.Sequential(nn.Flatten()))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="what `pack` makes"):
        wire.unpack(packed)


def test_a_value_nested_too_deep_cannot_go():
    value = []
    value.append(value)
    with pytest.raises(TypeError, match="nested more than 40 deep"):
        wire.pack(value)


def test_a_tree_nested_too_deep_cannot_come():
    with pytest.raises(ValueError, match="what `pack` makes"):
        wire.unpack(framed(b"[" * 10**5 + b"]" * 10**5, NO_TENSORS))


def test_values_follow_each_other_in_a_stream():
    stream = io.BytesIO()
    for value in (1, [torch.ones(2)], "end"):
        wire.send(stream, value)
    stream.seek(0)
    assert wire.receive(stream) == 1
    assert torch.equal(wire.receive(stream)[0], torch.ones(2))
    assert wire.receive(stream, plain=True) == "end"
    with pytest.raises(EOFError):
        wire.receive(stream)


def test_a_stream_that_ends_within_a_frame_is_an_error():
    for cut in (3, wire.HEADER.size, -1):
        with pytest.raises(EOFError):
            wire.receive(io.BytesIO(wire.pack([1, 2])[:cut]))


@pytest.mark.parametrize("sizes", [(2**63, 2**63), (0, wire.MOST_BYTES + 1), (2**24 + 1, 0)])
def test_a_frame_that_says_it_is_too_large_is_not_read(sizes):
    stream = io.BytesIO(struct.pack("<QQ", *sizes) + b"rest")
    with pytest.raises(ValueError, match="at most 268,435,456, of them 16,777,216 of JSON"):
        wire.receive(stream)
    assert stream.read() == b"rest"


def test_a_stream_that_comes_in_pieces_is_put_together():
    packed = io.BytesIO(wire.pack(list(range(1000))))

    class Pieces:
        def read(self, count):
            return packed.read(min(count, 7))

    assert wire.receive(Pieces()) == list(range(1000))
