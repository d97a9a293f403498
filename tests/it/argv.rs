//! Command lines, as we read them and as the real Hermes reads them.
//!
//! Hermes reads each with its own code, in `argv.py`, and does nothing. What we say that a line asks for,
//! Hermes has to say as well; and what Hermes would do, we have to see, except for forms that are left to
//! it on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hermes_s6::hermes::line::{self, Action, Change, Line};
use hermes_s6::hermes::name::ProfileName;
use serde::Deserialize;
use serde_json::json;

use crate::support::{TestEnv, skip};

/// The profile that is meant where a line names none: no line does name it.
const STICKY: &str = "sticky";
const EXIST: [&str; 3] = ["coder", "viewer", STICKY];
/// Does not exist, except in the second home.
const GHOST: &str = "ghost";
const LONG: &str = "a234567890123456789012345678901234567890123456789012345678901234";

/// What there is to type after `gateway`, with the options of each: written down from what Hermes's help
/// says, not from our tables.
const GATEWAY: [(&str, &str); 12] = [
    ("", "accept-hooks"),
    (
        "run",
        "accept-hooks external-supervisor force no-supervise quiet replace verbose",
    ),
    ("start", "all platform system"),
    ("stop", "all system"),
    ("restart", "all platform system"),
    ("status", "deep full platform system"),
    (
        "install",
        "elevated-handoff force no-start-now no-start-on-login run-as-user start-now start-on-login system",
    ),
    ("uninstall", "system"),
    ("list", ""),
    ("setup", ""),
    ("migrate-legacy", "dry-run yes"),
    ("enroll", "connector-url gateway-id token wake-url"),
];

/// Each of these behind each of those.
const BEHIND: &str = "
    -h; --help; --h; -v; -vv; -vvq; -vx; -qv; -vh; -l; -ll; -q; -y; -w; -v=1; -; --; extra; -- extra; --= x;
    --all --system; --all --all; --system --platform x --all; --all --platform; --all --yolo; --platform -x;
    --platform -1; --platform -1.5; -c; -c x; --s; --sk; --p; --pl; --pl x; --no; --no-s; --force --replace -v;
    --no-supervise --accept-hooks; --no-s --ext; --acc; --start --no-start-n; --all; --deep; --full; --force;
    --quiet; --replace; --run-as-user x; --start-now; --system; --verbose; --name x";

/// The options in front of a command.
const TOP: &str = "accept-hooks cli continue dev help ignore-rules ignore-user-config model no-restore-cwd \
    oneshot pass-session-id profile provider resume safe-mode skills toolsets tui usage-file version worktree yolo";

/// A short option, with others and with a value in all ways there are.
const SHORT: &str = "
    -?; -? x; -? x y; -? gateway; -? -w; -? -1; -?x; -?=x; -?=; -?w; -w?; -w? x; -ww?x; -w?=x; -w=?; -?? x";

/// What stands behind an option that takes a session's name.
const SESSIONS: &str = "
    ; x; a b; a b c; chat; gateway; profile; a status; status a; gateway a; a gateway; x -w; x -w y; -p coder;
    -p coder x; x -p coder; x -p coder y; --; -x; -c x; -r x; =x; a -m b; a b -m c";

/// What there is to type after `profile`, with its names and the options of each.
const PROFILE: [(&str, &[&str], &str); 14] = [
    ("", &[], ""),
    ("alias", &["x"], "name remove"),
    (
        "create",
        &["x"],
        "clone clone-all clone-from description no-alias no-skills",
    ),
    ("delete", &["x"], "yes"),
    ("describe", &["x"], "all auto overwrite text"),
    ("export", &["x"], "output"),
    ("import", &["x"], "name"),
    ("info", &["x"], ""),
    ("install", &["x"], "alias force name yes"),
    ("list", &[], ""),
    ("rename", &["x", "y"], ""),
    ("show", &["x"], ""),
    ("update", &["x"], "force-config yes"),
    ("use", &["x"], ""),
];

/// Each of these before and behind the names.
const BESIDE: &str = "
    -h; --help; -y; -yy; -y=1; -yx; --yes; --y; --c; --cl; --clone --no-a; --name x y; --name -1; --name --yes;
    --d; --des x; --; -; --force -y --alias; --n x; --na x; -c x; -r x y; --yolo";

