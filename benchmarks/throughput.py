"""Seconds per recovered digit: the papers' one-image loop against all images at once.

    python benchmarks/throughput.py [images]

Both run iDLG from the same grey start on the same networks, stop at the same objective, and count
a digit as recovered below the same mean squared error.  The loop is plain autograd with
torch.optim.LBFGS, as published; it gets an eighth of the images, for it is slow.
"""

import platform
import sys
import time

import torch

from leaklib import attacks, client, data, labels, metrics, models, solvers

STOP, RECOVERED = 1e-6, 1e-3
CALLS = 100  # of torch.optim.LBFGS.step, 20 iterations each


def plain_loop(model: torch.nn.Module, leak: client.Leak, shape: tuple[int, ...]) -> torch.Tensor:
    """iDLG as its authors' script runs it, from a grey start."""
    W, G, y = list(model.parameters()), list(leak.direction.values()), labels.idlg(leak)
    x = torch.full(shape, 0.5, requires_grad=True)
    solver = torch.optim.LBFGS([x])

    def closure() -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        g = torch.autograd.grad(loss, W, create_graph=True)
        distance = sum((a - b).square().sum() for a, b in zip(g, G, strict=True))
        (x.grad,) = torch.autograd.grad(distance, x)
        return distance

    for _ in range(CALLS):
        if solver.step(closure) < STOP:
            break
    return x.detach()


def stopping(objective: solvers.Objective, z: torch.Tensor, **settings: object) -> solvers.Solution:
    """The safeguarded solver with the loop's stopping rule."""
    return solvers.lbfgs(objective, z, **{**settings, "tolerance": STOP})


def report(name: str, images: torch.Tensor, truth: torch.Tensor, seconds: float) -> float:
    """Print one line; returns the seconds per recovered image."""
    share = metrics.success_rate(images, truth, RECOVERED)
    each = seconds / (share * len(truth)) if share else float("inf")
    print(f"{name:22} {len(truth):4} images  {share:4.0%} recovered  {each:7.3f} s each")
    return each


def main(count: int = 64) -> None:
    images, numbers = data.load("digits", count)
    nets = [models.lenet(1, 28, seed=i) for i in range(count)]
    leaks = [
        client.share_gradient(net, images[i : i + 1], numbers[i : i + 1])
        for i, net in enumerate(nets)
    ]
    shape = (1, *images.shape[1:])
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")

    few = max(count // 8, 1)
    start = time.perf_counter()
    plain = [plain_loop(nets[i], leaks[i], shape) for i in range(few)]
    loop = report(
        "one image at a time", torch.cat(plain), images[:few], time.perf_counter() - start
    )

    start = time.perf_counter()
    out = attacks.idlg(nets[0], client.stack(leaks), shape, solver=stopping, progress=True)
    batch = report("all at once", out.images, images, time.perf_counter() - start)
    print(f"ratio {loop / batch:.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
