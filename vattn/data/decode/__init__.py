"""Decoding: videos and folders of images to RGB frames.

A video is decoded once, in order, as a whole. Random access cannot be trusted: in some AVI and edit-list MP4 files,
decord returns other frames than those requested, without an error.
"""

from vattn.data.decode.container import frame_rate, header_shape
from vattn.data.decode.errors import UnreadableFileError
from vattn.data.decode.images import read_images
from vattn.data.decode.sequence import ImageFolder, is_litter
from vattn.data.decode.video import decode_video, read_video

__all__ = [
    "ImageFolder",
    "UnreadableFileError",
    "decode_video",
    "frame_rate",
    "header_shape",
    "is_litter",
    "read_images",
    "read_video",
]
