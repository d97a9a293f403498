//! The tables of docs/image.md: each row is tried as it is written there, and a row that is not known here fails.

use std::os::unix::fs::chown;

use super::{Container, TREE, Volume, docker_ok, image, init_is_ours};
use crate::docs::{IMAGE, quoted, table};
use crate::support::{chmod, closes, has, wait_for};

/// A program in the place of Hermes: says what it was asked for, waits for a file `go` if it is a gateway, and ends
/// with 5.
const ASKED: &str = r#"cat >/opt/data/asked <<'END'
#!/bin/sh
[ "$1" != --version ] || [ $# -gt 1 ] || exec echo of the setup
echo "asked: $*"
case $* in *gateway*) until [ -e /opt/data/go ]; do sleep 0.1; done ;; esac
exit 5
END
    chmod 755 /opt/data/asked"#;
const HERMES_IS_ASKED: &str = "--env=HERMES_S6_HERMES=/opt/data/asked";

/// How a container ends, by the last cell of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    ByStop,
    WithIt,
}

/// Checks that a container runs on until it is stopped, and ends well then.
fn ends_by_stop(container: &Container) {
    assert!(container.runs(), "{}", container.explain());
    assert_eq!(container.stop(), 0, "{}", container.explain());
}

/// Runs a command that has to end by itself with a code, and gives what it printed.
fn printed(volume: &Volume, options: &[&str], command: &[&str], code: i32) -> String {
    let ran = volume.run(options, command);
    assert_eq!(ran.code, code, "{command:?} {ran:?}");
    ran.stdout
}

/// Checks which gateway a container with a command starts; the others stay down.
fn starts(prepare: &str, options: &[&str], command: &[&str], started: Option<&str>) {
    let prepare = format!("profile default; profile coder; profile viewer; {prepare}");
    volume!(volume, &prepare);
    let container = volume.start(options, command);
    let (up, down): (Vec<&str>, Vec<&str>) = ["default", "coder", "viewer"]
        .into_iter()
        .partition(|profile| Some(*profile) == started);
    container.await_tree();
    container.await_states("ready", &up);
    let said = if started.is_some() {
        "is ready"
    } else {
        "stays down here"
    };
    container.wait_for("a word about it", || container.said().contains(said));
    container.await_states("down", &down);
    ends_by_stop(&container);
}