/// A profile in all ways that there are to name it, and that there are not: words parted by bars.
const NAMING: &str = "
    -p|coder; -p|viewer; -p|default; -p|ghost; -p|BAD; -p|Coder; -p|; -p| coder; -p|-coder; -p|root; -p|hermes;
    -p|test; -p; -p=coder; -pcoder; -p|-p|coder; -p|coder|-p|coder; -p|coder|--profile=viewer;
    --profile=coder|-p|viewer; -p|BAD|-p|coder; --profile; --profile|coder; --profile|Coder; --profile=;
    --profile=coder; --profile=Coder; --profile=DEFAULT; --profile=GHOST; --profile=tmp; --profile=Sudo;
    --profile= coder; --profile=\u{a0}coder\u{2003}|-w; --profile=\u{1f}coder; --profile=C\u{d6}der;
    --profile=\u{212a}; --profile=a=b; --profile=--all; --profile=coder|coder; --prof|coder; --prof=coder;
    --profiles=coder; --|-p|coder; -p|coder|--; --args|-p|coder; -m|-p|coder; -m|x|-p|coder; -mx|-p|coder;
    -m=x|-p|coder; --model=x|-p|coder; --mod|-p|coder; --mod|x|-p|coder; --mod|-p|coder|x; -w|-p|coder;
    -wm|-p|coder|x; -z|-p|coder; --oneshot|--profile=coder; --skills|--profile=coder; --usage-file|-p|coder;
    -c|-p|coder; -c|x|-p|coder; --platform|-p|coder|x; --help|-p|coder; -p|coder\n; --profile=coder\t|-w";

const OTHERS: &str = "
    ; -h; --help; -V; --version; version; chat; chat -q hello; status; status --all; doctor; dashboard; serve;
    update; uninstall; setup; install; start; stop; stop --all; run; list; restart; model; config set a b;
    cron list; sessions list; logs -f; proxy start; proxy status; mcp; mcp list; mcp add x --args gateway stop;
    mcp add gateway --url x; acp; -z hello; -z hello gateway stop --all; -z gateway stop; -V gateway stop --all;
    --oneshot=x gateway stop; --oneshot= gateway stop; gateway -V; hello; hello gateway stop; unknown;
    kanban list; curator status; completion zsh; completion tcsh; secrets; --no-such-option; -- gateway stop;
    gateway -- stop; gateway stop --; -- profile create x; profile -- create x; @file gateway stop;
    +x gateway stop; gateway sto; gateway Stop; gateway stop start; gateway run run; gateway ls;
    gateway gateway; gatewa stop; Gateway stop; profile rename a -- b; profile rename a -h b;
    profile rename a -p coder b; profile renam a b; profile --accept-hooks delete a; profiles;
    --model= gateway stop; -m \u{e9} gateway stop; -m\u{e9} gateway stop; -w\u{e9} gateway stop;
    --\u{e9} gateway stop; -w=m x gateway stop; -m x -p coder gateway start --platform y";

/// Words with blanks, and words of nothing: parted by bars.
const BLANKS: &str = "
    |gateway|stop; gateway||stop; gateway|stop|; gateway stop; -w gateway|stop; -m|gateway stop; --yolo |gateway;
    --model=gateway stop|gateway|stop; --mod= x|gateway|stop; -c|my session|gateway|stop; -c||gateway|stop;
    -r|||gateway|stop; -r|-m x|gateway|stop; -m||gateway|stop; -z||gateway|stop; -mx y|gateway|stop;
    gateway|start|--platform|a b; gateway|start|--platform=a b; gateway|start|--platform|;
    gateway|start|--platform|-a b; gateway|start|--platform|--s b; gateway|start|--all ; profile|create|;
    profile|create|a b; profile|create|x|--description|what it is for; profile|create|x|--description|-- y;
    profile|create|x|--description=what it is for; profile|rename||";

