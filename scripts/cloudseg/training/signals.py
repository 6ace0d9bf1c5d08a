"""What SIGTERM and SIGINT do to a training: it ends between two steps, and says what the next run will do."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def exiting_on_signal(about: Callable[[], str]) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into an orderly end, with a line that says what the next run will do.

    Parameters
    ----------
    about : returns that line; it is called when the signal comes.

    Raises
    ------
    SystemExit : with 128 plus the number of the signal, as a shell reports it.
    """

    def exit_with(number: int, frame: object) -> None:
        print(f"{signal.Signals(number).name}: {about()}", flush=True)
        raise SystemExit(128 + number)

    with _handling_signals(exit_with):
        yield


def ignoring_signals() -> contextlib.AbstractContextManager:
    """Ignore SIGTERM and SIGINT inside a `with` block of the main thread, which alone gets them."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return _handling_signals(signal.SIG_IGN) if in_main_thread else contextlib.nullcontext()


@contextlib.contextmanager
def _handling_signals(handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
