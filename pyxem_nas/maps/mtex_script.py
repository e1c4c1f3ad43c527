"""An MTEX script that imports a map in the right frame.

Owns the lines of MATLAB that state what the .ang or .ctf file of `export` cannot.
"""

from pathlib import Path

__all__ = ["write_mtex_script"]

_EDAX_MONOCLINIC = "20"


def write_mtex_script(path: Path | str, map_path: Path | str) -> None:
    """Write an MTEX script that imports a map of :func:`save_map` in the right frame.

    Parameters
    ----------
    path
        Script to write, suffix .m; replaced if it exists. MATLAB wants a name of letters, digits
        and underscores.
    map_path
        The .ang or .ctf file. The script finds it relative to itself where the two lie in the
        same folder.

    Raises
    ------
    ValueError
        If ``path`` does not end in .m or ``map_path`` is neither .ang nor .ctf.

    Notes
    -----
    Where the .ang file is there already, the crystal frames of its monoclinic phases, which MTEX
    takes otherwise than EDAX, are set to x along a and z along c*.

    The script needs MTEX 7, which knows the option ``EulerCorrection`` of ``EBSD.load``; older ones
    pass it over without a word, so the script loads the file with two corrections and stops where
    they make no difference. The correction turns the Euler angles by 180 degrees about x into the
    frame of the map (x right, y down), see :func:`save_map`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     script = Path(folder) / "load_map.m"
    ...     write_mtex_script(script, Path(folder) / "map.ctf")
    ...     print(script.read_text().splitlines()[0])
    % Import map.ctf into MTEX, written by pyxem_nas
    """
    path, map_path = Path(path), Path(map_path)
    if path.suffix.lower() != ".m":
        raise ValueError(f"an MTEX script must end in .m, got {str(path)!r}")
    if map_path.suffix.lower() not in (".ang", ".ctf"):
        raise ValueError(f"MTEX reads .ang and .ctf maps of save_map, got {str(map_path)!r}")
    if path.parent.resolve() == map_path.parent.resolve():
        folder = "fileparts(mfilename('fullpath'))"
    else:
        folder = "'" + str(map_path.parent.resolve()).replace("'", "''") + "'"
    name = map_path.name.replace("'", "''")
    path.write_text(
        f"% Import {map_path.name} into MTEX, written by pyxem_nas\n"
        "% Positions: x right, y down. Euler angles: x right, y up, z out of the map.\n"
        f"fname = fullfile({folder}, '{name}');\n"
        "needed = ['needs MTEX 7: this MTEX does not know EulerCorrection and would ' ...\n"
        "    'leave the Euler angles turned by 180 degrees against the map'];\n"
        "if ~exist('plottingConvention', 'class'), error(needed); end\n"
        "plottingConvention.default('y↓→x');\n"
        "load_turned = @(turn) EBSD.load(fname, 'EulerCorrection', ...\n"
        "    rotation.byAxisAngle(xvector, turn));\n"
        "ebsd = load_turned(180*degree);\n"
        "% an option that is not known is passed over without a word: see that it does something\n"
        "asStored = load_turned(0);\n"
        "if max(angle(ebsd.rotations(:), asStored.rotations(:))) < 1*degree, error(needed); end\n"
        f"{_mtex_frames(map_path)}"
        "plot(ebsd);\n",
        encoding="utf-8",
    )


def _mtex_frames(map_path: Path) -> str:
    """Return lines that state the crystal frames of a map which MTEX would take otherwise.

    Of monoclinic phases in an .ang file MTEX lays x along a* and z along c; orix, and EDAX itself,
    x along a and z along c*.
    """
    if map_path.suffix.lower() != ".ang" or not map_path.is_file():
        return ""
    fields: dict[str, str] = {}
    lines = []
    with map_path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                break
            key, _, value = line[1:].strip().partition(" ")
            fields[key] = value.strip()
            if key == "LatticeConstants" and fields.get("Symmetry") == _EDAX_MONOCLINIC:
                name = fields.get("MaterialName", "").replace("'", "''")
                *lengths, alpha, beta, gamma = value.split()
                lines.append(
                    f"ebsd('{name}').CS = crystalSymmetry('2/m', [{' '.join(lengths)}], ...\n"
                    f"  [{alpha} {beta} {gamma}]*degree, 'X||a', 'Z||c*', 'mineral', '{name}');\n"
                )
    if lines:
        lines.insert(0, "% monoclinic .ang: x along a, z along c*, where MTEX takes a* and c\n")
    return "".join(lines)
