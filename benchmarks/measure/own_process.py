"""Runs in a process of their own, so that what one loads and holds is no part of the next."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from dtfsal.engines.errors import EngineError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_own_process(
    run: Callable[Concatenate[Path, Arguments], Result],
    engine: Path,
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Result:
    """What a function of a module gives for an engine, called in a new process.

    Raises:
        EngineError: the process died.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(run, engine, *arguments, **options).result()
        except concurrent.futures.BrokenExecutor as error:
            raise EngineError(
                f"the process that ran {engine} died, for lack of memory or in its back end: {error}"
            ) from error
