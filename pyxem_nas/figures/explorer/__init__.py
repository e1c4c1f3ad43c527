"""The explorer: a map that a colleague can click, in one HTML file or live in Jupyter.

Python gathers and rounds what is shown (`content`, `crystals`, `patterns`, `container`); ``web``
holds one template, one style and plain JavaScript modules, which `page` joins into a file and
`widget` gives to Jupyter. Both show the same view.
"""

from pyxem_nas.figures.explorer.page import embed_explorer
from pyxem_nas.figures.explorer.widget import explore

__all__ = ["embed_explorer", "explore"]
