"""``python -m pyxem_nas.cli``."""

from pyxem_nas.cli import main

main()
