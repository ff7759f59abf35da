"""Values between the grader and a submission: a tree of JSON, and its tensors as safetensors.

Nothing is pickled.  A frame is two lengths of eight bytes, the JSON and the tensors.
"""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import nn

from ..._errors import bad
from ...chain import LAYERS
from ...leak import Leak

HEADER = struct.Struct("<QQ")
MOST_BYTES = 256 * 2**20
MOST_JSON = 16 * 2**20  # its lists and dicts take many times as much memory as its bytes
AT_ONCE = 2**20
DEEPEST = 40

FIELDS_OF_LEAK = ("weights", "update", "kind", "buffers", "batch_size", "victims")


def pack(value: object) -> bytes:
    """A value as bytes: None, bool, int, float, str, list, tuple, dict, tensor, Leak, network.

    A NumPy array becomes a tensor.  A network is an `nn.Sequential` of the layers of `kinds`.
    Raises TypeError for anything else, naming it.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_tree(value, tensors, 0)).encode()
    blob = bytes_of(tensors)
    return HEADER.pack(len(tree), len(blob)) + tree + blob


def unpack(packed: bytes, plain: bool = False) -> object:
    """The value of `pack`.  With `plain` neither leaks nor networks, as from a stranger.

    Raises ValueError for bytes that `pack` cannot have made.
    """
    try:
        sizes = HEADER.unpack_from(packed)
        tree = json.loads(packed[HEADER.size : HEADER.size + sizes[0]])
        tensors = tensors_of(packed[HEADER.size + sizes[0] :])
        return _value(tree, tensors, plain)
    except (
        struct.error, json.JSONDecodeError, UnicodeDecodeError, SafetensorError, RecursionError,
        KeyError, IndexError, TypeError, AttributeError,
    ) as error:  # fmt: skip
        raise bad("packed", f"{len(packed)} bytes ({error})", "what `pack` makes") from None


def send(stream: BinaryIO, value: object) -> None:
    stream.write(pack(value))
    stream.flush()


def receive(stream: BinaryIO, plain: bool = False) -> object:
    """The next value of a stream.

    Raises EOFError where the stream ends, ValueError for a frame of more than `MOST_BYTES`, or
    with more than `MOST_JSON` of JSON.
    """
    header = _exactly(stream, HEADER.size)
    sizes = HEADER.unpack(header)
    if sum(sizes) > MOST_BYTES or sizes[0] > MOST_JSON:
        wanted = f"at most {MOST_BYTES:,}, of them {MOST_JSON:,} of JSON"
        raise bad("frame", f"{sizes[0]:,} + {sizes[1]:,} bytes", wanted)
    return unpack(header + _exactly(stream, sum(sizes)), plain)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        more = stream.read(min(count - len(content), AT_ONCE))
        if not more:
            raise EOFError
        content += more
    return bytes(content)


def _tree(value: object, tensors: dict[str, torch.Tensor], depth: int) -> list:
    """[kind, content], with every tensor named by its number."""
    if depth > DEEPEST:
        raise TypeError(f"a value nested more than {DEEPEST} deep")

    def inner(item: object) -> list:
        return _tree(item, tensors, depth + 1)

    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return ["plain", value]
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return ["tensor", name]
    if isinstance(value, list):
        return ["list", [inner(item) for item in value]]
    if isinstance(value, tuple):
        return ["tuple", [inner(item) for item in value]]
    if isinstance(value, Leak):
        return ["leak", [inner(getattr(value, name)) for name in FIELDS_OF_LEAK]]
    if isinstance(value, nn.Sequential):
        layers = [(name, _layer(layer)) for name, layer in value.named_children()]
        return ["network", [inner(layers), inner(dict(value.state_dict())), value.training]]
    if isinstance(value, dict):
        return ["dict", [[inner(key), inner(item)] for key, item in value.items()]]
    raise TypeError(f"a value of type {type(value).__name__}")


def kinds() -> dict[str, type[nn.Module]]:
    """{name: type} of the layers that are sent: PyTorch's own, whose settings `LAYERS` knows."""
    return {
        kind.__name__: kind
        for kind, known in LAYERS.items()
        if known.settings is not None and getattr(nn, kind.__name__, None) is kind
    }


def _layer(layer: nn.Module) -> tuple[str, dict[str, object]]:
    """A layer's name in `kinds`, and the settings that make it again."""
    kind = type(layer).__name__
    if kinds().get(kind) is not type(layer):
        raise TypeError(f"a network with a layer of type {kind}")
    settings = {name: getattr(layer, name) for name in LAYERS[type(layer)].settings or ()}
    if "bias" in settings:  # a parameter, or None, where the type asks for True or False
        settings["bias"] = layer.bias is not None
    return kind, _plain(kind, settings)


def _made(kind: str, settings: dict[str, object]) -> nn.Module:
    """The layer of `_layer`."""
    layer = kinds()[kind]
    if set(settings) != set(LAYERS[layer].settings or ()):
        raise TypeError(f"a network with a layer of type {kind}, with other settings than its own")
    return layer(**_plain(kind, settings))


def _plain(kind: str, settings: dict[str, object]) -> dict[str, object]:
    """The settings, if they are numbers, words and tuples of these."""
    for value in settings.values():
        parts = value if isinstance(value, tuple) else (value,)
        if any(part is not None and type(part) not in (bool, int, float, str) for part in parts):
            raise TypeError(f"a network with a layer of type {kind}, whose settings are not plain")
    return settings


def _value(tree: list, tensors: dict[str, torch.Tensor], plain: bool) -> Any:
    kind, content = tree
    if kind == "plain" and (content is None or type(content) in (bool, int, float, str)):
        return content
    if kind == "tensor":
        return tensors[content]
    if kind in ("list", "tuple"):
        items = [_value(item, tensors, plain) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {_value(k, tensors, plain): _value(v, tensors, plain) for k, v in content}
    if kind == "leak" and not plain:
        fields = [_value(item, tensors, plain) for item in content]
        return Leak(**dict(zip(FIELDS_OF_LEAK, fields, strict=True)))
    if kind == "network" and not plain:
        layers, weights = (_value(item, tensors, plain) for item in content[:2])
        named = OrderedDict((name, _made(*layer)) for name, layer in layers)
        network = nn.Sequential(named)
        network.load_state_dict(weights, assign=True)  # as exact as it was
        return network.train(content[2])
    raise TypeError(f"the kind {kind!r}")
