"""From files to clips in a cache. Each data-set layout is one file in `vattn.data.layouts`, registered by this import.

Importing this package does not import torch: processes that decode videos start without its seconds of import. Batches
for training are in `vattn.training.batches.loader`.
"""

from vattn.data import layouts  # noqa: F401
from vattn.data.cache import open_clips
from vattn.data.config import DataConfig, Progress
from vattn.data.dataset import listed, prepare

__all__ = ["DataConfig", "Progress", "listed", "open_clips", "prepare"]