/// Words that are put into lines.
const WORDS: &str = "|-|--|--a|--all|--all=|--all=1|--args|--con|--continue=x|--d|--deep|--f|--no|--no-s\
    |--no-supervise|--oneshot=|--p|--platform|--platform=x y|--pro|--profile|--profile=|--profile=Coder\
    |--profile=ghost|--profile=default|--re|--s|--sys|--t|--yolo|-1|-V|-c|-cx|-h|-l|-m|-m=x|-mx|-p|-pcoder\
    |-q|-r|-s|-t|-v|-vvq|-w|-w=w|-wc|-wmx|-wz|-x|-y|-z|a b|chat|coder|create|default|gateway|ghost|mcp\
    |profile|status|stop|x";

/// The lines that they are put into.
const LINES: &str = "gateway; gateway run; gateway run --replace; gateway start --all; gateway stop --all;
    gateway restart --system; gateway status --platform x; gateway install --run-as-user x; gateway list;
    profile create x; profile delete -y x; profile rename x y; profile install x --name y; profile use x;
    -p coder gateway restart; -c x gateway stop; status";

/// Tells whether a line is of a form.
type Form = fn(&[&str]) -> bool;

/// Forms that Hermes takes and that are left to it, each with its reason.
const HANDED_OVER: [(&str, Form); 5] = [
    ("not all versions of Python read it alike", |line| {
        let ambiguous = |word: &&str| {
            let fits = |option: &&str| format!("--{option}").starts_with(word);
            let options = words(TOP).into_iter().filter(|&option| option != "profile");
            word.starts_with("--") && options.filter(fits).nth(1).is_some()
        };
        // Before 3.12, an option of which there are two at the top was refused behind the subcommand too, and
        // a letter behind the = of a flag was a flag as well. What -- hides has changed since.
        let is_it = |word: &&str| *word == "--" || word.starts_with("-w=") || ambiguous(word);
        line.iter().any(is_it)
    }),
    (
        "a value that begins with a dash depends on which of them argparse takes for options",
        |line| {
            line.iter().any(|word| {
                let number = word.starts_with('-') && word.parse::<f64>().is_ok();
                *word == "-" || number || (word.starts_with('-') && word.contains(' '))
            })
        },
    ),
    (
        "a session's name of several words ends at the first that is a command, and those are many",
        |line| {
            let several = |words: &[&str]| {
                ["-c", "--continue", "-r", "--resume"].contains(&words[0])
                    && !words[1].starts_with('-')
                    && !words[2].starts_with('-')
                    && !["gateway", "profile"].contains(&words[2])
            };
            // The profile may stand between them.
            without_profile(line).windows(3).any(several)
        },
    ),
    (
        "a prompt is for a run of another kind, except that an empty one is none",
        |line| {
            let option = |word: &str| "--oneshot".starts_with(word) && word.starts_with("--o");
            line.windows(2)
                .any(|two| (two[0] == "-z" || option(two[0])) && two[1].is_empty())
                || line
                    .iter()
                    .any(|word| word.strip_suffix('=').is_some_and(option))
                || line.contains(&"-z=")
        },
    ),
    (
        "a name with a line's end or a control character around it is a mistake",
        |line| line.iter().any(|word| word.contains(char::is_control)),
    ),
];

/// What there has to be among the lines, besides the forms that are handed over.
const CLASSES: [&str; 7] = [
    "exit code 0, calls a command",
    "exit code 0, prints help",
    "exit code 1, no such profile",
    "exit code 2, usage",
    "handed over: not ours, or refused",
    "taken over",
    "taken over, with a profile that Hermes does not find",
];

/// How many actions there are, each with its values.
const ACTIONS: usize = 15;

/// What Hermes has made of a line.
#[derive(Debug, Deserialize)]
struct Real {
    exit: i32,
    profile: String,
    called: Option<String>,
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    no_supervise: bool,
    #[serde(default)]
    names: Vec<String>,
}

