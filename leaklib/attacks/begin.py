"""Where a search begins: what fits the attack, the targets that are known, the first points."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from .. import _loss, _network, random
from .._batching import first
from .._errors import bad, require
from ..client import check_images, check_leak, check_targets
from ..leak import Leak, Tensors, first_of
from .predict import single_step

if TYPE_CHECKING:
    from .attack import Attack

STARTS: dict[str, Callable[..., Tensor]] = {
    "half": lambda size, generator: torch.full(size, 0.5),
    "grey": lambda size, generator: 0.5 + 0.02 * torch.randn(size, generator=generator),
    "zeros": lambda size, generator: torch.zeros(size),
    "uniform": lambda size, generator: torch.rand(size, generator=generator),
    "normal": lambda size, generator: torch.randn(size, generator=generator),
}


def check(attack: "Attack", model: nn.Module, leak: Leak, shape: Sequence[int]) -> Tensor:
    """The network's output (B, ...) for noise, once leak and shape fit it and the attack."""
    named = {"gradient": "a gradient", "weights": "weights, as client.share_weights sends them"}
    wanted = " or ".join(named[kind] for kind in attack.reads)
    require(leak.kind in attack.reads, "leak", named[leak.kind], wanted)
    output = examined(model, leak, shape)
    if leak.kind == "weights" and attack.predict is single_step and attack.sent is None:
        came = f"weights, whose change is the gradient times a rate unknown to {attack.name}"
        wanted = "a gradient; or attacks.dlm_plus, or another distance of directions"
        require(_ignores_scale(attack, first_of(leak)), "leak", came, wanted)
    return output


def examined(model: nn.Module, leak: Leak, shape: Sequence[int]) -> Tensor:
    """The network's output (B, ...) for noise, once leak and shape fit it."""
    check_leak(model, leak)
    is_shape = isinstance(shape, Sequence) and len(shape) > 1
    is_shape = is_shape and all(isinstance(n, int) and n > 0 for n in shape)
    require(is_shape, "shape", repr(shape), "(B, C, H, W) with every number positive")
    B, one = leak.batch_size, first_of(leak)
    require(shape[0] == B, "shape", f"a batch of {shape[0]}", f"the leak's batch size {B}")
    return _network.examined(model, shape, first(one.weights), W=one.weights, buffers=one.buffers)


def _ignores_scale(attack: "Attack", leak: Leak) -> bool:
    """Whether a guess, or a message, twice as long is as far away."""
    draws, h = random.generator(0, "probes"), leak.direction
    g = {n: torch.randn(t.shape, generator=draws).to(t) * t.abs().amax() for n, t in h.items()}

    def apart(of_g: float, of_h: float) -> Tensor:
        G = {name: of_g * tensor for name, tensor in g.items()}
        G = G if attack.defend is None else attack.defend(G, leak)
        return attack.distance(G, {name: of_h * tensor for name, tensor in h.items()})

    alike = partial(torch.allclose, apart(1, 1), rtol=1e-3)
    return alike(apart(2, 1)) or alike(apart(1, 2))


def targets_of(
    attack: "Attack", model: nn.Module, leak: Leak, V: int, output: Tensor
) -> tuple[Tensor | None, Tensor]:
    """(labels, y): the labels (V, B), or targets (V, B, ...), as they are given or read, and the
    same as the loss takes them; (None, of no entry) where they are searched."""
    B, given = leak.batch_size, attack.labels
    takes_classes = _loss.takes_classes(attack.loss, output)
    if isinstance(given, str):
        came = '"joint", which searches probabilities of classes, and another kind of loss'
        require(takes_classes, "labels", came, "targets, as the loss takes them")
        return None, output.new_zeros(V, B, 0)
    rule: Any = given if callable(given) and not torch.is_tensor(given) else None
    values: Any = given if rule is None else rule(leak, model, attack.loss)
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise bad("labels", repr(values), "class numbers, torch.int64") from None
    labels = labels.to(output.device)
    if not (takes_classes and is_class_numbers(labels)):
        labels = _targets(attack, labels, V, output)
        return labels, labels
    try:
        labels = labels.expand(V, B)
    except RuntimeError:
        raise bad("labels", f"shape {tuple(labels.shape)}", f"({V}, {B})") from None
    low, high, C = int(labels.min()), int(labels.max()), output.shape[-1]
    require(-1 <= low <= high < C, "labels", f"{low} to {high}", f"0..{C - 1}, or -1")
    came = "-1 for every image" if rule is None else f"-1 from {rule!r}: no label can be told"
    require(high >= 0, "labels", came, 'class numbers, or "joint", by which they are searched')
    return labels, one_hot(labels.clamp(min=0), C).to(output)  # class 0 stands in for -1