#[test]
fn each_command_of_the_documentation_does_what_is_said_there() {
    volume!(
        volume,
        &format!("{ASKED}\ncd /opt/data; printf '#!/bin/sh\\nexit 6\\n' >x; chmod 755 x")
    );
    let mut before = None;
    for row in table(IMAGE, "| command | effect | the container ends |") {
        let [command, effect, ends] = row[..] else {
            panic!("{row:?}");
        };
        let end = match ends {
            "by `docker stop`" => End::ByStop,
            "with `hermes`"
            | "with the gateway, with its exit code"
            | "with the program, with its exit code" => End::WithIt,
            "as above" => before.unwrap(),
            _ => panic!("nobody knows how to see that it ends {ends}"),
        };
        before = Some(end);
        match (command, effect, end) {
            ("none", "only runs the gateways that are wanted", End::ByStop) => {
                volume!(volume, "profile default; profile coder running");
                let container = volume.begin(&[], &["coder"]);
                container.await_states("down", &["default"]);
                ends_by_stop(&container);
            }
            ("none, with a terminal (`-it`)", "`hermes`: talks to Hermes", End::WithIt) => {
                let terminal = ["--tty", HERMES_IS_ASKED];
                let said = printed(&volume, &terminal, &[], 5);
                closes(&said, "\r\nasked: \r\n");
            }
            (
                "`gateway run`, `gateway`; `hermes` in front; `-p NAME` anywhere",
                "starts that profile's gateway, supervised, unless its operator has stopped it. Without `-p`, it is the profile that HERMES_HOME names, else the active profile",
                End::ByStop,
            ) => {
                let named = "--env=HERMES_HOME=/opt/data/profiles/coder";
                let active = "echo viewer >/opt/data/active_profile";
                let stopped = "profile default stopped";
                for (prepare, options, command, started) in [
                    ("", &[][..], "gateway run", Some("default")),
                    ("", &[], "gateway", Some("default")),
                    ("", &[], "hermes gateway", Some("default")),
                    ("", &[], "-p coder gateway run", Some("coder")),
                    ("", &[], "gateway -p coder run", Some("coder")),
                    ("", &[], "hermes gateway run -p coder", Some("coder")),
                    (stopped, &[], "gateway run", None),
                    (active, &[named], "gateway run", Some("coder")),
                    (active, &[], "gateway run", Some("viewer")),
                ] {
                    let command: Vec<&str> = command.split(' ').collect();
                    starts(prepare, options, &command, started);
                }
            }
            (
                "`gateway run --no-supervise`",
                "runs the gateway as the command, unsupervised",
                End::WithIt,
            ) => {
                volume!(volume, &format!("{ASKED}; profile default running"));
                let command = ["gateway", "run", "--no-supervise"];
                let container = volume.start(&[HERMES_IS_ASKED], &command);
                let asked = "asked: gateway run --no-supervise\n";
                container.wait_for("Hermes", || container.logs().stdout == asked);
                container.await_states("down", &["default"]);
                container.sh("touch /opt/data/go");
                assert_eq!(container.exit_code(), 5);
            }
            ("a name of a program in PATH", "runs that program", End::WithIt) => {
                let script = ["sh", "-c", "echo hi; exit 7"];
                assert_eq!(printed(&volume, &[HERMES_IS_ASKED], &script, 7), "hi\n");
            }
            ("a path, such as `/bin/echo` or `./x`", "runs that program", End::WithIt) => {
                let [echo, x] = quoted(command)[..] else {
                    panic!("{command}");
                };
                let said = printed(&volume, &[HERMES_IS_ASKED], &[echo, "hi"], 0);
                assert_eq!(said, "hi\n");
                assert_eq!(printed(&volume, &[HERMES_IS_ASKED], &[x], 6), "");
            }
            (
                "any other word, `login` and `mcp`",
                "runs `hermes` with that word: `--version`, `profile list`, `dashboard`",
                End::WithIt,
            ) => {
                let examples = quoted(effect);
                for words in quoted(command).iter().chain(&examples[1..]) {
                    let command: Vec<&str> = words.split(' ').collect();
                    // This one is what the setup asks for as well.
                    let (code, said) = match *words {
                        "--version" => (0, "of the setup\n".to_owned()),
                        _ => (5, format!("asked: {words}\n")),
                    };
                    assert_eq!(printed(&volume, &[HERMES_IS_ASKED], &command, code), said);
                }
            }
            _ => panic!("nobody knows how to try {row:?}"),
        }
    }
}

/// Tells whether a container with these options runs its gateways, and says what it said if it ends instead.
fn gateways_run(options: &[&str], prepare: &str, as_root: &str) -> Result<(), String> {
    let Some(volume) = Volume::with(prepare) else {
        return Ok(());
    };
    volume.script("0", as_root);
    let container = volume.start(options, &["gateway", "run"]);
    let mut said = None;
    wait_for(
        "a gateway, or the end",
        || {
            if !container.runs() {
                said = Some(container.said());
            }
            said.is_some() || container.list().contains("default ready")
        },
        || container.explain(),
    );
    if let Some(said) = said {
        return Err(said);
    }
    ends_by_stop(&container);
    Ok(())
}

/// The words of a code in a table, as docker takes them.
fn options(code: &str) -> Vec<&str> {
    code.split(' ').collect()
}

/// A volume as Hermes makes it: nobody else may look into it.
const OURS: &str = "profile default; chmod 700 /opt/data";

/// Checks that a container with these options runs its gateways.
fn works(options: &[&str]) {
    let ran = gateways_run(options, OURS, "true");
    assert!(ran.is_ok(), "{options:?} {ran:?}");
}

/// Checks what a read-only container lacks, unless it is given a /tmp.
fn read_only(read_only: &[&str], tmp: &[&str]) {
    works(read_only);
    volume!(volume, OURS);
    let touch = [
        "sh",
        "-c",
        "touch /tmp/x 2>/dev/null; echo $?; id -u; id -g",
    ];
    let ids = ["--env=PUID=4321", "--env=PGID=4321"];
    let said = printed(&volume, &[read_only, &ids].concat(), &touch, 0);
    assert_eq!(said, "1\n10000\n10000\n");
    let with_tmp = [read_only, tmp].concat();
    assert!(printed(&volume, &with_tmp, &touch, 0).starts_with("0\n"));
}