impl Real {
    /// What it would have done, where that is something that we take over.
    fn action(&self) -> Option<Action> {
        let all = self.all;
        let action = self.action.as_deref();
        match (self.called.as_deref()?, action.unwrap_or("run")) {
            ("cmd_gateway", "run") => Some(Action::Run {
                supervised: !self.no_supervise,
            }),
            ("cmd_gateway", "start") => Some(Action::Start { all }),
            ("cmd_gateway", "stop") => Some(Action::Stop { all }),
            ("cmd_gateway", "restart") => Some(Action::Restart { all }),
            ("cmd_gateway", "status") => Some(Action::Status),
            ("cmd_gateway", "install") => Some(Action::Install),
            ("cmd_gateway", "uninstall") => Some(Action::Uninstall),
            ("cmd_gateway", "list") => Some(Action::List),
            ("cmd_profile", "create" | "import" | "install") => {
                Some(Action::Profile(Change::Added))
            }
            ("cmd_profile", "delete" | "rename") => Some(Action::Profile(self.change())),
            _ => None,
        }
    }

    /// What becomes of the profiles that are named; of names that cannot be, nothing.
    fn change(&self) -> Change {
        let names: Option<Vec<ProfileName>> = self
            .names
            .iter()
            .map(|name| line::profile_name(name))
            .collect();
        match names.as_deref() {
            Some([name]) => Change::Removed(name.clone()),
            Some([old, new]) => Change::Renamed(old.clone(), new.clone()),
            _ => Change::Added,
        }
    }

    /// The profile that the line names, if it does.
    fn named(&self) -> Option<&str> {
        (self.profile != STICKY).then_some(&self.profile)
    }

    fn class(&self) -> &'static str {
        match (self.exit, self.called.is_some()) {
            (0, true) => "exit code 0, calls a command",
            (0, false) => "exit code 0, prints help",
            (1, _) => "exit code 1, no such profile",
            (2, _) => "exit code 2, usage",
            _ => "exit code of another kind",
        }
    }
}

/// Takes the first option away that looks like a profile's.
fn without_profile<'a>(line: &[&'a str]) -> Vec<&'a str> {
    let mut rest = line.to_vec();
    if let Some(at) = line.iter().position(|word| word.starts_with("--profile=")) {
        rest.remove(at);
    } else if let Some(at) = line
        .iter()
        .position(|&word| word == "-p" || word == "--profile")
    {
        rest.drain(at..(at + 2).min(line.len()));
    }
    rest
}

/// The lines to compare, each of them once.
#[derive(Default)]
struct Lines(BTreeSet<Vec<String>>);

impl Lines {
    fn add(&mut self, parts: &[&[&str]]) {
        let words = parts.iter().copied().flatten();
        self.0.insert(words.map(|&word| word.to_owned()).collect());
    }

    /// Adds an option with what can be made of its name, between others.
    fn option(&mut self, before: &[&str], name: &str, after: &[&str]) {
        for end in 1..=name.len() {
            self.add(&[before, &[&format!("--{}", &name[..end])], after]);
        }
        self.add(&[before, &[&format!("--{name}"), "value"], after]);
        self.add(&[before, &[&format!("--{name}=value")], after]);
        self.add(&[before, &[&format!("--{name}=")], after]);
        self.add(&[before, &[&format!("-{name}")], after]);
    }

    fn of_gateways(&mut self) {
        for (command, options) in GATEWAY {
            let before = [&["gateway"], &*words(command)].concat();
            self.add(&[&before]);
            for option in words(options) {
                self.option(&before, option, &[]);
            }
            let ours = !["setup", "migrate-legacy", "enroll"].contains(&command);
            for text in texts(BEHIND).filter(|_| ours) {
                self.add(&[&before, &words(text)]);
            }
        }
    }

    fn of_options_in_front(&mut self) {
        let stop = words("gateway stop --all");
        let create = words("profile create new");
        for option in words(TOP) {
            self.option(&[], option, &stop);
            let option = format!("--{option}");
            for value in [&[][..], &["value"]] {
                self.add(&[&[&option], value, &create]);
                self.add(&[&["gateway", &option], value, &["stop"]]);
                self.add(&[&stop, &[&option], value]);
            }
        }
        for letter in ["h", "V", "z", "m", "t", "r", "c", "w", "s", "v", "p", "x"] {
            for text in texts(SHORT) {
                self.add(&[&words(&text.replace('?', letter)), &stop]);
            }
            self.add(&[&[&format!("-{letter}x")], &create]);
        }
        for option in [
            "-c",
            "--continue",
            "--cont",
            "-r",
            "--resume",
            "--resu",
            "-wr",
        ] {
            for text in texts(SESSIONS) {
                self.add(&[&[option], &words(text), &stop]);
                if ["-c", "-r"].contains(&option) {
                    self.add(&[&[option], &words(text), &create]);
                    self.add(&[&[option], &words(text), &["chat"]]);
                    self.add(&[&[option], &words(text)]);
                }
            }
        }
    }

