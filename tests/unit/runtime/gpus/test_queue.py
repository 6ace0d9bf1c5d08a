"""Jobs that wait for devices: who comes first, and whose ticket counts."""

import contextlib
import fcntl
import itertools
import json
import random
import signal
import time

import pytest
from lock_holders import FOUR, PATIENCE, events, next_line

from cloudseg.runtime.gpus import queue
from cloudseg.runtime.gpus.lease import lease


@pytest.mark.parametrize(("seed", "wanted"), [(1, [1] * 12), (2, [1, 2] * 6), (3, [2, 1, 1] * 4)])
def test_twelve_jobs_on_four_devices_some_killed(start, folder, seed, wanted):
    print(f"seed {seed}")
    rng = random.Random(seed)
    counts = dict(zip((f"job{number}" for number in range(12)), rng.sample(wanted, 12), strict=True))
    names = list(counts)
    killed_holding, killed_early = names[2:5], names[8:10]
    holds = {name: 600 if name in killed_holding + killed_early else rng.uniform(0.3, 0.6) for name in names}
    processes = {name: start(name, counts[name], 1, holds[name]) for name in names}
    # a time after which event each of them is killed
    kills = {name: ("start", rng.uniform(0.1, 0.4)) for name in killed_holding}
    kills |= {name: ("ask", rng.uniform(0.0, 0.8)) for name in killed_early}
    with folder.with_name("log").open("ab", buffering=0) as log:
        limit = time.monotonic() + PATIENCE
        while any(process.poll() is None for process in processes.values()):
            assert time.monotonic() < limit, events(folder)
            for at, name, what, _ in events(folder):
                if name in kills and what == kills[name][0] and time.monotonic() > at + kills[name][1]:
                    del kills[name]
                    log.write(f"{time.monotonic()} {name} killed \n".encode())
                    processes[name].kill()
            time.sleep(0.01)
    seen = events(folder)
    finished = {name for _, name, what, _ in seen if what == "stop"}
    assert finished == set(names) - set(killed_holding) - set(killed_early)
    assert all(processes[name].returncode == 0 for name in finished)

    ends = {name: at for at, name, what, _ in seen if what in ("stop", "killed")}
    starts = {name: (at, devices) for at, name, what, devices in seen if what == "start"}
    assert all(len(set(devices)) == counts[name] for name, (_, devices) in starts.items())
    for device in FOUR:
        held = sorted((at, ends[name]) for name, (at, devices) in starts.items() if device in devices)
        assert len(held) > 1
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(held)), (device, held)
    assert idle_share(seen, counts, starts, ends) < 0.25


def idle_share(seen, counts, starts, ends):
    """Return how much of the devices lay idle while jobs waited, any of which could have used what was free."""
    asks = {name: at for at, name, what, _ in seen if what == "ask"}
    idle = waited = 0.0
    for begin, end in itertools.pairwise(sorted(at for at, *_ in seen)):
        free = 4 - sum(counts[name] for name, (at, _) in starts.items() if at <= begin and end <= ends[name])
        waiting = [name for name in asks if asks[name] <= begin and end <= starts.get(name, [ends[name]])[0]]
        if waiting:
            wanted = [counts[name] for name in waiting]
            waited += (end - begin) * 4
            idle += (end - begin) * min(free, sum(wanted)) * (free >= max(wanted))
    print(f"idle while jobs waited: {idle / waited:.1%}")
    return idle / waited


