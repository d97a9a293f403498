//! What a volume has after the start of a container, and what is never changed there.

use super::{Container, Volume, never_root};

/// All files of a volume but logs: what they are, when they changed, and their content.
const INVENTORY: &str = "cd /opt/data
    find . -path ./logs -prune -o ! -type d -printf '%P %l %u %m %i %C@ ' -exec md5sum {} \\; | sort";

fn inventory(volume: &Volume) -> String {
    volume.script("0", INVENTORY)
}

/// Starts a container, waits for its tree, ends it, and gives what it said.
fn boot(volume: &Volume, options: &[&str]) -> String {
    let container = volume.begin(options, &[]);
    container.stop();
    container.said()
}

/// Runs Python of Hermes as hermes, and gives what it printed.
fn python(container: &Container, code: &str) -> String {
    container
        .exec_as("hermes", &["python3", "-c", code])
        .ends(0)
        .stdout
}

#[test]
fn a_new_volume_gets_what_hermes_itself_would_make() {
    volume!(_is_there);
    for user in [&[][..], never_root(), &["--read-only", "--tmpfs=/run:exec"]] {
        volume!(volume);
        // Docker gives a new volume to the owner of the image's directory, here as with a start as root.
        let container = volume.begin(user, &[]);
        let files = container
            .sh("cd /opt/data && stat -c '%n %U %a %F' .env config.yaml SOUL.md skills home");
        assert_eq!(
            files,
            ".env hermes 600 regular file\nconfig.yaml hermes 600 regular file\nSOUL.md hermes 600 regular file\n\
            skills hermes 700 directory\nhome hermes 700 directory\n"
        );
        let left = container
            .sh("find /opt/data ! -user hermes; ls -d /opt/data/.hermes-new.* 2>/dev/null || true");
        assert_eq!(left, "");
        // What Hermes would copy is there already, and is its own to update.
        let sync = "from tools.skills_sync import sync_skills
r = sync_skills(quiet=True)
print(len(r['copied']), len(r['updated']), len(r['user_modified']), r['skipped'] == r['total_bundled'] > 70)
from hermes_cli.config import check_config_version, load_config, load_env
version, latest = check_config_version()
print(version == latest, load_env(), 'Hermes Agent' in open('/opt/data/SOUL.md').read())";
        assert_eq!(python(&container, sync), "0 0 0 True\nTrue {} True\n");
        container.exec("hermes skills list").ends(0).says("dogfood");
        let optional = "from tools.skills_sync import _get_optional_dir
print(len(list(_get_optional_dir().rglob('SKILL.md'))) > 100)";
        assert_eq!(python(&container, optional), "True\n");
    }
}

#[test]
fn a_second_start_touches_nothing() {
    volume!(volume);
    boot(&volume, &[]);
    let first = inventory(&volume);
    let said = boot(&volume, &[]);
    assert_eq!(inventory(&volume), first);
    assert!(!said.contains("volume"), "{said}");
}

#[test]
fn what_is_on_a_volume_stays_as_it_is() {
    volume!(
        volume,
        "cd /opt/data
        printf '_config_version: 33\\nmodel: mine\\n' >config.yaml
        echo MINE=1 >.env; echo me >SOUL.md; mkdir skills; echo mine >skills/mine"
    );
    let before = inventory(&volume);
    boot(&volume, &[]);
    let after = inventory(&volume);
    for line in before.lines() {
        assert!(after.contains(line), "{line}\n{after}");
    }
    // Hermes fills it when a gateway starts, and leaves out what was removed.
    assert_eq!(volume.script("0", "ls /opt/data/skills"), "mine\n");
}

#[test]
fn missing_files_of_an_old_volume_come_but_no_directories_that_it_never_needed() {
    volume!(volume, "echo '_config_version: 33' >/opt/data/config.yaml");
    boot(&volume, &[]);
    let names = volume.script("0", "ls -A /opt/data");
    assert!(
        names.contains("SOUL.md\n") && names.contains(".env\n"),
        "{names}"
    );
    assert!(
        !names.contains("home\n") && !names.contains("skills\n"),
        "{names}"
    );
}

#[test]
fn what_a_killed_start_has_left_is_removed_when_no_other_start_can_still_need_it() {
    volume!(
        volume,
        "cd /opt/data; mkdir .hermes-new.old .hermes-new.young; touch -d '2 hours ago' .hermes-new.old"
    );
    boot(&volume, &[]);
    let left = volume.script("0", "ls -A /opt/data | grep hermes-new");
    assert_eq!(left, ".hermes-new.young\n");
}

