//! What is in the image, and what of it root and hermes find.

use super::docker_ok;

#[test]
fn nothing_in_the_image_can_be_changed_by_everybody_or_gives_rights_that_debian_does_not() {
    volume!(volume);
    // Sticky directories let nobody change what is not theirs.
    let writable = volume.script(
        "0",
        "find / -xdev \\( -path /tmp -o -path /var/tmp -o -path /dev -o -path /proc -o -path /run \\) -prune \
          -o ! -type l -perm -2 ! -perm -1000 -print",
    );
    assert_eq!(writable, "");
    // What dpkg knows is Debian's, and s6-overlay-suexec is how s6-overlay's /init works without root.
    let privileged = volume.script(
        "0",
        "find / -xdev -type f -perm /6000 ! -name s6-overlay-suexec | while read -r file; do
          dpkg -S \"$file\" >/dev/null 2>&1 || dpkg -S \"/usr$file\" \"${file#/usr}\" 2>/dev/null | grep -q : || echo \"$file\"
        done
        getcap -r / 2>/dev/null || true",
    );
    assert_eq!(privileged, "");
}

#[test]
fn what_root_runs_belongs_to_root_and_hermes_cannot_change_it() {
    volume!(volume);
    let places = "/init /command /usr/local/bin /etc/cont-init.d /opt/hermes /usr/libexec/hermes-s6 \
        /usr/share/hermes-s6 /etc/s6-overlay /package/admin /etc/passwd /etc/group";
    // Each of them, all that is in it, and all that leads to it; where it is a link, what it leads to.
    let found = volume.script(
        "10000:10000",
        &format!(
            "for place in {places}; do
              [ -e $place ] || continue
              find -H $place ! -user root -o ! -type l -perm /22
              find -H $place ! -type l -writable
              while [ $place != / ]; do
                place=$(dirname $place)
                stat -c '%n %u %a' $place | grep -v ' 0 [0-7]*[0145][0145]$' || true
              done
            done"
        ),
    );
    assert_eq!(found, "");
    let programs = volume.script(
        "10000:10000",
        "for program in /command/* /usr/local/bin/*; do
          stat -L -c '%n %u %a' $program | grep -v ' 0 [0-7]*[0145][0145]$' || true
          [ ! -w $program ] || echo $program
        done",
    );
    assert_eq!(programs, "");
}

#[test]
fn programs_are_where_people_and_scripts_look_for_them() {
    volume!(volume);
    let ran = volume.script(
        "10000:10000",
        "for program in s6-svstat s6-svscan execlineb with-contenv s6-setuidgid; do
          [ $(command -v $program) = /command/$program ]
        done
        command -v hermes; command -v hermes-s6",
    );
    assert_eq!(ran, "/usr/local/bin/hermes\n/usr/local/bin/hermes-s6\n");
}

#[test]
fn docker_exec_and_login_shells_find_our_hermes_first_and_then_the_python_of_hermes() {
    volume!(volume);
    let container = volume.begin(&[], &[]);
    let found = "/usr/local/bin/hermes\n/usr/local/bin/hermes-acp\n/opt/hermes/.venv/bin/python3\n";
    for user in ["root", "hermes"] {
        for shell in [&["sh", "-c"][..], &["sh", "-lc"], &["bash", "-lc"]] {
            let script = "for name in hermes hermes-acp python3; do command -v $name; done";
            let ran = container.exec_as(user, &[shell, &[script]].concat());
            assert!(ran.stdout.ends_with(found), "{user} {shell:?}: {ran:?}");
        }
        let module = container.exec_as(user, "python -m hermes_cli.main --version");
        module.ends(0).says("Hermes Agent v");
        let acp = container.exec_as(user, "hermes-acp --help");
        acp.ends(0).says("ACP");
    }
}

#[test]
fn an_editor_that_root_connects_by_hermes_acp_is_served_by_hermes() {
    volume!(volume);
    let container = volume.begin(&[], &[]);
    let users = container.sh("sleep 60 | /usr/local/bin/hermes-acp >/dev/null 2>&1 &
        for try in $(seq 300); do
          for process in /proc/[0-9]*; do
            case $(tr '\\0' ' ' <$process/cmdline) in
              /opt/hermes/.venv/bin/python*acp*) stat -c %U $process; exit ;;
            esac
          done 2>/dev/null
          sleep 0.1
        done");
    assert_eq!(users, "hermes\n");
}

/// The programs that hermes has on the volume: one that Hermes itself made, and one with the name of Debian's.
const PROGRAMS: &str = r"profile default running
    HOME=/opt/data hermes profile create coder --no-skills >&2
    test -x /opt/data/.local/bin/coder
    printf '#!/bin/sh\necho a program of hermes\n' >/opt/data/.local/bin/mine
    cp /opt/data/.local/bin/mine /opt/data/.local/bin/id
    chmod 755 /opt/data/.local/bin/mine /opt/data/.local/bin/id
";

