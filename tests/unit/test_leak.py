"""A leak is put together, kept on disk and read back as it was, and nothing in a file is run."""

import dataclasses
import json
import os
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from leaklib import analytic, client, labels, models
from leaklib.leak import Leak, from_state_dicts, join, load, some, stack, without

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
}


def small_lenet(seed=0):
    return models.lenet(1, 12, seed=seed)


def small_mlp(seed=0):
    return models.mlp(1, 12, hidden=(20, 15), activation="relu", seed=seed)


def with_statistics(x, seed=0):
    """A network with BatchNorm in evaluation mode, its running statistics away from 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(100, 10)
        )
    model(x)
    return model.eval()


def trained(model, x, y, steps, lr, optimizer="sgd"):
    """A reader's own loop, by torch's optimizer, in place."""
    optimizer = OPTIMIZERS[optimizer](model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def assert_close(got, wanted, **tolerances):
    assert list(got) == list(wanted)
    for name in wanted:
        torch.testing.assert_close(
            got[name], wanted[name], **tolerances, msg=lambda m, n=name: n + m
        )


def assert_same(got, wanted):
    """Every field, bit by bit."""
    for f in dataclasses.fields(Leak):
        a, b = getattr(got, f.name), getattr(wanted, f.name)
        if isinstance(b, dict):
            assert list(a) == list(b)
            for n in b:
                assert (
                    a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and (a[n] == b[n]).all()
                )
        else:
            assert a == b and type(a) is type(b)


# --- what it says -------------------------------------------------------------------------------


def test_direction_is_the_gradient_for_both_kinds(small_digits):
    x, y = small_digits[0][:2].double(), small_digits[1][:2]
    model = small_lenet().double()
    g = client.share_gradient(model, x, y)
    w = client.share_weights(model, x, y, lr=0.25)
    assert (g.kind, w.kind) == ("gradient", "weights")
    assert_close(g.direction, g.update, rtol=0, atol=0)
    assert_close({n: d / 0.25 for n, d in w.direction.items()}, g.update, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("power", range(-20, 0, 3))
@pytest.mark.parametrize("kind", ["lenet", "mlp", "own"])
def test_rounding_bounds_how_far_new_weights_are_off(power, kind, own_network, small_digits):
    """Against W_t - lr g in double precision; a power of two keeps lr g itself exact."""
    x, y = small_digits[0][:1], small_digits[1][:1]
    network = {"lenet": small_lenet, "mlp": small_mlp, "own": own_network}[kind](seed=3)
    leak = client.share_weights(network, x, y, lr=2.0**power)
    g = client.share_gradient(network, x, y).update
    largest = []
    for name, off in leak.rounding.items():
        error = (leak.direction[name].double() - 2.0**power * g[name].double()).abs()
        assert off.shape == error.shape and off.dtype == torch.float32 and (off > 0).all()
        assert (error <= off).all()
        largest.append((error / off).max())
    assert max(largest) > 0.1, "and not by much more than it is"


@pytest.mark.parametrize("steps", [5, 20])
def test_rounding_adds_up_over_many_small_steps(steps, small_digits):
    """Alike steps are rounded alike: T of them are off by T units at most, and a few by about one.

    Against the same steps in double precision, so small that the gradient hardly changes.
    """
    x, y = small_digits[0][:1], small_digits[1][:1]
    settings = dict(lr=2.0**-20, steps=steps)
    leak = client.share_weights(small_mlp(), x, y, **settings)
    exact = client.share_weights(small_mlp().double(), x.double(), y, **settings)
    off = torch.cat([
        ((leak.direction[n].double() - exact.direction[n]).abs() / leak.rounding[n]).flatten()
        for n in exact.direction
    ])  # fmt: skip
    assert off.max() <= steps / 2 + 0.5
    assert off.max() > steps / 4, "more than one unit, where the steps are many"
    assert off.square().mean().sqrt() < steps / 4


def test_rounding_is_a_unit_in_the_last_place_of_the_larger_weight():
    before = torch.tensor([1.0, 1.0, -3.0, 0.0, 1e-3])
    after = torch.tensor([1.5, 2.5, -0.5, 0.0, -1e-3])
    leak = Leak({"w": before}, {"w": after}, "weights")
    wanted = [2.0**-23, 2.0**-22, 2.0**-22, 2.0**-149, 2.0**-33]
    assert leak.rounding["w"].tolist() == wanted
    double = Leak({"w": before.double()}, {"w": after.double()}, "weights").rounding["w"]
    assert double.dtype == torch.float64 and double[0] == 2.0**-52


def test_gradient_is_off_by_a_unit_of_its_own(small_digits):
    leak = client.share_gradient(small_lenet(), small_digits[0][:1], small_digits[1][:1])
    assert list(leak.rounding) == list(leak.update)
    up = torch.tensor(torch.inf)
    for name, off in leak.rounding.items():
        assert torch.equal(off, leak.update[name].abs().nextafter(up) - leak.update[name].abs())


def test_leak_without_what_a_client_keeps(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    model = with_statistics(small_digits[0])
    leak = client.share_weights(model, x, y, lr=0.1)
    name = next(iter(leak.weights))
    less = without(leak, [name, "1.running_mean"])
    for what in ("weights", "update", "buffers"):
        full, rest = getattr(leak, what), getattr(less, what)
        assert set(full) - set(rest) == {name, "1.running_mean"} & set(full)
        assert all(rest[n] is full[n] for n in rest)
    assert name in leak.weights and "1.running_mean" in leak.buffers, (
        "a new leak, not a changed one"
    )
    assert (less.kind, less.batch_size, less.victims) == ("weights", 2, None)
    assert_same(without(leak, []), leak)


def test_names_that_a_client_keeps_may_come_one_by_one(small_digits):
    leak = client.share_gradient(small_lenet(), small_digits[0][:1], small_digits[1][:1])
    less = without(leak, (name for name in ["conv1.weight", "fc.bias"]))
    assert set(leak.update) - set(less.update) == {"conv1.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("fc.bias", r"^names: got the string 'fc.bias'; wanted a list: \['fc.bias'\]"),
        (["fc.bais"], r"^names: got \['fc.bais'\]; wanted names of the leak: \['conv1.weight'"),
        (["fc.bias", "fc"], r"^names: got \['fc'\]; wanted names of the leak"),
        (dict(small_lenet().named_parameters()), "^names: got all that is sent; wanted not all"),
    ],
    ids=["a string", "a slip", "a layer", "all"],
)
def test_what_a_client_cannot_keep_is_refused(names, message, small_digits):
    leak = client.share_gradient(small_lenet(), small_digits[0][:1], small_digits[1][:1])
    with pytest.raises(ValueError, match=message):
        without(leak, names)


# --- stack --------------------------------------------------------------------------------------


def test_stack_gives_every_tensor_a_leading_axis(small_digits):
    x, y = small_digits
    leaks = [
        client.share_gradient(small_lenet(seed=i), x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2])
        for i in range(3)
    ]
    pile = stack(leaks)
    assert (pile.victims, pile.batch_size, pile.kind) == (3, 2, "gradient")
    for i, leak in enumerate(leaks):
        assert_close({n: t[i] for n, t in pile.weights.items()}, leak.weights, rtol=0, atol=0)
        assert_close({n: t[i] for n, t in pile.direction.items()}, leak.direction, rtol=0, atol=0)


def test_stack_of_weights_keeps_kind_direction_and_buffers(small_digits, own_network):
    x, y = small_digits
    own_network = own_network()
    own_network.register_buffer("note", torch.arange(3.0))
    leaks = [
        client.share_weights(own_network, x[i : i + 1], y[i : i + 1], lr=0.1) for i in range(2)
    ]
    pile = stack(leaks)
    assert pile.kind == "weights" and pile.buffers["note"].shape == (2, 3)
    for i, leak in enumerate(leaks):
        assert_close({n: t[i] for n, t in pile.direction.items()}, leak.direction)


def test_stacks_are_joined_victims_after_victims(small_digits):
    x, y = small_digits
    every = [
        client.share_weights(small_lenet(i), x[i : i + 1], y[i : i + 1], lr=1) for i in range(3)
    ]
    joined = join([stack(every[:1]), stack(every[1:])])
    assert_same(joined, stack(every))


def test_what_does_not_fit_together_is_not_joined(small_digits):
    x, y = small_digits
    leak = client.share_gradient(small_lenet(), x[:1], y[:1])
    weights = client.share_weights(small_lenet(), x[:1], y[:1], lr=1)
    pile = stack([leak])
    for stacks, wrong in (
        ([], "^stacks: got an empty list; wanted at least one"),
        ([pile, leak], r"^stacks\[1\]: got a single Leak; wanted a stack"),
        ([pile, stack([weights])], r"^stacks\[1\].kind: got weights; wanted gradient"),
    ):
        with pytest.raises(ValueError, match=wrong):
            join(stacks)


def test_what_does_not_fit_together_is_not_stacked(small_digits):
    x, y = small_digits
    model = small_lenet()
    leak = client.share_gradient(model, x[:1], y[:1])
    wrong = {
        "leaks\\[1\\].batch_size": client.share_gradient(model, x[:2], y[:2]),
        "leaks\\[1\\].kind": client.share_weights(model, x[:1], y[:1], lr=0.1),
        "leaks\\[1\\].weights: got other": client.share_gradient(small_mlp(), x[:1], y[:1]),
        "leaks\\[1\\]: got a stack; wanted a single Leak": stack([leak]),
    }
    for named, other in wrong.items():
        with pytest.raises(ValueError, match=f"^{named}"):
            stack([leak, other])
    with pytest.raises(ValueError, match="^leaks: got an empty list; wanted at least one"):
        stack([])


def test_some_of_a_stack_in_the_order_that_is_asked_for(small_digits):
    x, y = small_digits
    leaks = [client.share_gradient(small_lenet(i), x[i : i + 1], y[i : i + 1]) for i in range(4)]
    pile = stack(leaks)
    assert_same(some(pile, [3, 1]), stack([leaks[3], leaks[1]]))
    assert_same(some(pile, slice(2, None)), stack(leaks[2:]))
    with pytest.raises(ValueError, match="^leaks: got a single Leak; wanted a stack"):
        some(leaks[0], [0])
    with pytest.raises(ValueError, match=r"^rows: got \[\]; wanted some of the 4 victims"):
        some(pile, [])


def numbered(victims):
    """A stack whose only weight is each victim's number."""
    return stack([Leak({"w": torch.tensor([i])}, {"w": torch.tensor([i])}) for i in range(victims)])


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([0, 2], [0, 2]), ((0, 2), [0, 2]), ((1,), [1]), (range(1, 4), [1, 2, 3]), ([2, 2], [2, 2]),
        ([-1], [3]), (slice(None, None, -2), [3, 1]), (torch.tensor([3, 0]), [3, 0]),
        (torch.tensor([1, 0], dtype=torch.uint8), [1, 0]), (np.array([2]), [2]),
        ([True, False, True, False], [0, 2]), (torch.arange(4) > 2, [3]),
    ],
    ids=repr,
)  # fmt: skip
def test_victims_are_chosen_by_numbers_slices_and_masks(rows, kept):
    part = some(numbered(4), rows)
    assert part.victims == len(kept) and part.weights["w"].flatten().tolist() == kept
    assert part.update["w"].shape == (len(kept), 1)


