"""The changing lines of a terminal, on a real pseudo-terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAM = """
import os, sys, time
sys.path.insert(0, {here!r})
from logger_records import Run

from cloudseg import terminal

terminal.register(lambda rule, wildcards: None, [], {{"train": "train"}})
run = Run(stats={{"train": 30}})
for fold in range({jobs}):
    names = {{"encoder": "resnet34", "decoder": "fpn", "size": "96x144", "recipe": "a_recipe_with_a_long_name"}}
    run.start(fold, "train", log=[f"{{fold}}.log"], fold=str(fold), **names)
os.system("echo a child warns, in a line that is longer than some of the terminals of this test are wide >&2")
print("a print of the Snakefile")
sys.stdout.write("half a line")
run.say("a message")
time.sleep(1.5)
run.finish(0)
if {how!r} == "raise":
    run.close()
    raise KeyboardInterrupt
if {how!r} == "wait":
    time.sleep(60)
run.close()
os.system("echo after the end >&2")
"""


class Terminal:
    """As much of a terminal as these lines need: rows of text, and whether the cursor is shown."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines, self.row, self.column, self.cursor = [""], 0, 0, True

    def feed(self, text):
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[^\x1b]", text):
            if part.startswith("\x1b"):
                self._control(part[2:-1], part[-1])
            elif part == "\r":
                self.column = 0
            elif part == "\n":
                self._go_down()
            else:
                if self.column == self.columns:
                    self._go_down()
                    self.column = 0
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1

    def _go_down(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _control(self, numbers, letter):
        if letter == "A":
            # what has scrolled out of the window is out of reach
            self.row = max(self.row - int(numbers or 1), len(self.lines) - self.rows, 0)
        elif letter == "K":
            self.lines[self.row] = ""
        elif numbers == "?25":
            self.cursor = letter == "h"
        else:
            assert letter == "m", (numbers, letter)


def on_terminal(tmp_path, columns, *, rows=24, jobs=2, how="end", until=None):
    """Run the program on a terminal; return what it shows when it has ended, or, killed, when `until` is there."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    program = PROGRAM.format(here=str(HERE), jobs=jobs, how=how)
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=follower, stderr=follower,
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    os.close(follower)
    terminal, frames, data = Terminal(columns, rows), [], b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 0.2)[0]:
            try:
                new = os.read(leader, 2**16)
            except OSError:  # all that wrote to it have ended
                break
            data += new
            continue
        text = data.decode()
        terminal = Terminal(columns, rows)
        terminal.feed(text)
        frames.append(terminal)
        if until and any(until in line for line in terminal.lines):
            process.send_signal(signal.SIGKILL)
            until = None
    process.wait(10)
    os.close(leader)
    terminal = Terminal(columns, rows)
    terminal.feed(data.decode())
    return terminal, frames


@pytest.mark.parametrize("columns", [120, 80, 40])
def test_what_others_write_stands_above_the_changing_lines_and_nothing_is_left_of_these(tmp_path, columns):
    end, frames = on_terminal(tmp_path, columns)
    assert end.cursor
    text = "\n".join(line.rstrip() for line in end.lines).rstrip()
    whole = "".join(line.ljust(columns) for line in end.lines)  # as the terminal has wrapped it
    assert whole.count("a child warns, in a line that is longer than some of the terminals of this test are wide") == 1
    assert text.count("a print of the Snakefile") == text.count("a message") == text.count("half a line") == 1
    assert text.splitlines()[-1] == "after the end"
    assert "[ 1/30] train fpn resnet34 96x144 a_recipe_with_a_long_name fold 0" in whole
    assert "steps done" not in text
    assert "so far" not in text
    frame = next(frame for frame in frames if any("0 of 30 steps done" in line for line in frame.lines))
    assert frame.cursor
    *_, first, second, summary = [line for line in frame.lines if line]
    assert first.startswith("train fpn")
    assert ("…" in first) == (columns < 80)
    assert re.search(r"fold 1: \d s so far$", second)
    assert summary == "0 of 30 steps done"


def test_more_jobs_than_rows_fit_in_the_window(tmp_path):
    end, frames = on_terminal(tmp_path, 100, rows=10, jobs=20)
    frame = next(frame for frame in frames if any("0 of 30 steps done" in line for line in frame.lines))
    shown = [line for line in frame.lines if line][-8:]
    assert [line.startswith("train fpn") for line in shown] == [True] * 6 + [False] * 2
    assert shown[-2:] == ["and 14 more", "0 of 30 steps done"]
    assert "so far" not in "\n".join(end.lines)


def test_an_interrupted_run_gives_the_terminal_back(tmp_path):
    end, _ = on_terminal(tmp_path, 80, how="raise")
    text = "\n".join(end.lines)
    assert end.cursor
    assert "KeyboardInterrupt" in text
    assert "steps done" not in text


def test_a_killed_run_leaves_a_cursor(tmp_path):
    end, _ = on_terminal(tmp_path, 80, how="wait", until="[ 1/30]")
    assert end.cursor
    assert "\n".join(end.lines).count("steps done") == 1
