"""What TensorRT says, for our own messages."""

from typing import Any


def make_logger(trt: Any) -> Any:
    """A logger that keeps the library's last error in `last_error`, and its lines off the terminal.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = "it gave no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last_error = message.strip()

    return Log()