def test_a_job_for_two_is_not_overtaken_by_jobs_for_one(start, folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # leases that end out of order leave it as it was in the middle
    holders = [contextlib.ExitStack() for _ in range(2)]
    for holder in holders:
        holder.enter_context(lease(1, pool=["a", "b"], folder=folder))
    jobs = {}
    for name, count in [("wide", 2), ("narrow", 1), ("thin", 1)]:
        jobs[name] = start(name, count, 1, 0.1, pool=["a", "b"])
        assert next_line(jobs[name]) == f"waiting for {count} of 2 devices: a, b"
    holders[0].close()
    time.sleep(0.5)
    assert not [what for _, _, what, _ in events(folder) if what == "start"]  # the first is kept for the wide one
    holders[1].close()
    assert next_line(jobs["wide"]).startswith("leased a, b after waiting ")
    assert all(process.wait(PATIENCE) == 0 for process in jobs.values())
    assert next(name for _, name, what, _ in events(folder) if what == "start") == "wide"


def test_a_job_that_shares_with_none_is_not_overtaken_by_jobs_that_share(start, folder):
    with lease(1, jobs_per_device=2, pool=["a"], folder=folder):
        alone = start("alone", 1, 1, 0.1, pool=["a"])
        assert next_line(alone).startswith("waiting")
        sharing = start("sharing", 1, 2, 0.1, pool=["a"])
        assert next_line(sharing).startswith("waiting")  # although the device has room for it
    assert alone.wait(PATIENCE) == sharing.wait(PATIENCE) == 0
    assert [name for _, name, what, _ in events(folder) if what == "start"] == ["alone", "sharing"]


def test_a_job_waits_only_for_devices_that_it_may_use(start, folder):
    with lease(1, pool=["a"], folder=folder):
        assert next_line(start("other", 1, 1, 0, pool=["a"])).startswith("waiting for 1 of 1 devices")
        with lease(1, pool=["b"], folder=folder) as devices:
            assert devices == ("b",)
        with lease(1, pool=["a", "b"], folder=folder) as devices:
            assert devices == ("b",)


def test_a_waiting_job_that_was_stopped_blocks_nobody(start, folder, monkeypatch):
    with lease(1, pool=["a"], folder=folder):
        stopped = start("stopped", 1, 1, 0, pool=["a"])
        assert next_line(stopped).startswith("waiting")
        stopped.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(queue, "STOPPED_AFTER", 0.2)
    with lease(1, pool=["a"], folder=folder) as devices:
        assert devices == ("a",)
        stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(PATIENCE) == 0


def odd_tickets():
    """Yield what no job writes: each differs from a ticket that would have to be waited for in one thing."""
    now = time.monotonic_ns()
    sound = {"arrival": 0, "looked": now, "pool": ["a"], "count": 1, "jobs_per_device": 1}
    in_a_day = now + 86400 * 10**9
    yield json.dumps(sound | {"looked": in_a_day})
    for name in ("arrival", "looked", "count", "jobs_per_device"):
        for value in ("x", None, [], {}, 1.5, True, -1):
            yield json.dumps(sound | {name: value})
    for pool in ("a", None, {"a": 1}, [1, "a"], [["a"]], [None], ["a\0"], ["\ud800"], ["a" * 300], []):
        yield json.dumps(sound | {"pool": pool})
    yield json.dumps(sound | {"more": 1})
    yield "[" * 10000
    yield "9" * 5000


def test_a_sound_ticket_has_its_say(folder):
    """Else the odd ones would prove nothing."""
    with lease(1, pool=["a"], folder=folder), lease(1, pool=["b"], folder=folder):
        pass
    sound = {"arrival": 0, "looked": time.monotonic_ns(), "pool": ["a"], "count": 1, "jobs_per_device": 1}
    with (folder / "queue0").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(json.dumps(sound))
        other.flush()
        with lease(1, pool=["a", "b"], folder=folder) as devices:
            assert devices == ("b",)


def test_a_ticket_makes_no_files(folder):
    with lease(1, pool=["a"], folder=folder):
        pass
    names = [f"x{number}" for number in range(50)]
    sound = {"arrival": 0, "looked": time.monotonic_ns(), "pool": names, "count": 50, "jobs_per_device": 1}
    with (folder / "queue0").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(json.dumps(sound))
        other.flush()
        with lease(1, pool=["a"], folder=folder):
            pass
    assert {file.name for file in folder.glob("device-*")} == {"device-a"}


def test_tickets_of_the_dead_and_of_vandals_have_no_say(start, folder):
    with lease(1, pool=["a"], folder=folder):
        dead = start("dead", 1, 1, 0, pool=["a"])
        assert next_line(dead).startswith("waiting")
        dead.kill()
        dead.wait()
    with (folder / "queue0").open("r+") as vandal:
        fcntl.flock(vandal, fcntl.LOCK_EX)
        for text in ("", "no ticket", '{"count": 1}', "[1]", *odd_tickets()):
            vandal.seek(0)
            vandal.truncate()
            vandal.write(text)
            vandal.flush()
            with lease(1, pool=["a"], folder=folder) as devices:
                assert devices == ("a",)
