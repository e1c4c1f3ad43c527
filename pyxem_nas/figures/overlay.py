"""The answer over the pattern: simulated spots on HyperSpy's navigated plot.

Owns :func:`plot_overlay` and the keys and clicks of its figure. Spots come from
:mod:`pyxem_nas.figures.solutions`, their marks from :mod:`pyxem_nas.figures.spots`, colours from
:mod:`pyxem_nas.figures.map_colors`; HyperSpy draws patterns and navigator.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition
from pyxem_nas.figures.map_colors import colors_by_phase, ipf_colors, phase_rgb
from pyxem_nas.figures.solutions import SolutionViewer, make_viewer
from pyxem_nas.figures.spots import SpotMarks, Spots

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal
    from matplotlib.figure import Figure
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

__all__ = ["Overlay", "plot_overlay"]

_KEYS = "click: go there   n, b: next, previous solution   t: 180° twin   i: hkl   d: spots"


def plot_overlay(
    s: ElectronDiffraction2D,
    xmap: CrystalMap,
    bundle: ModelBundle | Path | str,
    *,
    solution: int = 1,
    position: tuple[int, ...] | None = None,
    navigator: Literal["ipf", "phase"] = "ipf",
    acquisition: Acquisition | None = None,
    center: Any = None,
    detector_flip: Literal["x", "y"] | None = None,
    distortion: np.ndarray | None = None,
    scan_rotation: float = 0.0,
    max_excitation_error: float = 0.01,
    n_labels: int = 16,
    gamma: float = 0.4,
) -> Overlay:
    """Show the simulated spots of a map's answers over the patterns, position by position.

    Opens HyperSpy's plot with the map as its navigator. Click a position of the map, drag the
    pointer or press ctrl and an arrow key; the pattern there appears with the spots of the returned
    orientation. Keys: "n" and "b" go to the next and the previous of the n best solutions, "t"
    turns the answer into its 180-degree twin and back, "i" hides and shows the indices, "d" the
    spots.

    Parameters
    ----------
    s
        The scan, eager or lazy.
    xmap
        Its map, as `index_phase_orientation` returned it.
    bundle
        The bundle that the map was made with, its path, or its name.
    solution
        Which of the n best orientations is shown first; 1 is the best.
    position
        Position (column, row) shown first; None: where the signal's navigator is.
    navigator
        Colours of the navigator: "ipf", the crystal direction out of the map, or "phase". A line
        scan shows the correlation.
    acquisition, center, detector_flip, distortion, scan_rotation
        The same as were given to `index_phase_orientation`. With ``center="auto"`` the beam is
        looked for in each pattern shown.
    max_excitation_error
        Reflections farther from the Ewald sphere are not drawn, 1/angstrom.
    n_labels
        Number of hkl labels, at most.
    gamma
        Exponent of the grey scale; smaller shows weaker spots.

    Returns
    -------
    overlay
        Handle with `figure`, `spots`, `move_to` and `show`. Needs neither widgets nor a display:
        without an interactive backend call its methods and look at the figure.

    Raises
    ------
    ValueError
        If the map does not fit the scan or the bundle, or the signal is not calibrated.

    See Also
    --------
    plot_posterior, plot_map

    Examples
    --------
    >>> overlay = plot_overlay(s, xmap, "steel", position=(12, 30))  # doctest: +SKIP
    >>> overlay.show(solution=2).figure.savefig("second.png")  # doctest: +SKIP
    """
    viewer = make_viewer(
        s,
        xmap,
        bundle,
        acquisition=acquisition,
        center=center,
        detector_flip=detector_flip,
        distortion=distortion,
        scan_rotation=scan_rotation,
        max_excitation_error=max_excitation_error,
    )
    if not 1 <= solution <= viewer.n_solutions:
        raise ValueError(
            f"solution must be 1 to {viewer.n_solutions}, the number of orientations per position "
            f"in the map, got {solution!r}; index with a larger n_best for more"
        )
    if position is not None:
        s.axes_manager.indices = tuple(int(i) for i in position)
    return Overlay(viewer, solution, navigator, n_labels, gamma)


class Overlay:
    """A figure with navigator, pattern and spots, alive while it is open.

    Made by `plot_overlay`.

    Attributes
    ----------
    figure
        Figure of pyplot.
    spots
        Spots now drawn, in detector pixels; empty where the position is not indexed.
    solution, twin
        What is shown.
    """

    figure: Figure
    spots: Spots
    solution: int
    twin: bool

    def __init__(
        self, viewer: SolutionViewer, solution: int, navigator: str, n_labels: int, gamma: float
    ) -> None:
        self._viewer = viewer
        self.solution, self.twin = solution, False
        self._shows_labels = self._shows_spots = True
        self.spots = Spots()
        self._colors = {
            viewer.xmap.phases[i].name: color for i, color in colors_by_phase(viewer.xmap).items()
        }
        self.figure = self._draw(navigator, gamma)
        plot = self._plot.signal_plot
        animated = plot.figure.canvas.supports_blit
        axes = viewer.signal.axes_manager.signal_axes
        extent = (*(a.offset for a in axes), *(a.scale for a in axes))
        self._marks = SpotMarks(plot.ax, extent=extent, n_labels=n_labels, animated=animated)
        self._text = plot.ax.text(
            1, 1.015, "", transform=plot.ax.transAxes, ha="right", va="bottom", fontsize=8,
            animated=animated,
        )  # fmt: skip
        self._connect()
        self.figure.canvas.draw()  # labels look for room: they need the layout
        self._update()

    def __repr__(self) -> str:
        return f"Overlay at {self.position}: {len(self.spots)} spots. {_KEYS}"

    @property
    def position(self) -> tuple[int, ...]:
        """Position (column, row) of the scan that is shown."""
        return self._viewer.signal.axes_manager.indices

    def move_to(self, *position: int) -> Overlay:
        """Go to a position (column, row) of the scan."""
        self._viewer.signal.axes_manager.indices = tuple(int(i) for i in position)
        return self

    def show(self, solution: int | None = None, *, twin: bool = False) -> Overlay:
        """Show one of the n best solutions, 1 is the best, or its 180-degree twin.

        Raises
        ------
        ValueError
            If the map has no such solution.
        """
        solution = self.solution if solution is None else solution
        n = self._viewer.n_solutions
        if not 1 <= solution <= n:
            raise ValueError(f"solution must be 1 to {n}, got {solution!r}")
        self.solution, self.twin = solution, twin
        self._update()
        return self

    @property
    def _plot(self) -> Any:
        return self._viewer.signal._plot

    def _draw(self, navigator: str, gamma: float) -> Figure:
        """Draw HyperSpy's plot in one figure of two parts."""
        import matplotlib.pyplot as plt

        s = self._viewer.signal
        picture = _make_navigator(self._viewer, navigator)
        _close_plot(s)
        options = {"norm": "power", "gamma": gamma, "cmap": "gray_r", "vmin": "20th",
                   "colorbar": False, "scalebar_color": "black"}  # fmt: skip
        if not s.axes_manager.navigation_shape:
            figure = plt.figure(figsize=(5.6, 5.9), layout="constrained")
            s.plot(fig=figure.subfigures(1, 1), **options)
        else:
            figure = plt.figure(figsize=(11.2, 5.9), layout="constrained")
            left, right = figure.subfigures(1, 2)
            s.plot(
                navigator=picture,
                fig=right,
                navigator_kwds={"fig": left, "scalebar_color": "black"},
                **options,
            )
            ax = self._plot.navigator_plot.ax
            ax.set_title({"ipf": "IPF-Z (out of the map)", "phase": "Phase"}[navigator]
                         if len(s.axes_manager.navigation_shape) > 1 else "")  # fmt: skip
            if len(s.axes_manager.navigation_shape) == 1:
                ax.set_ylabel("Correlation")
            self._plot.pointer.color = "magenta"
        self._plot.signal_plot.ax.set_title("")
        figure.supxlabel(_KEYS, fontsize=8, color="0.35")
        return figure

    def _connect(self) -> None:
        """Listen to HyperSpy's navigation, to keys and to clicks, until the figure is closed."""
        s, canvas = self._viewer.signal, self.figure.canvas
        events = s.axes_manager.events.indices_changed
        events.connect(self._update, [])
        canvas.mpl_connect("key_press_event", self._on_key)
        canvas.mpl_connect("button_press_event", self._on_click)
        closed = self._plot.signal_plot.events.closed
        closed.connect(lambda: events.disconnect(self._update), [])

    def _update(self) -> None:
        """Draw the spots at the present position."""
        viewer, position = self._viewer, self.position
        self.spots, center = viewer.spots(position, solution=self.solution, twin=self.twin)
        name = viewer.phase_name(viewer.row(position))
        if self._shows_spots and name is not None:
            color = self._colors[name]
            self._marks.show(self.spots, center, color, labels=self._shows_labels)
        else:
            self._marks.hide()
        self._text.set_text(viewer.describe(position, self.solution, self.twin))
        if self._plot.signal_plot is not None:
            self._plot.signal_plot.render_figure()

    def _on_key(self, event: Any) -> None:
        n = self._viewer.n_solutions
        if event.key in ("n", "b"):
            step = 1 if event.key == "n" else -1
            self.show((self.solution - 1 + step) % n + 1, twin=self.twin)
        elif event.key == "t":
            self.show(twin=not self.twin)
        elif event.key in ("i", "d"):
            name = "_shows_labels" if event.key == "i" else "_shows_spots"
            setattr(self, name, not getattr(self, name))
            self._update()

    def _on_click(self, event: Any) -> None:
        plot = self._plot.navigator_plot
        busy = getattr(getattr(self.figure.canvas, "toolbar", None), "mode", "")
        if plot is None or event.inaxes is not plot.ax or event.button != 1 or busy:
            return
        axes = self._viewer.signal.axes_manager.navigation_axes
        values = (event.xdata, event.ydata)[: len(axes)]
        self.move_to(
            *(
                int(np.clip(round((value - axis.offset) / axis.scale), 0, axis.size - 1))
                for axis, value in zip(axes, values, strict=True)
            )
        )