def test_chosen_victims_are_copies():
    pile = numbered(4)
    some(pile, slice(0, 2)).weights["w"].fill_(9)
    assert pile.weights["w"].flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "rows",
    [
        2, True, None, ..., "0", [4], [-5], [0.0], torch.tensor(1), torch.tensor([1.5]),
        [[0, 1], [1, 2]], torch.ones(2, 2).long(), [True], torch.zeros(4) > 1, torch.ones(5) > 0,
        slice(4, None), slice(0, 4, 0), {"a": 1}, [None],
    ],
    ids=repr,
)  # fmt: skip
def test_what_chooses_no_victims_is_refused(rows):
    with pytest.raises(ValueError, match="(?s)^rows: got .*; wanted some of the 4 victims"):
        some(numbered(4), rows)


@pytest.mark.parametrize("pile", [stack, join])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Leak({}, {}), "s: got Leak; wanted a list of leaks"),
        (None, "s: got NoneType; wanted a list of leaks"),
        ([{"w": torch.ones(1)}], r"s\[0\]: got dict; wanted a s"),
        (["leak.safetensors"], r"s\[0\]: got str; wanted a s"),
    ],
    ids=["one leak", "nothing", "tensors", "a path"],
)
def test_what_is_no_list_of_leaks_is_not_put_together(pile, given, message):
    with pytest.raises(ValueError, match=message):
        pile(given)


