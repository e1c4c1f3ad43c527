"""Whether exact pruning can pay in exhaustive matching: how many templates a bound leaves out.

    python benchmarks/match_bound.py

The other design of an exact search: products of the harmonics with most power first, then every
template is left out whose correlation so far, at its best angle, and the greatest that the rest can
add (Cauchy-Schwarz: the power left in the pattern times that left in the template) stay below the
twelfth candidate. That candidate is taken as known before the search, better than any real search
could have it. Bloch-wave patterns of three cameras. Prints a Markdown report and writes it to
``benchmarks/results``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from bloch import DATA, draw_images, load_bloch
from cameras import get_cameras
from report import _table, describe_run

from pyxem_nas import Acquisition, example_phases
from pyxem_nas.indexing import match_library, matching, template_drawing
from pyxem_nas.indexing import matching_kernel as kernel
from pyxem_nas.patterns import DescriptorSpec, Detector, compute_descriptors, make_sampler

SPEC = DescriptorSpec()
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the multiplications


def unpack(library) -> list[np.ndarray]:
    """Return each harmonic's complex coefficients, shape (n_templates, rank)."""
    tiles = library.coefficients.reshape(len(library.coefficients), -1, 2, kernel.TILE)
    whole = (tiles[:, :, 0] + 1j * tiles[:, :, 1]).transpose(0, 2, 1)
    whole = whole.reshape(-1, whole.shape[2])[: library.n_templates]
    ends = np.cumsum(library.ranks)
    return [whole[:, end - rank : end] for end, rank in zip(ends, library.ranks, strict=True)]


def measure(name: str, options: argparse.Namespace) -> list[str]:
    """Return the row of one phase: share of templates that can be left out, after each share."""
    phase = example_phases("steel")[name]
    library = match_library.get_match_library(phase, Acquisition(200.0, 0.7), SPEC)
    templates = unpack(library)
    harmonics = template_drawing.order_harmonics(library.n_harmonics)
    power = np.array([np.square(np.abs(t)).sum() for t in templates]) / library.ranks
    order = np.argsort(-power)
    done = np.cumsum(library.ranks[order]) / library.ranks.sum()
    turns = 2 * np.pi * (np.arange(library.n_angles) + 0.5) / library.n_angles  # as `match`
    waves = np.exp(1j * np.outer(harmonics, turns)).astype(np.complex64)
    left_out = np.zeros(len(order))
    cameras = get_cameras(["bright", "linear", "dim"])
    for camera in cameras:
        images = draw_images(load_bloch(name, options.n, folder=options.data), camera, 0)
        sampler = make_sampler(Detector((144, 144), (camera.scale,) * 2), SPEC)
        (descriptors,) = compute_descriptors(images.data, images.centers, sampler)
        spectra = matching.transform(descriptors, SPEC, n_harmonics=library.n_harmonics)
        scores = matching.match_spectra(spectra, library)[1]
        for spectrum, found in zip(spectra, scores, strict=True):
            pattern = spectrum[:, 0] + 1j * spectrum[:, 1]
            parts = [
                pattern[h] @ library.bases[h, :, :rank] for h, rank in enumerate(library.ranks)
            ]
            left_p = np.array([np.square(np.abs(part)).sum() for part in parts])
            left_t = np.stack([np.square(np.abs(t)).sum(axis=1) for t in templates])
            sums = np.zeros((2, library.n_templates, library.n_angles), np.float32)
            for k, h in enumerate(order):
                products = templates[h].conj() @ parts[h], templates[h] @ parts[h]
                for total, product in zip(sums, products, strict=True):
                    total += (product[:, None] * waves[h]).real
                left_p[h] = left_t[h] = 0
                bound = sums.max(axis=2) + np.sqrt(left_p.sum() * left_t.sum(axis=0))
                left_out[k] += np.mean(bound < found[-1]) / (options.n * len(cameras))
            np.testing.assert_allclose(sums.max(), found[0], rtol=1e-3)
    shares = [100 * left_out[np.searchsorted(done, share)] for share in SHARES]
    saved = 100 * np.sum(left_out[:-1] * np.diff(done))
    return [name, str(library.n_templates), *(f"{share:.1f}" for share in shares), f"{saved:.0f}"]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=32, help="patterns a camera")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the Bloch-wave files")
    options = parser.parse_args()
    head = ["phase", "templates", *(f"after {100 * share:.0f} %" for share in SHARES)]
    rows = [measure(name, options) for name in ("ferrite", "NbC", "cementite")]
    run = describe_run(options)
    report = (
        f"# What exact pruning could leave out\n\n{run['date']}, commit {run['commit']}.\n\n"
        f"    {run['command']}\n\nShare of the templates that cannot be among the twelve "
        "candidates, in per cent, after so much of all multiplications; and the multiplications "
        "that looking for them after every harmonic would save, were it free.\n\n"
        + _table([*head, "saved at most / %"], rows)
    )
    print(report)
    (Path(__file__).parent / "results" / "match_bound.md").write_text(report)


if __name__ == "__main__":
    main()
