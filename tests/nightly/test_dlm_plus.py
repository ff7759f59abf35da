"""DLM+ at the size of its claim: fifty photographs, five networks, two learning rates."""

import pytest
import torch

from leaklib import attacks, client, data, metrics, models
from leaklib.leak import stack

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("lr", [1e-2, 1e-1])
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_dlm_plus_recovers_nearly_all_photographs(seed, lr):
    """Labels and learning rate unknown, default start and solver."""
    images, labels = data.load("photos", 50, seed=0)
    model = models.lenet(classes=8, seed=seed)
    leaks = stack(
        client.share_weights(model, images[i : i + 1], labels[i : i + 1], lr=lr) for i in range(50)
    )
    out = attacks.dlm_plus(models.lenet(classes=8), leaks, (1, 3, 32, 32))
    assert torch.equal(out.labels[:, 0], labels)
    assert (metrics.psnr(out.images[:, 0], images) >= 30).float().mean() >= 0.95