#[test]
fn a_new_volume_without_room_for_the_skills_gets_all_else() {
    volume!(volume);
    let container = volume.begin(
        &[
            "--env=HERMES_HOME=/srv/small",
            "--tmpfs=/srv/small:size=1m,mode=755",
        ],
        &[],
    );
    let names = container.sh("cd /srv/small && ls -d .env config.yaml SOUL.md workspace");
    assert_eq!(names, ".env\nSOUL.md\nconfig.yaml\nworkspace\n");
    let left = container.sh("cd /srv/small && ls -d skills .hermes-new.* 2>/dev/null || true");
    assert_eq!(left, "");
    let said = container.said();
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn whoever_wants_no_skills_gets_none() {
    volume!(volume, "touch /opt/data/.no-bundled-skills");
    boot(&volume, &[]);
    assert_eq!(
        volume.script("0", "ls -d /opt/data/skills 2>/dev/null || true"),
        ""
    );
}

#[test]
fn links_on_the_volume_are_neither_followed_nor_replaced() {
    let links = "cd /opt/data
        mkdir aside; echo '_config_version: 3' >aside/config.yaml; echo API_SERVER_ENABLED=1 >aside/.env
        echo '{\"providers\": {\"nous\": {\"last_auth_error\": {\"relogin_required\": true}}}}' >aside/auth.json
        mkdir profiles; ln -s ../aside profiles/linked; touch aside/SOUL.md";
    let dangling = "for name in .env config.yaml SOUL.md skills auth.json home; do ln -s ../away/$name $name; done";
    let whole = "ln -s aside/.env .env; ln -s aside/config.yaml config.yaml; ln -s aside/auth.json auth.json";
    let login = r#"{"providers": {"nous": {"access_token": "t"}}}"#;
    for script in [dangling, whole] {
        volume!(volume, &format!("{links}\n{script}"));
        let before = inventory(&volume);
        let options = [
            "--env=API_SERVER_ENABLED=1",
            &format!("--env=HERMES_AUTH_JSON_BOOTSTRAP={login}"),
            &format!("--env=HERMES_AUTH_JSON_REBOOTSTRAP={login}"),
        ];
        let said = boot(&volume, &options);
        let after = inventory(&volume);
        for line in before.lines() {
            assert!(after.contains(line), "{line}\n{after}\n{said}");
        }
        assert_eq!(
            volume.script("0", "ls -d /opt/data/../away /opt/away 2>/dev/null || true"),
            ""
        );
        assert!(
            said.contains("auth.json is a symbolic link: no login is put there"),
            "{said}"
        );
        if script == whole {
            assert!(
                said.contains(".env is a symbolic link: no API_SERVER_KEY is written there"),
                "{said}"
            );
            assert!(
                said.contains("config.yaml is a symbolic link: it has version 3"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_login_that_a_link_keeps_from_its_place_is_spoken_of() {
    let option = r#"--env=HERMES_AUTH_JSON_BOOTSTRAP={"providers": {}}"#;
    let no_login = "/opt/data/auth.json is a symbolic link: no login is put there";
    volume!(volume, "ln -s ../away/auth.json /opt/data/auth.json");
    let said = boot(&volume, &[option]);
    assert_eq!(said.matches(no_login).count(), 1, "{said}");
    // A login that is there already is where its operator wants it.
    volume!(
        volume,
        "cd /opt/data; mkdir aside; echo {} >aside/auth.json; ln -s aside/auth.json auth.json"
    );
    let said = boot(&volume, &[option]);
    assert!(!said.contains("auth.json"), "{said}");
}

#[test]
fn files_that_never_end_keep_no_container_from_starting() {
    volume!(
        volume,
        "cd /opt/data; mkdir -p profiles/coder; touch profiles/coder/SOUL.md
        mkfifo .env config.yaml SOUL.md skills profiles/coder/.env profiles/coder/config.yaml"
    );
    let started = std::time::Instant::now();
    let container = volume.start(&["--env=API_SERVER_ENABLED=1"], &["sh", "-c", "sleep 1000"]);
    container.wait_for("the command", || container.exec("pgrep -x sleep").code == 0);
    // Less than the time after which the step itself gives up.
    assert!(started.elapsed().as_secs() < 60, "{}", container.said());
}

#[test]
fn an_api_server_that_is_asked_for_gets_a_key_once_and_answers_with_it() {
    volume!(
        volume,
        "profile default running; profile coder running
        echo 'API_SERVER_ENABLED=true' >/opt/data/profiles/coder/.env"
    );
    let options = [
        "--env=API_SERVER_ENABLED=true",
        "--env=HERMES_S6_HERMES=/opt/hermes/.venv/bin/hermes",
        "--env=HERMES_GATEWAY_MAX_STARTS=0",
    ];
    let container = volume.begin(&options, &["default", "coder"]);
    let keys = || {
        let keys = ["", "/profiles/coder"].map(|home| {
            container.sh(&format!(
                "grep ^API_SERVER_KEY= /opt/data{home}/.env | cut -d = -f 2"
            ))
        });
        keys.map(|key| key.trim().to_owned())
    };
    let first = keys();
    assert_ne!(first[0], first[1]);
    let modes = container.sh("cd /opt/data && stat -c '%U %a' .env profiles/coder/.env");
    assert!(modes.starts_with("hermes 600\n"), "{modes}");
    for (profile, key) in ["default", "coder"].iter().zip(&first) {
        assert_eq!(key.len(), 64, "{key}");
        let port = container.hermes_s6(&format!("port -p {profile}"));
        let ask = format!(
            "import urllib.request as r
ask = r.Request('http://127.0.0.1:{}/v1/models', headers={{'Authorization': 'Bearer {key}'}})
print(r.urlopen(ask, timeout=5).status)",
            port.trim()
        );
        container.wait_for("an answer", || {
            container.exec_as("hermes", &["python3", "-c", &ask]).stdout == "200\n"
        });
    }
    container.restart();
    container.await_states("ready", &["default", "coder"]);
    assert_eq!(keys(), first);
    assert_eq!(container.said().matches("made one, in").count(), 2);
}

#[test]
fn no_key_is_made_where_none_is_asked_for_or_one_is_given() {
    let given = "API_SERVER_KEY=0123456789abcdef0123456789abcdef";
    for (script, options) in [
        ("true", &[][..]),
        ("true", &["--env=API_SERVER_ENABLED=false"]),
        (
            "true",
            &["--env=API_SERVER_ENABLED=true", &*format!("--env={given}")],
        ),
        // It comes with each start of the gateway, and one in .env would override it.
        (
            "true",
            &[
                "--env=API_SERVER_ENABLED=true",
                "--env=API_SERVER_KEY_FILE=/run/secrets/key",
            ],
        ),
        (
            &*format!("printf 'export API_SERVER_ENABLED=1\\n{given}' >/opt/data/.env"),
            &[],
        ),
        ("echo '# API_SERVER_ENABLED=1' >/opt/data/.env", &[]),
        (
            "printf '_config_version: 33\\nplatforms:\\n  api_server:\\n    extra: {key: mine}\\n' >/opt/data/config.yaml",
            &["--env=API_SERVER_ENABLED=true"],
        ),
    ] {
        volume!(volume, script);
        let said = boot(&volume, options);
        let keys = volume.script("0", "grep ^API_SERVER_KEY= /opt/data/.env || true");
        let expected = if script.contains(given) { given } else { "" };
        assert_eq!(keys.trim(), expected, "{script} {options:?}: {said}");
    }
}

#[test]
fn a_login_in_the_environment_is_put_on_a_volume_that_has_none() {
    volume!(volume);
    let login = r#"{"version": 1, "providers": {"nous": {"access_token": "first"}}}"#;
    let option = format!("--env=HERMES_AUTH_JSON_BOOTSTRAP={login}");
    let said = boot(&volume, &[&option]);
    assert!(
        said.contains("put the login of HERMES_AUTH_JSON_BOOTSTRAP into"),
        "{said}"
    );
    let file = volume.script(
        "0",
        "cd /opt/data; stat -c '%u %a' auth.json; grep -c first auth.json",
    );
    assert_eq!(file, "10000 600\n1\n");
    let before = inventory(&volume);
    boot(&volume, &[&option.replace("first", "second")]);
    assert_eq!(inventory(&volume), before);

    volume!(other);
    let said = boot(
        &other,
        &["--env=HERMES_AUTH_JSON_BOOTSTRAP=secret-nonsense"],
    );
    assert!(
        said.contains("HERMES_AUTH_JSON_BOOTSTRAP is not the text of an auth.json, and is ignored"),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(
        other.script("0", "ls /opt/data/auth.json 2>/dev/null || true"),
        ""
    );
}

#[test]
fn a_fresh_login_replaces_only_one_that_has_ended_or_is_older() {
    let fresh = r#"{"access_token": "fresh", "obtained_at": "2026-06-01T00:00:00Z"}"#;
    let option =
        format!(r#"--env=HERMES_AUTH_JSON_REBOOTSTRAP={{"providers": {{"nous": {fresh}}}}}"#);
    for (login, is_replaced) in [
        (r#"{"last_auth_error": {"relogin_required": true}}"#, true),
        (
            r#"{"access_token": "a", "obtained_at": "2026-05-01T00:00:00+00:00"}"#,
            true,
        ),
        (
            r#"{"access_token": "a", "last_auth_error": {"relogin_required": true}}"#,
            false,
        ),
        (
            r#"{"access_token": "a", "obtained_at": "2026-07-01T00:00:00+00:00"}"#,
            false,
        ),
        (r#"{"access_token": "a"}"#, false),
        ("null", false),
    ] {
        let store = format!(
            r#"{{"providers": {{"nous": {login}, "other": {{"key": "kept"}}}}, "active": "other"}}"#
        );
        volume!(
            volume,
            &format!("umask 077; printf %s '{store}' >/opt/data/auth.json")
        );
        let said = boot(&volume, &[&option]);
        let after = volume.script(
            "0",
            "stat -c '%u %a' /opt/data/auth.json; cat /opt/data/auth.json",
        );
        assert!(after.starts_with("10000 600\n"), "{after}");
        assert!(
            after.contains("kept") && after.contains("active"),
            "{after}"
        );
        assert_eq!(
            after.contains("fresh"),
            is_replaced,
            "{login}: {after}\n{said}"
        );
        if !is_replaced {
            assert!(after.ends_with(&store), "{after}");
        }
    }
}

/// A `config.yaml` of an earlier Hermes, for the default profile and a named one.
const OUTDATED: &str = "profile coder
    for home in /opt/data /opt/data/profiles/coder; do
      printf 'model: mine\\n_config_version: 12\\nstt:\\n  model: small\\n' >$home/config.yaml
    done";

#[test]
fn the_configuration_of_an_earlier_hermes_is_migrated_and_kept() {
    volume!(volume, OUTDATED);
    let said = boot(&volume, &[]);
    for home in ["/opt/data", "/opt/data/profiles/coder"] {
        let line = format!(
            "{home}/config.yaml has version 12, and this Hermes writes version 33: migrated"
        );
        assert!(said.contains(&line), "{said}");
        let config = volume.script(
            "0",
            &format!("cat {home}/config.yaml; stat -c %u {home}/config.yaml"),
        );
        assert!(
            config.contains("_config_version: 33\n") && config.contains("mine"),
            "{config}"
        );
        assert!(config.ends_with("10000\n"), "{config}");
        let kept = volume.script("0", &format!("cat {home}/config.yaml.bak-*"));
        assert_eq!(
            kept,
            "model: mine\n_config_version: 12\nstt:\n  model: small\n"
        );
    }
    let before = inventory(&volume);
    let said = boot(&volume, &[]);
    assert_eq!(inventory(&volume), before, "{said}");
}

#[test]
fn a_configuration_that_is_not_to_be_or_cannot_be_migrated_stays_and_is_said() {
    volume!(volume, OUTDATED);
    let before = volume.script("0", "cat /opt/data/config.yaml");
    let said = boot(&volume, &["--env=HERMES_SKIP_CONFIG_MIGRATION=1"]);
    assert!(
        said.contains("it stays as HERMES_SKIP_CONFIG_MIGRATION demands"),
        "{said}"
    );
    assert_eq!(volume.script("0", "cat /opt/data/config.yaml"), before);

    // Hermes takes what is no YAML for a person to repair, and so do we.
    volume!(
        broken,
        "printf 'a: [\\n_config_version: 12\\n' >/opt/data/config.yaml"
    );
    let before = broken.script("0", "cat /opt/data/config.yaml; ls -A /opt/data");
    boot(&broken, &[]);
    let after = broken.script("0", "cat /opt/data/config.yaml; ls -A /opt/data");
    assert!(
        after.starts_with(&*before.replace("config.yaml\n", "")),
        "{before}\n{after}"
    );
    assert!(!after.contains(".bak-"), "{after}");
}
