"""The command `serve`: puts database, keys, Orthanc's address and the pipeline together and serves the routes.

The plugin starts it and holds its standard input open: the end of that tells that Orthanc is gone, whatever ended it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import logs, startup
from orthanc_deid.api.app import create_app
from orthanc_deid.config import Config
from orthanc_deid.errors import SetupError, StoreError
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.orthanc.client import OrthancClient
from orthanc_deid.orthanc.peers import Peers
from orthanc_deid.orthanc.settings import Receivers
from orthanc_deid.pipeline.service import TASKS_FILE, Service
from orthanc_deid.store import Store, subjects
from orthanc_deid.tuning import share_memory

STOP_SECONDS = 4.0
"""How long the pipeline may take to stop."""
LAST_SECONDS = 9.0
"""After this long, what has not stopped is ended."""
TOKEN_LENGTH = 32
"""Characters that a token has at least."""

log = logs.get(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="Orthanc's configuration (file or folder), or - for the plugin's line",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM, SIGINT or the end of standard input. Raises SetupError when it cannot start."""
    begun = startup.read(args.config)
    share_memory()
    logs.configure()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    if begun.from_plugin:
        threading.Thread(target=_wait_for_the_end_of_stdin, args=[stop], daemon=True).start()
    try:
        config = begun.configure()
        listen = None if begun.from_plugin else config.listen
        token = _token(config.service_token_file) if listen is not None else begun.secret
        service = build(config, begun)
        socket = _socket(begun, config)
    except SetupError as error:
        _tell(begun, error)
        raise
    where: dict[str, Any] = {"uds": str(socket)}
    if listen is not None:
        where = {"host": listen.host, "port": listen.port}
        if listen.certificate is not None:
            where |= {"ssl_certfile": str(listen.certificate), "ssl_keyfile": listen.key and str(listen.key)}
    # Runs in a thread, where it leaves the signals alone.
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(service, token),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            **where,
        )
    )
    api = threading.Thread(target=server.run, name="api", daemon=True)
    try:
        service.start()
    except SetupError as error:
        _tell(begun, error)
        raise
    except SQLAlchemyError as error:
        damaged = StoreError(f"the database cannot be used ({type(error).__name__}): see what doctor says of it")
        _tell(begun, damaged)
        raise damaged from None
    try:
        api.start()
        failed = _serve(server, api, stop, lambda: service.lost)
    finally:
        # Nothing may outlive Orthanc, whatever hangs.
        last = threading.Timer(LAST_SECONDS, _end_all)
        last.daemon = True
        last.start()
        server.should_exit = True
        service.stop(STOP_SECONDS)
        api.join(2)
        if begun.from_plugin:
            # The plugin made this folder for this process alone, and may be gone itself.
            shutil.rmtree(socket.parent, ignore_errors=True)
        service.store.close()
        last.cancel()
    return 1 if failed else 0


def build(config: Config, begun: startup.Startup) -> Service:
    """Open database and keys and build the service. Raises SetupError.

    A missing key file is made only while nobody depends on one: with another key every patient would get a second
    pseudonym.
    """
    config.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_a_lost_database(config)
    store = Store.open(config.database, password_file=config.database_password_file)
    with store.read() as conn:
        first = not subjects.exist(conn)
    master = MasterKey.open(config.key_file, create=first)
    receivers = Receivers(begun.modalities, begun.dicomweb, begun.orthanc)
    orthanc = OrthancClient(begun.url, begun.authorization, begun.ca)
    peers = Peers(begun.peers, begun.orthanc, orthanc)
    return Service(config, orthanc, peers, store, master, receivers)


def _tell(begun: startup.Startup, error: SetupError) -> None:
    """Leave word for the plugin of why the service does not start, beside where its socket would be."""
    if begun.socket is not None:
        (begun.socket.parent / "why").write_text(str(error), encoding="utf-8")


def _refuse_a_lost_database(config: Config) -> None:
    """An empty ledger instead of a lost one would send everything again, and call all of it a conflict."""
    tasks = config.data_directory / TASKS_FILE
    if not isinstance(config.database, Path) or config.database.exists() or not tasks.exists():
        return
    raise StoreError(
        f"the database {config.database} is gone, but {tasks.name} beside it shows that there was one: restore it from "
        f"the backup; to begin a new ledger on purpose, remove {tasks.name}"
    )


def _socket(begun: startup.Startup, config: Config) -> Path:
    """The path of the socket, in a folder that is ours alone: the socket itself anybody may open."""
    socket = begun.socket or config.data_directory / "s"
    mode = stat.S_IMODE(socket.parent.stat().st_mode)
    if mode & 0o077:
        raise SetupError(f"{socket.parent}: others may enter this folder (mode {mode:o}), it must be 700")
    socket.unlink(missing_ok=True)
    return socket


def _token(file: Path | None) -> str:
    """Read the token that those who ask have to know. Raises SetupError."""
    try:
        token = file.read_text(encoding="utf-8").strip() if file is not None else ""
    except OSError as error:
        raise SetupError(f"Deid.ServiceTokenFile: {file} cannot be read ({error.strerror})") from None
    if len(token) < TOKEN_LENGTH:
        raise SetupError(f"Deid.ServiceTokenFile: the token has to have at least {TOKEN_LENGTH} characters")
    return token


def _serve(server: uvicorn.Server, api: threading.Thread, stop: threading.Event, lost: Callable[[], bool]) -> bool:
    """Wait for the end; whether it came by itself: the routes are no longer served, or others have taken the work."""
    said = False
    while not stop.wait(1.0 if said else 0.02):
        if not api.is_alive():
            log.error("the routes are no longer served")
            return True
        if lost():
            return True
        if server.started and not said:
            print("ready", flush=True)
            said = True
    return False


def _wait_for_the_end_of_stdin(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def _end_all() -> None:
    """End this process and its workers at once."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