    fn of_profiles(&mut self) {
        for (command, names, options) in PROFILE {
            let before = [&["profile"], &*words(command)].concat();
            for given in 0..=names.len() + 1 {
                self.add(&[&before, &["x", "y", "z"][..given]]);
            }
            for option in words(options) {
                self.option(&before, option, names);
                self.add(&[&before, names, &[&format!("--{option}")]]);
                self.add(&[&before, names, &[&format!("--{option}"), "value"]]);
            }
            let ours = ["create", "delete", "import", "install", "rename"].contains(&command);
            for text in texts(BESIDE).filter(|_| ours) {
                self.add(&[&before, names, &words(text)]);
                self.add(&[&before, &words(text), names]);
            }
        }
    }

    fn that_name_profiles(&mut self) {
        let too_long = format!("{LONG}5");
        let mut forms: Vec<Vec<&str>> = texts(NAMING)
            .map(|text| text.split('|').collect())
            .collect();
        forms.push(vec!["-p", LONG]);
        forms.push(vec!["-p", &too_long]);
        for form in &forms {
            for line in ["gateway stop --all", "--yolo gateway run --no-supervise"] {
                let line = words(line);
                for at in 0..=line.len() {
                    self.add(&[&line[..at], form, &line[at..]]);
                }
            }
            self.add(&[form, &["profile", "delete", "old"]]);
            self.add(&[&["profile", "delete", "old"], form]);
            self.add(&[&["mcp", "add", "x", "--args"], form]);
        }
    }

    fn of_other_kinds(&mut self) {
        for text in texts(OTHERS) {
            self.add(&[&words(text)]);
            self.add(&[&["-p", "coder"], &words(text)]);
            self.add(&[&["--yolo", "-m", "x"], &words(text)]);
        }
        for text in texts(BLANKS) {
            self.add(&[&text.split('|').collect::<Vec<&str>>()]);
        }
    }

    /// Puts words into lines, at places that are the same each time.
    fn mixed(&mut self) {
        // Marsaglia's xorshift64.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % limit
        };
        let lines: Vec<Vec<&str>> = texts(LINES).map(words).collect();
        let words: Vec<&str> = WORDS.split('|').collect();
        for _ in 0..400 {
            let mut line = lines[below(lines.len())].clone();
            for _ in 0..=below(3) {
                line.insert(below(line.len() + 1), words[below(words.len())]);
            }
            self.add(&[&line]);
        }
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_ascii_whitespace().collect()
}

/// The parts of a text between its semicolons, without the blanks in front.
fn texts(text: &str) -> impl Iterator<Item = &str> {
    let blank = [' ', '\n'];
    text.split(';')
        .map(move |text| text.trim_start_matches(blank))
}

