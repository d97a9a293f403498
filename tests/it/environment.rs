//! What a gateway finds in its environment.

use std::fs;

use crate::support::{TestEnv, has};

/// The environment of a profile's gateway.
fn environment(env: &TestEnv, profile: &str) -> Vec<String> {
    let content = fs::read(format!("/proc/{}/environ", env.pid(profile))).unwrap();
    let content = String::from_utf8(content).unwrap();
    content.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn a_secret_in_a_file_is_read_at_each_start_and_is_in_the_gateway_alone() {
    let mut env = TestEnv::new();
    env.running("default").running("coder");
    let file = env.place.join("secret");
    env.write(&file, "first-secret\n");
    env.own();
    env.set("TELEGRAM_BOT_TOKEN_FILE", file.to_str().unwrap());
    env.set("OPENAI_API_KEY_FILE", file.to_str().unwrap());
    let tree = env.supervise();
    env.await_ready(&["default", "coder"]);
    let has =
        |profile: &str, variable: &str| environment(&env, profile).contains(&variable.to_owned());
    assert!(has("default", "TELEGRAM_BOT_TOKEN=first-secret"));
    // As the token itself would be: the messaging accounts of the container are the default profile's.
    assert!(!has("coder", "TELEGRAM_BOT_TOKEN=first-secret"));
    assert!(has("coder", "OPENAI_API_KEY=first-secret"));
    let grep = |place: &std::path::Path| {
        let ran = env
            .command("grep")
            .args(["-rl", "first-secret"])
            .arg(place)
            .output()
            .unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    assert_eq!(grep(&env.slot("default").join("..")), "");
    // The stand-in notes its token there itself.
    let events = format!("{}/events\n", env.home.display());
    assert_eq!(grep(&env.home), events);
    env.write(&file, "second-secret");
    env.run("restart -p default").ends(0);
    assert!(has("default", "TELEGRAM_BOT_TOKEN=second-secret"));
    fs::remove_file(&file).unwrap();
    env.run("restart -p default --timeout 5");
    env.wait_for("a line that says why", || {
        let log = fs::read_to_string(env.log("default").join("current")).unwrap();
        log.contains("secret: No such file or directory: let hermes read the file that ")
    });
    assert_eq!(tree.stop(), 0);
}

#[test]
fn a_gateway_has_its_working_directory_its_umask_and_nothing_of_execline() {
    let mut env = TestEnv::new();
    env.running("coder");
    env.set("UMASK", "027")
        .set("!", "7")
        .set("PWD", "/elsewhere");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    let variables = environment(&env, "coder");
    assert!(
        variables.contains(&format!("PWD={}", env.home.display())),
        "{variables:?}"
    );
    assert!(
        !variables.iter().any(|variable| variable.starts_with('!')),
        "{variables:?}"
    );
    let status = fs::read_to_string(format!("/proc/{}/status", env.pid("coder"))).unwrap();
    has(&status, "Umask:\t0027\n");
    assert_eq!(tree.stop(), 0);
    env.set("UMASK", "u=rwx");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    let log = fs::read_to_string(env.log("coder").join("current")).unwrap();
    has(
        &log,
        "UMASK='u=rwx' is ignored: it takes an octal number from 0 to 777, such as 027",
    );
    assert_eq!(tree.stop(), 0);
}
