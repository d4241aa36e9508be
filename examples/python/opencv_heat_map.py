"""A camera or a video through OpenCV: the heat map over each frame, in a window or in a file.

    python opencv_heat_map.py                        the first camera, in a window; Escape ends it
    python opencv_heat_map.py clip.mp4 heat.avi      a video into a video, as fast as it goes

OpenCV does not read sound, so the model hears silence. `dtfsal live` and `dtfsal predict` hear.
"""

import sys
import time

import cv2
import numpy as np

from dtfsal import StreamPredictor


def heat_map(bgr: np.ndarray, saliency_map: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8 BGR with its map (h, w) in [0, 1] over it."""
    height, width = bgr.shape[:2]
    levels = cv2.resize(np.uint8(255 * saliency_map), (width, height))
    return cv2.addWeighted(bgr, 0.6, cv2.applyColorMap(levels, cv2.COLORMAP_JET), 0.4, 0)


def convert(source: str, target: str) -> int:
    """Write every frame of a video with its map; give their number."""
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise SystemExit(f"{source} cannot be read as a video")
    rate = max(capture.get(cv2.CAP_PROP_FPS), 0) or 25.0
    pictures, writer, count = {}, cv2.VideoWriter(), 0  # frames by their number until their maps come
    with StreamPredictor(frame_rate_hz=rate, sound=False) as stream:
        while not stream.finished:
            read, bgr = capture.read()
            if read:
                pictures[count] = bgr
                stream.push_frame(bgr, count / rate, color="bgr")
                count += 1
            else:
                stream.finish()
            while (frame := stream.poll()) is not None:
                picture = heat_map(pictures.pop(frame.index), frame.saliency_map)
                if not writer.isOpened():
                    writer.open(target, cv2.VideoWriter.fourcc(*"MJPG"), rate, picture.shape[1::-1])
                writer.write(picture)
    writer.release()
    return count


def watch(camera: int = 0) -> None:
    """Show a camera until Escape; each picture with the newest map."""
    capture = cv2.VideoCapture(camera)
    start, newest = time.monotonic(), None
    with StreamPredictor(sound=False, delay_seconds=0, max_ready=1) as stream:
        while cv2.waitKey(1) != 27:
            read, bgr = capture.read()
            if not read:
                raise SystemExit(f"camera {camera} gives no picture")
            stream.push_frame(bgr, time.monotonic() - start, color="bgr")
            newest = stream.poll() or newest
            cv2.imshow("dtfsal", bgr if newest is None else heat_map(bgr, newest.saliency_map))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(convert(*sys.argv[1:]), "frames")
    elif len(sys.argv) == 1:
        watch()
    else:
        raise SystemExit(__doc__)
