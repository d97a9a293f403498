"""Has the real Hermes read settings, and do nothing about them.

Who runs me: the test config, with the Python that Hermes is installed for. Rights: anybody's. Input: one JSON
object, {"home": a directory for me, "env_files": [...], "configs": [...], "served": [...]}; each file is a list
of its bytes, and "served" is where it is set that one gateway serves all: [the environment, the .env of default,
the config.yaml of default, the .env of coder, whether the gateway of default runs].
Output: one JSON object, {"env_files": [[A, B], ...], "configs": [[multiplex, drain], ...], "refused": [...]}. The
drain is in whole seconds, rounded up; null stands for a configuration that Hermes cannot load. "refused" tells
whether a gateway of coder ends at once.
"""

import json
import logging
import math
import os
import sys

request = json.load(sys.stdin)
home = request["home"]
os.environ["HERMES_HOME"] = home
# What Hermes prints is not compared.
out = os.dup(1)
null = os.open("/dev/null", os.O_WRONLY)
os.dup2(null, 1)
os.dup2(null, 2)
logging.disable(logging.CRITICAL)

import yaml
from gateway.config import load_gateway_config
from gateway.restart import parse_restart_drain_timeout
from hermes_cli.env_loader import load_hermes_dotenv
from hermes_cli.gateway import _guard_named_profile_under_multiplexer

BASE = {"HERMES_HOME": home, "HOME": home, "PATH": os.environ["PATH"], "GIVEN": "given"}


def put(name, content):
    with open(os.path.join(home, name), "wb") as file:
        file.write(bytes(content))


def variables(content):
    put(".env", content)
    os.environ.clear()
    os.environ.update(BASE)
    load_hermes_dotenv(hermes_home=home)
    return [os.environ.get("A"), os.environ.get("B")]


def drain():
    with open(os.path.join(home, "config.yaml"), encoding="utf-8") as file:
        loaded = yaml.safe_load(file) or {}
    agent = loaded.get("agent", {})
    # As gateway/run.py hands it on.
    given = isinstance(agent, dict) and "restart_drain_timeout" in agent
    seconds = parse_restart_drain_timeout(str(agent["restart_drain_timeout"]) if given else "")
    return math.ceil(seconds)


def settings(content):
    put("config.yaml", content)
    os.environ.clear()
    os.environ.update(BASE)
    multiplex = load_gateway_config().multiplex_profiles
    try:
        return [multiplex, drain()]
    except Exception:
        assert multiplex is False, "what cannot be loaded sets nothing"
        return None


def start_time():
    with open("/proc/self/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])


def refused(environment, env_file, config, own, runs):
    """Has coder's gateway ask, as it does before it starts, whether that of default is in its way."""
    coder = os.path.join(home, "profiles", "coder")
    os.makedirs(coder, exist_ok=True)
    put(".env", env_file.encode())
    put("config.yaml", config.encode())
    put("profiles/coder/.env", own.encode())
    # This process itself stands for the gateway of default.
    record = {"pid": os.getpid(), "kind": "hermes-gateway", "argv": ["hermes", "gateway", "run"], "start_time": start_time()}
    put("gateway.pid", json.dumps(record).encode() if runs else b"")
    os.environ.clear()
    os.environ.update(BASE, HERMES_HOME=coder)
    if environment:
        os.environ["GATEWAY_MULTIPLEX_PROFILES"] = environment
    load_hermes_dotenv(hermes_home=coder)
    try:
        _guard_named_profile_under_multiplexer()
    except SystemExit as end:
        return end.code == 1
    return False


# The file itself is what is compared, not what a tidy copy of it would say.
answer = {
    "env_files": [variables(content) for content in request["env_files"]],
}
os.remove(os.path.join(home, ".env"))
answer["configs"] = [settings(content) for content in request["configs"]]
answer["refused"] = [refused(*where) for where in request["served"]]
os.write(out, json.dumps(answer).encode())
