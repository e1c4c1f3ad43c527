"""The command ``pyxem-nas``.

Owns commands, arguments and exit codes: 0 done, 1 a file failed, 2 wrong use. Every command is a
thin shell around the public functions of the package, which do the checking and the work. They
are imported inside the commands, so that ``--help`` answers at once. Words and tables belong to
:mod:`pyxem_nas.console`, files to :mod:`pyxem_nas.files`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pyxem_nas.console import (
    format_percent,
    grow_tree,
    log_progress,
    print_json,
    print_result,
    say,
    send_logs_to_stderr,
    show_status,
    to_plain,
)
from pyxem_nas.files import (
    check_can_write,
    read_map,
    read_mask,
    read_phases,
    read_scan,
    write_maps,
)

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

    from pyxem_nas.bundle import ModelBundle
    from pyxem_nas.evaluation import Evaluation
    from pyxem_nas.simulation import Acquisition

__all__ = ["app", "main"]

_WRONG_USE = (
    ValueError,
    TypeError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_MAP_SUFFIXES = (".ang", ".ctf", ".h5", ".hdf5")

app = typer.Typer(
    name="pyxem-nas",
    help="Phase and orientation maps from scanning electron diffraction.",
    epilog="Exit codes: 0 done, 1 a file failed, 2 wrong use. Set PYXEM_NAS_DEBUG=1 to see where "
    "an error comes from.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class Axis(StrEnum):
    """Axis of the camera."""

    x = "x"
    y = "y"


class PhaseInput(StrEnum):
    """What the phase classifier looks at."""

    descriptor = "descriptor"
    pattern = "pattern"


def _option(help_text: str, *names: str, **settings: Any) -> Any:
    """Return an option; without a default of its own if the text states it."""
    return typer.Option(
        *names, help=help_text, show_default="[default" not in help_text, **settings
    )


AsJson = Annotated[bool, _option("Print JSON, for scripts.", "--json")]
Overwrite = Annotated[bool, _option("Replace files that exist.", "--overwrite")]
Bundle = Annotated[str, _option("Name of a shipped bundle, or a .nas file.")]
Seed = Annotated[int, _option("Seed of all that is random.")]


def main() -> None:
    """Run the command line and exit with its code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's talk about the processor
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files: no display needed
    try:
        app()
    except _WRONG_USE as error:
        if os.environ.get("PYXEM_NAS_DEBUG"):
            raise
        say(f"Error: {error}", style="red")
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, _option("Print the version.", "--version")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print_result(version_of("pyxem-nas"))
        raise typer.Exit


# ------------------------------------------------------------------------- demo