/// Checks that a container needs the capabilities that are named behind the option that adds one: the last one for a
/// volume of others, and the ones before it for any, except as hermes.
fn capabilities(drop_all: &[&str], named: &[&str]) {
    let [add, four @ .., fifth] = named else {
        panic!("{named:?}");
    };
    let with = |capabilities: &[&str]| {
        let dropped = drop_all.iter().map(|word| (*word).to_owned());
        let added = capabilities.iter().map(|one| format!("{add}={one}"));
        dropped.chain(added).collect::<Vec<_>>()
    };
    let run = |capabilities: &[&str], as_root: &str| {
        let all = with(capabilities);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        gateways_run(&all, OURS, as_root)
    };
    assert_eq!(run(four, "true"), Ok(()));
    for lacking in four {
        let mut three = four.to_vec();
        three.retain(|one| one != lacking);
        has(&run(&three, "true").unwrap_err(), lacking);
    }
    let of_others = "chown -R 4321:4321 /opt/data";
    assert!(run(four, of_others).is_err());
    assert_eq!(run(&[four, &[fifth]].concat(), of_others), Ok(()));
    works(&[&["--user=10000:10000"], drop_all].concat());
}

#[test]
fn each_option_of_the_documentation_has_the_effect_that_is_said_there() {
    volume!(_is_there);
    if !init_is_ours() {
        return;
    }
    let of_root = "chown root:root /opt/data; chmod 700 /opt/data";
    for row in table(IMAGE, "| `docker run` | effect |") {
        let [option, effect] = row[..] else {
            panic!("{row:?}");
        };
        let (codes, named) = (quoted(option), quoted(effect));
        match (option, effect) {
            (
                "`--user 10000:10000`",
                "everything runs as hermes. The volume must belong to hermes, too",
            ) => {
                volume!(volume, OURS);
                let container = volume.start(&options(codes[0]), &["gateway", "run"]);
                container.await_states("ready", &["default"]);
                let users = docker_ok(&["top", &container.name, "-eo", "pid,uid"]);
                let mut users = users.lines().skip(1);
                assert!(users.all(|user| user.ends_with(" 10000")));
                let said = gateways_run(&options(codes[0]), OURS, of_root).unwrap_err();
                has(&said, "/opt/data cannot be written by hermes");
            }
            (
                "`--user` with another id",
                "refused. Use `PUID` and `PGID` to change the id of hermes",
            ) => {
                let said = gateways_run(&["--user=4321:4321"], OURS, "true").unwrap_err();
                has(&said, "leave out --user and set PUID=4321");
                volume!(volume, OURS);
                let ids: Vec<String> = named
                    .iter()
                    .map(|name| format!("--env={name}=4321"))
                    .collect();
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                let said = printed(&volume, &ids, &["sh", "-c", "id -u; id -g"], 0);
                assert_eq!(said, "4321\n4321\n");
            }
            (
                "`--read-only --tmpfs /run:exec`",
                "works; add `--tmpfs /tmp` for programs that need it. `PUID` and `PGID` do not work",
            ) => {
                read_only(&options(codes[0]), &options(named[0]));
            }
            ("the same with `--user 10000`", "works with `--tmpfs /run:exec,uid=10000`") => {
                let user = options(codes[0]);
                works(&[&["--read-only"], &user[..], &options(named[0])].concat());
                let as_above = ["--read-only", "--tmpfs", "/run:exec"];
                let said = gateways_run(&[&user[..], &as_above].concat(), OURS, "true");
                has(&said.unwrap_err(), named[0]);
            }
            (
                "`--cap-drop ALL`",
                "as root, add with `--cap-add`: `SETUID`, `SETGID`, `CHOWN`, and `KILL`, without which root cannot stop the tree; also `DAC_OVERRIDE` if the volume does not belong to hermes. As hermes, add none",
            ) => {
                capabilities(&options(codes[0]), &named);
            }
            ("`--security-opt no-new-privileges`", "works") => works(&options(codes[0])),
            (
                "`--init`, `init: true`",
                "works for the command alone: [nothing is supervised](#behind-another-init)",
            ) => {
                volume!(volume, "profile default running");
                let ask = ["sh", "-c", "id -un; hermes-s6 detect"];
                let said = printed(&volume, &options(codes[0]), &ask, 1);
                has(&said, "hermes\nnone: ");
            }
            _ => panic!("nobody knows how to try {row:?}"),
        }
    }
}

