"""Makes Hermes Agent supervise its gateways with hermes-s6 where its own code calls its service manager.

Who runs me: hermes-s6.pth, in a process of Hermes, when Hermes imports one of its own modules. Hermes still
prints, raises and returns what its callers expect. docs/bridge.md explains the rest.
"""

import functools
import json
import logging
import os
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

BINARY = "/usr/local/bin/hermes-s6"
# The bridge changes code of Hermes, so it accepts only the versions that the tests have seen; of others, the service
# manager alone, whose methods are made for a stranger to call.
VERSIONS = {"0.19.0"}
SCANDIR = "/run/hermes-s6/service"
# In seconds, for a hermes-s6 that hangs: otherwise its own waits are limited, and it answers questions at once.
TIMEOUT = 600
QUESTION_TIMEOUT = 30
# Subcommands of `hermes gateway` that go to hermes-s6.
SUBCOMMANDS = {"start", "stop", "restart", "status", "list", "install", "uninstall"}
# Set in the environment of hermes-s6 by gateway_command(). If hermes-s6 becomes Hermes, this Hermes must not
# call hermes-s6 again.
BRIDGED = "HERMES_S6_BRIDGED"

# The state file of a gateway, the largest that is read, and the names of profiles.
STATE_FILE = "gateway_state.json"
STATE_LIMIT = 1 << 20
PROFILE = re.compile("[a-z0-9][a-z0-9_-]{0,63}")

# Read before Hermes replaces HERMES_HOME by the home of `-p`: in a gateway, this is the gateway's own home.
OWN_HOME = os.environ.get("HERMES_HOME", "")

_changed = []
_said = set()


def find_spec(ours, name, path, target):
    """Finds a module of Hermes as other finders do, and changes the module right after it has run."""
    if name not in MODULES or not os.access(BINARY, os.X_OK):
        return None
    specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not ours)
    spec = next(filter(None, specs), None)
    if spec is None:
        return None
    execute = spec.loader.exec_module

    def exec_module(module):
        execute(module)
        # After one failure, nothing more is changed: Hermes is changed as a whole, or not at all.
        if ours in sys.meta_path:
            try:
                change(module)
            except Exception as error:
                sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not ours]
                logging.getLogger("hermes_s6").warning("Hermes does not use hermes-s6: %s", error)

    spec.loader.exec_module = exec_module
    return spec


def change(module):
    """Replaces functions and classes of a module of Hermes by ours; undoes all replacements if one fails."""
    try:
        version = import_module("hermes_cli").__version__
        if version not in VERSIONS and module.__name__ not in SERVICE_MANAGERS:
            known = ", ".join(sorted(VERSIONS))
            warn_once(f"hermes-s6 knows Hermes {known}, and this is {version}: only its service manager is replaced")
            return
        ours = MODULES[module.__name__](module)
        theirs = {name: getattr(module, name) for name in ours}
        for name, value in ours.items():
            _changed.append((module, name, theirs[name]))
            setattr(module, name, value)
    except Exception as error:
        while _changed:
            setattr(*_changed.pop())
        if isinstance(error, AttributeError):
            raise LookupError(f"{module.__name__} has no {error.name}") from error
        raise


def warn_once(what):
    if what not in _said:
        _said.add(what)
        logging.getLogger("hermes_s6").warning(what)


def run(*words):
    """Runs hermes-s6. If it cannot be run, or does not end, the result is a failed run."""
    timeout = QUESTION_TIMEOUT if words[0] in ("detect", "status") else TIMEOUT
    environment = dict(os.environ)
    if OWN_HOME and os.environ.get("_HERMES_GATEWAY"):
        environment["HERMES_HOME"] = OWN_HOME
    try:
        return subprocess.run(
            [BINARY, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 99, "", f"{BINARY} has not ended after {timeout} s")
    except (OSError, ValueError) as error:
        return subprocess.CompletedProcess(words, 127, "", f"unable to run {BINARY}: {getattr(error, 'strerror', error)}")


def supervises():
    """Tells whether s6 supervises the gateways here."""
    return run("detect").returncode == 0


def status(profile, *options):
    """Returns what hermes-s6 knows about a gateway; None if there is neither the profile nor its slot."""
    ran = run("status", "-p", profile, "--json", *options)
    try:
        return json.loads(ran.stdout)["profiles"][0]
    except (ValueError, LookupError, TypeError):
        return None


def complaint(ran):
    """Returns what hermes-s6 has printed on stderr, without lines of level info."""
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("hermes-s6: info: ")]
    return "\n".join(lines)


def change_service_manager(theirs):
    """Hermes up to 0.19 has all of it in one module."""
    return {**change_detection(theirs), **change_s6_manager(theirs)}


def change_detection(_theirs):
    return {"_s6_running": supervises}


