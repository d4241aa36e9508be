"""libdtfsal, built once for the benchmarks that measure it."""

import pytest

from dtfsal.runtime.capi import C_LIBRARY


@pytest.fixture(scope="session")
def library_file(tmp_path_factory, need_programs):
    need_programs("cmake", "c++")
    return C_LIBRARY.build(tmp_path_factory.mktemp("library"))
