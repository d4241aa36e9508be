"""Instructions that libdtfsal needs for a frame, counted by valgrind: the same each time, however busy the machine is.

They depend on the compiler and on the loops that the processor gets, so a count's name has both, and there is a budget
for those only that the project is developed with.
"""

import platform
import re
import shutil
import subprocess
from pathlib import Path

from dtfsal.engines.errors import UnavailableError, UsageError

FEW_FRAMES, MANY_FRAMES = 60, 100  # the first fill windows and make tables; those between are counted
_COLLECTED = re.compile(r"Collected\s*:\s*(\d+)")


def instruction_counts(program: Path) -> dict[str, int]:
    """Instructions for a frame of 320x180 with its sound, from pixels and samples to tensors and from them to a map.

    Args:
        program: `counted`, which CMake makes of runtime/capi with -DDTFSAL_TOOLS=ON.

    Raises:
        UnavailableError: there is no valgrind.
        UsageError: the program is not one that can be counted.
    """
    if (valgrind := shutil.which("valgrind")) is None:
        raise UnavailableError("instructions are counted by valgrind, which is not on PATH: install it")
    kind, few = _run(valgrind, program, FEW_FRAMES)
    _, many = _run(valgrind, program, MANY_FRAMES)
    frames = MANY_FRAMES - FEW_FRAMES
    return {f"libdtfsal/{platform.machine()}-{kind}/frame/instructions": (many - few) // frames}


def _run(valgrind: str, program: Path, frames: int) -> tuple[str, int]:
    """What the program says it was made with, and all its instructions."""
    command = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program.absolute()), str(frames)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip(), int(_COLLECTED.findall(done.stderr)[0])
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise UsageError(
            f"{program} is not a program whose frames can be counted ({error}): build `counted` again"
        ) from error