def change_s6_manager(theirs):
    original = theirs.S6ServiceManager

    class S6ServiceManager(original):
        """The service manager of Hermes, with the slots of hermes-s6."""

        def __init__(self, scandir=None):
            names = ("HERMES_S6_SCANDIR", "S6_PROFILE_GATEWAY_SCANDIR")
            named = next(filter(None, map(os.environ.get, names)), SCANDIR)
            super().__init__(Path(scandir or named))

        def _do(self, action, profile):
            theirs.validate_profile_name(profile)
            ran = run(action, "-p", profile, "--scandir", str(self.scandir))
            if ran.returncode == 100 and "invalid value" in ran.stderr:
                raise ValueError(complaint(ran))
            return ran

        def _fail(self, action, profile, ran):
            raise theirs.S6CommandError(
                service=theirs.S6_SERVICE_PREFIX + profile,
                action=action,
                returncode=ran.returncode,
                stderr=complaint(ran),
            )

        def _operate(self, action, name):
            profile = name.removeprefix(theirs.S6_SERVICE_PREFIX)
            if profile == name:
                raise theirs.GatewayNotRegisteredError(profile)
            ran = self._do(action, profile)
            if is_absent(ran, profile):
                raise theirs.GatewayNotRegisteredError(profile)
            if ran.returncode:
                self._fail(action, profile, ran)

        def start(self, name):
            self._operate("start", name)

        def stop(self, name):
            self._operate("stop", name)

        def restart(self, name):
            self._operate("restart", name)

        def is_running(self, name):
            profile = name.removeprefix(theirs.S6_SERVICE_PREFIX)
            if profile != name:
                found = status(profile, "--scandir", str(self.scandir))
                return bool(found and found["pid"])
            # A service of the container, not a gateway.
            try:
                return original().is_running(name)
            except (OSError, subprocess.SubprocessError):
                return False

        def register_profile_gateway(self, profile, *, extra_env=None, start_now=True):
            check_environment(extra_env or {})
            ran = self._do("register", profile)
            if ran.returncode:
                self._fail("register", profile, ran)
            slot = self._service_dir(profile)
            if "is registered already" in ran.stdout:
                raise ValueError(f"profile gateway {profile!r} already registered at {slot}")
            try:
                add_environment(slot, extra_env or {})
            except OSError as error:
                self.unregister_profile_gateway(profile)
                raise theirs.S6Error(f"unable to write the environment of {slot}: {error}") from error
            if start_now:
                self.start(theirs.S6_SERVICE_PREFIX + profile)

        def unregister_profile_gateway(self, profile):
            ran = self._do("unregister", profile)
            if ran.returncode and not is_absent(ran, profile):
                self._fail("unregister", profile, ran)

    return {"S6ServiceManager": S6ServiceManager}


def is_absent(ran, profile):
    """Tells whether hermes-s6 has found neither the profile nor its slot."""
    reasons = (f"profile {profile} does not exist", f"profile {profile} has no SOUL.md")
    return ran.returncode == 100 and any(reason in ran.stderr for reason in reasons)


def check_environment(variables):
    for name, value in variables.items():
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            raise ValueError(f"not a variable of the environment: {name!r}")


def add_environment(slot, variables):
    """Adds variables to the env/ of a slot that is down, in the form that s6-envdir reads."""
    if not variables:
        return
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    place = os.open(slot, flags)
    try:
        inner = os.open("env", flags, dir_fd=place)
        os.close(place)
        place = inner
        owner = os.fstat(place)
        for name, value in variables.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, 0o600, dir_fd=place)
            with open(file, "w", encoding="utf-8", errors="surrogateescape") as out:
                if os.geteuid() == 0:
                    os.fchown(file, owner.st_uid, owner.st_gid)
                out.write(value.replace("\n", "\0") + "\n")
    finally:
        os.close(place)


def change_gateway(theirs):
    command, snapshot = theirs.gateway_command, theirs.get_gateway_runtime_snapshot
    profile_suffix, Snapshot = theirs._profile_suffix, theirs.GatewayRuntimeSnapshot

    @functools.wraps(command)
    def gateway_command(args):
        subcommand = getattr(args, "gateway_command", None)
        profile = profile_suffix() or "default"
        is_known = profile == "default" or theirs.get_hermes_home().name == profile
        if subcommand not in SUBCOMMANDS or os.environ.get(BRIDGED) or not is_known or not supervises():
            return command(args)
        # With -p: Hermes has already chosen the profile, which may not be the active one.
        words = [BINARY, "hermes", "-p", profile, "gateway", subcommand]
        words += [f"--{flag}" for flag in ("all", "deep", "full") if getattr(args, flag, False)]
        sys.stdout.flush()
        sys.stderr.flush()
        # By exec, so that a signal to this process reaches hermes-s6.
        os.execve(BINARY, words, {**os.environ, BRIDGED: "1"})

    @functools.wraps(snapshot)
    def get_gateway_runtime_snapshot(system=False):
        found = snapshot(system)
        # Hermes asks its service manager only if it finds that it runs in a container.
        if found.service_scope == "s6" or not supervises():
            return found
        profile = profile_suffix() or "default"
        gateway = status(profile)
        return Snapshot(
            manager="s6 (container supervisor)",
            service_installed=bool(gateway) and gateway["state"] != "unregistered",
            service_running=bool(gateway and gateway["pid"]),
            gateway_pids=found.gateway_pids,
            service_scope="s6",
        )

    return {"gateway_command": gateway_command, "get_gateway_runtime_snapshot": get_gateway_runtime_snapshot}


