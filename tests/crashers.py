"""Stand-ins for the worker process that die, hang or ask, for the tests of the pool (child processes import them)."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from orthanc_deid.pipeline.messages import AskKnown, Done, End, GiveWay, Setup


def main(pipe: Connection, setup: Setup) -> None:
    """Answer each item by what its instance says: kill, once, ask, or anything else: done."""
    try:
        while True:
            while isinstance(chunk := pipe.recv(), GiveWay):
                continue
            for item in chunk.items:
                if item.instance == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if item.instance == "once":
                    flag = Path(setup.outbox) / "died"
                    if not flag.exists():
                        flag.touch()
                        os.kill(os.getpid(), signal.SIGKILL)
                if item.instance == "slow":
                    time.sleep(0.3)
                if item.instance == "hang":
                    time.sleep(600)
                known = None
                if item.instance == "ask":
                    pipe.send(AskKnown(chunk.project, "subject", 3))
                    known = pipe.recv()
                pipe.send(Done(item.row, "ready", findings={"pid": os.getpid(), "known": known}))
                if give_way(pipe):
                    break
            pipe.send(End(1 if chunk.items[0].instance != "fat" else 1 << 40))
    except (EOFError, ConnectionError):
        pass


def give_way(pipe: Connection) -> bool:
    """Whether the service has asked for that."""
    return pipe.poll() and isinstance(pipe.recv(), GiveWay)
