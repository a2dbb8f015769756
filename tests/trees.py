"""Other Orthancs: Debian 13 and sid as folders (debootstrap trees) that run beside the machine's own.

``prepare("trixie")`` gives a `Tree`: an Orthanc, its Python plugin and a virtual environment with the locked
requirements, made with that Debian's own Python. Trees are kept outside the checkout, so that only the first run pays
for them. Standard library and pip only: this file also runs as a command, before the tests' own packages are there.

    python tests/trees.py build [trixie] [sid]      exit 0: there; 75: Debian cannot install sid today; 1: an error
    python tests/trees.py run trixie -- COMMAND …   runs a command inside
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

SUITES = ("trixie", "sid")
CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("orthanc", "orthanc-python", "orthanc-dicomweb", "python3", "python3-venv")
VENVS = Path("/opt/orthanc-deid-venvs")
"""Where the virtual environments lie inside a tree, one per content of requirements.txt."""
RECIPE = 2
"""Raise it when a tree made by an older version of this file must not be used any more."""

UNAVAILABLE_EXIT = 75  # EX_TEMPFAIL

# Mounts live in a namespace of their own and end with the process, whatever ends it; nothing has to be unmounted.
# Every step replaces the one before (exec), so the caller's child is the command itself: its pid, signals, exit status.
ENTER = """
set -e
root=$1; scratch=$2; count=$3; shift 3
if [ "$scratch" = yes ]; then
  memory="$root.scratch"
  mkdir -p "$memory"
  mount -t tmpfs tmpfs "$memory"
  mkdir "$memory/upper" "$memory/work" "$memory/root"
  mount -t overlay overlay -o "lowerdir=$root,upperdir=$memory/upper,workdir=$memory/work" "$memory/root"
  root="$memory/root"
fi
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$count" -gt 0 ]; do
  mkdir -p "$root$1"
  mount --rbind "$1" "$root$1"
  shift; count=$((count - 1))
