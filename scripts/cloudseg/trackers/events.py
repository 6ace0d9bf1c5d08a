"""TensorBoard's event files: records of an epoch's numbers, appended and read back."""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from cloudseg.storage.files import make_folder
from cloudseg.trackers.run import TrackedRun, metrics

VERSION = "brain.Event:2"
HEAD, TAIL = struct.Struct("<QI"), struct.Struct("<I")  # length and its checksum; the checksum of the record


def append(path: Path, events: Iterable[Event]) -> None:
    """Append events to a file; a new one begins with what every event file begins with."""
    make_folder(path.parent)
    with path.open("ab") as file:
        writer = RecordWriter(file)
        if not file.tell():
            start = Event(wall_time=0, step=0, file_version=VERSION)
            writer.write(start.SerializeToString())
        for event in events:
            writer.write(event.SerializeToString())


def read(path: Path) -> Iterator[tuple[Event, int]]:
    """Yield the events of a file, each with where it ends; one that a killed writer left half is no event."""
    data = path.read_bytes()
    position = 0
    while position + HEAD.size <= len(data):
        length, _ = HEAD.unpack_from(data, position)
        begin, position = position + HEAD.size, position + HEAD.size + length + TAIL.size
        if position > len(data):
            return
        yield Event.FromString(data[begin : begin + length]), position


def epoch_events(run: TrackedRun, after: int = 0) -> Iterator[Event]:
    """Yield an event for each epoch of a run after the first so many."""
    for epoch, end in zip(run.epochs[after:], run.ends[after:], strict=True):
        yield Event(wall_time=end, step=epoch.number, summary=summary_of(metrics(epoch)))


def restart(wall_time: float) -> Event:
    """Return the event that makes TensorBoard forget what earlier files of the run say."""
    return Event(wall_time=wall_time, step=0, session_log=SessionLog(status=SessionLog.START))


def summary_of(values: dict[str, float]) -> Summary:
    """Return numbers as TensorBoard keeps them, in float32."""
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
