"""Networks that are a chain of layers: what a layer is, fast gradients, and the recursion."""

from . import gradients, recursion
from .layers import LAYERS, Activation, Layer

__all__ = ["LAYERS", "Activation", "Layer", "gradients", "recursion"]
