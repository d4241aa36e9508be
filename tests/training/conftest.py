"""Datasets in miniature, each as it lies on people's disks: a bright spot wanders, and everybody looks at it."""

import dataclasses
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SOUND_RATE_HZ = 22050
AUDIO_VISUAL_FOLDERS = {
    "diem": "DIEM",
    "avad": "AVAD",
    "coutrot1": "Coutrot_db1",
    "coutrot2": "Coutrot_db2",
    "summe": "SumMe",
    "etmd": "ETMD_av",
}


@dataclasses.dataclass(frozen=True)
class MiniatureScene:
    """What a video of a miniature shows, and where people look.

    Attributes:
        frames: (N, H, W, 3) uint8.
        centres: (N, 2) x and y of the spot, in pixels.
        maps: (N, H, W) uint8, a gaussian around it.
        marks: (N, H, W) bool, three fixated pixels in and beside it.
    """

    frames: np.ndarray
    centres: np.ndarray
    maps: np.ndarray
    marks: np.ndarray


def miniature_scene(seed: int, count: int, size: tuple[int, int]) -> MiniatureScene:
    """The scene of a seed; frame i's top left pixel is (i, i, i), so that frames can be told apart."""
    rng = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    ground = rng.integers(20, 90, (height // 4 + 1, width // 4 + 1, 3)).repeat(4, axis=0).repeat(4, axis=1)
    start, end = rng.uniform((0.2, 0.2), (0.8, 0.8), (2, 2)) * (width, height)
    centres = np.linspace(start, end, count) if count > 1 else start[None]
    distance = np.hypot(columns - centres[:, :1, None], rows - centres[:, 1:, None])  # (N, H, W)
    spot = np.exp(-0.5 * (distance / (height / 12)) ** 2)[..., None]
    frames = ground[:height, :width] * (1 - spot) + np.array([250, 220, 80]) * spot
    frames = np.round(frames).astype(np.uint8)
    frames[:, 0, 0] = (np.arange(count) % 256)[:, None]
    maps = np.round(255 * np.exp(-0.5 * (distance / (height / 10)) ** 2)).astype(np.uint8)
    marks = np.zeros(maps.shape, bool)
    for frame, (x, y) in enumerate(np.floor(centres + 0.5).astype(int)):
        for dx, dy in ((0, 0), (2, 0), (0, -2)):
            marks[frame, np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)] = True
    return MiniatureScene(frames, centres, maps, marks)


def write_wav(path: Path, seconds: float, hertz: float = 440.0, amplitude: float = 0.5) -> None:
    """A tone as 16-bit stereo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SOUND_RATE_HZ)) / SOUND_RATE_HZ)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE_HZ)
        file.writeframes(np.repeat(np.round(tone * 32767).astype("<i2"), 2).tobytes())


def write_video(
    path: Path, frames: np.ndarray, rate: int, *, lossless: bool = False, seconds: float | None = None
) -> None:
    """A video of frames (N, H, W, 3), with a tone beside it unless `seconds` of sound is 0."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        options = {} if lossless else {"g": "8", "bf": "2", "crf": "12", "preset": "veryfast"}
        video = container.add_stream("ffv1" if lossless else "libx264", rate=rate, options=options)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "bgr0" if lossless else "yuv420p"
        length = len(frames) / rate if seconds is None else seconds
        sound = container.add_stream("pcm_s16le" if lossless else "aac", rate=16000, layout="mono") if length else None
        for rgb in frames:
            for packet in video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")):
                container.mux(packet)
        for packet in video.encode(None):
            container.mux(packet)
        if sound is not None:
            tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(round(length * 16000)) / 16000)
            samples = av.AudioFrame.from_ndarray((32767 * tone).astype(np.int16)[None], format="s16", layout="mono")
            samples.sample_rate = 16000
            resampler = av.AudioResampler(format=sound.format.name, layout="mono", rate=16000, frame_size=1024)
            for frame in (*resampler.resample(samples), *resampler.resample(None)):
                for packet in sound.encode(frame):
                    container.mux(packet)
            for packet in sound.encode(None):
                container.mux(packet)


