"""Entries of the shipped bundles for the registry em-database, kind "weights".

The registry (PyPI em-database, import emdatabase) hands out data and weights of electron microscopy
by pooch. After a release has a Zenodo record:

    python recipe/weights_entries.py 1234567 --folder emdatabase/index

writes PyxemNasSteel.yaml and PyxemNasSilver.yaml, to be offered there by a pull request, and
``python -m emdatabase.new_dataset --validate FILE`` checks them. A user then has

    from emdatabase.data import PyxemNasSteel
    s.index_phase_orientation(PyxemNasSteel().download())
"""

from __future__ import annotations

import argparse
import hashlib
from datetime import UTC, datetime
from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[1] / "pyxem_nas" / "bundles" / "shipped"
PHASES = {"steel": "ferrite, NbC and cementite", "silver": "silver"}


def write_entry(name: str, record: int, date: str) -> str:
    """Return the YAML text of a bundle's entry."""
    path = SHIPPED / f"{name}.nas"
    content = path.read_bytes()
    source = f"https://zenodo.org/records/{record}/files"
    where = f"""\
    url: {source}/{path.name}
    checksum: md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}
    size_bytes: {len(content)}
"""
    versions = "".join(f"  {line}\n" for line in where.splitlines())
    return f"""\
# $schema: ./json-schema.json
PyxemNas{name.capitalize()}:
  description: >-
    Bundle of pyxem-nas that maps phase and crystal orientation from (precession) electron
    diffraction patterns of {PHASES[name]}: networks found by architecture search, the crystals,
    calibrated thresholds and provenance in one .nas file (JSON and Keras models with their hashes,
    no pickle), for 200 kV.
  source: {source}
  file: {path.name}
  license: GPL-3.0-or-later
  technique:
    - 4D-STEM
    - Diffraction
    - ML - classification
    - ML - other
  doi: 10.5281/zenodo.{record}
  tags:
    - Orientation Mapping
    - Phase Mapping
    - Precession
  authors:
    pyxem_nas developers:
      affiliation: pyxem_nas
  kind: weights
  model:
    class: pyxem_nas.ModelBundle
    framework: keras
  latest:
{where}  versions:
    "{date}":
{versions}"""


def main(arguments: list[str] | None = None) -> None:
    """Write the entries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=int, help="Zenodo record of the release")
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args(arguments)
    date = datetime.now(UTC).strftime("%y%m%d")
    for name in PHASES:
        text = write_entry(name, options.record, date)
        (options.folder / f"PyxemNas{name.capitalize()}.yaml").write_text(text)


if __name__ == "__main__":
    main()
