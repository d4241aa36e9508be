"""Neighbouring stages at once: the next frames are decoded and the last ones written while the engine works.

Each side is one thread, so that items stay in order; the engine stays in the caller's. FFmpeg and NumPy let other
threads run while they work. What is held is bounded: a few frames on either side.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, TypeVar

Item = TypeVar("Item")

DEPTH: Final = 4  # items between two threads: evens out frames that take longer than others
_END: Final = object()


def read_ahead(items: Iterable[Item], depth: int = DEPTH) -> Generator[Item, None, None]:
    """Pass items on, got by a thread of its own up to `depth` before they are asked for.

    An error comes where its item would. Close the generator before what the items come from: it waits for the thread.
    """
    with contextlib.closing(read_pairs(items, depth)) as pairs:
        for item, _ in pairs:
            yield item


def read_pairs(items: Iterable[Item], depth: int = DEPTH) -> Generator[tuple[Item, Item | None], None, None]:
    """As `read_ahead`; each item with the one that follows it, or None where that one has not come yet."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="dtfsal-read") as pool:
        coming = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(pool.submit(next, iterator, _END))
                yield item, _come(coming[0])  # type: ignore[misc]  # not the end, so an item
        finally:
            pool.shutdown(cancel_futures=True)


def _come(future: Future[Item]) -> Item | None:
    """An item that is there."""
    if not future.done() or future.exception() is not None or future.result() is _END:
        return None
    return future.result()


@contextlib.contextmanager
def write_behind(
    write: Callable[[Item], object],
    *,
    depth: int = DEPTH,
    on_written: Callable[[Item], object] = lambda _item: None,
    waiting: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Iterator[Callable[[Item], None]]:
    """A function that hands an item to a thread of its own, which writes it; all are written when the block ends well.

    An error of a write is raised by a later call, or at the block's end. When the block ends with an error, what the
    thread has not begun is not written.

    Args:
        write: called in the thread, for one item after the other.
        depth: items that may wait; a further call waits in turn.
        on_written: called in the caller's thread, some time after an item is written.
        waiting: makes a context that is entered while the caller waits.
    """
    pending: deque[tuple[Item, Future[object]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="dtfsal-write") as pool:

        def settle(left: int) -> None:
            while pending and (len(pending) > left or pending[0][1].done()):
                item, written = pending.popleft()
                if not written.done():
                    with waiting():
                        wait([written])
                written.result()
                on_written(item)

        def hand_over(item: Item) -> None:
            settle(depth - 1)
            pending.append((item, pool.submit(write, item)))

        try:
            yield hand_over
            settle(0)
        finally:
            pool.shutdown(cancel_futures=True)
