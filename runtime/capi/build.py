"""How libdtfsal is built, from the sources beside this module."""

from pathlib import Path

from dtfsal.engines.native.builder import NativeProject
from dtfsal.engines.native.projects import FRONT_END

C_LIBRARY = NativeProject(
    name="capi",
    title="the C library",
    sources=Path(__file__).resolve().parent,  # where CMake's `../..` leads, too: not the link in dtfsal/
    library="libdtfsal.so",
    variable="DTFSAL_LIBRARY",
    tensorrt="optional",
    installs=True,
    uses=(FRONT_END.sources,),
    soversion="0",
)