#[test]
fn each_setting_that_other_images_have_has_the_effect_that_is_said_there() {
    volume!(volume, "profile default running");
    let mut of_gateway: Vec<String> = Vec::new();
    let mut expected: Vec<String> = Vec::new();
    let secret = std::env::temp_dir().join(super::name());
    std::fs::write(&secret, "12:secret\n").unwrap();
    chmod(&secret, 0o644);
    for row in table(IMAGE, "| variable or mount | effect |") {
        let [what, effect] = row[..] else {
            panic!("{row:?}");
        };
        let codes = quoted(what);
        match (codes[0], effect) {
            ("PUID", "the ids of hermes: see [owners](#owners)") => {
                for pair in codes.chunks(2) {
                    volume!(volume);
                    let ids = [
                        format!("--env={}=4321", pair[0]),
                        format!("--env={}=4322", pair[1]),
                    ];
                    let ids = ids.each_ref().map(String::as_str);
                    let said = printed(&volume, &ids, &["sh", "-c", "id -u; id -g"], 0);
                    assert_eq!(said, "4321\n4322\n", "{pair:?}");
                }
            }
            ("UMASK=027", "the umask of the gateways") => {
                of_gateway.push(format!("--env={}", codes[0]));
                expected.push("Umask:\t0027".to_owned());
            }
            (
                "TELEGRAM_BOT_TOKEN_FILE=/run/secrets/telegram",
                "the content of the file is the value of `TELEGRAM_BOT_TOKEN`: see [secrets in files](slot.md#hermes-s6-hold-lock)",
            ) => {
                of_gateway.push(format!("--env={}", codes[0]));
                let (_, file) = codes[0].split_once('=').unwrap();
                of_gateway.push(format!("--volume={}:{file}:ro", secret.display()));
                expected.push(format!("{}=12:secret", quoted(effect)[0]));
            }
            ("HERMES_WRITE_SAFE_ROOT=/opt/data:/work", _) => {
                has(&effect, "The image sets `/opt/data`");
                volume!(volume);
                let ask = ["printenv", "HERMES_WRITE_SAFE_ROOT"];
                assert_eq!(printed(&volume, &[], &ask, 0), "/opt/data\n");
                of_gateway.push(format!("--env={}", codes[0]));
                expected.push(codes[0].to_owned());
            }
            ("--device /dev/dri", _) => {
                has(&effect, "hermes joins the groups of GPUs");
                volume!(volume);
                // A stand-in for a GPU: a null device of a group.
                let gpu = std::env::temp_dir().join(super::name());
                let mut mknod = std::process::Command::new("mknod");
                let mknod = mknod.arg(&gpu).args(["c", "1", "3"]);
                assert!(mknod.status().unwrap().success());
                chown(&gpu, Some(0), Some(5)).unwrap();
                let device = format!("--device={}:/dev/dri/renderD128", gpu.display());
                let groups = printed(&volume, &[&device], &["id", "-G"], 0);
                std::fs::remove_file(&gpu).unwrap();
                assert!(groups.split_whitespace().any(|one| one == "5"), "{groups}");
            }
            ("--volume /var/run/docker.sock:/var/run/docker.sock", _) => {
                has(&effect, "hermes joins the group of the socket");
                volume!(volume);
                let group = "stat -Lc %g /var/run/docker.sock; id -G";
                let said = printed(&volume, &options(codes[0]), &["sh", "-c", group], 0);
                let (group, all) = said.split_once('\n').unwrap();
                assert!(all.split_whitespace().any(|one| one == group), "{said}");
            }
            _ => panic!("nobody knows how to try {row:?}"),
        }
    }
    assert_eq!(expected.len(), 3);
    let of_gateway: Vec<&str> = of_gateway.iter().map(String::as_str).collect();
    let container = volume.begin(&of_gateway, &["default"]);
    let pid = container.pid("default");
    let ask = format!("cat /proc/{pid}/status; tr '\\0' '\\n' </proc/{pid}/environ");
    let seen = container.exec_as("hermes", &["sh", "-c", &ask]).stdout;
    std::fs::remove_file(&secret).unwrap();
    for line in expected {
        assert!(seen.lines().any(|one| one == line), "{line}: {seen}");
    }
}