def warn(ran, what):
    if ran.returncode:
        said = " ".join(complaint(ran).split()) or f"exit code {ran.returncode}"
        print(f"⚠ Could not {what} s6 gateway service: {said}")


def spare_own(name):
    """Refuses to end the gateway that this code runs in, before anything has been changed."""
    home = Path(OWN_HOME)
    own = home.name if home.parent.name == "profiles" else "default"
    if os.environ.get("_HERMES_GATEWAY") and name == own:
        raise ValueError(f"Refusing to rename or delete '{name}' from inside its own gateway process.")


def change_profiles(theirs):
    rename, import_, delete = theirs.rename_profile, theirs.import_profile, theirs.delete_profile
    normalize, validate = theirs.normalize_profile_name, theirs.validate_profile_name
    home, register = theirs.get_profile_dir, theirs._maybe_register_gateway_service

    @functools.wraps(rename)
    def rename_profile(old_name, new_name):
        # If Hermes is about to refuse the rename, the gateway must not be stopped.
        old, new = normalize(old_name), normalize(new_name)
        validate(old)
        validate(new)
        spare_own(old)
        possible = old != "default" and home(old).is_dir() and not home(new).exists()
        before = status(old) if possible and supervises() else None
        if not before:
            return rename(old_name, new_name)
        up = before["state"] in ("ready", "up", "starting", "waiting_for_lock")
        try:
            if up or before["state"] == "stopping":
                # Not `stop`, which would write the intent `stopped` on the volume.
                warn(run("unregister", "-p", old), "stop")
            return rename(old_name, new_name)
        finally:
            # Also if the rename has failed after the home had its new name.
            if home(new).is_dir() and not home(old).exists():
                follow(old, new, up and before["intent"] != "stopped")
            elif up:
                warn(run("start", "-p", old), "start")

    @functools.wraps(delete)
    def delete_profile(name, *words, **options):
        spare_own(normalize(name))
        return delete(name, *words, **options)

    @functools.wraps(import_)
    def import_profile(archive_path, name=None):
        found = import_(archive_path, name)
        register(found.name)
        return found

    return {"rename_profile": rename_profile, "delete_profile": delete_profile, "import_profile": import_profile}


def follow(old, new, ran):
    """Gives a renamed profile its slot, and starts its gateway if the gateway ran before."""
    warn(run("rename", old, new), "rename")
    # Without a desired_state, hermes-s6 cannot know this: the old gateway has ended and written that it stopped.
    if ran and (status(new) or {}).get("state") == "down":
        warn(run("start", "-p", new), "start")


def change_profile_distribution(theirs):
    install = theirs.install_distribution

    @functools.wraps(install)
    def install_distribution(*words, **options):
        from hermes_cli.profiles import _maybe_register_gateway_service

        plan = install(*words, **options)
        _maybe_register_gateway_service(plan.manifest.name)
        return plan

    return {"install_distribution": install_distribution}


def change_web_server(theirs):
    """Mends two faults of Hermes 0.19, each only where it is."""
    ours = {}
    arguments = theirs._profile_cli_args
    if not arguments("default"):

        @functools.wraps(arguments)
        def _profile_cli_args(profile):
            # Without -p, Hermes takes the active profile, and not the one that the page shows.
            from hermes_cli.profiles import get_active_profile_name

            name = (profile or "").strip()
            if name.lower() in ("", "current"):
                name = get_active_profile_name()
            return ["-p", "default"] if name.lower() == "default" else arguments(None if name == "custom" else name)

        ours["_profile_cli_args"] = _profile_cli_args
    if not status_follows_profile():
        ours.update(follow_profile(theirs))
    return ours


def status_follows_profile():
    """Tells whether Hermes looks for the state of a gateway in the home that a request is about."""
    import hermes_constants
    from gateway import status

    token = hermes_constants.set_hermes_home_override("/hermes-s6")
    try:
        return status._get_pid_path().parent == Path("/hermes-s6")
    finally:
        hermes_constants.reset_hermes_home_override(token)


