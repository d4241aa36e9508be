"""Every error a user can cause, with the exit code its kind has on the command line.

A message is one sentence (two at most) that names the file or value at fault and the remedy.
"""

# What Python raises of a document that is not what was expected: for readers to make one of the errors below of it.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


_LONGEST = 1500  # characters of a message


def printable(text: str) -> str:
    """Text for a terminal, whoever wrote it: what would steer the terminal, or cannot be encoded, is escaped."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


class DtfsalError(Exception):
    """Base of all errors that are the input's or the machine's fault rather than a bug. Exit code 1.

    As text it is printable and of bounded length, however long a name or a value in it is.
    """

    exit_code = 1

    def __str__(self) -> str:
        text = printable(super().__str__())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


class UsageError(DtfsalError):
    """An argument has a value that can't work. Exit code 2."""

    exit_code = 2


class EngineError(DtfsalError):
    """An engine bundle is missing, damaged, edited or not one. Exit code 4."""

    exit_code = 4


class EngineMismatchError(EngineError):
    """An engine bundle is sound, but made for another GPU, library version or input. Exit code 4."""


class UnavailableError(DtfsalError):
    """A package, a library, a device or a hub that the request needs is absent. Exit code 5."""

    exit_code = 5


class OutputError(DtfsalError):
    """A result can't be written: no space, no permission, no folder. Exit code 6."""

    exit_code = 6
