"""A still picture through a video codec, as libx264 and libx265 encode it and FFmpeg decodes it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy

Pixels = numpy.ndarray  # uint8, [h, w, 1 or 3]

WORST = 51  # the largest constant rate factor of both encoders
_SMALLEST_SIDE = 16  # that libx265 takes
_FRAME = Fraction(1, 24)  # of a second that a frame lasts; it decides how many bits the frame gets
_OPTIONS = {
    "threads": "1",  # with more, libx264 encodes slices apart from each other
    "x265-params": "log-level=none",  # or it prints its settings
}


class VideoFormat(NamedTuple):
    """A video codec. encoder, decoder: their names in FFmpeg."""

    name: str
    encoder: str
    decoder: str

    def check(self) -> None:
        """Raise ValueError if PyAV is missing, or was built without this encoder."""
        try:
            import av
        except ImportError as error:
            raise ValueError(f"{self.name} needs PyAV; pip install 'degrade[video]'") from error
        if self.encoder not in av.codecs_available:
            raise ValueError(
                f"this PyAV ({av.__version__}) was built without {self.encoder}; "
                "install a build that has it"
            )

    def through(self, pixels: Pixels, quality: int) -> Pixels:
        """Encode the picture as a video of one frame, and decode it. quality: the CRF."""
        import av

        height, width, channels = pixels.shape
        colours = pixels.repeat(3 // channels, axis=2)
        margins = [(0, _padding(height)), (0, _padding(width)), (0, 0)]
        frame = numpy.pad(colours, margins, mode="edge")
        try:
            decoded = self._decoded(frame, quality)
        except av.FFmpegError as error:
            raise ValueError(
                f"{self.name} cannot hold this image of {width} x {height}: {error.strerror}"
            ) from error
        return decoded[:height, :width, :channels]

    def _decoded(self, pixels: Pixels, crf: int) -> Pixels:
        """The same for sides that the encoder takes."""
        from av import CodecContext, VideoFrame

        height, width, _ = pixels.shape
        encoder: Any = CodecContext.create(self.encoder, "w")  # of video, which no type says
        encoder.width, encoder.height = width, height
        encoder.pix_fmt = "yuv420p"
        encoder.time_base = _FRAME
        encoder.options = {"crf": str(crf), **_OPTIONS}
        frame = VideoFrame.from_ndarray(pixels, format="rgb24")
        packets = encoder.encode(frame) + encoder.encode(None)
        decoder: Any = CodecContext.create(self.decoder, "r")
        frames = []
        for packet in [*packets, None]:  # None asks for what is left
            frames += decoder.decode(packet)
        (decoded,) = frames
        levels: Pixels = decoded.to_ndarray(format="rgb24")
        return levels


def _padding(side: int) -> int:
    """Pixels that a side lacks: chroma of half the size asks for an even one."""
    return max(side + side % 2, _SMALLEST_SIDE) - side


VIDEO = {
    "h264": VideoFormat("h264", "libx264", "h264"),
    "h265": VideoFormat("h265", "libx265", "hevc"),
}