def follow_profile(theirs):
    from hermes_constants import get_hermes_home_override

    def asked(file):
        home = get_hermes_home_override()
        return Path(home) / file if home else None

    def of_home(find):
        @functools.wraps(find)
        def found(pid_path=None, **options):
            path = asked("gateway.pid")
            if pid_path is None and path is not None:
                # A page that is looked at removes nothing.
                return find(path, **{"cleanup_stale": False, **options})
            return find(pid_path, **options)

        return found

    read, running = theirs.read_runtime_status, theirs.get_runtime_status_running_pid

    @functools.wraps(read)
    def read_runtime_status(path=None):
        return read(path or asked("gateway_state.json"))

    @functools.wraps(running)
    def get_runtime_status_running_pid(runtime=None, *, expected_home=None):
        home = expected_home or asked("")
        return running(read_runtime_status() if runtime is None else runtime, expected_home=home)

    return {
        "get_running_pid": of_home(theirs.get_running_pid),
        "get_running_pid_cached": of_home(theirs.get_running_pid_cached),
        "read_runtime_status": read_runtime_status,
        "get_runtime_status_running_pid": get_runtime_status_running_pid,
    }


def change_backup(theirs):
    run_import, detect_prefix, find_root = theirs.run_import, theirs._detect_prefix, theirs.get_default_hermes_root

    @functools.wraps(run_import)
    def import_backup(args):
        homes = homes_in(Path(args.zipfile).expanduser(), detect_prefix, find_root())
        before = {home: written(home, files) for home, (files, _) in homes.items()}
        run_import(args)
        # If the answer was no, or a home could not be written, it is as it was.
        restored = [home for home, (files, _) in homes.items() if written(home, files) != before[home]]
        if not restored or not supervises():
            return
        for home in restored:
            try:
                keep_intent(home, homes[home][1])
            except OSError as error:
                print(f"⚠ Could not keep the intent of {home}: {error.strerror}")
        warn(run("reconcile"), "register")
        print("\nGateways, as hermes-s6 list shows them:")
        print("\n".join(f"  {line}" for line in run("list").stdout.splitlines()))

    return {"run_import": import_backup}


def homes_in(path, detect_prefix, root):
    """Returns the homes in a backup, each with the files that show whether it was restored, and its intent."""
    homes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            prefix = detect_prefix(archive)
            for member in archive.infolist():
                *place, file = member.filename.removeprefix(prefix).split("/")
                if place and (len(place) != 2 or place[0] != "profiles" or not PROFILE.fullmatch(place[1])):
                    continue
                files, intent = homes.get(root.joinpath(*place), ([], None))
                if file == STATE_FILE and member.file_size <= STATE_LIMIT:
                    intent = intent_in(archive.read(member))
                elif file in ("SOUL.md", "config.yaml", ".env"):
                    files = [*files, file]
                homes[root.joinpath(*place)] = files, intent
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        # Hermes says what is wrong with it.
        return {}
    return homes


def intent_in(content):
    """Reads the intent out of a state file, as hermes-s6 does."""
    try:
        state = json.loads(content)
        intent, last = state.get("desired_state"), state.get("gateway_state")
    except (ValueError, AttributeError):
        return None
    if intent is None and last in ("running", "draining", "degraded"):
        intent = "running"
    return intent if intent in ("running", "stopped") else None


def written(home, files):
    """Tells when files were written; None for those that are not there."""

    def time(file):
        try:
            return os.lstat(home / file).st_mtime_ns
        except OSError:
            return None

    return [time(file) for file in files]


def keep_intent(home, intent):
    """Writes an intent into a home that has no state file; what is there, is of this machine, and stays."""
    if intent is None:
        return
    place = os.open(home, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(place)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(STATE_FILE, flags, 0o600, dir_fd=place)
        with open(file, "w", encoding="utf-8") as out:
            if os.geteuid() == 0:
                os.fchown(file, owner.st_uid, owner.st_gid)
            json.dump({"desired_state": intent}, out)
    except FileExistsError:
        pass
    finally:
        os.close(place)


# The newest Hermes has its service manager in the package `gateway`.
SERVICE_MANAGERS = {
    "hermes_cli.service_manager": change_service_manager,
    "gateway.service_manager": change_detection,
    "gateway.s6_manager": change_s6_manager,
}
MODULES = {
    **SERVICE_MANAGERS,
    "hermes_cli.gateway": change_gateway,
    "hermes_cli.profiles": change_profiles,
    "hermes_cli.profile_distribution": change_profile_distribution,
    "hermes_cli.web_server": change_web_server,
    "hermes_cli.backup": change_backup,
}
