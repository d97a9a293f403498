"""Has the real Hermes read command lines, and do nothing about them.

Who runs me: the test argv, with the Python that Hermes is installed for. Rights: anybody's. Input: a JSON
object a line, {"home": HERMES_HOME, "words": [...]}. Output, a line for each: the profile that HERMES_HOME
was set to, the function that would have been called and what it would have been told, and the exit code.

Hermes builds its parser inside main(), and only then looks at what was typed. There a process is forked
off for each line, in which main() goes on as if it had been started with that line.
Nothing that it would call is what it was: commands are replaced by something that keeps their names.
Should any escape that, an audit hook, which nothing can take off again, ends the process on the spot
before it writes a file or reaches another process.
"""

import gc
import importlib
import json
import os
import sys

DENIED = 70
PARENT = os.getpid()
# What Hermes prints is not compared.
OUT, ERR, NULL = os.dup(1), os.dup(2), os.open("/dev/null", os.O_RDWR)

# What changes files, reaches other processes, or replaces this one.
FORBIDDEN = (
    "os.chmod",
    "os.chown",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "os.kill",
    "os.killpg",
    "os.posix_spawn",
    "os.spawn",
    "os.exec",
    "os.system",
    "os.forkpty",
    "pty.spawn",
    "signal.pthread_kill",
    "subprocess.Popen",
    "socket.bind",
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
)
# The same where there is no event for it.
UNHEARD = (
    ("os", "kill"),
    ("os", "killpg"),
    ("os", "pidfd_open"),
    ("signal", "pidfd_send_signal"),
    ("signal", "pthread_kill"),
    ("signal", "raise_signal"),
    ("_posixsubprocess", "fork_exec"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def deny(what):
    try:
        os.write(ERR, f"argv.py: denied: {what}\n".encode())
    finally:
        os._exit(DENIED)


def audit(event, arguments):
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    forks = event == "os.fork" and os.getpid() != PARENT
    if writes or forks or event in FORBIDDEN:
        deny(f"{event} {arguments!r}")


class Read(BaseException):
    """Ends main() where the real one would end the process, or where all lines are read."""


class Command:
    """Stands for a function that a command line calls, and keeps what it is told."""

    said = None

    def __init__(self, name):
        self.__name__ = name

    def __call__(self, args=None, *_, **__):
        def value(name):
            return getattr(args, name, None)

        Command.said = {
            "called": self.__name__,
            "command": value("command"),
            "action": value(f"{value('command')}_command") or value("profile_action"),
            "all": bool(value("all")),
            "no_supervise": bool(value("no_supervise")),
            "names": [value(name) for name in ("profile_name", "old_name", "new_name") if value(name) is not None],
        }
        raise Read


def profile():
    """The profile that HERMES_HOME names: that of a data root, or one beneath it."""
    home = os.environ["HERMES_HOME"]
    parent, name = os.path.split(home)
    return name if os.path.basename(parent) == "profiles" else "default"


def replace_commands(hermes, config):
    """Puts a Command in the place of all that main() calls once it has read the command line."""
    import argparse

    for name in [*vars(hermes)]:
        if name.startswith("cmd_") or name in ("_run_and_exit_oneshot", "_exec_in_container"):
            setattr(hermes, name, Command(name))
    for name in (
        "_set_process_title",
        "_cleanup_quarantined_exes",
        "_recover_from_interrupted_install",
        "_prepare_agent_startup",
    ):
        # Not there would mean that Hermes has changed, and does it elsewhere.
        getattr(hermes, name)
        setattr(hermes, name, lambda *_, **__: None)
    # Plugins add commands of their own, and none of those concerns gateways.
    hermes._plugin_cli_discovery_needed = lambda: False

    # Commands whose functions are made within main().
    parse_args = argparse.ArgumentParser.parse_args

    def parse_args_and_replace(*arguments):
        args = parse_args(*arguments)
        if hasattr(args, "func"):
            args.func = Command(args.func.__name__)
        return args

    argparse.ArgumentParser.parse_args = parse_args_and_replace
    # What main() asks between building the parser and reading the command line.
    config.get_container_exec_info = lambda: read_all(hermes)


def read_all(hermes):
    """Forks for each line; returns in those processes, and never here."""
    lines = [json.loads(line) for line in sys.stdin]
    os.dup2(NULL, 0)
    # Without this, looking for garbage would copy all memory for each line.
    gc.collect()
    gc.disable()
    gc.freeze()
    for line in lines:
        child = os.fork()
        if child == 0:
            os.dup2(NULL, 2)
            os.environ["HERMES_HOME"] = line["home"]
            sys.argv = ["hermes", *line["words"]]
            hermes._apply_profile_override()
            return None
        if os.waitpid(child, 0)[1] != 0:
            sys.exit(f"argv.py: cannot be read: {line}")
    raise Read


def denies():
    """Tells whether the audit hook ends a process that means to send a signal, even a harmless one."""
    child = os.fork()
    if child == 0:
        os.close(ERR)
        os.kill(PARENT, 0)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == DENIED


def main():
    sys.dont_write_bytecode = True
    os.dup2(NULL, 1)
    sys.addaudithook(audit)
    if not denies():
        sys.exit("argv.py: signals are not denied")
    for module, name in UNHEARD:
        module = importlib.import_module(module)
        if hasattr(module, name):
            setattr(module, name, lambda *arguments, name=name: deny(f"{name} {arguments!r}"))

    # A log would be written, by a thread that no process forked off would have.
    import hermes_logging

    hermes_logging.setup_logging = lambda **_: None
    sys.argv = ["hermes", "-p", "default", "gateway"]
    from hermes_cli import config, main as hermes

    replace_commands(hermes, config)
    code = 0
    try:
        hermes.main()
    except Read:
        pass
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    if os.getpid() == PARENT:
        return code
    answer = {"exit": code, "profile": profile(), **(Command.said or {"called": None})}
    os.write(OUT, json.dumps(answer).encode() + b"\n")
    os._exit(0)


sys.exit(main())
