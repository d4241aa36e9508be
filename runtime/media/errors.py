"""What is wrong with media."""

from dtfsal.engines.errors import DtfsalError


class MediaError(DtfsalError):
    """A video or sound file is missing, damaged, or holds nothing to predict. Exit code 3."""

    exit_code = 3
