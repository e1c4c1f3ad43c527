"""Draw the pictures of the gallery (docs/gallery.md) from a simulated scan.

    uv run python docs/make_pictures.py

Some minutes. Pictures of the explorer and the report: ``docs/make_screenshots.py``.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
FOLDER = Path(__file__).parent / "pictures"
SHAPE, SEED, N_GRAINS = (36, 44), 5, 16
POSITION = (22, 6)  # column, row: inside a grain of cementite


def main() -> None:
    """Index the scan and draw."""
    import matplotlib

    matplotlib.use("agg")
    import pyxem_nas

    bundle = pyxem_nas.ModelBundle.load("steel")
    s, _ = pyxem_nas.simulate_scan(
        bundle.phase_list, SHAPE, bundle.acquisition, seed=SEED, n_grains=N_GRAINS
    )
    xmap = s.index_phase_orientation(bundle, n_best=3)
    overlay = pyxem_nas.plot_overlay(s, xmap, bundle, position=POSITION)
    overlay.figure.savefig(FOLDER / "overlay.png", dpi=100)
    figures = {
        "map": pyxem_nas.plot_map(xmap, directions=("x", "y", "z"), boundary_angle=5),
        "posterior": pyxem_nas.plot_posterior(s, bundle, position=POSITION),
        "search": pyxem_nas.plot_search(bundle),
    }
    for name, figure in figures.items():
        figure.savefig(FOLDER / f"{name}.png", dpi=100)


if __name__ == "__main__":
    main()
