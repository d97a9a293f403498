//! How the help of the program and of each command ends.

pub const PROGRAM: &str = "\
Examples:
  hermes-s6 supervise                         the whole tree, as a container's main service
  HERMES_HOME=~/.hermes HERMES_S6_SCANDIR=~/service hermes-s6 supervise
                                              the same on a laptop, as yourself
  hermes-s6 reconcile --dry-run               what would change
  hermes-s6 status                            what runs, and what should
  hermes-s6 restart -p coder                  waits until it is ready again
  hermes-s6 logs -p coder -f                  what it says, as it says it
  hermes-s6 doctor                            what is wrong here, and what to do about it

Exit codes: 0 done, 1 no or partly, 99 timed out, 100 usage, 102 not supervised,
111 system call failed, 126 and 127 program not executable or not found.";

pub const RENDER: &str = "\
Examples:
  hermes-s6 render -p coder                   every file, with its mode, to stdout
  hermes-s6 render -p coder --out /tmp/look   as /tmp/look/gateway-coder/";

pub const RECONCILE: &str = "\
Prints a line per change. A second run finds nothing to do. A profile that cannot be served costs
only itself: it is reported, and the exit code is 1.

Examples:
  hermes-s6 reconcile
  hermes-s6 reconcile --dry-run --json | jq '.changes[].profile'";

pub const SUPERVISE: &str = "\
Runs as any user, under any init or as PID 1. As root it drops to the user hermes, unless the scan
directory is root's. If an earlier s6-svscan was killed, its gateways are taken over.

Examples:
  hermes-s6 supervise
  HERMES_S6_SCANDIR=$XDG_RUNTIME_DIR/hermes hermes-s6 supervise
  hermes-s6 supervise -d 3                    in a service with notification-fd 3";

pub const DETECT: &str = "\
Exit code 0: s6 does. 1: it does not.

Example:
  hermes-s6 detect && hermes-s6 status";

pub const START: &str = "\
A profile without a slot is registered first. Afterwards it starts with every start of the container,
until it is stopped.

Examples:
  hermes-s6 start -p coder
  hermes-s6 start -p coder -p viewer --timeout 10
  hermes-s6 start --all --json";

pub const STOP: &str = "\
A gateway has HERMES_S6_STOP_TIMEOUT seconds (25) to save and end, then it is killed. Afterwards it
stays down, also when the container is started again, until it is started.

Examples:
  hermes-s6 stop -p coder
  hermes-s6 stop --all";

pub const RESTART: &str = "\
One that is down or parked is started. With --all, those whose operator stopped them stay down.

Examples:
  hermes-s6 restart
  hermes-s6 restart -p coder && curl http://127.0.0.1:$(hermes-s6 port -p coder)/health";

pub const SHUTDOWN: &str = "\
For the end of a container: when it is started again, the same gateways run. Those that have not ended
when the time is over are killed.

Example:
  hermes-s6 shutdown --timeout 20";

pub const REGISTER: &str = "\
Example:
  hermes-s6 register -p coder && hermes-s6 start -p coder";

pub const UNREGISTER: &str = "\
What the profile has on the volume stays: a profile that still exists gets its slot back with its next
start, or with reconcile.

Example:
  hermes-s6 unregister -p coder";

pub const RENAME: &str = "\
For a profile that was renamed on the volume: its old slot goes, the new one comes, and its gateway runs
if desired_state is running; without a desired_state, if it ran.

Example:
  hermes profile rename coder builder && hermes-s6 rename coder builder";

pub const DISPATCH: &str = "\
Where s6 supervises the gateways, start, stop and restart do what these commands do, for profile default
unless -p names another; install and uninstall only print how profiles get their slots. Elsewhere, and
for other actions, PROG is executed.

Example:
  hermes-s6 dispatch restart -p coder -- /opt/hermes/.venv/bin/hermes -p coder gateway restart";

pub const STATUS: &str = "\
Exit code 0: everything that is wanted is up. 1: something is not. With --ready, it must be ready.

Examples:
  hermes-s6 status
  hermes-s6 status -p coder --json
  hermes-s6 status --ready >/dev/null
  hermes-s6 status --format prometheus --out /var/lib/node_exporter/hermes.prom";

pub const LOGS: &str = "\
Lines of several profiles are merged by time, each with the profile's name in front.

Examples:
  hermes-s6 logs -p coder
  hermes-s6 logs --all -f
  hermes-s6 logs -p coder -n 1000 | grep -i error";

pub const DOCTOR: &str = "\
Every finding says what to do about it. Exit code 0: nothing is wrong. 1: something is.

Examples:
  hermes-s6 doctor
  hermes-s6 doctor --json | jq '.findings[].remedy'";

pub const LIST: &str = "\
Two words a line, for scripts: name and state.

Example:
  hermes-s6 list | while read -r profile state; do echo \"$profile is $state\"; done";

pub const PORT: &str = "\
Example:
  curl http://127.0.0.1:$(hermes-s6 port -p coder)/health";
