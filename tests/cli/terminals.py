"""A pseudo-terminal that a command runs in, and what a person sees there at the end."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([a-zA-Z])|(.)", re.DOTALL)


class Terminal:
    """What was written so far; `screen` is what it looks like."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.written = b""

    @property
    def screen(self) -> list[str]:
        """The lines, also those that have left a real screen at its top.

        As a terminal draws them: lines wrap at its width, the cursor moves, and lines are erased.
        """
        lines, row, column = [[" "] * self.columns], 0, 0
        for number, command, letter in _TOKEN.findall(self.written.decode()):
            if command == "A":
                row = max(0, row - int(number or 1))
            elif command == "K":
                start = {"": column, "0": column, "1": 0, "2": 0}[number]
                end = column + 1 if number == "1" else self.columns
                lines[row][start:end] = [" "] * (end - start)
            elif command:
                assert command in "mhl", command  # colors, and whether the cursor shows
            elif letter == "\r":
                column = 0
            elif letter == "\n":
                row += 1
            else:
                width = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
                if column + width > self.columns:
                    row, column = row + 1, 0
                while row >= len(lines):
                    lines.append([" "] * self.columns)
                lines[row][column] = letter
                column += width
            while row >= len(lines):
                lines.append([" "] * self.columns)
        return ["".join(line).rstrip() for line in lines]


@contextmanager
def pseudo_terminal(columns: int) -> Iterator[Terminal]:
    """Let this process's input and output be a terminal of a width."""
    terminal = Terminal(columns)
    controller, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def read() -> None:
        try:
            while part := os.read(controller, 65536):
                terminal.written += part
        except OSError:  # how Linux says that the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    streams = sys.stdin, sys.stdout, sys.stderr
    kept = [os.dup(number) for number in range(3)]
    for number in range(3):
        os.dup2(side, number)
    os.close(side)
    sys.stdout, sys.stderr = (open(os.dup(number), "w", buffering=1) for number in (1, 2))  # noqa: PTH123, SIM115
    try:
        yield terminal
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.close()
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, old in enumerate(kept):
            os.dup2(old, number)
            os.close(old)
        reader.join()
        os.close(controller)