#[test]
fn programs_that_hermes_has_made_are_found_by_hermes_after_all_others() {
    volume!(volume, PROGRAMS);
    let container = volume.begin(&[], &["default"]);
    let environment = format!("tr '\\0' '\\n' </proc/{}/environ", container.pid("default"));
    let environment = container
        .exec_as("hermes", &["sh", "-c", &environment])
        .ends(0);
    let path = environment
        .stdout
        .lines()
        .find(|line| line.starts_with("PATH="));
    let path = path.unwrap_or_default();
    assert!(
        path.ends_with(":/bin:/opt/data/.local/bin"),
        "{environment:?}"
    );
    for shell in ["sh", "bash"] {
        let ran = container.exec_as(
            "hermes",
            &[shell, "-lc", "mine && id -u && coder --version"],
        );
        ran.ends(0)
            .says("a program of hermes\n10000\n")
            .says("Hermes Agent v");
    }
    // Docker passes on the PATH of the image, which is root's as well.
    container.exec_as("hermes", &["sh", "-c", "mine"]).ends(127);
    // Hermes itself warns when its programs are not found.
    let made = container
        .exec("hermes profile create other --no-skills")
        .ends(0);
    assert!(!made.stdout.contains("not in your PATH"), "{made:?}");
    for command in [&["mine"][..], &["sh", "-c", "mine"]] {
        let ran = volume.run(&["--rm"], command);
        ran.ends(0).says("a program of hermes\n");
    }
    let ran = volume.run(&["--rm"], &["coder", "--version"]);
    ran.ends(0).says("Hermes Agent v");
    volume.run(&["--rm"], &["id", "-u"]).ends(0).says("10000\n");
}

#[test]
fn root_finds_no_program_that_hermes_has_made() {
    volume!(volume, PROGRAMS);
    let container = volume.begin(&[], &["default"]);
    for shell in [&["sh", "-c"][..], &["sh", "-lc"], &["bash", "-lc"]] {
        let ran = container.exec(&[shell, &["echo $PATH; command -v mine coder"]].concat());
        assert_ne!(ran.code, 0, "{shell:?}: {ran:?}");
        assert!(!ran.stdout.contains("/opt/data"), "{shell:?}: {ran:?}");
    }
    let roots = container.sh("for process in /proc/[0-9]*; do
          [ \"$(stat -c %u $process)\" = 0 ] || continue
          tr '\\0' '\\n' <$process/environ 2>/dev/null | grep '^PATH=.*/opt/data' || true
        done
        grep -l /opt/data/.local /run/s6/container_environment/* || true");
    assert_eq!(roots, "");
}

#[test]
fn the_file_tools_of_an_agent_write_on_the_volume_and_where_else_it_is_allowed() {
    volume!(volume);
    let ask = "from agent.file_safety import is_write_denied as is_denied
print(is_denied('/opt/data/workspace/x'), is_denied('/work/x'), is_denied('/tmp/x'))";
    for (options, expected) in [
        (&[][..], "False True True\n"),
        (
            &["--env=HERMES_WRITE_SAFE_ROOT=/opt/data:/work"],
            "False False True\n",
        ),
        (&["--env=HERMES_WRITE_SAFE_ROOT="], "False False False\n"),
    ] {
        let ran = volume.run(&[&["--rm"], options].concat(), &["python3", "-c", ask]);
        assert_eq!(ran.ends(0).stdout, expected, "{options:?}");
    }
}

#[test]
fn the_licence_of_hermes_is_in_the_image() {
    volume!(volume);
    let licence = volume.script("10000:10000", "cat /opt/hermes/LICENSE");
    assert!(licence.contains("Nous Research"), "{licence}");
}

#[test]
fn hermes_update_explains_that_an_image_is_replaced() {
    volume!(volume);
    let container = volume.begin(&[], &[]);
    for line in [
        "hermes update",
        "hermes update --check",
        "python -m hermes_cli.main update",
    ] {
        let ran = container.exec(line).ends(1);
        ran.says("doesn't apply inside the Docker container");
        assert!(!ran.stdout.contains("Update complete"), "{line}: {ran:?}");
    }
}

#[test]
fn what_tini_was_started_for_is_started_and_a_line_says_what_to_do() {
    volume!(volume);
    let tini = ["--rm", "--entrypoint=/usr/bin/tini"];
    for words in [
        &["-g", "--", "sh", "-c", "exit 7"][..],
        &[
            "-g",
            "-p",
            "SIGTERM",
            "--",
            "/opt/hermes/docker/entrypoint.sh",
            "sh",
            "-c",
            "exit 7",
        ],
        &["sh", "-c", "exit 7"],
    ] {
        let ran = volume.run(&tini, words).ends(7);
        ran.warns("tini: s6 is PID 1 in this image");
    }
}

#[test]
fn tools_that_an_agent_expects_are_there() {
    volume!(volume);
    let tools = std::env::var("TOOLS").unwrap_or_default();
    let full = "gcc g++ make cmake node npm ffmpeg docker python3-config";
    let (there, missing) = match &*tools {
        "minimal" => (String::new(), format!("git rg {full}")),
        "full" => (format!("git rg curl ssh ps ping xz {full}"), String::new()),
        _ => ("git rg curl ssh ps ping xz".to_owned(), full.to_owned()),
    };
    let script = format!(
        "for program in {there}; do command -v $program >/dev/null || echo no $program; done
        for program in {missing}; do ! command -v $program || true; done"
    );
    assert_eq!(volume.script("10000:10000", &script), "");
}

#[test]
fn the_clients_that_the_image_of_the_hermes_project_has_are_there() {
    volume!(volume);
    let import = "import anthropic, azure.identity, boto3, hindsight_client
import aiohttp, discord, mcp, slack_bolt, telegram, zoneinfo
print(zoneinfo.ZoneInfo('Europe/Berlin'))";
    let ran = docker_ok(&[
        "run",
        "--rm",
        "--entrypoint=python3",
        super::image().unwrap(),
        "-c",
        import,
    ]);
    assert_eq!(ran, "Europe/Berlin\n");
    drop(volume);
}
