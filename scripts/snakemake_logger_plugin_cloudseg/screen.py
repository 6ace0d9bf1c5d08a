"""Where the lines go: a terminal, whose last lines change as the run goes on, or a file or pipe, which gets plain ones.

Jobs write to the terminal as well: a library warns, a job says that it waits for a device. While the changing lines
stand there, the descriptors of the terminal lead into a pipe, and what comes out of it is printed above them.
"""

import contextlib
import logging
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from cloudseg.texts import shorten
from snakemake_logger_plugin_cloudseg.board import Board
from snakemake_logger_plugin_cloudseg.controls import plain

COLUMNS = 120  # at most
LOOK = 1.0  # seconds between two looks at the running jobs
SAY = 30.0  # seconds between two plain lines about running jobs
SAID_JOBS = 4  # jobs in plain lines
STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def screen_for(stream: TextIO, board: Board, *, colours: bool) -> "Screen | Lines":
    """Return what shows a board on a stream."""
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and os.name == "posix":
        with contextlib.suppress(ImportError):  # rich is not there
            return Screen(stream, board, colours=colours)
    return Lines(stream, board)


class _Watcher:
    """A thread that looks at the board every second."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look, self._ended = look, threading.Event()
        self._thread = threading.Thread(target=self._run, name="display", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        while not self._ended.wait(LOOK):
            self._look()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(LOOK)  # not for ever: it may wait for a dead disk


class Lines:
    """Plain lines, without control characters.

    Parameters
    ----------
    stream : where they go.
    board : of the run.
    """

    def __init__(self, stream: TextIO, board: Board) -> None:
        self._stream, self._board = stream, board
        self._lock = threading.Lock()
        self._said, self._states = time.monotonic(), dict[int, Any]()
        self._watcher = _Watcher(self._look)

    def print(self, text: str, level: int = logging.INFO) -> None:
        """Print a text."""
        with self._lock:
            self._stream.write(f"{plain(text)}\n")
            self._stream.flush()

    def refresh(self) -> None:
        """Show nothing: only what has happened is said."""

    def close(self) -> None:
        """End the thread."""
        self._watcher.end()

    def _look(self) -> None:
        self._board.look()
        if time.monotonic() - self._said < SAY:
            return
        running = self._board.running()
        moved = [job.line() for job in running if self._states.get(job.number) != job.state()]
        self._said, self._states = time.monotonic(), {job.number: job.state() for job in running}
        if moved:
            more = [f"and {len(moved) - SAID_JOBS} more"] if len(moved) > SAID_JOBS else []
            texts = [self._board.summary(), *(f"  {line}" for line in [*moved[:SAID_JOBS], *more])]
            self.print("\n".join(shorten(text, COLUMNS) for text in texts))


class Screen:
    """A terminal: what has happened, and below it a line per running job and one for the whole run.

    Parameters
    ----------
    stream : the terminal.
    board : of the run.
    colours : whether to use any.
    """

    def __init__(self, stream: TextIO, board: Board, *, colours: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._board, self._colours = board, colours
        self._terminal = os.fdopen(os.dup(stream.fileno()), "w", encoding="utf-8", errors="replace")
        self._console = Console(
            file=self._terminal, force_terminal=True, no_color=not colours, highlight=False, markup=False, emoji=False
        )
        self._lock = threading.RLock()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._region,
        )
        self._measure()
        self._live.start(refresh=True)
        # Of a process that is killed, nobody would show it again
        self._console.show_cursor(True)
        descriptors = [number for number in (1, 2) if os.isatty(number)]
        self._captured = _Captured(descriptors, lambda line: self.print(line))
        self._watcher = _Watcher(self._look)

    def print(self, text: str, level: int = logging.INFO) -> None:
        """Print a text above the lines of the running jobs."""
        from rich.text import Text

        with self._lock:
            style = STYLES.get(level, "") if self._colours else ""
            self._console.print(Text(plain(text), style=style), soft_wrap=True)

    def refresh(self) -> None:
        """Show the board as it is now."""
        with self._lock:
            self._measure()
            self._live.refresh()

    def close(self) -> None:
        """Take the changing lines away."""
        self._watcher.end()
        self._captured.end()
        with self._lock:
            self._live.stop()
            with contextlib.suppress(OSError):
                self._terminal.flush()

    def _look(self) -> None:
        self._board.look()
        self.refresh()

    def _measure(self) -> None:
        """Take the size of the terminal, which rich would ask of descriptors that now lead into the pipe."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._terminal.fileno())
            self._console.size = columns or 80, lines or 25

    def _region(self) -> Any:
        from rich.text import Text

        # Not the last column: some terminals wrap behind it
        size = self._console.size
        width, room = min(COLUMNS, size.width - 1), max(1, size.height - 3)
        lines = [job.line() for job in self._board.running()]
        if len(lines) > room:
            lines = [*lines[: room - 1], f"and {len(lines) - room + 1} more"]
        rows = [shorten(line, max(1, width)) for line in [*lines, self._board.summary()]]
        text = Text("\n".join(rows), no_wrap=True, overflow="crop")
        if self._colours:
            text.stylize("bold", len("\n".join(rows)) - len(rows[-1]))
        return text


class _Captured:
    """Takes what this process and its children write to some descriptors, line by line.

    Parameters
    ----------
    descriptors : those of the terminal.
    use : what is done with each line.
    """

    def __init__(self, descriptors: Sequence[int], use: Callable[[str], None]) -> None:
        self._use, self._ended = use, threading.Event()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._saved = {number: os.dup(number) for number in descriptors}
        self._reading, writing = os.pipe()
        for number in descriptors:
            os.dup2(writing, number)
        os.close(writing)
        self._thread = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Give the terminal back."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, saved in self._saved.items():
            os.dup2(saved, number)
            os.close(saved)
        self._ended.set()
        self._thread.join(LOOK)

    def _read(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        rest = b""
        while True:
            if not select.select([self._reading], [], [], 0.1)[0]:
                if self._ended.is_set():  # a child that still runs keeps the pipe open
                    break
                continue
            if not (data := os.read(self._reading, 2**16)):
                break
            *lines, rest = re.split(rb"[\r\n]+", rest + data)
            for line in filter(None, lines):
                self._use(line.decode("utf-8", errors="replace"))
        if rest:
            self._use(rest.decode("utf-8", errors="replace"))
