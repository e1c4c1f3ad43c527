"""Figures: everything that people look at.

Maps, answers drawn over patterns, posteriors, the course of a search, the report, the explorer.
Draws what other wings computed and decides nothing; only `cli` stands above it.
"""

from pyxem_nas.figures.explorer import explore
from pyxem_nas.figures.overlay import Overlay, plot_overlay
from pyxem_nas.figures.plotting import plot_map
from pyxem_nas.figures.posterior_figure import plot_posterior
from pyxem_nas.figures.report import write_report
from pyxem_nas.figures.search_figure import plot_search

__all__ = [
    "Overlay",
    "explore",
    "plot_map",
    "plot_overlay",
    "plot_posterior",
    "plot_search",
    "write_report",
]
