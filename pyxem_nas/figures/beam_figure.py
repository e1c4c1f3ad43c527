"""The direct beam over the scan: a map of the centre.

Owns the figure that the report shows where the beam was sought, or the calibration corrected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.figures.map_canvas import Canvas, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from orix.crystal_map import CrystalMap

__all__ = ["describe_beam", "plot_beam"]


def plot_beam(xmap: CrystalMap) -> Figure:
    """Return a figure of the beam's column and row over the scan, and where it was seen."""
    import matplotlib.pyplot as plt

    canvas = Canvas(xmap)
    panels = [("beam_column", "Column"), ("beam_row", "Row")]
    if "beam_seen" in xmap.prop:
        panels.append(("beam_seen", "Seen in the pattern (1) or taken from neighbours (0)"))
    with drawing():
        figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 2.6),
                                    layout="constrained", squeeze=False)  # fmt: skip
        for ax, (name, title) in zip(axes.flat, panels, strict=True):
            values = canvas.image(np.asarray(xmap.prop[name], float), np.nan)
            limits = {"vmin": 0, "vmax": 1} if name == "beam_seen" else {}
            image = ax.imshow(values, extent=canvas.extent, aspect="auto", **limits)
            ax.set_title(title)
            figure.colorbar(image, ax=ax, label="" if limits else "pixels")
    return figure


def describe_beam(xmap: CrystalMap) -> str:
    """Return where the beam is, how far it wanders, and the distortion that was found."""
    column, row = (np.asarray(xmap.prop[name], float) for name in ("beam_column", "beam_row"))
    text = (
        f"Median ({np.median(column):.2f}, {np.median(row):.2f}) pixels (column, row); the middle "
        f"98 % lie within {np.ptp(np.percentile(column, [1, 99])):.1f} by "
        f"{np.ptp(np.percentile(row, [1, 99])):.1f} pixels."
    )
    if "beam_seen" in xmap.prop:
        text += f" Seen in {100 * np.mean(xmap.prop['beam_seen']):.0f} % of the patterns."
    if "beam_probability" in xmap.prop:
        sure = float(xmap.prop["beam_probability"][0])
        text += f" That this place is the beam, among all spots, has a probability of {sure:.3f}."
    if "distortion" in xmap.prop:
        long, short = np.linalg.svd(xmap.prop["distortion"][0].reshape(2, 2), compute_uv=False)
        text += (
            f" Indexed with patterns {100 * (np.sqrt(long * short) - 1):+.2f} % larger than the "
            f"calibration says and elliptical by {100 * (long / short - 1):.2f} % "
            '(calibrate="auto").'
        )
    return text
