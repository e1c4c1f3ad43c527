"""The explorer live in Jupyter: the same view, patterns read from the scan when they are clicked.

Owns :func:`explore` and the messages between page and scan. anywidget carries them; it is optional.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition
from pyxem_nas.figures.explorer.container import pack
from pyxem_nas.figures.explorer.content import collect
from pyxem_nas.figures.explorer.page import join_modules, read_web
from pyxem_nas.figures.explorer.patterns import PatternReader
from pyxem_nas.figures.solutions import make_viewer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orix.crystal_map import CrystalMap, PhaseList
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["explore"]


def explore(
    xmap: CrystalMap,
    s: ElectronDiffraction2D | None = None,
    bundle: ModelBundle | PhaseList | Path | str | Sequence[Path | str] | None = None,
    *,
    acquisition: Acquisition | None = None,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: Literal["x", "y"] | None = None,
    distortion: np.ndarray | None = None,
    scan_rotation: float = 0.0,
) -> Any:
    """Explore a map in Jupyter: click a position to see its pattern and the spots of its answer.

    The view is that of the file that `write_report` writes; patterns are read from the scan when
    they are clicked, whole and one at a time, so that lazy scans stay on disk.

    Parameters
    ----------
    xmap
        Map, as `index_phase_orientation` returned it.
    s
        The scan, eager or lazy; None: the map alone.
    bundle
        What the map was made with, as it was given to `index_phase_orientation`: a bundle, its
        path or name, phases or their CIF files; needed with `s`.
    acquisition, center, mask, detector_flip, distortion, scan_rotation
        The same as were given to `index_phase_orientation`. With ``center="auto"`` the beam is
        looked for in each pattern shown.

    Returns
    -------
    widget
        An anywidget of Jupyter, JupyterLab, VS Code, Colab or marimo; show it as a cell's result.

    Raises
    ------
    ImportError
        If anywidget is not installed: ``pip install 'pyxem-nas[notebook]'``.
    ValueError
        If map, scan and bundle do not belong together, or a scan comes without a bundle.

    See Also
    --------
    write_report, plot_overlay

    Examples
    --------
    >>> explore(xmap, s, "steel")  # doctest: +SKIP
    """
    if s is not None and bundle is None:
        raise ValueError("patterns need the bundle that the map was made with; pass bundle=")
    viewer = None
    if s is not None:
        viewer = make_viewer(
            s, xmap, bundle, acquisition=acquisition, center=center, mask=mask,
            detector_flip=detector_flip, distortion=distortion, scan_rotation=scan_rotation,
        )  # fmt: skip
    reader = None if viewer is None else PatternReader(viewer)
    return _make_widget(pack(*collect(xmap, viewer)), reader)


def _make_widget(container: bytes, reader: PatternReader | None) -> Any:
    """Return the widget of a container; `reader` answers the page's requests for patterns."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError(
            "explore() needs anywidget, which is not installed: pip install 'pyxem-nas[notebook]'; "
            "write_report() gives the same view as a file"
        ) from error

    class ExplorerWidget(anywidget.AnyWidget):
        _esm = join_modules("widget.js") + "\nexport default { render };\n"
        _css = read_web("explorer.css")
        container = traitlets.Bytes().tag(sync=True)

        def answer(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
            """Send the pattern of the position that the page asks for."""
            reply, data = answer_request(reader, content)
            self.send(reply, data)

    widget = ExplorerWidget(container=container)
    widget.on_msg(widget.answer)
    return widget


def answer_request(
    reader: PatternReader | None, content: dict[str, Any]
) -> tuple[dict[str, Any], list[bytes]]:
    """Return the message, and its bytes, that answer a request ``{"position": i}`` of the page."""
    position = int(content["position"])
    try:
        if reader is None:
            raise ValueError("the explorer was opened without a scan")
        pattern, levels = reader.read(position)
    except Exception as error:  # the page says it where the pattern would be
        return {"position": position, "error": f"{type(error).__name__}: {error}"}, []
    return {"position": position, "pattern": pattern}, [levels.tobytes()]