def is_class_numbers(labels: Tensor) -> bool:
    return labels.dtype == torch.int64


def _targets(attack: "Attack", y: Tensor, V: int, output: Tensor) -> Tensor:
    """Targets (V, B, ...) out of these, or of (B, ...) for every victim: as the loss takes them."""
    fits = partial(check_targets, "labels", loss=attack.loss, output=output)
    if y.ndim > 1 and y.shape[:2] == (V, len(output)):
        try:
            for of_victim in y:
                fits(of_victim)
            return y
        except ValueError:
            pass  # but perhaps V targets of B entries are B targets of so many
    shared = y if y.ndim else y.expand(len(output))
    fits(shared)
    return shared.expand(V, *shared.shape)


def first_points(
    attack: "Attack", shape: Sequence[int], like: Tensor, seed: int, classes: int, y: Tensor
) -> tuple[Tensor, Tensor]:
    """The first images (V R, B, C, H, W), and the logits u' ~ N(0, 1) of joint labels (V R, B, C).

    Restart after restart, so that more restarts begin with those that fewer have.
    """
    start, V, R, B = attack.start, len(y), attack.restarts, shape[0]
    images, logits = (random.generator(seed, purpose) for purpose in ("start", "joint labels"))
    u = [torch.randn(V, B, classes, generator=logits).to(like) for _ in range(R)]
    u = torch.stack(u, 1)  # (V, R, B, C)

    def by_name(name: str) -> Tensor:
        return torch.stack([STARTS[name]((V, *shape), images).to(like) for _ in range(R)], 1)

    if torch.is_tensor(start):
        check_images("start", start)
        try:
            x = start.to(like).expand(V, R, *shape)
        except RuntimeError:
            wanted = f"images like {(V, R, *shape)}"
            raise bad("start", f"shape {tuple(start.shape)}", wanted) from None
    else:
        x = by_name(start or "half")
    # an image is told from others by its label too
    y = u if y.shape[-1] == 0 else y[:, None].expand(V, R, *y.shape[1:]).to(like)
    begun = torch.cat([x.flatten(3), y.reshape(V, R, B, -1)], -1)  # (V, R, B, n)
    batches_alike, runs_alike = _any_alike(begun.flatten(0, 1)), _any_alike(begun.flatten(2))
    if start is None and (batches_alike or runs_alike):
        return by_name("grey").flatten(0, 1), u.flatten(0, 1)
    wanted = 'start="grey", "uniform", "normal", or images that differ'
    require(not runs_alike, "restarts", f"{R} that are all the same", f"1; or {wanted}")
    named = "images" if torch.is_tensor(start) else repr(start)
    came = f"{named} for images of one batch with one label, which would stay alike"
    require(not batches_alike, "start", came, wanted)
    return x.flatten(0, 1), u.flatten(0, 1)  # (V, R, …) -> (V R, …)


def _any_alike(groups: Tensor) -> bool:
    """Whether in one of many groups (N, K, n) two of the K are the same."""
    return any(len(rows.unique(dim=0)) < len(rows) for rows in groups)


def first_unknowns(attack: "Attack", leaks: Leak, like: Tensor) -> Tensors:
    """Where each of the other unknowns begins, {name: (V, n)}."""
    begins = attack.searched.items()
    firsts = {n: begin(leaks) if callable(begin) else begin for n, begin in begins}
    firsts = {n: torch.as_tensor(first).to(like) for n, first in firsts.items()}
    return {n: t if t.ndim else t.expand(leaks.victims or 1, 1) for n, t in firsts.items()}