def _close_plot(s: ElectronDiffraction2D) -> None:
    """Close the plot that a signal has, as plotting it again would, but no other figure."""
    import matplotlib.pyplot as plt

    plot = s._plot
    if plot is None or not plot.is_active:
        return
    parts = [p for p in (plot.signal_plot, plot.navigator_plot) if p is not None and p.figure]
    figures = [p.get_mpl_figure() for p in parts]
    with plt.ioff():
        # HyperSpy 2.4 forgets its figure before closing it, and so closes the current one,
        # whichever that is: give it figures to close
        spare = [plt.figure() for _ in parts]
        plot.close()
    for figure in (*spare, *figures):
        plt.close(figure)


def _make_navigator(viewer: SolutionViewer, kind: str) -> BaseSignal | None:
    """Return the map as a picture for HyperSpy, the correlation along a line scan, else None."""
    import hyperspy.api as hs

    xmap = viewer.xmap
    shape = viewer.signal.axes_manager._navigation_shape_in_array
    if kind not in ("ipf", "phase"):
        raise ValueError(f'navigator must be "ipf" or "phase", got {kind!r}')
    rows = viewer.rows
    if not shape:
        return None
    if len(shape) == 1:
        values = np.asarray(xmap.prop.get("correlation", xmap.is_indexed), float)
        return hs.signals.Signal1D(np.where(rows < 0, 0.0, np.nan_to_num(values)[rows]))
    colors = ipf_colors(xmap, (0, 0, 1)) if kind == "ipf" else phase_rgb(xmap)
    colors = np.where((rows < 0)[:, np.newaxis], 1.0, colors[rows]).reshape(*shape, 3)
    picture = hs.signals.Signal1D((255 * colors).astype(np.uint8))
    picture.change_dtype("rgb8")
    return picture