def test_stack_is_made_of_an_iterator(small_digits):
    x, y = small_digits
    leaks = [client.share_gradient(small_lenet(i), x[i : i + 1], y[i : i + 1]) for i in range(2)]
    assert_same(stack(iter(leaks)), stack(leaks))


# --- on disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["gradient", "weights"])
def test_leak_is_read_back_as_it_was_saved(kind, dtype, small_digits, tmp_path):
    x, y = small_digits[0][:4], small_digits[1][:4]
    model = with_statistics(x)
    share = partial(client.share_weights, lr=0.1) if kind == "weights" else client.share_gradient
    leak = share(model.to(dtype), x.to(dtype), y)
    path = leak.save(tmp_path / "sent.safetensors")
    assert path == tmp_path / "sent.safetensors"
    read = load(path)
    assert_same(read, leak)
    assert read.buffers["1.num_batches_tracked"].dtype == torch.int64
    assert_same(load(leak.save(str(tmp_path / "by name"))), leak)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["by name", "sent.safetensors"]


def test_names_of_a_readers_own_network_and_a_stack_are_kept(own_network, small_digits, tmp_path):
    x, y = small_digits
    shared = [
        client.share_gradient(own_network(i), x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2])
        for i in range(3)
    ]
    pile = stack(shared)
    # a name may hold the mark that separates it from what it is
    pile = dataclasses.replace(pile, buffers={"a/b": torch.arange(6.0).view(2, 3).T})
    read = load(pile.save(tmp_path / "pile"))
    assert_same(read, pile)
    assert (read.victims, read.batch_size) == (3, 2)


