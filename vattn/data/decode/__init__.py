"""Decoding: videos and folders of images to RGB frames.

A video is decoded once, in order, as a whole. Random access cannot be trusted: in some AVI and edit-list MP4 files,
decord returns other frames than those requested, without an error.
"""

from vattn.data.decode.container import frame_rate, header_shape
from vattn.data.decode.errors import UnreadableFileError
from vattn.data.decode.images import flow_frames, rgb_frames
from vattn.data.decode.video import decode_video, read_video

__all__ = [
    "UnreadableFileError",
    "decode_video",
    "flow_frames",
    "frame_rate",
    "header_shape",
    "read_video",
    "rgb_frames",
]
