"""Crystals that stand for "none of these": what a phase network must refuse.

Owns the made-up crystals, as tables of reflections and as phases with atoms. How they are drawn as
patterns belongs to `scans`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.diffraction.reflections import Reflections, get_reflections

if TYPE_CHECKING:
    from orix.crystal_map import Phase

# structure types: space group, ratio c / a, atoms (kind, x, y, z) of the whole cell
_FCC = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]
_TYPES: dict[str, tuple[int, float, list[tuple[int, float, float, float]]]] = {
    "fcc": (225, 1.0, [(0, *p) for p in _FCC]),
    "bcc": (229, 1.0, [(0, 0, 0, 0), (0, 0.5, 0.5, 0.5)]),
    "hcp": (194, 1.6, [(0, 1 / 3, 2 / 3, 0.25), (0, 2 / 3, 1 / 3, 0.75)]),
    "diamond": (227, 1.0, [(0, *p) for p in _FCC] + [(0, *(np.array(p) + 0.25)) for p in _FCC]),
    "rocksalt": (225, 1.0, [(0, *p) for p in _FCC]
                 + [(1, *((np.array(p) + [0.5, 0, 0]) % 1)) for p in _FCC]),
    "caesium chloride": (221, 1.0, [(0, 0, 0, 0), (1, 0.5, 0.5, 0.5)]),
    "zincblende": (216, 1.0, [(0, *p) for p in _FCC]
                   + [(1, *(np.array(p) + 0.25)) for p in _FCC]),
}  # fmt: skip
_LENGTHS = {
    "fcc": (3.5, 5.2),
    "bcc": (2.7, 4.6),
    "hcp": (2.4, 3.6),
    "diamond": (3.8, 6.2),
    "rocksalt": (3.9, 6.2),
    "caesium chloride": (2.8, 4.2),
    "zincblende": (4.4, 6.3),
}  # lattice parameter a in angstrom
_ELEMENTS = ("C", "O", "Al", "Ti", "Cr", "Ni", "Cu", "Zr", "Mo", "Sn", "Ba", "W", "Pb")


def make_foreign_phases(known: Reflections, n: int, rng: np.random.Generator) -> list[Phase]:
    """Return made-up phases with atoms, of common structure types.

    Parameters
    ----------
    known
        Reflections of the known phases: whatever looks like one of them is drawn again.
    n
        Number of phases.
    rng
        Source of randomness: type, lattice parameter and elements.

    Returns
    -------
    phases
        Named "foreign 0" and so on.
    """
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    rings = [_strong_rings(known, k) for k in range(known.n_phases)]
    phases = []
    while len(phases) < n:
        kind = str(rng.choice(list(_TYPES)))
        group, ratio, atoms = _TYPES[kind]
        a = rng.uniform(*_LENGTHS[kind])
        elements = rng.choice(_ELEMENTS, 2, replace=False)
        c = a * (ratio * rng.uniform(0.97, 1.03) if kind == "hcp" else ratio)
        lattice = Lattice(a, a, c, 90, 90, 120 if kind == "hcp" else 90)
        structure = Structure([Atom(str(elements[k]), p) for k, *p in atoms], lattice)
        phase = Phase(f"foreign {len(phases)}", space_group=group, structure=structure)
        if not _looks_like_one(_strong_rings(get_reflections([phase]), 0)[:5], rings):
            phases.append(phase)
    return phases


def make_foreign_reflections(known: Reflections, n: int, rng: np.random.Generator) -> Reflections:
    """Return known phases followed by n made-up crystals that stand for "none of these".

    Parameters
    ----------
    known
        Reflections of the known phases.
    n
        Number of made-up crystals: random cells of the commonest Bravais types.
    rng
        Source of randomness.

    Returns
    -------
    reflections
        The known rows, then the foreign ones. A crystal whose strong rings all lie within 2 % of
        those of one known phase is drawn again: no pattern could tell them apart.
    """
    radius = float(np.linalg.norm(known.vectors, axis=1).max())
    parts = [[known.hkl, known.vectors, known.intensities, known.extinction]]
    bounds = list(known.bounds)
    rings = [_strong_rings(known, k) for k in range(known.n_phases)]
    while len(bounds) < known.n_phases + n + 1:
        hkl, vectors, intensities = _draw_crystal(radius, rng)
        if _looks_like_one(np.unique(np.linalg.norm(vectors, axis=1).round(4))[:5], rings):
            continue
        parts.append([hkl, vectors, intensities, 2e-3 * np.sqrt(intensities)])
        bounds.append(bounds[-1] + len(hkl))
    columns = (np.ascontiguousarray(np.concatenate(c)) for c in zip(*parts, strict=True))
    return Reflections(*columns, tuple(bounds))


def _looks_like_one(lengths: np.ndarray, rings: list[np.ndarray]) -> bool:
    """Return whether the first rings of a crystal all lie within 2 % of those of one phase."""
    return any(np.all(np.abs(lengths[:, None] / ring - 1).min(axis=1) < 0.02) for ring in rings)


def _strong_rings(reflections: Reflections, k: int) -> np.ndarray:
    rows = slice(*reflections.bounds[k : k + 2])
    intensity = reflections.intensities[rows]
    strong = intensity > 0.02 * intensity.max()
    return np.unique(np.linalg.norm(reflections.vectors[rows][strong], axis=1).round(4))


def _draw_crystal(
    radius: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a crystal: Miller indices, vectors and intensities of its reflections."""
    kind = rng.choice(["P", "I", "F", "diamond", "hexagonal", "tetragonal", "orthorhombic"])
    a = rng.uniform(3.4, 6.5) if kind in ("F", "diamond") else rng.uniform(2.6, 5.5)
    lengths = np.array([a, a, a])
    if kind in ("tetragonal", "hexagonal"):
        lengths[2] *= rng.uniform(0.6, 1.8)
    elif kind == "orthorhombic":
        lengths *= rng.uniform(0.7, 1.8, 3)
    base = np.diag(1 / lengths)
    if kind == "hexagonal":
        base[:2, :2] = np.array([[2 / np.sqrt(3), 0], [1 / np.sqrt(3), 1]]) / a
    limit = np.ceil(radius * lengths.max() * 1.2).astype(int)
    hkl = np.stack(np.meshgrid(*[np.arange(-limit, limit + 1)] * 3, indexing="ij"), -1)
    hkl = hkl.reshape(-1, 3)
    vectors = hkl @ base
    length = np.linalg.norm(vectors, axis=1)
    inside = (length > 1e-6) & (length < radius)
    parity = hkl % 2
    if kind == "I":
        inside &= hkl.sum(axis=1) % 2 == 0
    elif kind in ("F", "diamond"):
        inside &= (parity == parity[:, :1]).all(axis=1)
    if kind == "diamond":
        inside &= ~((parity.sum(axis=1) == 0) & (hkl.sum(axis=1) % 4 == 2))
    hkl, vectors, length = hkl[inside], vectors[inside], length[inside]
    # one random structure factor for all reflections of a ring
    _, ring = np.unique(length.round(5), return_inverse=True)
    spread = rng.uniform(0, 1.2)
    factor = np.exp(spread * rng.standard_normal(ring.max() + 1))[ring]
    intensities = 100 * factor * np.exp(-rng.uniform(1.0, 2.5) * length**2)
    order = np.argsort(length, kind="stable")
    return hkl[order], vectors[order], intensities[order]