@app.command(epilog="Example: `pyxem-nas demo --shape 100 100 --seed 7`")
def demo(
    output: Annotated[Path, _option("Folder for the maps.")] = Path("pyxem-nas-demo"),
    shape: Annotated[tuple[int, int], _option("Rows and columns of the scan.")] = (60, 60),
    seed: Seed = 0,
    bundle: Bundle = "steel",
    as_json: AsJson = False,
) -> None:
    """Index a simulated scan and compare the map with the truth.

    Simulates a scan of the bundle's phases as a camera would record it, indexes it, prints how
    right the map is and writes map.h5, map.ang, map.ctf and map.png.
    """
    with show_status("Loading pyxem and the bundle"):
        from pyxem_nas.bundle import ModelBundle
        from pyxem_nas.crystal_map import NOT_INDEXED
        from pyxem_nas.datasets import simulate_scan
        from pyxem_nas.evaluation import evaluate

        model = ModelBundle.load(bundle)
    send_logs_to_stderr()
    output.mkdir(parents=True, exist_ok=True)
    with show_status(f"Simulating a scan of {shape[0]} x {shape[1]} patterns"):
        scan, truth = simulate_scan(model.phase_list, shape, model.acquisition, seed=seed)
    # nothing rejected at first: a rejected position has no answer to compare with the truth
    options = {"min_confidence": 0.0, "show_progressbar": False if as_json else None}
    with show_status("Starting the networks"):  # so that the speed is that of the work
        some = scan.inav[:: max(shape[1] // 6, 1), :: max(shape[0] // 6, 1)]
        some.index_phase_orientation(model, **options | {"show_progressbar": False})
    say("Indexing")
    result = _index(scan, model, options)
    xmap = result.pop("map")
    result["evaluation"] = evaluation = evaluate(xmap, truth)
    confidence = xmap.prop["phase_probability"] * xmap.prop["orientation_probability"]
    xmap[confidence < model.thresholds.confidence].phase_id = NOT_INDEXED  # as users see it
    with show_status("Writing the maps"):
        paths = [output / f"map.{suffix}" for suffix in ("h5", "ang", "ctf")]
        result["files"] = write_maps(paths, xmap, overwrite=True)
    if as_json:
        print_json({"bundle": bundle, "shape": shape, "seed": seed} | result)
        return
    print_result(_demo_table(result, evaluation))
    names = ", ".join(path.name for path in result["files"])
    print_result(
        f"{names} are in the folder {output}; there, positions of a confidence below "
        f"{model.thresholds.confidence:.2f} are not indexed"
    )


def _demo_table(result: Mapping[str, Any], evaluation: Evaluation) -> Table:
    """Return the demo's table: the whole in its title, one row per phase."""
    table = Table(
        title=f"{result['positions']} positions, {result['patterns_per_second']:.0f} patterns/s, "
        f"phase right in {format_percent(evaluation.phase_accuracy)}",
        caption="Against the truth of the simulated scan, no answer rejected. The angles are "
        "those between found and true orientation, where the phase is right.",
    )
    table.add_column("phase", no_wrap=True)
    for head in ("positions", "phase right", "median", "within 2°", "within 5°", "or its twin"):
        table.add_column(head, justify="right")
    for name, scores in evaluation.orientation.items():
        table.add_row(
            escape(name),
            str(scores.n_reference),
            format_percent(scores.n_right_phase / max(scores.n_reference, 1)),
            "-" if math.isnan(scores.median) else f"{scores.median:.2f}°",
            format_percent(scores.within_2),
            format_percent(scores.within_5),
            format_percent(evaluation.orientation_twin_forgiven[name].within_5),
        )
    return table


# ------------------------------------------------------------------------- search


@app.command(
    epilog="Example: `pyxem-nas search ferrite.cif NbC.cif cementite.cif --beam-energy 200 "
    "--precession 0.7 --output mine.nas`"
)
def search(
    cif_files: Annotated[
        list[Path], typer.Argument(help="One CIF file per phase; its name names the phase.")
    ],
    beam_energy: Annotated[float, _option("Beam energy in kV.")],
    output: Annotated[Path, _option("Bundle to write, .nas.")],
    precession: Annotated[float, _option("Precession angle in degrees.")] = 0.0,
    trials: Annotated[
        int, _option("Networks tried per search; 0 takes the shipped architecture.", min=0)
    ] = 12,
    epochs: Annotated[int, _option("Epochs per trial, at most.", min=1)] = 4,
    samples: Annotated[
        int, _option("Simulated descriptors that each network is trained on.", min=1)
    ] = 600_000,
    directory: Annotated[
        Path | None,
        _option(
            "Folder of trials and checkpoints, from which an interrupted search goes on. "
            "[default: the bundle's name with -search]"
        ),
    ] = None,
    phase_input: Annotated[
        PhaseInput, _option("What the phase classifier looks at.")
    ] = PhaseInput.descriptor,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make a bundle for phases of your own from their CIF files.

    Simulates patterns of the phases, searches the phase classifier and one orientation network
    per phase, trains and calibrates them: minutes for a first look (`--trials 0 --samples 50000`),
    hours for a bundle to work with.
    """
    if output.suffix != ".nas":
        raise ValueError(f"a bundle's name ends in .nas, got {str(output)!r}")
    check_can_write([output], overwrite=overwrite)  # before hours of work, not after
    log_progress()
    phase_list = read_phases(cif_files)
    with show_status("Loading pyxem and Keras"):
        from pyxem_nas import Acquisition, search_models
    bundle = search_models(
        phase_list,
        Acquisition(beam_energy=beam_energy, precession_angle=precession),
        phase_input=phase_input.value,
        max_trials=trials,
        epochs=epochs,
        n_samples=samples,
        directory=directory or output.with_name(f"{output.stem}-search"),
        seed=seed,
        name=output.stem,
    )
    bundle.save(output, overwrite=overwrite)
    print_result(repr(bundle))
    print_result(f"The bundle is {output}")


# ------------------------------------------------------------------------- index


@app.command(
    epilog="Examples: `pyxem-nas index scan.blo --bundle steel --scale 0.0123 --output map.ctf`"
    "\n\n`pyxem-nas index a.mib b.mib --bundle mine.nas --scale 0.0123 --output maps/{stem}.ctf`"
)
def index(
    files: Annotated[list[Path], typer.Argument(help="Scans, of any format that HyperSpy reads.")],
    bundle: Bundle,
    output: Annotated[
        list[str] | None,
        _option(
            "Map to write, .ctf, .ang or .h5; can be given several times. {stem} stands for the "
            "scan's name. A PNG is put beside the first. [default: {stem}_map.h5]"
        ),
    ] = None,
    scale: Annotated[
        float | None, _option("Size of a detector pixel. [default: the file's]")
    ] = None,
    units: Annotated[
        str | None, _option("Units of the scale, 1/nm or mrad. [default: 1/angstrom]")
    ] = None,
    center: Annotated[
        str | None,
        _option(
            "Direct beam in pixels, or auto to find it. [default: the file's, else auto]",
            metavar="X,Y|auto",
        ),
    ] = None,
    mask: Annotated[Path | None, _option("Image .npy, True = detector pixel left out.")] = None,
    flip: Annotated[Axis | None, _option("Axis along which the camera mirrors.")] = None,
    scan_rotation: Annotated[float, _option("Degrees from diffraction to scan frame.")] = 0.0,
    beam_energy: Annotated[
        float | None, _option("In kV. [default: the file's, else the bundle's]")
    ] = None,
    precession: Annotated[
        float | None, _option("In degrees. [default: the file's, else the bundle's]")
    ] = None,
    method: Annotated[
        list[str] | None,
        _option(
            "hybrid, network or template; PHASE=METHOD for one phase, can be given several times. "
            "[default: hybrid]"
        ),
    ] = None,
    phase: Annotated[
        list[str] | None,
        _option("Phase to look for, can be given several times. [default: all of the bundle]"),
    ] = None,
    n_best: Annotated[int, _option("Orientations kept per position.", min=1)] = 1,
    refine: Annotated[bool, _option("Refine the orientations.")] = True,
    min_confidence: Annotated[
        float | None,
        _option("Answers below are rejected. [default: the bundle's]", min=0, max=1),
    ] = None,
    lazy: Annotated[
        bool, _option("Read the patterns piece by piece, or at once.", "--lazy/--eager")
    ] = True,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Index scans and write their phase and orientation maps.

    Where a file holds no calibration of the patterns, give it with `--scale`. A file that cannot
    be indexed does not stop the others.
    """
    plan = _plan_outputs(files, output or ["{stem}_map.h5"], overwrite)
    with show_status("Loading pyxem and the bundle"):
        from pyxem_nas.bundle import ModelBundle

        model = ModelBundle.load(bundle)
    send_logs_to_stderr()
    stated_center = _parse_center(center)
    options = {
        "method": _parse_method(method or ["hybrid"]),
        "phases": phase,
        "acquisition": _parse_acquisition(model, beam_energy, precession),
        "mask": None if mask is None else read_mask(mask),
        "detector_flip": None if flip is None else flip.value,
        "scan_rotation": scan_rotation,
        "n_best": n_best,
        "refine": refine,
        "min_confidence": min_confidence,
        # a log has no use for a bar
        "show_progressbar": None if sys.stdout.isatty() and not as_json else False,
    }
    results = []
    for file, paths in zip(files, plan, strict=True):
        try:
            scan = read_scan(file, lazy=lazy)
            _calibrate(scan, scale, units)
            where = stated_center or _known_center(scan)
            result = _index(scan, model, options | {"center": where})
            result["files"] = write_maps(paths, result.pop("map"), overwrite=overwrite)
            say(_describe_result(file, result))
        except Exception as error:  # a bad file must not stop the others
            if len(files) == 1:
                raise
            say(f"Error: {file}: {error}", style="red")
            result = {"error": f"{type(error).__name__}: {error}"}
        results.append({"scan": file} | result)
    if as_json:
        print_json(results)
    if any("error" in result for result in results):
        raise typer.Exit(1)


def _plan_outputs(
    files: Sequence[Path], templates: Sequence[str], overwrite: bool
) -> list[list[Path]]:
    """Return the maps to write for each scan; refuse before any work names that collide."""
    wrong = [text for text in templates if Path(text).suffix.lower() not in _MAP_SUFFIXES]
    if wrong:
        raise ValueError(f"a map's name ends in .ctf, .ang or .h5, got {wrong!r}")
    plan = [[Path(text.replace("{stem}", file.stem)) for text in templates] for file in files]
    paths = [path for row in plan for path in (*row, row[0].with_suffix(".png"))]
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            f"several results would be written to {twice!r}; put {{stem}}, the scan's name, into "
            "--output and give scans of different names"
        )
    check_can_write(paths, overwrite=overwrite)
    return plan


def _parse_center(text: str | None) -> str | tuple[float, float] | None:
    """Return what --center says: None, "auto" or x and y in pixels."""
    if text is None or text == "auto":
        return text
    try:
        x, y = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(f"--center takes X,Y in pixels or auto, got {text!r}") from None
    return x, y


def _parse_method(texts: Sequence[str]) -> str | dict[str, str]:
    """Return what --method says: one method, or methods by phase."""
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    if not all("=" in text for text in texts):
        raise ValueError(f"--method takes one method, or PHASE=METHOD each time, got {texts!r}")
    return dict(text.rsplit("=", 1) for text in texts)


def _parse_acquisition(
    bundle: ModelBundle, beam_energy: float | None, precession: float | None
) -> Acquisition | None:
    """Return the acquisition as stated, the rest the bundle's; None if nothing was stated."""
    stated = {"beam_energy": beam_energy, "precession_angle": precession}
    stated = {name: value for name, value in stated.items() if value is not None}
    return dataclasses.replace(bundle.acquisition, **stated) if stated else None


def _calibrate(scan: ElectronDiffraction2D, scale: float | None, units: str | None) -> None:
    """Set what was stated of the calibration."""
    if scale is None and units is None:
        _check_calibrated(scan)
        return
    if scale is not None:
        if not scale > 0:
            raise ValueError(f"--scale must be positive, got {scale!r}")
        scan.calibration.scale = scale
    scan.calibration.units = units or "1/angstrom"


def _check_calibrated(scan: ElectronDiffraction2D) -> None:
    """Raise an error that says how to calibrate on the command line."""
    from pyxem_nas.calibration import get_scale

    try:
        get_scale(scan, 200.0)  # the energy matters to the value, not to whether there is one
    except ValueError:
        units = [str(axis.units) for axis in scan.axes_manager.signal_axes]
        raise ValueError(
            f"the patterns are not calibrated in reciprocal units, got {units!r}; give the size "
            "of a detector pixel in 1/angstrom, e.g. --scale 0.0123"
        ) from None


def _known_center(scan: ElectronDiffraction2D) -> str | None:
    """Return None where the file has a beam centre, else "auto"."""
    # a centre on the corner of the detector is no centre: nobody set it
    return None if any(axis.offset for axis in scan.axes_manager.signal_axes) else "auto"


def _index(
    scan: ElectronDiffraction2D, bundle: ModelBundle, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the map of a scan, and the time it took."""
    started = time.perf_counter()
    xmap = scan.index_phase_orientation(bundle, **options)
    seconds = time.perf_counter() - started
    return {
        "map": xmap,
        "positions": xmap.size,
        "phases": _count_phases(xmap),
        "seconds": seconds,
        "patterns_per_second": xmap.size / seconds,
    }


def _count_phases(xmap: CrystalMap) -> dict[str, int]:
    """Return the number of positions of each phase, those not indexed last."""
    counts = {phase.name: int((xmap.phase_id == i).sum()) for i, phase in xmap.phases if i >= 0}
    return counts | {"not_indexed": int((~xmap.is_indexed).sum())}


def _describe_result(file: Path, result: Mapping[str, Any]) -> str:
    """Return what came out of a scan as two lines."""
    n = result["positions"]
    shares = ", ".join(f"{name} {format_percent(k / n)}" for name, k in result["phases"].items())
    return (
        f"{file}: {n} positions in {result['seconds']:.1f} s: {shares}\n"
        f"  -> {', '.join(str(path) for path in result['files'])}"
    )


# ------------------------------------------------------------------------- evaluate


@app.command("evaluate", epilog="Example: `pyxem-nas evaluate map.ctf truth.h5`")
def evaluate_map(
    map_file: Annotated[Path, typer.Argument(metavar="MAP", help="Map, .h5, .ang or .ctf.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="True map.")],
    as_json: AsJson = False,
) -> None:
    """Compare a map with a reference of the same positions.

    Phases are matched by name. Positions that were rejected count as wrong.
    """
    from pyxem_nas.evaluation import evaluate

    evaluation = evaluate(read_map(map_file), read_map(reference))
    if as_json:
        print_json(evaluation)
    else:
        print_result(repr(evaluation))


# ------------------------------------------------------------------------- info


@app.command(epilog="Example: `pyxem-nas info steel`")
def info(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Name of a shipped bundle, or a .nas file.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show what a bundle holds and where it comes from."""
    from pyxem_nas.bundle import ModelBundle

    model = ModelBundle.load(bundle)
    phases = [_describe_phase(model, k) for k, _ in model.phase_list]
    names = ("acquisition", "precession_range", "spec", "thresholds", "provenance")
    sections = {name: to_plain(getattr(model, name)) for name in names}
    if as_json:
        whole = {"name": model.name, "phases": phases} | sections
        print_json(whole | {"search_report": model.search_report})
        return
    for phase in phases:
        phase["lattice"] = _format_lattice(phase["lattice"])
    print_result(_table(f"Bundle {model.name}", phases))
    for name, values in sections.items():
        print_result(grow_tree(name, values))
    if model.search_report:
        print_result(_table("Search", [_describe_search(r) for r in model.search_report]))


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of rows with the same keys."""
    table = Table(title=escape(title))
    for head in rows[0]:
        table.add_column(head.replace("_", " "))
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    return table


def _describe_phase(bundle: ModelBundle, phase_id: int) -> dict[str, Any]:
    """Return what tells one phase of a bundle from another."""
    phase = bundle.phase_list[phase_id]
    elements = [atom.element for atom in phase.structure]
    counts = {element: elements.count(element) for element in dict.fromkeys(elements)}
    network = bundle.has_orientation_network(phase_id)
    return {
        "name": phase.name,
        "space_group": None if phase.space_group is None else phase.space_group.short_name,
        "lattice": [round(float(value), 6) for value in phase.structure.lattice.abcABG()],
        "cell": " ".join(f"{element}{n}" for element, n in counts.items()),
        "orientation": "network" if network else "templates",
    }


def _format_lattice(lattice: Sequence[float]) -> str:
    """Return the lattice parameters as one text, without angles that say nothing."""
    lengths, angles = (" ".join(f"{v:.5g}" for v in part) for part in (lattice[:3], lattice[3:]))
    if len(set(lattice[:3])) == 1:
        lengths = f"{lattice[0]:.5g}"
    return lengths if angles == "90 90 90" else f"{lengths}, {angles}"


def _describe_search(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the best trial of a search report, and how many there were."""
    best = report["trials"][0]
    return {
        "searched for": report["target"],
        "trials": len(report["trials"]),
        "minutes": f"{report['seconds'] / 60:.1f}",
        "best validation loss": f"{best['validation_loss']:.3f}",
        "parameters": best["n_parameters"],
        "patterns/s": f"{best['patterns_per_second']:.0f}",
    }


if __name__ == "__main__":
    main()
