"""Training: from phases to a bundle of networks, and a bundle adapted to a microscope.

Architecture search, training, calibration of the answers, fine-tuning on measured patterns. All
that is offline; TensorFlow, Keras and AutoKeras are imported inside functions.
"""

from pyxem_nas.training.bundle_training import search_models
from pyxem_nas.training.fine_tuning import fine_tune
from pyxem_nas.training.measured import MapFrame

__all__ = [
    "MapFrame",
    "fine_tune",
    "search_models",
]
