"""How finely numbers are told: a unit in the last place, and half precision seen by the numbers."""

import torch
from torch import Tensor


def unit(x: Tensor, dtype: torch.dtype) -> Tensor:
    """What the last place counts for in numbers of the size of x that are held in `dtype`."""
    size = x.abs().to(torch.promote_types(x.dtype, torch.float32))
    size = size.clamp(min=torch.finfo(dtype).smallest_normal)
    gap = size.nextafter(size.new_tensor(torch.inf)) - size
    return (gap * (torch.finfo(dtype).eps / torch.finfo(size.dtype).eps)).to(x.dtype)


def units(tensors: dict[str, Tensor], victims: int | None = None) -> dict[str, Tensor]:
    """{name: a unit in the last place of each number}, in the precision that the numbers show.

    A tensor is taken for a float16 or bfloat16 one if all of its numbers fit that dtype, and some
    tensor beside it fits and makes use of the last place: zeros, ones and halves fit anything.
    victims: V of a stack, each of which is seen by itself.
    """
    off = {name: unit(t, t.dtype) for name, t in tensors.items()}
    rows = {
        name: t.reshape(victims or 1, t.numel() // (victims or 1)) for name, t in tensors.items()
    }
    for dtype in (torch.float16, torch.bfloat16):
        fits = {name: (t.to(dtype) == t).all(1) for name, t in rows.items()}  # (V,)
        fitting = [name for name in rows if fits[name].any()]
        to_the_last = [fits[n] & (rows[n] / unit(rows[n], dtype) % 2 == 1).any(1) for n in fitting]
        if not to_the_last:
            continue
        seen = torch.stack(to_the_last).any(0)  # (V,)
        for name in fitting:
            t, coarse = tensors[name], fits[name] & seen
            coarse = coarse.reshape(-1, *[1] * (t.ndim - 1)) if victims else coarse[0]
            off[name] = torch.where(coarse, off[name].maximum(unit(t, dtype)), off[name])
    return off