SPECIAL = {
    "float16": torch.tensor([0.1, -2.0]).half(),
    "bfloat16": torch.tensor([0.1, -2.0]).bfloat16(),
    "no axis": torch.tensor(0.3),
    "no entries": torch.ones(2, 0),
    "transposed": torch.arange(6.0).view(2, 3).T,
    "every other": torch.arange(8.0)[::2],
    "expanded": torch.tensor([1.0]).expand(3),
    "part of another": torch.arange(8.0)[2:4],
    "channels last": torch.rand(1, 2, 3, 3).to(memory_format=torch.channels_last),
    "a parameter": nn.Parameter(torch.ones(2)),
    "not finite": torch.tensor([torch.inf, 1.0]),
    "complex": torch.tensor([1 + 2j]),
}


@pytest.mark.parametrize("tensor", SPECIAL.values(), ids=SPECIAL)
def test_tensors_of_any_kind_are_read_back(tensor, tmp_path):
    leak = Leak({"w": tensor}, {"w": tensor.detach() * 1}, buffers={"b": tensor})
    read = load(leak.save(tmp_path / "leak"))
    assert_same(read, leak)
    assert not any(t.requires_grad for t in read.weights.values())


def test_tensors_that_share_their_memory_are_read_back(tmp_path):
    """Tied weights, one tensor under all names, and victims of a stack that are views."""
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"tied": whole, "again": whole, "flat": whole.view(-1)}
    leak = Leak(tensors, dict(tensors))
    assert_same(load(leak.save(tmp_path / "leak")), leak)
    expanded = {"w": whole[0].expand(3, 4)}
    leak = Leak(expanded, {"w": whole}, victims=3)
    assert_same(load(leak.save(tmp_path / "stack")), leak)


def test_names_with_marks_of_their_own_are_read_back(tmp_path):
    names = ["a/b/c", "weights/w", "/", "", "__metadata__", "ä b", "module.fc.weight", "."]
    tensors = {name: torch.full((2,), float(i)) for i, name in enumerate(names)}
    leak = Leak(tensors, dict(tensors))
    assert_same(load(leak.save(tmp_path / "leak")), leak)


def test_saving_replaces_an_older_leak(small_digits, tmp_path):
    old, new = (
        client.share_gradient(small_lenet(i), small_digits[0][:1], small_digits[1][:1])
        for i in range(2)
    )
    path = old.save(tmp_path / "leak")
    assert_same(load(new.save(path)), new)


