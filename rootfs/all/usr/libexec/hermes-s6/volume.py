#!/opt/hermes/.venv/bin/python3
"""Does to a home of Hermes what only Hermes' own code can do.

Who runs me: the build of the image (new), and seed-volume (the others), with the home in HERMES_HOME. Rights: those
of the user hermes, except in the build. Follows no symbolic link in the home. Prints a line for what it has changed
or could not change. Exit code 1: something that was to be done is not.

    volume.py new      fills an empty directory with what a new home has
    volume.py migrate  brings config.yaml to the version that this Hermes knows
    volume.py api-key  makes a key for an API server that is asked for and has none
    volume.py login    puts the login of HERMES_AUTH_JSON_BOOTSTRAP or HERMES_AUTH_JSON_REBOOTSTRAP into auth.json
"""

import json
import os
import secrets
import shutil
import sys
import tempfile
import textwrap
import time
from pathlib import Path

HOME = Path(os.environ["HERMES_HOME"])
# A home that lies in a directory of this name is that of a named profile.
IS_DEFAULT = HOME.parent.name != "profiles"


class Problem(Exception):
    """What keeps something from being done, for a person."""


def say(text):
    print(f"hermes-volume: {text}", file=sys.stderr)


def refuse_what_is_no_file():
    """Keeps Hermes from reading what may never end, such as a FIFO."""
    for name in ".env", "auth.json", "config.yaml":
        path = HOME / name
        if path.exists() and not path.is_file():
            raise Problem(f"{path} is no file, and is left alone")


def refuse_link(path, what):
    if path.is_symlink():
        raise Problem(f"{path} is a symbolic link: {what}")


def new():
    os.umask(0o022)
    from hermes_cli.config import DEFAULT_CONFIG, OPTIONAL_ENV_VARS, save_config
    from tools.skills_sync import sync_skills

    save_config(DEFAULT_CONFIG)
    if not sync_skills(quiet=True)["copied"]:
        raise Problem("Hermes has found no skills to copy")
    lines = [
        "# Secrets of this profile: API keys and tokens. Remove the # in front of what you set. Settings belong into",
        "# config.yaml.",
    ]
    # The keys of models first, as Hermes has them.
    for category in dict.fromkeys(variable["category"] for variable in OPTIONAL_ENV_VARS.values()):
        lines += ["", f"## {category}"]
        for name, variable in OPTIONAL_ENV_VARS.items():
            if variable["category"] == category:
                text = " ".join(filter(None, [variable["description"], variable.get("url")]))
                lines += ["", *textwrap.wrap(text, 116, initial_indent="# ", subsequent_indent="# "), f"# {name}="]
    (HOME / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # The directories that the image of the Hermes project makes, beside those that Hermes makes itself.
    for name in "backups", "home", "lazy-packages", "plans", "skins", "workspace":
        (HOME / name).mkdir()
    # Everybody may read what is in the image; whoever copies it decides who may read the copy.
    for directory, _, files in os.walk(HOME):
        os.chmod(directory, 0o755)
        for name in files:
            path = os.path.join(directory, name)
            os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)


def migrate():
    from hermes_cli.config import check_config_version, migrate_config
    from utils import env_var_enabled

    version, latest = check_config_version()
    if version >= latest:
        return
    config = HOME / "config.yaml"
    outdated = f"has version {version}, and this Hermes writes version {latest}"
    if env_var_enabled("HERMES_SKIP_CONFIG_MIGRATION"):
        say(f"{config} {outdated}: it stays as HERMES_SKIP_CONFIG_MIGRATION demands")
        return
    by_hand = "hermes config migrate does it by hand"
    refuse_link(config, f"it {outdated}, and is not migrated; {by_hand}")
    refuse_link(HOME / ".env", f"{config} {outdated}, and is not migrated, since that may write there; {by_hand}")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = {}
    for path in config, HOME / ".env":
        if path.is_file():
            kept[path] = keep(path, f".bak-{stamp}")
    try:
        migrate_config(interactive=False, quiet=True)
        if check_config_version()[0] < latest:
            raise Problem("its version is still the earlier one")
    except Exception as error:
        for path, copy in kept.items():
            # Not a rename: each of them may be mounted by itself.
            shutil.copyfile(copy, path)
            copy.unlink()
        raise Problem(f"{config} {outdated}, but cannot be migrated, and is as before: {error}") from error
    for path, copy in kept.items():
        if path != config and path.read_bytes() == copy.read_bytes():
            copy.unlink()
    say(f"{config} {outdated}: migrated, what was there is in {kept[config].name}")