#[test]
fn path_is_for_each_what_is_said_there() {
    volume!(volume, "profile default running");
    let rows = table(IMAGE, "| whose | PATH |");
    let [roots, theirs] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert!(roots[1].ends_with(", then Debian's"), "{roots:?}");
    let debian = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let path = [quoted(roots[1]), debian.to_vec()].concat().join(":");
    let [last] = quoted(theirs[1])[..] else {
        panic!("{theirs:?}");
    };
    assert_eq!(theirs[1], format!("the same, and `{last}` as the last one"));
    let longer = format!("{path}:{last}");
    let container = volume.begin(&[], &["default"]);
    assert_eq!(
        roots[0],
        "root's, and what `docker exec` gives to everybody"
    );
    for user in ["root", "hermes"] {
        let said = container.exec_as(user, "printenv PATH").stdout;
        assert_eq!(said.trim_end(), path, "{user}");
    }
    assert_eq!(
        theirs[0],
        "that of gateways, of the container's command, of `hermes`, and of hermes' login shells"
    );
    let pid = container.pid("default");
    let ask = format!("tr '\\0' '\\n' </proc/{pid}/environ");
    let of_gateway = container.exec_as("hermes", &["sh", "-c", &ask]).stdout;
    assert!(
        of_gateway
            .lines()
            .any(|line| line == format!("PATH={longer}")),
        "{of_gateway}"
    );
    let of_shell = container.exec_as("hermes", &["bash", "-lc", "printenv PATH"]);
    assert_eq!(of_shell.stdout.trim_end(), longer);
    volume!(volume);
    assert_eq!(
        printed(&volume, &[], &["printenv", "PATH"], 0).trim_end(),
        longer
    );
    volume.script(
        "10000",
        "printf '#!/bin/sh\\nprintenv PATH\\n' >/opt/data/asked; chmod 755 /opt/data/asked",
    );
    let container = volume.start(&[HERMES_IS_ASKED], &[]);
    container.await_tree();
    let said = container.exec("hermes tools").stdout;
    assert_eq!(said.trim_end(), longer);
    has(&container.sh(&format!("ls -d {TREE}")), TREE);
}

#[test]
fn the_image_is_as_large_as_is_said_and_has_the_tools() {
    volume!(volume);
    if !init_is_ours() {
        return;
    }
    let rows = table(IMAGE, "| `TOOLS=` | packages | size of the image |");
    // What is listed for a row is in its image, and what is listed for the next one alone is not.
    let installed = "dpkg-query --show --showformat '${db:Status-Status} ${Package}\\n'";
    let installed = volume.script("0", installed);
    let has_all = |packages: &str| {
        let mut packages = packages.trim_start_matches("those, and ").split(", ");
        packages.all(|name| {
            installed
                .lines()
                .any(|line| line == format!("installed {name}"))
        })
    };
    let mut with = rows
        .iter()
        .filter(|row| row[1] != "none" && has_all(row[1]));
    let row = with.next_back().unwrap_or(&rows[0]);
    let bytes = docker_ok(&[
        "image",
        "inspect",
        "--format",
        "{{.Size}}",
        image().unwrap(),
    ]);
    let bytes: f64 = bytes.trim().parse().unwrap();
    let (number, unit) = row[2].split_once(' ').unwrap();
    let unit = match unit {
        "MB" => 1e6,
        "GB" => 1e9,
        _ => panic!("{row:?}"),
    };
    let said = number.parse::<f64>().unwrap() * unit;
    assert!((bytes / said - 1.0).abs() < 0.05, "{row:?}: {bytes}");
}