done
exec chroot "$root" "$@"
"""

# Debian's own inconsistency, as apt and debootstrap word it; a mirror that cannot be reached says none of this.
BROKEN_ARCHIVE = re.compile(
    r"unmet dependencies|held broken packages|Unable to satisfy dependencies|is not installable"
    r"|has no installation candidate|Unable to locate package|Couldn't find these debs"
    r"|Failure while (installing|configuring) (base|required) packages"
)


class TreeError(Exception):
    """A tree could not be made, for a reason that lies here: a test that needs it fails."""


class TreeUnavailable(Exception):
    """Debian itself cannot install this suite today: a test that needs it is skipped with this reason."""


@dataclasses.dataclass(frozen=True)
class Tree:
    """A Debian in a folder. Paths given as ``str`` are paths inside it."""

    suite: str
    root: Path
    python: str
    """The service's interpreter: that of the virtual environment with the locked requirements."""
    python_version: str
    versions: Mapping[str, str]
    """Debian's version of each package that was asked for."""
    wheels: str
    """A folder with the wheels of the locked requirements, for whoever installs them once more without a network."""
    orthanc: str = "/usr/sbin/Orthanc"
    plugins: str = "/usr/share/orthanc/plugins"

    def command(
        self, argv: Sequence[str | os.PathLike[str]], binds: Sequence[Path] = (), *, scratch: bool = False
    ) -> list[str]:
        """The host's argv that runs ``argv`` inside.

        The checkout, the temporary folder and ``binds`` are seen inside under their own paths. With ``scratch`` what is
        written elsewhere in the tree lies in memory and is gone when the command ends.
        Network and processes are the machine's: loopback ports and pids are as outside.
        """
        return enter(self.root, argv, [CHECKOUT, Path(tempfile.gettempdir()), *binds], scratch=scratch)

    def run(
        self, argv: Sequence[str | os.PathLike[str]], binds: Sequence[Path] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` inside to its end and capture what it says."""
        return subprocess.run(self.command(argv, binds), capture_output=True, text=True, errors="replace", check=False)


def enter(
    root: Path, argv: Sequence[str | os.PathLike[str]], binds: Sequence[Path] = (), *, scratch: bool = False
) -> list[str]:
    """The argv that runs ``argv`` in the tree at ``root``."""
    shared = _outermost(binds)
    inner = [os.fspath(part) for part in argv]
    return [
        *("unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", ENTER, "tree"),
        *(str(root), "yes" if scratch else "no", str(len(shared)), *map(str, shared), *inner),
    ]


def _outermost(binds: Sequence[Path]) -> list[Path]:
    """Each folder once, and none that lies in another of them: the outer one brings it along."""
    resolved = sorted({path.resolve() for path in binds})
    return [path for path in resolved if not any(other in path.parents for other in resolved)]


def cache() -> Path:
    """The folder of the trees: ``$DEID_CACHE`` or the user's cache, never the checkout."""
    own = os.environ.get("DEID_CACHE")
    if own:
        return Path(own).resolve() / "trees"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "orthanc-deid" / "trees"


_in_use: list[int] = []
"""Locks held to the end of this process, so that nobody builds a tree anew under a running server."""


def prepare(suite: str, say: Callable[[str], None] = lambda line: None) -> Tree:
    """The tree of ``suite`` with its virtual environment, made first where it is missing or half-made (about a minute).

    Raises TreeUnavailable for a sid that Debian itself cannot install, TreeError for everything else.
    """
    if suite not in SUITES:
        raise TreeError(f"no such tree: {suite} (there are {', '.join(SUITES)})")
    _require_machine()
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / suite
    lock = os.open(folder / f"{suite}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    if _stamp(root) is None:
        fcntl.flock(lock, fcntl.LOCK_EX)  # while waiting for it another process may have built the tree
        if _stamp(root) is None:
            build(suite, root, say)
        fcntl.flock(lock, fcntl.LOCK_SH)
    stamp = _stamp(root)
    if stamp is None:
        raise TreeError(f"{root} was removed while it was being prepared")
    _in_use.append(lock)
    with _locked(folder / f"{suite}.venv.lock"):
        venv = _venv(root, say)
    return Tree(suite, root, str(venv / "bin/python"), stamp["python"], stamp["versions"], str(venv / "wheels"))


def _require_machine() -> None:
    if os.geteuid() != 0:
        raise TreeError("other Orthancs need root (debootstrap and chroot)")
    missing = [name for name in ("debootstrap", "unshare", "chroot") if shutil.which(name, path=_sbin_path()) is None]
    if missing:
        raise TreeError(f"not installed: {', '.join(missing)}; apt-get install debootstrap util-linux coreutils")


def _sbin_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def _recipe() -> str:
    return hashlib.sha256(repr((RECIPE, PACKAGES)).encode()).hexdigest()[:16]


def _stamp(root: Path) -> dict[str, Any] | None:
    """What the finished tree says about itself; None while it is missing, half-made or made by another recipe."""
    path = root / "orthanc-deid-tree.json"
    if not path.is_file():
        return None
    stamp: dict[str, Any] = json.loads(path.read_text())
    return stamp if stamp.get("recipe") == _recipe() else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(suite: str, root: Path, say: Callable[[str], None] = lambda line: None) -> None:
    """Make the tree at ``root`` anew. The stamp comes last, so that whatever was interrupted is made again."""
    remove(root)
    mirror = debian_mirror()
    say(f"{suite}: debootstrap to {root}")
    log = root.with_suffix(".log")
    with log.open("w") as out:
        # In a mount namespace of its own: debootstrap mounts /proc in the tree and leaves it there when it is killed.
        bootstrap = ["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, str(root)]
        bootstrap += [mirror] if mirror else []
        _step(["unshare", "--mount", "--propagation", "private", "--", *bootstrap], suite, "debootstrap", out, log)
        services = root / "usr/sbin/policy-rc.d"
        services.write_text("#!/bin/sh\nexit 101\n")  # the packages must not start servers of their own
        services.chmod(0o755)
        hostid = root / "etc/hostid"
        if not hostid.exists():
            hostid.write_bytes(os.urandom(4))  # without it DCMTK looks the host's name up for each new UID
        say(f"{suite}: apt-get install {' '.join(PACKAGES)}")
        install = ["/usr/bin/apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
        _step(enter(root, install), suite, "apt-get install", out, log)
        _step(enter(root, ["/usr/bin/apt-get", "clean"]), suite, "apt-get clean", out, log)
    shown = _capture(enter(root, ["/usr/bin/dpkg-query", "--show", "--showformat=${Package} ${Version}\\n", *PACKAGES]))
    versions = dict(line.split() for line in shown.splitlines())
    python = _capture(
        enter(root, ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    ).strip()
    stamp = {"recipe": _recipe(), "suite": suite, "python": python, "versions": versions}
    unfinished = root / "orthanc-deid-tree.json.new"
    unfinished.write_text(json.dumps(stamp, indent=1))
    unfinished.rename(root / "orthanc-deid-tree.json")
    say(f"{suite}: Orthanc {versions['orthanc']}, Python {python}")


def remove(root: Path) -> None:
    """Delete a tree; refuse where something is mounted in it, since that would be deleted too."""
    if not root.exists():
        return
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [point for point in mounted if Path(point).is_relative_to(root)]
    if inside:
        raise TreeError(f"still mounted: {', '.join(inside)}; unmount it, then try again")
    shutil.rmtree(root)


def _step(argv: Sequence[str], suite: str, what: str, out: IO[str], log: Path) -> None:
    quiet = subprocess.DEVNULL
    result = subprocess.run(argv, stdin=quiet, stdout=out, stderr=subprocess.STDOUT, env=_environment(), check=False)
    if result.returncode == 0:
        return
    text = log.read_text(errors="replace")
    found = BROKEN_ARCHIVE.search(text)
    if suite == "sid" and found:
        raise TreeUnavailable(f"Debian cannot install sid today: {what} says: {found.group(0)} (whole log: {log})")
    tail = "\n".join(text.splitlines()[-15:])
    raise TreeError(f"{suite}: {what} ended with exit status {result.returncode}; the end of {log}:\n{tail}")


def _environment() -> dict[str, str]:
    """A plain environment for Debian's own tools, with the machine's proxy and nothing else of the machine's."""
    proxy = ("http_proxy", "https_proxy", "no_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() in proxy}
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        **kept,
    }


def _capture(argv: Sequence[str]) -> str:
    quiet = subprocess.DEVNULL
    result = subprocess.run(argv, stdin=quiet, capture_output=True, text=True, env=_environment(), check=False)
    if result.returncode:
        raise TreeError(f"{argv[-1]} ended with exit status {result.returncode}: {result.stderr.strip()[-500:]}")
    return result.stdout


def debian_mirror() -> str | None:
    """The mirror that this machine's apt uses for its own Debian; None (debootstrap's default) where it has none."""
    release = {}
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        release[key] = value.strip('"')
    if release.get("ID") != "debian" or shutil.which("apt-get") is None:
        return None
    asked = ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    result = subprocess.run(asked, capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        suite, component, uri = line.split(" ", 2)
        if component == "main" and suite in (release.get("VERSION_CODENAME"), "stable", "testing", "sid", "unstable"):
            return uri
    return None


# --- the virtual environment of a tree ---

READ_TARGET = """
import json, sys
from pip._vendor.packaging.markers import default_environment
from pip._vendor.packaging.tags import sys_tags
tags = list(sys_tags())
print(json.dumps({
    "environment": default_environment(),
    "python": "%d.%d" % sys.version_info[:2],
    "abis": sorted({t.abi for t in tags}),
    "platforms": sorted({t.platform for t in tags} - {"any"}),
}))
"""


def _venv(root: Path, say: Callable[[str], None]) -> Path:
    """Install requirements.txt with the tree's own Python; answers the environment's folder inside the tree.

    The machine's pip, which knows the machine's index, certificates and proxy, downloads what fits the tree's Python;
    the tree's pip installs from that folder alone. Both check the hashes.
    """
    requirements = (CHECKOUT / "requirements.txt").read_text()
    inside = VENVS / hashlib.sha256(requirements.encode()).hexdigest()[:16]
    python = inside / "bin/python"
    venv = root / inside.relative_to("/")
    done = venv / "complete"
    if done.exists():
        return inside
    for old in (root / VENVS.relative_to("/")).glob("*"):
        if not (old / "complete").exists():
            shutil.rmtree(old)
    say(f"{root.name}: virtual environment from requirements.txt")
    venv.parent.mkdir(parents=True, exist_ok=True)
    _capture(enter(root, ["/usr/bin/python3", "-m", "venv", str(inside)]))
    target = json.loads(_capture(enter(root, [str(python), "-c", READ_TARGET])))
    wheels = venv / "wheels"
    wheels.mkdir()
    chosen = venv / "requirements.txt"
    chosen.write_text(_without_markers(requirements, target["environment"]))
    strict = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    download = [sys.executable, "-m", "pip", "download", *strict, "--dest", str(wheels), "--requirement", str(chosen)]
    download += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", target["python"]]
    download += [part for abi in target["abis"] for part in ("--abi", abi)]
    download += [part for platform in target["platforms"] for part in ("--platform", platform)]
    result = subprocess.run(download, capture_output=True, text=True, check=False)
    if result.returncode:
        said = result.stderr.strip()[-2000:]
        raise TreeError(f"no wheels of requirements.txt for Python {target['python']}:\n{said}")
    install = [str(python), "-m", "pip", "install", *strict, "--no-index"]
    install += ["--find-links", str(inside / "wheels"), "--requirement", str(inside / "requirements.txt")]
    _capture(enter(root, install))
    done.touch()
    return inside


def _without_markers(requirements: str, environment: Mapping[str, str]) -> str:
    """The requirements that hold in the tree, without markers: the machine's pip would judge them by its own Python."""
    try:
        from pip._vendor.packaging.requirements import Requirement
    except ImportError as error:  # a virtual environment made without pip
        raise TreeError(f"{sys.executable} has no pip") from error
    joined = re.sub(r"\\\n\s*", " ", requirements)
    kept = []
    for line in joined.splitlines():
        line = line.split(" #")[0].strip()
        if not line or line.startswith(("#", "-")):
            continue
        named, *hashes = re.split(r"\s+--hash=", line)
        requirement = Requirement(named)
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            requirement.marker = None
            kept.append(" --hash=".join([str(requirement), *hashes]))
    return "\n".join(kept) + "\n"


def main(arguments: Sequence[str]) -> int:
    """The command line; see the top of this file."""

    def say(line: str) -> None:
        print(line, flush=True)

    match list(arguments):
        case ["build", *suites]:
            status = 0
            for suite in suites or SUITES:
                try:
                    tree = prepare(suite, say)
                except TreeUnavailable as reason:
                    print(reason, file=sys.stderr)
                    status = status or UNAVAILABLE_EXIT
                except TreeError as error:
                    print(error, file=sys.stderr)
                    return 1
                else:
                    has = f"Orthanc {tree.versions['orthanc']}, Python {tree.python_version}"
                    say(f"{suite}: ready, {has}, {tree.root}")
            return status
        case ["run", suite, "--", *command] if command:
            try:
                tree = prepare(suite, say)
            except (TreeError, TreeUnavailable) as error:
                print(error, file=sys.stderr)
                return 1
            return subprocess.run(tree.command(command), check=False).returncode
        case _:
            print("usage: trees.py build [SUITE…] | run SUITE -- COMMAND…", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
