"""Chapter 1: federated learning."""

from __future__ import annotations

from functools import cache

from ... import data, federated, models
from .. import plots
from ..plots import Picture

EPOCHS = (1, 2, 5)
CONCENTRATIONS = ("even", "1", "0.1")


def local_epochs(clients_see: str = "even", epochs: int = 2) -> Picture:
    """Test accuracy round by round of ten clients that each make `epochs` passes a round."""
    curve = _federation(clients_see, epochs)
    few = "the same mixture" if clients_see == "even" else f"Dirichlet({clients_see}) shares"
    return plots.lines(
        range(1, len(curve) + 1),
        {"accuracy": curve},
        xlabel="round",
        ylabel="accuracy on unseen digits",
        ylim=(0, 1),
        caption=f"Ten clients that see {few} of the classes; each passes {epochs}x over its images "
        f"in a round: {curve[-1]:.0%} after {len(curve)} rounds.",
    )


@cache
def _federation(clients_see: str, epochs: int) -> list[float]:
    images, numbers = data.load("digits", size=14)
    alpha = None if clients_see == "even" else float(clients_see)
    clients = federated.split(images[:1400], numbers[:1400], 10, alpha=alpha)
    test = federated.Client(images[1400:], numbers[1400:])
    model = models.mlp(size=14, hidden=(32,), activation="relu")
    return federated.train(model, clients, rounds=8, test=test, epochs=epochs, lr=0.1)
