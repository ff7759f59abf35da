"""Saved results of what takes longer than a page may: written by experiments, read by pages.

A result is a JSON file NAME.json:

    provenance  how it was made: command, date, seed, versions, machine, and the data of each set
    settings    what a run must share to be part of it: images, steps, the names of the arms, …
    sets        {set: {arm: {column: [one entry for each image, in order]}}}

The arms of a set saw the same images, networks and starts, so their columns are paired.
"""

from .figure import figure
from .file import FOLDERS, Columns, Result, as_saved, fingerprint, load, provenance, save
from .statistics import (
    McNemar,
    Mean,
    Share,
    compared,
    finished,
    mcnemar,
    mean,
    recovered,
    shares,
    wilson,
)  # fmt: skip
from .table import Table, plan_table

__all__ = [
    "FOLDERS",
    "Columns",
    "Result",
    "load",
    "save",
    "as_saved",
    "provenance",
    "fingerprint",
    "Share",
    "Mean",
    "finished",
    "recovered",
    "shares",
    "mean",
    "wilson",
    "mcnemar",
    "McNemar",
    "compared",
    "Table",
    "plan_table",
    "figure",
]