/// Has the real Hermes read lines, each with the home that it is to find.
fn ask(env: &TestEnv, python: &Path, lines: &[(&Path, &[&str])]) -> Vec<Real> {
    let mut child = env
        .command(python)
        // The user whom this runs as may not reach the source.
        .args(["-c", include_str!("argv.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for (home, words) in lines {
        writeln!(input, "{}", json!({"home": home, "words": words})).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let answers: Vec<Real> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), lines.len());
    answers
}

/// A home with profiles, in the directory of a test.
fn home<P: AsRef<Path>>(env: &TestEnv, name: &str, profiles: &[P]) -> PathBuf {
    let home = env.place.join(name);
    for profile in profiles {
        std::fs::create_dir_all(home.join("profiles").join(profile)).unwrap();
    }
    std::fs::write(home.join("active_profile"), STICKY).unwrap();
    env.own();
    home
}

/// Compares what we read with what Hermes reads, and tells which class that is of, or what is wrong.
fn compare(
    ours: Option<&Line>,
    words: &[&str],
    in_first_home: bool,
    real: &Real,
) -> Result<&'static str, &'static str> {
    let command = line::subcommand(words);
    if real.called.is_some() && command.is_some() && command != real.command.as_deref() {
        return Err("another subcommand");
    }
    let Some(line) = ours else {
        let mut reasons = HANDED_OVER.iter().filter(|(_, applies)| applies(words));
        return match (real.action(), reasons.next()) {
            (None, _) => Ok("handed over: not ours, or refused"),
            (Some(_), Some((reason, _))) => Ok(reason),
            (Some(_), None) => Err("handed over for no reason"),
        };
    };
    let profile = line.profile.as_ref().map(ProfileName::as_str);
    if in_first_home && profile.is_some_and(|name| !exists(name)) {
        return match real.exit {
            1 => Ok("taken over, with a profile that Hermes does not find"),
            _ => Err("not refused"),
        };
    }
    if real.action().as_ref() == Some(&line.action) && real.named() == profile && real.exit == 0 {
        Ok("taken over")
    } else {
        Err("not what Hermes reads")
    }
}

fn exists(profile: &str) -> bool {
    profile == "default" || EXIST.contains(&profile)
}

#[test]
fn every_line_is_read_as_the_real_hermes_reads_it_or_handed_over() {
    let Ok(hermes) = std::env::var("HERMES_S6_TEST_HERMES") else {
        skip("HERMES_S6_TEST_HERMES does not name the real Hermes");
        return;
    };
    let python = Path::new(&hermes).with_file_name("python");
    let env = TestEnv::new();

    let mut lines = Lines::default();
    lines.of_gateways();
    lines.of_options_in_front();
    lines.of_profiles();
    lines.that_name_profiles();
    lines.of_other_kinds();
    lines.mixed();
    let lines: Vec<Vec<&str>> = lines
        .0
        .iter()
        .map(|line| line.iter().map(String::as_str).collect())
        .collect();
    // A profile that does not exist ends Hermes before it reads the rest of the line. So there is a second
    // home where all exist.
    let names = lines.iter().filter_map(|words| line::read(words)?.profile);
    let mut names: Vec<String> = names.map(String::from).collect();
    names.extend([GHOST, LONG, STICKY].map(str::to_owned));
    let first = home(&env, "first", &EXIST);
    let second = home(&env, "second", &names);
    let mut asked: Vec<(&Path, &[&str])> = Vec::new();
    for words in &lines {
        let is_missing = |word: &&str| word.to_lowercase().contains(GHOST) || word.contains(LONG);
        let profile = line::read(words).and_then(|line| line.profile);
        if words.iter().any(is_missing) || profile.is_some_and(|name| !exists(name.as_str())) {
            asked.push((&second, words));
        }
        asked.push((&first, words));
    }
    let answers = ask(&env, &python, &asked);

    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut actions: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for ((home, words), real) in asked.iter().zip(&answers) {
        let mut count = |class| *classes.entry(class).or_default() += 1;
        count(real.class());
        let ours = line::read(words);
        if let Some(line) = &ours {
            let action = format!("{:?}", line.action);
            // Whatever the profiles are called.
            let kind = action.split("(ProfileName").next().unwrap().to_owned();
            *actions.entry(kind).or_default() += 1;
        }
        match compare(ours.as_ref(), words, *home == first, real) {
            Ok(class) => count(class),
            Err(why) => wrong.push(format!("{why}: {words:?}\n  {ours:?}\n  {real:?}")),
        }
    }
    let summary: String = classes
        .iter()
        .map(|(class, count)| format!("{count:6} {class}\n"))
        .chain(
            actions
                .iter()
                .map(|(action, count)| format!("{count:6} {action}\n")),
        )
        .collect();
    let lines = asked.len();
    writeln!(std::io::stderr(), "{lines} lines\n{summary}").unwrap();
    assert!(
        wrong.is_empty(),
        "{} are wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );

    // What never happens was not compared.
    assert!(lines >= 300, "{lines}");
    let expected = CLASSES
        .into_iter()
        .chain(HANDED_OVER.map(|(reason, _)| reason));
    let expected: BTreeSet<&str> = expected.collect();
    assert_eq!(classes.into_keys().collect::<BTreeSet<_>>(), expected);
    assert_eq!(actions.len(), ACTIONS, "{actions:#?}");
}
