//! What is written on a volume that another container writes too.

use std::error::Error;

use super::*;
use crate::hermes::name::name;
use crate::system::beneath::scratch::{Entry, Scratch, directory, file};
use crate::volume::port::{Entries, Ports, Recorded};

type Tested = std::result::Result<(), Box<dyn Error>>;

const RECORD: &str = "{\"coder\":9570}\n";

/// What a survey finds in [`RECORD`].
fn recorded() -> Recorded {
    Recorded::Entries(Entries::from([("coder".to_owned(), 9570)]))
}

/// The volume, the record that the ports were made from, whether they are recorded, the volume afterwards, and what the
/// row is about.
type Row = (Vec<Entry>, Recorded, bool, Vec<Entry>, &'static str);

#[test]
fn ports_are_recorded_only_over_the_record_that_they_were_made_from() -> Tested {
    let record = || vec![file(PORTS_FILE, RECORD, 0o644)];
    let written = || vec![file(PORTS_FILE, "{\"coder\":9571}\n", 0o644)];
    let other = || vec![file(PORTS_FILE, "{\"coder\":9572}\n", 0o644)];
    let damaged = || vec![file(PORTS_FILE, "{", 0o644)];
    #[rustfmt::skip]
    let rows: [Row; 6] = [
        (record(), recorded(), true, written(), "the record is as it was"),
        (vec![], Recorded::Nothing, true, written(), "there was none, and is none"),
        (other(), recorded(), false, other(), "another container has given other ports"),
        (record(), Recorded::Nothing, false, record(), "it has given the first ones"),
        (vec![], recorded(), false, vec![], "somebody has removed it"),
        (damaged(), recorded(), false, damaged(), "nobody knows what is in it now"),
    ];
    for (before, seen, is_written, after, sentence) in rows {
        let scratch = Scratch::new("ports")?;
        scratch.make(&before)?;
        let settings = Settings {
            home: scratch.path().to_owned(),
            ..Settings::example()
        };
        let changes = VolumeChanges {
            ports: Some(NewPorts {
                seen,
                ports: Ports::from([(name("coder"), 9571)]),
            }),
            boot_log: if is_written {
                Vec::new()
            } else {
                vec!["not written".to_owned()]
            },
            ..VolumeChanges::default()
        };
        let settled = settle(&settings, &changes);
        assert_eq!(settled.failures, [], "{sentence}");
        assert_eq!(settled.is_overtaken, !is_written, "{sentence}");
        assert_eq!(scratch.entries()?, after, "{sentence}");
    }
    Ok(())
}

#[test]
fn an_intent_that_is_taken_from_the_gateway_is_not_written_over_one_of_the_operator() -> Tested {
    let state = |content: &str| vec![file(STATE_FILE, content, 0o640)];
    let itself = r#"{"gateway_state":"running"}"#;
    let stopped = r#"{"gateway_state":"running","desired_state":"stopped"}"#;
    let since = r#"{"gateway_state":"stopped","desired_state":null}"#;
    #[rustfmt::skip]
    let rows = [
        (itself, r#"{"gateway_state":"running","desired_state":"running","updated_at":1}"#, "there is none"),
        (since, r#"{"gateway_state":"stopped","desired_state":"running","updated_at":1}"#, "nor where the gateway has ended since"),
        (stopped, stopped, "the operator has stopped it since"),
    ];
    for (before, after, sentence) in rows {
        let scratch = Scratch::new("adopted")?;
        scratch.make(&state(before))?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        write_intent(&scratch.dir()?, Wanted::Running, Over::GatewayState, now)?;
        let content = scratch.dir()?.read(STATE_FILE, 128).unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        assert_eq!(content.trim_end(), after, "{sentence}");
    }
    Ok(())
}

#[test]
fn a_damaged_state_file_stays_until_the_new_one_is_whole() -> Tested {
    let scratch = Scratch::new("damaged")?;
    let before = [
        file(STATE_FILE, "[", 0o640),
        // Nothing can be put aside.
        directory(DAMAGED_STATE_FILE, 0o755),
    ];
    scratch.make(&before)?;
    let now = SystemTime::now();
    let written = write_intent(&scratch.dir()?, Wanted::Stopped, Over::Everything, now);
    assert!(written.is_err(), "{written:?}");
    assert_eq!(scratch.entries()?, before, "it is as it was");
    Ok(())
}
