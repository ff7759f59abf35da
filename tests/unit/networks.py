"""Networks as people really have them: {name: (make, shape of one image)}, small and untrained."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torchvision import models as vision
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.vgg import make_layers

SMALL = (1, 1, 6, 6)
COLOUR = (1, 3, 32, 32)


def vgg():
    net = vision.VGG(make_layers([4, "M", 8, "M"], batch_norm=True), num_classes=10)
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(2), nn.Sequential(nn.Linear(32, 10))
    return net


def swin():
    return vision.SwinTransformer([2, 2], 8, [1, 1], [1, 2], [2, 2], num_classes=10)


def convnext():
    return vision.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=10)


def efficientnet():
    blocks = [MBConvConfig(1, 3, 1, 16, 8, 1, 0.25, 1), MBConvConfig(4, 3, 2, 8, 8, 1, 0.25, 1)]
    return vision.EfficientNet(blocks, dropout=0.2, num_classes=10, last_channel=32)


def of(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


def tied():
    net = of(nn.Linear(36, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 10))
    net[5].weight = net[3].weight
    return net


def shared():
    middle = nn.Linear(12, 12)
    return of(nn.Linear(36, 12), nn.Tanh(), middle, nn.Tanh(), middle, nn.Tanh(), nn.Linear(12, 10))


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(14, 10), nn.Linear(36, 14)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x.flatten(1))))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rows, self.head = kind(6, 12, batch_first=True), nn.Linear(12, 10)

    def forward(self, x):
        return self.head(self.rows(x[:, 0])[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.layer(self.embed(x[:, 0])).mean(1))


class LowRank(nn.Module):
    """A frozen linear layer and what is learned beside it: W + B A."""

    def __init__(self, n_in, n_out, rank=2):
        super().__init__()
        self.frozen = nn.Linear(n_in, n_out).requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, n_in) / 6)
        self.B = nn.Parameter(torch.randn(n_out, rank))

    def forward(self, x):
        return self.frozen(x) + x @ self.A.T @ self.B.T


def one_by_one_head():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Conv2d(8, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def bias_only():
    net = of(nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 10))
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return net


class Symmetric(nn.Module):
    def forward(self, W):
        return W + W.mT


def parametrized():
    net = of(nn.Linear(36, 10), nn.Tanh(), nn.Linear(10, 10))
    parametrize.register_parametrization(net[3], "weight", Symmetric())
    return net


class Custom(nn.Module):
    """Parameters without layers, one of them a lone number, and a row of zeros that is no class."""

    def __init__(self):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(36, 10) / 6), nn.Parameter(torch.zeros(10))
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.scale * torch.tanh(x.flatten(1)) @ self.W + self.b


class Averaging(nn.Module):
    """Keeps a moving average of what it sees, in any mode, and does not use it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36, 10)
        self.register_buffer("seen", torch.zeros(36))

    def forward(self, x):
        x = x.flatten(1)
        self.seen.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return self.head(torch.sigmoid(x))


def instance_norm():
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(64, 10))


NETWORKS = {
    "ResNet": (lambda: vision.resnet18(num_classes=10).eval(), COLOUR),
    "VGG": (lambda: vgg().eval(), COLOUR),
    "MobileNet": (lambda: vision.mobilenet_v2(width_mult=0.1, num_classes=10).eval(), COLOUR),
    "DenseNet": (lambda: vision.DenseNet(4, (1, 1), 8, num_classes=10).eval(), COLOUR),
    "SqueezeNet": (lambda: vision.squeezenet1_1(num_classes=10).eval(), COLOUR),
    "ShuffleNet": (lambda: vision.shufflenet_v2_x0_5(num_classes=10).eval(), COLOUR),
    "ViT": (lambda: vision.VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=10).eval(),
            (1, 3, 16, 16)),
    "Swin": (lambda: swin().eval(), (1, 3, 16, 16)),
    "ConvNeXt": (lambda: convnext().eval(), COLOUR),
    "EfficientNet": (lambda: efficientnet().eval(), COLOUR),
    "tied": (tied, SMALL),
    "shared": (shared, SMALL),
    "head first": (HeadFirst, SMALL),
    "GRU": (lambda: Recurrent(nn.GRU), SMALL),
    "LSTM": (lambda: Recurrent(nn.LSTM), SMALL),
    "attention": (lambda: Attention().eval(), SMALL),
    "LoRA-like": (lambda: of(LowRank(36, 12), nn.Tanh(), LowRank(12, 10)), SMALL),
    "weight norm": (lambda: of(nn.Linear(36, 8), nn.Tanh(),
                               parametrizations.weight_norm(nn.Linear(8, 10))), SMALL),
    "old weight norm": (lambda: of(nn.Linear(36, 8), nn.Tanh(),
                                   nn.utils.weight_norm(nn.Linear(8, 10))), SMALL),
    "spectral norm": (lambda: of(parametrizations.spectral_norm(nn.Linear(36, 8)), nn.Tanh(),
                                 nn.Linear(8, 10)), SMALL),
    "old spectral norm": (lambda: of(nn.utils.spectral_norm(nn.Linear(36, 8)), nn.Tanh(),
                                     nn.Linear(8, 10)), SMALL),
    "1x1 head": (one_by_one_head, SMALL),
    "bias only": (bias_only, SMALL),
    "parametrized": (parametrized, SMALL),
    "no layers": (Custom, SMALL),
    "moving average": (Averaging, SMALL),
    "instance norm": (instance_norm, SMALL),
    "no bias": (lambda: of(nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 10, bias=False)), SMALL),
    "data parallel": (lambda: nn.DataParallel(of(nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 10))),
                      SMALL),
}  # fmt: skip


def made(name, seed=0):
    """(the network, one image, its label): always the same ones."""
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(), torch.rand(shape), torch.randint(10, (1,))
