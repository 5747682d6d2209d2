"""A place with all that building and running images needs: packages, an engine, Apptainer, a base, wheels, a user.

The processes of one test session share it: what one makes, the others wait for.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from tests.architecture.source_tree import ROOT

HERE = Path(__file__).parent
PACKAGES = {
    "dockerd": "docker.io",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
    "patchelf": "patchelf",
    "mksquashfs": "squashfs-tools",
    "squashfuse": "squashfuse",
    "newuidmap": "uidmap",
    "fakeroot": "fakeroot",
    "ip": "iproute2",
}
USER = "euler-images"
SECRET = "token-that-must-not-stay"
ENGINE_S = 60


class Workplace:
    """What images are built from and run by; all below one folder that stays, so that a second session is quicker."""

    def __init__(self) -> None:
        self.folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"euler-containers-{os.getuid()}"
        self.folder.mkdir(mode=0o755, exist_ok=True)
        # the programs of Debian's packages, whatever else is called docker here
        self.environment = os.environ | {"PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}"}
        # what one session writes and the next does not want
        self.session = self.folder / f"session-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
        self._engine: subprocess.Popen[bytes] | None = None
        self._open = ExitStack()
        with self._alone("set-up"):
            self._install()
            self.session.mkdir(mode=0o755, exist_ok=True)
            self._users = self._open.enter_context((self.session / "users").open("w"))
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self.environment |= self._lent()

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """Keep the other processes of this machine from the same."""
        with (self.folder / f"{what}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return what one process makes for all of the session.

        Args:
            name: in the folder of the session.
            make: is given the path.
        """
        made, path = self.session / f"{name}.made", self.session / name
        with self._alone(name):
            if not made.exists():
                make(path)
                made.touch()
        return path

    def _lent(self) -> dict[str, str]:
        """A pip.conf and a CA bundle for the builds, which hold a secret."""
        (self.session / "pip.conf").write_text(f"[global]\ntimeout = 60\n# {SECRET}\n")
        given = os.environ.get("SSL_CERT_FILE")
        bundle = Path(given).read_text() if given else ""
        (self.session / "ca.crt").write_text(f"# {SECRET}\n{bundle}")
        return {
            "PIP_CONFIG_FILE": str(self.session / "pip.conf"),
            "SSL_CERT_FILE": str(self.session / "ca.crt"),
        }

    def _install(self) -> None:
        missing = [
            package
            for program, package in PACKAGES.items()
            if shutil.which(program, path=self.environment["PATH"]) is None
        ]
        if missing:
            apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
            quiet = {
                "env": self.environment | {"DEBIAN_FRONTEND": "noninteractive"},
                "stdout": subprocess.DEVNULL,
            }
            subprocess.run([*apt, "update"], check=True, **quiet)
            subprocess.run([*apt, "install", "-y", "--no-install-recommends", *missing], check=True, **quiet)

    def run(self, *command: str | Path, timeout_s: float = 900, **environment: str) -> str:
        """Run a command that has to work; return what it wrote.

        Raises:
            AssertionError: it failed; with what it wrote.
        """
        code, output = self.attempt(*command, timeout_s=timeout_s, **environment)
        assert code == 0, f"{' '.join(map(str, command))}\n{output[-6000:]}"
        return output

    def attempt(self, *command: str | Path, timeout_s: float = 900, **environment: str) -> tuple[int, str]:
        """Run a command; return its exit code and what it wrote."""
        ended = subprocess.run(
            [str(part) for part in command],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=self.session,
        )
        return ended.returncode, ended.stdout

    @cached_property
    def user(self) -> str:
        """An ordinary user, with the subordinate ids that unprivileged builds need."""
        with self._alone("user"):
            if self.attempt("id", USER)[0] != 0:
                self.run("useradd", "--create-home", USER)
        return USER

    @cached_property
    def base(self) -> Path:
        """A minimal Debian, as a docker-archive."""
        archive = self.folder / "base.tar"
        with self._alone("base"):
            if not archive.exists():
                self.run(HERE / "base.sh", archive)
        return archive

    def wheels(self, flavour: str) -> Path:
        """All files that a lock and the development lock name, so that each is fetched once for all builds."""
        folder = self.folder / f"wheels-{flavour}"
        folder.mkdir(exist_ok=True)
        names = ("build", flavour, "dev")
        locks = [part for name in names for part in ("-r", ROOT / "containers" / f"requirements-{name}.lock")]
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
        source = ["--only-binary", ":all:", "--no-binary", "antlr4-python3-runtime,deepspeed"]
        how = ("--require-hashes", "--no-build-isolation", "--dest", folder)
        with self._alone("wheels"):
            self.run(*pip, *source, *how, *locks, DS_BUILD_OPS="0")
            (folder / "complete").touch()
        return folder

    @cached_property
    def checkout(self) -> Path:
        """A copy of the checkout, with what is not committed, which the ordinary user may read."""
        return self.once("checkout", self._copy)

    def _copy(self, copy: Path) -> None:
        self.run("git", "clone", "-q", "--no-hardlinks", ROOT, copy)
        difference = subprocess.run(
            ["git", "diff", "--binary", "HEAD"], cwd=ROOT, capture_output=True, check=True
        )
        if difference.stdout:
            subprocess.run(["git", "apply"], cwd=copy, input=difference.stdout, check=True)

    @cached_property
    def docker(self) -> tuple[str, ...]:
        """A private engine without a network or firewall of its own, and the client that speaks to it."""
        self._open.enter_context(self._alone("engine"))  # one works on its data at a time
        state = self.folder / "engine"
        state.mkdir(exist_ok=True)
        socket, log = f"unix://{self.session}/docker.sock", self.session / "dockerd.log"
        with log.open("wb") as output:
            self._engine = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM"]  # it ends with the tests
                + ["dockerd", "--data-root", state, "--exec-root", self.session / "exec", "--host", socket]
                + [
                    "--pidfile",
                    self.session / "dockerd.pid",
                    "--bridge=none",
                    "--iptables=false",
                    "--ip6tables=false",
                ],
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        self.environment["DOCKER_HOST"] = socket
        deadline = time.monotonic() + ENGINE_S
        while self.attempt("docker", "info")[0] != 0:
            assert self._engine.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.3)
        return ("docker",)

    @cached_property
    def apptainer(self) -> str:
        """Folder of an Apptainer: the machine's own, or one that is fetched."""
        found = shutil.which("apptainer")
        if found:
            return str(Path(found).parent)
        with self._alone("apptainer"):
            self.run(HERE / "apptainer.sh", self.folder / "apptainer")
        return str(self.folder / "apptainer" / "bin")

    def as_user(self, *command: str | Path, network: bool = True, **environment: str) -> str:
        """Run a command as the ordinary user."""
        flags = () if network else ("--no-network",)
        path = f"{self.apptainer}:{self.environment['PATH']}"
        return self.run(HERE / "as_user.sh", self.user, *flags, *command, PATH=path, **environment)

    def image(self, flavour: str, **settings: str) -> str:
        """Build the Docker image of the checkout; return its name."""
        self.docker  # noqa: B018 - it has to run
        build = [self.checkout / "containers" / "build.sh", "image", flavour]
        given = {"BASE_IMAGE": str(self.base), "DOCKER": "docker", "DOCKER_ARGS": "--network=host"}
        self.run(*build, **(given | {"WHEELS": str(self.wheels(flavour))} | settings))
        return f"euler-audio-backbone:{flavour}"

    def sif(self, flavour: str, **settings: str) -> Path:
        """Build the SIF of the checkout from its definition, as the ordinary user; return the file."""
        place = Path(tempfile.mkdtemp(prefix=f"sif-{flavour}-", dir=self.session))
        place.chmod(0o777)
        given = {"BASE_IMAGE": str(self.base), "FROM": "definition", "WHEELS": str(self.wheels(flavour))}
        build = [self.checkout / "containers" / "build.sh", "sif", flavour, place / "image.sif"]
        self.as_user(*build, **(given | {"TMPDIR": str(place), "APPTAINER_TMPDIR": str(place)} | settings))
        return place / "image.sif"

    @cached_property
    def sif_cpu(self) -> Path:
        """The CPU image for Apptainer, built from the definition."""
        return self.once("euler-cpu.sif", self._build_sif_cpu)

    def _build_sif_cpu(self, file: Path) -> None:
        self.sif("cpu").rename(file)

    def sif_of_image(self, flavour: str) -> Path:
        """Build the SIF of the Docker image, as an ordinary user who may use the engine; return the file."""
        self.docker  # noqa: B018 - it has to run
        (self.session / "docker.sock").chmod(0o666)
        return self.sif(flavour, BASE_IMAGE="", FROM="", DOCKER="docker")

    def close(self) -> None:
        """Stop the engine that was started here, by its own process; the last of the session cleans up."""
        if self._engine is not None:
            self._engine.terminate()
            self._engine.wait(timeout=ENGINE_S)
        with self._alone("set-up"):
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                shutil.rmtree(self.session, ignore_errors=True)
            self._open.close()