@pytest.mark.parametrize("where", ["write", "rename"])
def test_write_that_fails_leaves_the_older_leak(where, small_digits, tmp_path, monkeypatch):
    old, new = (
        client.share_gradient(small_lenet(i), small_digits[0][:1], small_digits[1][:1])
        for i in range(2)
    )
    path = old.save(tmp_path / "leak")
    write = Path.write_bytes

    def full(aside, content=b""):
        write(aside, content[: len(content) // 2])
        raise OSError("no space left on device")

    def refuse(*_):
        raise OSError("no space left on device")

    owner, name, fails = (
        (Path, "write_bytes", full) if where == "write" else (os, "replace", refuse)
    )
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fails)
        with pytest.raises(OSError, match="no space"):
            new.save(path)
    assert_same(load(path), old)
    assert [p.name for p in tmp_path.iterdir()] == ["leak"], "nothing half-written is left"
    assert_same(load(new.save(path)), new)


def test_half_a_file_is_refused(small_digits, tmp_path):
    leak = client.share_gradient(small_lenet(), small_digits[0][:1], small_digits[1][:1])
    whole = leak.save(tmp_path / "leak").read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "half").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="^path: got .*half .*wanted a file that Leak.save"):
            load(tmp_path / "half")


def header(**changed):
    names = ["weights/w", "update/w"]
    return dict(kind="gradient", batch_size=1, victims=None, names=names) | changed


@pytest.mark.parametrize(
    "metadata",
    [
        None, {"format": "pt"}, {"leak": "not JSON"}, {"leak": "[1, 2]"}, {"leak": "3"},
        {"leak": json.dumps({"kind": "gradient"})},
        *({"leak": json.dumps(header(**changed))} for changed in [
            dict(kind="model"), dict(kind=None), dict(kind=["gradient"]), dict(batch_size=0),
            dict(batch_size=1.5), dict(batch_size=None), dict(batch_size=True), dict(victims=0),
            dict(victims="3"), dict(names=None), dict(names=[3]), dict(names=["w"]),
            dict(names=["model/w"]), dict(names=["weights/w", "update/v"]), dict(names="weights/w"),
            dict(names=["weights/w"]), dict(names=[]), dict(names=["weights/w", "weights/w"]),
            dict(names=["weights/w", "update/w", "update/w"]), dict(victims=3), dict(victims=1),
        ]),
    ],
)  # fmt: skip
def test_file_of_tensors_that_is_no_leak_is_refused(metadata, tmp_path):
    tensors = {"weights/w": torch.ones(2), "update/w": torch.ones(2)}
    safetensors.torch.save_file(tensors, tmp_path / "other", metadata=metadata)
    with pytest.raises(
        ValueError, match="^path: got .*other.*; wanted a file that Leak.save wrote"
    ):
        load(tmp_path / "other")


@pytest.mark.parametrize(
    ("shapes", "victims"),
    [
        ({"weights/w": (2,), "update/w": (3,)}, None),
        ({"update/w": (2,)}, None),
        ({"weights/w": (2,), "buffers/w": (2,)}, None),
        ({"weights/w": (2, 4), "update/w": (2, 4), "buffers/n": (3,)}, 2),
        ({"weights/w": (2, 4), "update/w": (2, 4), "buffers/n": ()}, 2),
    ],
    ids=["another shape", "no weights", "nothing sent", "another victim", "a buffer of none"],
)
def test_tensors_that_are_no_message_are_refused(shapes, victims, tmp_path):
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    metadata = {"leak": json.dumps(header(names=list(shapes), victims=victims))}
    safetensors.torch.save_file(tensors, tmp_path / "other", metadata=metadata)
    with pytest.raises(ValueError, match="^path: got .*other.*; wanted a file that Leak.save"):
        load(tmp_path / "other")


def test_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="^path: got .*, a folder; wanted a file that Leak.save"):
        load(tmp_path)


def test_header_that_is_right_is_taken(tmp_path):
    """What the refused headers differ from."""
    tensors = {"weights/w": torch.ones(2), "update/w": torch.zeros(2)}
    metadata = {"leak": json.dumps(header())}
    safetensors.torch.save_file(tensors, tmp_path / "leak", metadata=metadata)
    wanted = Leak({"w": torch.ones(2)}, {"w": torch.zeros(2)})
    assert_same(load(tmp_path / "leak"), wanted)


def test_layers_keep_their_order_on_disk(small_digits, tmp_path):
    """ "fc" comes before "fc1" in the alphabet, and last in the network."""
    x, y = small_digits[0][:1].double(), small_digits[1][:1]
    leak = client.share_gradient(small_mlp().double(), x, y)
    read = load(leak.save(tmp_path / "leak"))
    assert labels.last_layer(read) == ("fc.weight", "fc.bias")
    torch.testing.assert_close(analytic.linear_input(read), x.flatten(), rtol=0, atol=1e-9)