def write_gaze(path: Path, scene: MiniatureScene, rate: float, observers: int = 3) -> None:
    """A table of gaze: each observer looks at the spot or a pixel or two beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["time,x,y,observer"]
    for index, (x, y) in enumerate(scene.centres):
        lines += [f"{index / rate:.4f},{x + number:.2f},{y - number:.2f},p{number}" for number in range(observers)]
    path.write_text("\n".join(lines) + "\n")


def _write_pictures(folder: Path, pattern: str, pictures: np.ndarray, first: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, first):
        path = folder / pattern.format(number)
        options = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {"compress_level": 1}
        Image.fromarray(picture).save(path, **options)


def _write_dhf1k(root: Path, seed: int, layout: str, numbers: dict[str, list[int]], count: int, size: tuple[int, int]):
    for split, listed in numbers.items():
        for number in listed:
            scene, name = miniature_scene(seed + number, count, size), f"{number:04d}"
            place = {"train": "train", "validation": "val", "test": "test"}[split]
            acl = {"train": "training", "validation": "val", "test": "testing"}[split]
            if layout == "frames":  # as DiffSal's and SalEMA's scripts decode it: other numbers, and maps alone
                _write_pictures(root / "frames" / str(number), "{}.png", scene.frames)
                if split != "test":
                    _write_pictures(root / "maps" / str(number), "{:04d}.png", scene.maps)
                continue
            folder = {"split": root / place / name, "aclnet": root / acl / name, "plain": root / name}.get(
                layout, root / "annotation" / name
            )
            frames = root / "video" / name if layout == "video" else folder / "images"
            if layout == "avi":  # as it is downloaded
                write_video(root / "video" / f"{number:03d}.AVI", scene.frames, 30, lossless=True, seconds=0)
            else:
                _write_pictures(frames, "{:04d}.png", scene.frames)
            if split != "test":
                kind = "fixations" if layout in ("plain", "split") else "fixation"
                _write_pictures(folder / "maps", "{:04d}.png", scene.maps)
                _write_pictures(folder / kind, "{:04d}.png", (255 * scene.marks).astype(np.uint8))


def _write_ucf_sports(root: Path, seed: int, videos: dict[str, list[str]], count: int, size: tuple[int, int]) -> None:
    for number, (split, name) in enumerate((split, name) for split, names in videos.items() for name in names):
        scene = miniature_scene(seed + number, count, size)
        folder, stem = root / split / name, "_".join(name.rsplit("-", 1))
        for kind, pictures in (
            ("images", scene.frames),
            ("maps", scene.maps),
            ("fixation", (255 * scene.marks).astype(np.uint8)),
        ):
            _write_pictures(folder / kind, stem + "_{:03d}.png", pictures)


def _write_audio_visual(
    root: Path, seed: int, name: str, videos: list[str], count: int, size: tuple[int, int], rate: float, mat: bool
) -> None:
    folder = AUDIO_VISUAL_FOLDERS[name]
    for number, video in enumerate(videos):
        scene = miniature_scene(seed + number, count, size)
        annotations = root / "annotations" / folder / video
        _write_pictures(root / "video_frames" / folder / video, "img_{:05d}.jpg", scene.frames)
        _write_pictures(annotations / "maps", "eyeMap_{:05d}.jpg", scene.maps)
        write_wav(root / "video_audio" / folder / video / f"{video}.wav", count / rate, 300.0 + 100 * number)
        if mat:
            savemat = pytest.importorskip("scipy.io").savemat
            for frame, marks in enumerate(scene.marks, 1):
                savemat(annotations / f"fixMap_{frame:05d}.mat", {"eyeMap": marks})
    lists = root / "fold_lists"
    lists.mkdir(exist_ok=True)
    for fold in (None,) if name == "diem" else (1, 2, 3):
        held_out = videos[-1:] if fold is None else videos[fold - 1 :: 3] or videos[-1:]
        for split, names in (("train", [v for v in videos if v not in held_out]), ("test", held_out)):
            number = "" if fold is None else f"_{fold}"
            text = "".join(f"{video} {count} {rate:g}\n" for video in names)
            (lists / f"{folder}_list_{split}{number}_fps.txt").write_text(text)


def _write_map_videos(root: Path, seed: int, name: str, count: int, size: tuple[int, int], numbers: dict) -> None:
    """As published, with the videos of maps as `dtfsal.training.evaluation.submission` writes them."""
    import json

    from dtfsal.training.evaluation.submission import write_map_video

    lists: dict[str, list[str]] = {"public_test": [], "private_test": [], "train": []}
    for split, listed in numbers.items():
        part = "Train" if split == "train" else "Test"
        for number in listed:
            scene, video = miniature_scene(seed + number, count, size), f"{number:04d}"
            key = {"train": "train", "validation": "public_test", "test": "private_test"}[split]
            lists[key].append(video)
            if name == "crowdsal":
                places = (root / part / "Videos", root / part / "Saliency", root / part / "Fixations" / f"{video}.json")
            else:
                fixations = root / f"Fixations{part}" / part / video / "fixations.json"
                places = (root / "Videos", root / f"Saliency{part}" / part, fixations)
            write_video(places[0] / f"{video}.mp4", scene.frames, 30)
            places[1].mkdir(parents=True, exist_ok=True)
            write_map_video(places[1] / f"{video}.mp4", (m / 255 for m in scene.maps.astype(np.float32)), 30, size)
            places[2].parent.mkdir(parents=True, exist_ok=True)
            places[2].write_text(json.dumps([np.argwhere(marks).tolist() for marks in scene.marks]))
    if name != "crowdsal":
        (root / "TrainTestSplit.json").write_text(json.dumps(lists))


@pytest.fixture(scope="session")
def make_scene():
    """See `miniature_scene`."""
    return miniature_scene


@pytest.fixture(scope="session")
def make_wav():
    """See `write_wav`."""
    return write_wav


@pytest.fixture(scope="session")
def make_video():
    """See `write_video`."""
    return write_video


@pytest.fixture(scope="session")
def make_miniature(tmp_path_factory):
    """Write a miniature of a dataset, and give its root.

    make_miniature(name, folder=None, *, count=10, size=(36, 64), rate=25, seed=0, ...), with:
        dhf1k: layout="beside" (or "video", "split", "plain", "avi", "frames", "aclnet"), train=(1, 2),
            validation=(601,), test=(701,)
        ucf-sports: training=(...), testing=(...) of names
        diem, avad, coutrot1, coutrot2, summe, etmd: videos=(...) of names, mat=True; each of three folds holds out
            every third video, and DIEM's only lists the last
        crowdsal, aim2024, ntire2026: train=(1, 2), test=(701,), validation=(601,) for the public test
        videos: videos=(...) of names, prepared=True, lossless=False
    """

    def make(
        name: str,
        folder: Path | None = None,
        *,
        count: int = 10,
        size: tuple[int, int] = (36, 64),
        rate: int = 25,
        seed: int = 0,
        layout: str = "beside",
        train: tuple[int, ...] = (1, 2),
        validation: tuple[int, ...] = (601,),
        test: tuple[int, ...] = (701,),
        training: tuple[str, ...] = ("Diving-Side-001", "Kicking-002"),
        testing: tuple[str, ...] = ("Running-003",),
        videos: tuple[str, ...] = ("V1_Speech1", "V2_Band", "V3_News4"),
        mat: bool = True,
        prepared: bool = True,
        lossless: bool = False,
    ) -> Path:
        root = folder or tmp_path_factory.mktemp(name)
        root.mkdir(parents=True, exist_ok=True)
        if name == "dhf1k":
            numbers = {"train": list(train), "validation": list(validation), "test": list(test)}
            _write_dhf1k(root, seed, layout, numbers, count, size)
        elif name == "ucf-sports":
            _write_ucf_sports(root, seed, {"training": list(training), "testing": list(testing)}, count, size)
        elif name in AUDIO_VISUAL_FOLDERS:
            _write_audio_visual(root, seed, name, list(videos), count, size, rate, mat)
        elif name in ("crowdsal", "aim2024", "ntire2026"):
            _write_map_videos(root, seed, name, count, size, {"train": train, "test": test, "validation": validation})
        elif name == "videos":
            for number, video in enumerate(videos):
                scene = miniature_scene(seed + number, count, size)
                path = root / "videos" / (video + (".mkv" if lossless else ".mp4"))
                write_video(path, scene.frames, rate, lossless=lossless)
                write_gaze(root / "fixations" / f"{video}.csv", scene, rate)
            if prepared:
                from dtfsal.training.data.prepare_videos import PrepareOptions, prepare_videos

                share = 1 / len(videos) if len(videos) > 1 else 0
                prepare_videos(root, root, PrepareOptions(validation_share=share, test_share=0, pixels_per_degree=3))
        else:
            raise ValueError(f"there is no miniature of {name}")
        return root

    return make
