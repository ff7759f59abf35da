"""The history of L-BFGS for many problems at once: `solvers.lbfgs` and `solvers.lbfgs_torch`."""

import torch
from torch import Tensor


class Pairs:
    """Each problem's last m pairs s = z_{k+1} - z_k and y = g_{k+1} - g_k, and -H g from them.

    In compact form, two passes over the pairs in place of 4 m small steps (Byrd et al. 1994):
        H g = c g + S w - c Y u,   u = R^-1 S'g,   w = R^-T ((D + c Y'Y) u - c Y'g),
    R the upper triangle of S'Y in the order of time, D its diagonal, c = s'y / y'y of the newest.
    """

    def __init__(self, like: Tensor, m: int):
        P, n = like.shape
        self.SY = like.new_zeros(P, m, 2, n)  # a ring of m slots, each of one s and one y
        self.R, self.YY = like.new_zeros(2, P, m, m, dtype=torch.float64).unbind()
        self.c = like.new_ones(P, dtype=torch.float64)
        self.pushed = torch.zeros(P, dtype=torch.int64, device=like.device)

    def keep(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was; the tensors are large, so move what must move."""
        gaps = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for name, tensor in list(vars(self).items()):
            tensor[gaps] = tensor[rows[gaps]]
            setattr(self, name, tensor[: len(rows)])

    def forget(self, mask: Tensor) -> None:
        for tensor in (self.SY, self.R, self.YY, self.pushed):
            tensor[mask] = 0
        self.c[mask] = 1

    def direction(self, s: Tensor, y: Tensor, taken: Tensor, g: Tensor) -> Tensor:
        """-H g (P, n), after taking in the pair (s, y), s'y > 0, of each problem marked `taken`."""
        m = self.R.shape[1]
        rows = taken.nonzero()[:, 0]
        slot = self.pushed[rows] % m
        self.SY[rows, slot] = torch.stack([s[rows], y[rows]], 1)
        self.pushed[rows] += 1
        k = int(self.pushed.max().clamp(max=m))
        if k == 0:
            return -g
        SY = self.SY[:, :k].flatten(1, 2)  # (P, 2k, n), a view
        # y and g as rows: as columns of (P, n, 2) the product took five times as long
        products = (SY @ torch.stack([y, g], 1).mT).double().unflatten(1, (k, 2))  # (P, k, 2, 2)
        Sy, Yy, Sg, Yg = (products[:, :, i, j] for j in (0, 1) for i in (0, 1))
        self.R[rows, slot] = 0
        self.R[rows, :k, slot] = Sy[rows]
        self.YY[rows, slot, :k] = self.YY[rows, :k, slot] = Yy[rows]
        self.c[rows] = Sy[rows, slot] / Yy[rows, slot]
        R, YY, c = self.R[:, :k, :k], self.YY[:, :k, :k], self.c[:, None]

        # from slots to the order of time, oldest first: only full rings are out of order
        in_time = in_slots = lambda v: v
        R_time = R
        if (self.pushed > m).any():
            start = torch.where(self.pushed > m, self.pushed, 0)[:, None]
            order = (start + torch.arange(k, device=g.device)) % k  # (P, k)
            in_time = lambda v: v.gather(1, order)  # noqa: E731
            in_slots = lambda v: torch.empty_like(v).scatter(1, order, v)  # noqa: E731
            rows_in_time = R.gather(1, order[:, :, None].expand_as(R))
            R_time = rows_in_time.gather(2, order[:, None, :].expand_as(R))
        D = R.diagonal(dim1=1, dim2=2)
        empty = (R_time.diagonal(dim1=1, dim2=2) == 0).double()
        R_time = R_time + torch.diag_embed(empty)

        # u = R^-1 S'g
        u = in_slots(_solve(R_time, in_time(Sg), upper=True))
        # w = R^-T ((D + c Y'Y) u - c Y'g)
        b = D * u + c * ((YY @ u[:, :, None])[:, :, 0] - Yg)
        w = in_slots(_solve(R_time.mT, in_time(b), upper=False))
        # H g = c g + S w - c Y u
        weights = torch.stack([w, -c * u], -1).flatten(1).to(g.dtype)  # (P, 2k)
        return -(c.to(g.dtype) * g + (weights[:, None] @ SY)[:, 0])


def _solve(triangle: Tensor, b: Tensor, upper: bool) -> Tensor:
    return torch.linalg.solve_triangular(triangle, b[:, :, None], upper=upper)[:, :, 0]