class Bomb:
    """What a pickle can do when it is read."""

    def __reduce__(self):
        return (os.mkdir, ("bomb",))


def test_nothing_in_a_file_is_run(small_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pickle").write_bytes(pickle.dumps(Bomb()))
    torch.save({"weights": Bomb()}, tmp_path / "torch")
    noise = torch.randint(256, (4096,), generator=torch.Generator().manual_seed(0))
    (tmp_path / "noise").write_bytes(bytes(noise.tolist()))
    for name in ("pickle", "torch", "noise"):
        with pytest.raises(ValueError, match=f"^path: got .*{name}"):
            load(tmp_path / name)
    assert not (tmp_path / "bomb").exists()


def test_file_that_is_not_there(tmp_path, small_digits):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    leak = client.share_gradient(small_lenet(), small_digits[0][:1], small_digits[1][:1])
    with pytest.raises(FileNotFoundError):
        leak.save(tmp_path / "no folder" / "leak")


# --- two checkpoints of a reader's own ----------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_checkpoints_are_the_leak_of_the_weights(optimizer, small_digits):
    """BatchNorm in evaluation mode: its statistics are held, not trained."""
    x, y = small_digits[0][:4].double(), small_digits[1][:4]
    model = with_statistics(small_digits[0]).double()
    wanted = client.share_weights(model, x, y, lr=0.05, steps=3, optimizer=optimizer)
    before = model.state_dict()  # the live tensors, which training changes in place
    before = {name: tensor.clone() for name, tensor in before.items()}
    trained(model, x, y, 3, 0.05, optimizer)
    got = from_state_dicts(before, model.state_dict(), batch_size=4)
    assert (got.kind, got.batch_size, got.victims) == ("weights", 4, None)
    assert set(got.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    for what in ("weights", "update", "buffers"):
        mine, theirs = getattr(got, what), getattr(wanted, what)
        assert_close(mine, {n: theirs[n] for n in mine}, rtol=1e-9, atol=1e-11)
        assert set(mine) == set(theirs)
    client.check_leak(model, got)


def test_checkpoints_are_copied_and_statistics_are_those_before(small_digits):
    x, y = small_digits
    model = with_statistics(x)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()(1 + x)  # moves the running statistics
    trained(model.eval(), x[:4], y[:4], 1, 0.1)
    after = model.state_dict()
    leak = from_state_dicts(before, after)
    assert torch.equal(leak.buffers["1.running_mean"], before["1.running_mean"])
    assert not torch.equal(leak.buffers["1.running_mean"], after["1.running_mean"])
    kept = {n: t.clone() for n, t in leak.update.items()}
    trained(model, x[:4], y[:4], 1, 0.1)
    assert_close(leak.update, kept, rtol=0, atol=0)
    assert not any(t.requires_grad for t in (*leak.weights.values(), *leak.update.values()))


def test_names_of_buffers_may_be_given(small_digits):
    x, y = small_digits[0][:2], small_digits[1][:2]
    model = small_mlp()
    model.fc1.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = client.share_weights(model, x, y, lr=0.1)
    for name, p in wanted.update.items():
        model.get_parameter(name).data = p
    frozen = ["fc1.weight", "fc1.bias"]
    got = from_state_dicts(before, model.state_dict(), batch_size=2, buffers=frozen)
    assert_same(got, wanted)
    assert "fc1.weight" in from_state_dicts(before, model.state_dict()).weights


def test_checkpoints_that_do_not_fit_are_refused(small_digits):
    before = small_lenet(0).state_dict()
    after = small_lenet(1).state_dict()
    without = {n: t for n, t in after.items() if n != "fc.bias"}
    cases = [
        (before, without, r"^after\['fc.bias'\]: got missing; wanted \(10,\), as in before"),
        (without, before, r"^after\['fc.bias'\]: got \(10,\); wanted missing, as in before"),
        (before, after | {"fc.bias": torch.ones(3)}, r"^after\['fc.bias'\]: got \(3,\); .*\(10,\)"),
        (before, before, "^after: got the weights of before; wanted .*training has changed"),
    ]
    for first, second, message in cases:
        with pytest.raises(ValueError, match=message):
            from_state_dicts(first, second)
    with pytest.raises(ValueError, match=r"^buffers: got \['nothing'\]; wanted names of the net"):
        from_state_dicts(before, after, buffers=["nothing"])
