//! The page of the dashboard in a real browser: each control that is about gateways and profiles is clicked, and what
//! the page shows is compared with what hermes-s6 says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Container, Volume};
use crate::support::{PATIENCE, has, is_root, skip, wait_for, wait_some};

/// The page of all profiles. Without a profile that is chosen, it is drawn anew when it knows the active one, and a
/// dialog of before is gone then.
const PROFILES: &str = "/profiles?profile=default";

/// What the code that runs in the page has at hand.
const FUNCTIONS: &str = r"
const shown = selector => [...document.querySelectorAll(selector)].filter(one => one.offsetParent);
const text = one => one.innerText.trim();
// The card of a profile on the page of all profiles: its first line is the name, its last one the home.
const card = name => shown('main button[aria-label=Actions]').map(one => {
  while (!/^\/opt\/data/m.test(text(one))) one = one.parentElement;
  return one;
}).find(one => text(one).split('\n')[0] === name);
";

/// A browser within the network of a container, since the dashboard listens there alone.
struct Browser<'a> {
    container: &'a Container<'a>,
    driver: Child,
    address: String,
    session: String,
}

impl<'a> Browser<'a> {
    fn start(container: &'a Container<'a>, chromedriver: &str) -> Self {
        let pid = container.inspect("{{.State.Pid}}");
        let ip = container.inspect("{{.NetworkSettings.IPAddress}}");
        let gateway = container.inspect("{{.NetworkSettings.Gateway}}");
        let driver = Command::new("nsenter")
            .args(["--target", &pid, "--net", "--", chromedriver, "--port=9515"])
            .arg(format!("--allowed-ips={gateway}"))
            .arg("--allowed-origins=*")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Self {
            container,
            driver,
            address: format!("{ip}:9515"),
            session: String::new(),
        };
        let is_up = || browser.ask("GET", "/status", None).is_some();
        wait_for("chromedriver", is_up, String::new);
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,1600",
        ];
        let options = json!({"goog:chromeOptions": {"args": arguments}});
        let wanted = json!({"capabilities": {"alwaysMatch": options}});
        let made = browser.ask("POST", "/session", Some(&wanted)).unwrap();
        browser.session = made["sessionId"].as_str().unwrap_or_default().into();
        browser
    }

    /// Asks the driver, and gives its answer; `None` if it does not answer.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).ok()?;
        // It leaves the connection open behind its answer.
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            answer.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let value = line.to_lowercase();
            let value = value.strip_prefix("content-length:");
            length = value.map_or(Some(length), |value| value.trim().parse().ok())?;
        }
        let mut content = vec![0; length];
        answer.read_exact(&mut content).ok()?;
        let content: Value = serde_json::from_slice(&content).ok()?;
        Some(content["value"].clone())
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        let answer = self.ask("POST", &path, Some(body));
        let answer = answer.unwrap_or_else(|| panic!("{path} {body}: no answer"));
        assert!(answer["error"].is_null(), "{path} {body}: {answer}");
        answer
    }

    fn open(&self, path: &str) {
        let url = format!("http://127.0.0.1:9119{path}");
        self.command("/url", &json!({ "url": url }));
    }

    /// Runs code in the page, and gives what it returns.
    fn run(&self, code: &str) -> Value {
        let script = format!("{FUNCTIONS}{code}");
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    fn text(&self) -> String {
        let text = self.run("return document.body.innerText");
        text.as_str().unwrap_or_default().to_owned()
    }

    fn explain(&self) -> String {
        format!("the page:\n{}\n{}", self.text(), self.container.explain())
    }

    /// Runs code until it returns something that is true.
    fn await_code(&self, what: &str, code: &str) {
        wait_for(
            what,
            || self.run(code).as_bool() == Some(true),
            || self.explain(),
        );
    }

    /// Clicks the button with a name, as soon as it can be clicked.
    fn click(&self, name: &str) {
        self.click_in("button", name);
    }

    /// Clicks a button of the dialog that has come up.
    fn confirm(&self, name: &str) {
        self.click_in("[role=dialog] button,[role=alertdialog] button", name);
    }

    fn click_in(&self, buttons: &str, name: &str) {
        let code = format!(
            "const one = shown('{buttons}').find(one => text(one).toUpperCase() === '{name}' && !one.disabled);
            if (one) one.click();
            return !!one"
        );
        self.await_code(&format!("the button {name}"), &code);
    }

    /// Types into the input that a selector finds, in the place of what is there.
    fn type_into(&self, selector: &str, text: &str) {
        let found = format!("return shown('{selector}').length > 0");
        self.await_code(selector, &found);
        let by = json!({"using": "css selector", "value": selector});
        let element = self.command("/element", &by);
        let id = element.as_object().unwrap().values().next().unwrap();
        let place = format!("/element/{}", id.as_str().unwrap());
        let is_typed = format!("return shown('{selector}')[0].value === '{text}'");
        // The page may still be filling it in itself.
        let type_it = || {
            self.command(&format!("{place}/clear"), &json!({}));
            self.command(&format!("{place}/value"), &json!({ "text": text }));
            self.run(&is_typed).as_bool() == Some(true)
        };
        wait_for(selector, type_it, || self.explain());
    }

    /// Chooses an action of a profile, on the page of all profiles.
    fn choose(&self, profile: &str, action: &str) {
        self.open(PROFILES);
        let code = format!(
            "const one = card('{profile}'); if (one) one.querySelector('button[aria-label=Actions]').click(); return !!one"
        );
        self.await_code(&format!("the card of {profile}"), &code);
        self.click(action);
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // It ends its browser too.
        let _gone = self.ask("DELETE", &format!("/session/{}", self.session), None);
        let _killed = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}

/// What hermes-s6 says of a profile: its state and the pid of its gateway.
fn said(container: &Container, profile: &str) -> (String, Option<u64>) {
    let ran = container.exec_as("hermes", "hermes-s6 status --json");
    let status: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let rows = status["profiles"].as_array().cloned().unwrap_or_default();
    let row = rows.into_iter().find(|row| row["profile"] == profile);
    let row = row.unwrap_or_default();
    let state = row["state"].as_str().unwrap_or("missing").to_owned();
    (state, row["pid"].as_u64())
}

/// Waits until hermes-s6 says that a profile has a state, with another process than before, and the page says the
/// same: on its own page, and on that of all profiles. Gives the pid.
fn agree(browser: &Browser, profile: &str, state: &str, before: Option<u64>) -> Option<u64> {
    let container = browser.container;
    let pid = wait_some(
        &format!("{profile} to be {state}, and another process than {before:?}"),
        || {
            let (is, pid) = said(container, profile);
            (is == state && (pid.is_none() || pid != before)).then_some(pid)
        },
        || browser.explain(),
    );
    browser.open(&format!("/system?profile={profile}"));
    let badge = pid.map_or_else(
        || "Gateway\\nstopped".to_owned(),
        |pid| format!("running · pid {pid}"),
    );
    let code = format!("return text(document.querySelector('main')).includes('{badge}')");
    browser.await_code(&format!("{profile}: {badge}"), &code);
    browser.open(PROFILES);
    let word = if pid.is_some() { "running" } else { "stopped" };
    let code = format!(
        "const one = card('{profile}'); return !!one && text(one).includes('Gateway {word}')"
    );
    browser.await_code(&format!("a card of {profile}, {word}"), &code);
    pid
}

/// Clicks a button on the page of one profile's gateway.
fn click_for(browser: &Browser, profile: &str, button: &str) {
    browser.open(&format!("/system?profile={profile}"));
    browser.click(button);
}

fn prepared() -> Option<(Volume, String)> {
    let Ok(chromedriver) = std::env::var("HERMES_S6_TEST_BROWSER") else {
        skip("HERMES_S6_TEST_BROWSER names no chromedriver");
        return None;
    };
    if chromedriver.is_empty() || !is_root() {
        skip("only root enters the network of a container, with a chromedriver");
        return None;
    }
    // Real gateways, but for the one that cannot start.
    let volume = Volume::with(
        "profile default; profile coder running; profile viewer; profile writer running
        for name in default coder viewer; do behaviour $name 'real 1'; done
        behaviour writer 'exit 78'; echo viewer >/opt/data/active_profile",
    )?;
    Some((volume, chromedriver))
}

#[test]
fn what_is_clicked_happens_and_the_page_says_what_hermes_s6_says() {
    let Some((volume, chromedriver)) = prepared() else {
        return;
    };
    let options = [
        "--env=HERMES_DASHBOARD=1",
        "--env=HERMES_GATEWAY_MAX_STARTS=0",
    ];
    let container = volume.begin(&options, &["coder"]);
    container.wait_for("the dashboard", || {
        let status = container.exec_as("hermes", "hermes-s6 status").stdout;
        status.contains("\nDashboard: ready, ")
    });
    let browser = Browser::start(&container, &chromedriver);
    let click = |profile: &str, button: &str| click_for(&browser, profile, button);
    let agree =
        |profile: &str, state: &str, before: Option<u64>| agree(&browser, profile, state, before);

    // At first.
    let first = agree("coder", "ready", None);
    agree("default", "down", None);
    agree("viewer", "down", None);
    agree("writer", "parked", None);

    // A named profile, in System and in the side bar.
    click("coder", "STOP");
    agree("coder", "down", None);
    click("coder", "START");
    let second = agree("coder", "ready", first);
    click("coder", "RESTART");
    let third = agree("coder", "ready", second);
    click("coder", "RESTART GATEWAY");
    browser.confirm("RESTART GATEWAY");
    let fourth = agree("coder", "ready", third);

    // The default profile, and not viewer, which is the active one.
    click("default", "START");
    let default = agree("default", "ready", None);
    agree("viewer", "down", None);
    click("default", "RESTART");
    agree("default", "ready", default);
    click("default", "STOP");
    agree("default", "down", None);
    agree("viewer", "down", None);
    agree("coder", "ready", None);

    // One that cannot start is parked again.
    click("writer", "START");
    container.wait_for("a second try", || {
        container.count("writer", "exit") == 2 && said(&container, "writer").0 == "parked"
    });
    agree("writer", "parked", None);

    // Another active profile changes nothing that runs.
    let before = container.list();
    browser.choose("writer", "SET AS ACTIVE");
    browser.await_code(
        "the active profile",
        "const one = card('writer'); return !!one && text(one).includes('active')",
    );
    assert_eq!(
        container.sh("cat /opt/data/active_profile").trim(),
        "writer"
    );
    assert_eq!(container.list(), before);

    // A new profile, a new name, and the end.
    browser.open(PROFILES);
    browser.await_code(
        "the dialog for a new profile",
        "const is_open = shown('#profile-name').length > 0;
        const create = shown('button').find(one => text(one).toUpperCase() === 'CREATE');
        if (card('default') && create && !is_open) create.click();
        return is_open",
    );
    browser.type_into("#profile-name", "made");
    browser.confirm("CREATE");
    agree("made", "down", None);
    browser.choose("coder", "RENAME");
    browser.type_into("main input", "builder");
    browser.click("SAVE");
    agree("builder", "ready", fourth);
    assert_eq!(said(&container, "coder").0, "missing");
    browser.choose("builder", "DELETE");
    browser.confirm("DELETE");
    container.wait_for("builder to go", || {
        said(&container, "builder").0 == "missing"
    });
    browser.await_code("its card to go", "return !card('builder')");
    assert_eq!(
        container.sh("ls /opt/data/profiles"),
        "made\nviewer\nwriter\n"
    );

    // Webhooks are those of the dashboard's own profile, which is restarted for them.
    browser.open("/webhooks?profile=default");
    browser.click("ENABLE WEBHOOKS");
    agree("default", "ready", None);
    has(&container.sh("cat /opt/data/config.yaml"), "webhook:");
    agree("viewer", "down", None);
    agree("made", "down", None);
    assert_eq!(container.stop(), 0);
}