def keep(path, suffix):
    """Copies a file to a new one beside it, whose name begins with its name and the suffix."""
    descriptor, copy = tempfile.mkstemp(prefix=f"{path.name}{suffix}.", dir=path.parent)
    with open(path, "rb") as source, open(descriptor, "wb") as target:
        shutil.copyfileobj(source, target)
    shutil.copymode(path, copy)
    return Path(copy)


def api_key():
    from hermes_cli.config import load_env, save_env_value
    from utils import is_truthy_value

    environment = load_env()

    def value(name):
        # The variables of the container are those of the default profile.
        return environment.get(name) or (os.environ.get(name) if IS_DEFAULT else None) or ""

    # A key in a file comes with the gateway; one in .env would override it.
    is_given = value("API_SERVER_KEY") or value("API_SERVER_KEY_FILE")
    if not is_truthy_value(value("API_SERVER_ENABLED")) or is_given:
        return
    config = HOME / "config.yaml"
    # A key there would be overridden by one in .env.
    if config.is_file() and "api_server" in config.read_text(encoding="utf-8", errors="replace"):
        return
    refuse_link(HOME / ".env", "no API_SERVER_KEY is written there, and without one the API server does not start")
    save_env_value("API_SERVER_KEY", secrets.token_hex(32))
    say(f"the API server is asked for, and has no API_SERVER_KEY: made one, in {HOME / '.env'}")


def login():
    path = HOME / "auth.json"
    refuse_link(path, "no login is put there")
    if not path.exists():
        seed = login_in("HERMES_AUTH_JSON_BOOTSTRAP")
        if seed is not None:
            write_new(path, seed)
            say(f"put the login of HERMES_AUTH_JSON_BOOTSTRAP into {path}")
        return
    seed = login_in("HERMES_AUTH_JSON_REBOOTSTRAP")
    fresh = providers_of(seed).get("nous")
    if not isinstance(fresh, dict) or not fresh:
        return
    try:
        store = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Problem(f"{path} is no JSON, and stays as it is: {error}") from error
    if not isinstance(store, dict) or not is_to_be_replaced(providers_of(store).get("nous"), fresh):
        return
    store["providers"] = {**providers_of(store), "nous": fresh}
    write_new(path, store, replace=True)
    say(f"replaced the login of Nous in {path} by that of HERMES_AUTH_JSON_REBOOTSTRAP")


def login_in(variable):
    text = os.environ.get(variable, "")
    if not text:
        return None
    try:
        seed = json.loads(text)
    except ValueError:
        seed = None
    if not isinstance(seed, dict):
        raise Problem(f"{variable} is not the text of an auth.json, and is ignored")
    return seed


def providers_of(store):
    providers = store.get("providers") if isinstance(store, dict) else None
    return providers if isinstance(providers, dict) else {}


def is_to_be_replaced(login, fresh):
    """Tells whether a login has ended for good, or is older than another one. All else is left alone: Hermes renews
    a login by itself, and an earlier one would undo that."""
    if not isinstance(login, dict):
        return False
    error = login.get("last_auth_error")
    has_ended = isinstance(error, dict) and error.get("relogin_required")
    if has_ended and not (login.get("access_token") or login.get("refresh_token")):
        return True
    return (time_of(fresh) or 0) > (time_of(login) or float("inf"))


def time_of(login):
    from datetime import datetime, timezone

    try:
        time = datetime.fromisoformat(str(login.get("obtained_at")).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()


def write_new(path, store, replace=False):
    """Writes a file that only hermes can read, all of it or nothing."""
    descriptor, place = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(store, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(place, path)
        else:
            # Unlike a rename, a link replaces nothing that has come meanwhile. Not all file systems have links.
            try:
                os.link(place, path)
            except FileExistsError:
                raise
            except OSError:
                os.rename(place, path)
    finally:
        if os.path.lexists(place):
            os.unlink(place)


def main():
    commands = {"new": new, "migrate": migrate, "api-key": api_key, "login": login}
    try:
        refuse_what_is_no_file()
        commands[sys.argv[1]]()
    except (Problem, OSError) as error:
        say(f"warning: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
