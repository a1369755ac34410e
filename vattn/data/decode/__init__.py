"""Decoding: videos and folders of images to RGB frames.

FFmpeg decodes all videos, through PyAV, in order, as a whole, and packet by packet. decord was used until version 0.1:
its random access returns other frames than those requested in some AVI and edit-list MP4 files, without an error; where
a packet shows no frame it goes back and repeats frames until their number is right; it takes another stream than PyAV
where there are two; it cannot mirror; and it is slower (docs/benchmarks.md). Frames of 8 bits with an even height are
the same from both, bit for bit.
"""

from vattn.data.decode.container import Timing, header_shape, middle_picture, timing
from vattn.data.decode.errors import UnreadableFileError
from vattn.data.decode.images import image_size, read_images
from vattn.data.decode.sequence import ImageFolder, is_litter
from vattn.data.decode.video import decode_video, read_video

__all__ = [
    "ImageFolder",
    "Timing",
    "UnreadableFileError",
    "decode_video",
    "header_shape",
    "image_size",
    "is_litter",
    "middle_picture",
    "read_images",
    "read_video",
    "timing",
]
