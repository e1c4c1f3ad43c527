"""Phase and orientation maps from scanning electron diffraction, inside HyperSpy and pyxem.

Importing this package gives pyxem's `ElectronDiffraction2D` the methods `get_polar_descriptors` and
`index_phase_orientation`: at once where pyxem is imported already, else when it is. All else is
imported where it is first used; the public names are in `__init__.pyi`. TensorFlow and Keras are
imported by functions that need them.
"""

from importlib.metadata import version as _version

import lazy_loader as _lazy_loader
from wrapt import when_imported as _when_imported

__getattr__, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)
__version__ = _version("pyxem-nas")


# the package, not the class's module: when that one is done the package around it still is not
@_when_imported("pyxem.signals")
def _attach_methods(_: object) -> None:
    from pyxem_nas.signals import attach_methods

    attach_methods()
