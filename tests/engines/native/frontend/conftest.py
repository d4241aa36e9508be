"""The front-end's library, built once for all tests, and calls of it on arrays in the host's memory."""

import types

import numpy as np
import pytest

from dtfsal.engines.native.frontend.library import TYPES, FrameCall, FrontEndLibrary, SliceCall
from dtfsal.engines.native.projects import FRONT_END
from dtfsal.engines.raw_inputs import MATRICES, YuvPicture, planes_of


@pytest.fixture(scope="session")
def host_library(tmp_path_factory, need_programs):
    need_programs("cmake", "c++")
    return FrontEndLibrary(FRONT_END.build_host(tmp_path_factory.mktemp("front_end_host")))


@pytest.fixture(scope="session")
def cuda_library(tmp_path_factory, need_programs):
    """The path of the GPU's library; it loads without a GPU."""
    need_programs("cmake", "c++", "nvcc")
    return FRONT_END.build(tmp_path_factory.mktemp("front_end"), architectures=("75", "90"))


IDENTITY = np.arange(256, dtype=np.float32)[None].repeat(3, axis=0)


def frame_call(library, picture, height, width, dtype="float32", levels=IDENTITY):
    """A call, its result (3, height, width), and the arrays that must live as long."""
    planes = planes_of(picture)
    size = picture.size if isinstance(picture, YuvPicture) else picture.shape[:2]
    tables = (*library.resize_axis(size[1], width), *library.resize_axis(size[0], height))
    workspace, result = np.full(3 * size[0] * width, 0xAA, np.uint8), np.full((3, height, width), np.nan, dtype)
    levels = np.ascontiguousarray(levels, np.float32)
    call = FrameCall(
        width=size[1],
        height=size[0],
        target_width=width,
        target_height=height,
        target_type=TYPES[dtype],
        column_taps=tables[1].shape[1],
        row_taps=tables[3].shape[1],
        levels=levels.ctypes.data,
        workspace=workspace.ctypes.data,
        target=result.ctypes.data,
    )
    for name, table in zip(("column_first", "column_weights", "row_first", "row_weights"), tables, strict=True):
        setattr(call, name, table.ctypes.data)
    for index, plane in enumerate(planes):
        call.planes[index], call.pitches[index] = plane.ctypes.data, plane.shape[1]
    if isinstance(picture, YuvPicture):
        call.format, call.chroma_step = 1, 1
        call.matrix, call.full_range = MATRICES.index(picture.matrix), int(picture.full_range)
    return call, result, (planes, tables, workspace, levels)


def prepared(library, *arguments, **options):
    call, result, _alive = frame_call(library, *arguments, **options)
    library.prepare_frame(call, 0)
    return result


def slice_call(tables, samples, dtype="float32"):
    """As `frame_call`, of a slice."""
    cosines = np.cos(2 * np.pi * np.arange(tables.fft_length) / tables.fft_length)
    bands = tables.filters.shape[1]
    workspace, result = (
        np.empty((tables.frames, bands), np.float32),
        np.full((tables.height, tables.width), np.nan, dtype),
    )
    samples, filters = np.ascontiguousarray(samples, np.float32), np.ascontiguousarray(tables.filters)
    call = SliceCall(
        samples=len(samples),
        frames=tables.frames,
        window_length=len(tables.window),
        hop_length=tables.hop_length,
        fft_length=tables.fft_length,
        bands=bands,
        target_width=tables.width,
        target_height=tables.height,
        target_type=TYPES[dtype],
        log_offset=tables.log_offset,
        sound=samples.ctypes.data,
        window=tables.window.ctypes.data,
        cosines=cosines.ctypes.data,
        filters=filters.ctypes.data,
        workspace=workspace.ctypes.data,
        target=result.ctypes.data,
    )
    return call, result, (samples, cosines, filters, workspace)


@pytest.fixture(scope="session")
def calls():
    """The functions above."""
    return types.SimpleNamespace(frame_call=frame_call, prepared=prepared, slice_call=slice_call)
