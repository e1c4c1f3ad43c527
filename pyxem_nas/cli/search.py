"""The command ``pyxem-nas search``: from CIF files to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyxem_nas.cli.console import log_progress, print_result, show_status
from pyxem_nas.cli.options import Objective, Overwrite, PhaseInput, Seed, option, read_crystals
from pyxem_nas.file_writing import check_can_write

commands = typer.Typer()


@commands.command(
    epilog="Example: `pyxem-nas search ferrite.cif NbC.cif cementite.cif --beam-energy 200 "
    "--precession 0.7 --output mine.nas`"
)
def search(
    cif_files: Annotated[
        list[Path], typer.Argument(help="One CIF file per phase; its name names the phase.")
    ],
    beam_energy: Annotated[float, option("Beam energy in kV.")],
    output: Annotated[Path, option("Bundle to write, .nas.")],
    precession: Annotated[float, option("Precession angle in degrees.")] = 0.0,
    trials: Annotated[
        int, option("Networks tried per search; 0 takes the shipped architecture.", min=0)
    ] = 12,
    epochs: Annotated[int, option("Epochs per trial, at most.", min=1)] = 4,
    samples: Annotated[
        int, option("Simulated descriptors that each network is trained on.", min=1)
    ] = 600_000,
    min_rate: Annotated[
        float, option("Slowest network that a search may choose, patterns/s.", min=0)
    ] = 0.0,
    dynamical: Annotated[
        int,
        option("Orientations per phase with Bloch waves for training; 0: kinematical only.", min=0),
    ] = 6000,
    directory: Annotated[
        Path | None,
        option(
            "Folder of trials and checkpoints, from which an interrupted search goes on. "
            "[default: the bundle's name with -search]"
        ),
    ] = None,
    phase_input: Annotated[
        PhaseInput, option("What the phase classifier looks at.")
    ] = PhaseInput.descriptor,
    shared_trunk: Annotated[
        bool, option("One trunk for all networks, with a head for each task: faster indexing.")
    ] = False,
    objective: Annotated[
        Objective, option("Search for what is right alone, or for what helps matching most.")
    ] = Objective.alone,
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
    with show_status("Loading pyxem and Keras"):
        from pyxem_nas import Acquisition, search_models

    phase_list = read_crystals(cif_files)
    bundle = search_models(
        phase_list,
        Acquisition(beam_energy=beam_energy, precession_angle=precession),
        phase_input=phase_input.value,
        shared_trunk=shared_trunk,
        objective=objective.value,
        max_trials=trials,
        epochs=epochs,
        n_samples=samples,
        min_patterns_per_second=min_rate,
        n_dynamical=dynamical,
        directory=directory or output.with_name(f"{output.stem}-search"),
        seed=seed,
        name=output.stem,
    )
    bundle.save(output, overwrite=overwrite)
    print_result(repr(bundle))
    print_result(f"The bundle is {output}")
