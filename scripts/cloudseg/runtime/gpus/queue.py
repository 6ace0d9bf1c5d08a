"""Waiting for devices and taking them, all at once and in the order in which jobs came; see :mod:`.lease`."""

import contextlib
import fcntl
import functools
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cloudseg.runtime.gpus.locks import LOOK_EVERY, Locks, Waiting
from cloudseg.runtime.job_watchdog import not_watched

LOOK_OFTEN = 4  # first jobs of the queue, which look every LOOK_EVERY seconds; those behind them look less often
STOPPED_AFTER = 10  # seconds without a look: whoever stopped a waiting job (Ctrl-Z) must not block the others
LONGEST_NAME = 240  # bytes of a file's name; file systems take 255
MOST_NAMED = 8  # devices in a message
CLAIMED = 8  # slots of a device that are also claimed by sockets, which outlive its lock files; a job alone has all


class Ticket(NamedTuple):
    """The request of a job that waits."""

    arrival: int  # nanoseconds on the machine's clock
    looked: int  # when it last looked, likewise
    pool: list[str]
    count: int
    jobs_per_device: int


@contextlib.contextmanager
def held(pool: list[str], count: int, jobs_per_device: int, folder: Path) -> Iterator[list[str]]:
    """Wait for some devices and hold them while the block runs.

    Parameters
    ----------
    pool : names of the devices.
    count : how many of them, from 1.
    jobs_per_device : jobs that may share one, from 1.
    folder : where the locks lie.

    Yields
    ------
    list of str : the names of those that are held.
    """
    arrival = time.monotonic_ns()
    entry = ""  # the file of this job in the queue
    waiting, waits = Waiting(), False
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as until_taken:
        until_taken.enter_context(not_watched())
        locks = stack.enter_context(contextlib.closing(Locks(folder)))
        while True:
            with locks.mutex(waiting):
                ticket = Ticket(arrival, time.monotonic_ns(), pool, count, jobs_per_device)
                earlier = [other for other in _waiting(locks, entry) if other.arrival < arrival]
                taken = _take(locks, ticket, earlier)
                if not taken and not (entry and locks.has_its_name(entry)):
                    entry = next(name for name in _entries() if locks.try_lock(name))
                if not taken:
                    locks.write(entry, json.dumps(ticket._asdict()))
            if taken:
                break
            if not waits:
                print(f"waiting for {count} of {len(pool)} devices: {', '.join(pool)}", flush=True)
            waits = True
            waiting.say(functools.partial(_in_words, locks, ticket, earlier))
            ahead = sum(not set(pool).isdisjoint(other.pool) for other in earlier)
            time.sleep(LOOK_EVERY * max(1, (1 + ahead) / LOOK_OFTEN))
            if locks.is_replaced():  # by its owner: new jobs look into the new folder
                locks.close()
                locks, entry = stack.enter_context(contextlib.closing(Locks(folder))), ""
        locks.close_all_but(itertools.chain(*taken.values()))
        waited = f" after waiting {(time.monotonic_ns() - arrival) / 1e9:.1f} s" if waits else ""
        print(f"leased {', '.join(taken)}{waited}", flush=True)
        until_taken.close()
        yield list(taken)


def _in_words(locks: Locks, ticket: Ticket, earlier: list[Ticket]) -> str:
    """Say who has the devices that a ticket waits for."""
    names = ticket.pool[:MOST_NAMED]
    held = "; ".join(f"{name} is {_use_in_words(locks, name)}" for name in names)
    more = f"; and {len(ticket.pool) - len(names)} more devices" if len(ticket.pool) > len(names) else ""
    jobs = len(earlier)
    queue = f"; {jobs} job{'s' if jobs > 1 else ''} came before this one" if jobs else ""
    return f"{ticket.count} of {len(ticket.pool)} devices: {held}{more}{queue}. This job goes on by itself"


def _use_in_words(locks: Locks, name: str) -> str:
    device = _file_name("device", name)
    if busy := _busy_slots(locks, name):
        return "shared by " + ", ".join(locks.holders(slot) for slot in busy)
    if locks.is_locked(device):
        return f"held by {locks.holders(device)}"
    if locks.claimed_by(device, range(CLAIMED)):
        return f"held by {locks.holders(device, range(CLAIMED))}, whose lock file was removed"
    return "free, and kept for a job that came before"


