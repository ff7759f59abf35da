"""What the book's pages need and researchers do not: plots, widgets, scenes, checks, results."""

from . import checks, plots, results, scenes, widgets
from ._setup import setup

__all__ = ["checks", "plots", "results", "scenes", "setup", "widgets"]