def _take(locks: Locks, ticket: Ticket, earlier: list[Ticket]) -> dict[str, list[str]]:
    """Lock all that ``ticket`` wants, the least used first, or nothing; return the lock files of each device."""
    jobs_on = functools.cache(functools.partial(_jobs_on, locks))
    reserved: set[str] = set()

    def least_used(pool: list[str], jobs_below: float) -> list[str]:
        return sorted((name for name in pool if name not in reserved and jobs_on(name) < jobs_below), key=jobs_on)

    for other in sorted(earlier, key=lambda other: other.arrival):
        # A job that shares with none needs a shared device to become empty: no other job may join there.
        jobs_below = other.jobs_per_device if other.jobs_per_device > 1 else math.inf
        reserved.update(least_used(other.pool, jobs_below)[: other.count])
    taken: dict[str, list[str]] = {}
    for name in least_used(ticket.pool, ticket.jobs_per_device):
        if len(taken) < ticket.count and (files := _lock_device(locks, name, ticket.jobs_per_device)):
            taken[name] = files
    if len(taken) < ticket.count:
        for file in itertools.chain(*taken.values()):
            locks.unlock(file)
        return {}
    return taken


def _lock_device(locks: Locks, name: str, jobs_per_device: int) -> list[str]:
    device = _file_name("device", name)
    if not locks.try_lock(device, fcntl.LOCK_EX if jobs_per_device == 1 else fcntl.LOCK_SH):
        return []
    if jobs_per_device == 1 and locks.claim(device, range(CLAIMED)):
        locks.note(device)
        return [device]
    for slot in range(jobs_per_device if jobs_per_device > 1 else 0):
        file = _file_name(f"slot{slot}", name)
        if locks.try_lock(file):
            if locks.claim(device, {slot} & set(range(CLAIMED))):
                locks.note(file)
                return [device, file]
            locks.unlock(file)
    locks.unlock(device)
    return []


def _jobs_on(locks: Locks, name: str) -> float:
    """Return how many jobs share a device; infinity when one has it alone."""
    device = _file_name("device", name)
    if not locks.exists(device) or not locks.is_locked(device):  # a ticket may name an unknown device
        return 0
    if locks.is_locked(device, fcntl.LOCK_SH):
        return math.inf
    return len(_busy_slots(locks, name))


def _busy_slots(locks: Locks, name: str) -> list[str]:
    busy = []
    slots = (_file_name(f"slot{slot}", name) for slot in itertools.count())
    for slot in itertools.takewhile(locks.exists, slots):
        if locks.is_locked(slot):
            busy.append(slot)
        locks.close_file(slot)  # there may be more than a process may have open
    return busy


def _waiting(locks: Locks, own_entry: str) -> Iterator[Ticket]:
    """Yield the tickets of all other jobs that wait and look for devices."""
    for entry in itertools.takewhile(locks.exists, _entries()):
        if entry == own_entry:
            continue
        ticket = _read_ticket(locks.read(entry)) if locks.is_locked(entry) else None
        locks.close_file(entry)  # there may be more than a process may have open
        # A ticket from the future is of another clock, or forged
        if ticket and ticket.looked <= time.monotonic_ns() < ticket.looked + STOPPED_AFTER * 1e9:
            yield ticket


def _read_ticket(text: bytes) -> Ticket | None:
    """Return a ticket that another job wrote; None for content that no job writes."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or facts.keys() != set(Ticket._fields):
        return None
    ticket = Ticket(**facts)
    numbers = ticket.arrival, ticket.looked, ticket.count, ticket.jobs_per_device
    if any(type(number) is not int for number in numbers) or not isinstance(ticket.pool, list):
        return None
    names = all(isinstance(name, str) and name.isprintable() for name in ticket.pool)
    names = names and all(len(_file_name("device", name).encode()) <= LONGEST_NAME for name in ticket.pool)
    sound = 0 <= ticket.arrival <= ticket.looked and 1 <= ticket.count <= len(ticket.pool)
    return ticket if names and sound and ticket.jobs_per_device >= 1 else None


def _entries() -> Iterator[str]:
    return (f"queue{number}" for number in itertools.count())


def _file_name(kind: str, name: str) -> str:
    # Older drivers name a MIG instance `MIG-GPU-.../1/0`
    return f"{kind}-{name.replace('%', '%25').replace('/', '%2F')}"
