//! A change as one line, for stdout and for the boot log.

use super::*;

#[test]
fn a_change_is_one_line_whose_values_end_where_they_seem_to() {
    // The profile, its prior state, the reason; then the line.
    #[rustfmt::skip]
    let rows = [
        ("coder", None, None, "profile=coder prior_state=None action=skipped", "no state, no reason"),
        ("my_bot-2", Some("running"), Some("role=dashboard"), "profile=my_bot-2 prior_state=running action=skipped reason=role=dashboard", "plain words stand as they are"),
        ("mmm.bak", Some(""), None, r#"profile=mmm.bak prior_state="" action=skipped"#, "an empty state is not no state"),
        ("a b", Some("x action=started"), Some("why not"), r#"profile="a b" prior_state="x action=started" action=skipped reason="why not""#, "a space does not end a value"),
        ("coder", Some(r#"x" action="started"#), None, r#"profile=coder prior_state="x\" action=\"started" action=skipped"#, "nor does a quote"),
        ("coder", Some("x\nprofile=writer\r\t\0\u{1b}[2J\u{85}"), None,
            r#"profile=coder prior_state="x\nprofile=writer\r\t\u{0}\u{1b}[2J\u{85}" action=skipped"#, "a control character ends neither the value nor the line"),
        ("coder", Some(r"x\"), None, r#"profile=coder prior_state="x\\" action=skipped"#, "nor does a backslash in front of the quote hide it"),
        ("é/ö", None, None, r#"profile="é/ö" prior_state=None action=skipped"#, "other letters can be read"),
        ("a\\nb", None, None, r#"profile="a\nb" prior_state=None action=skipped"#, "a name that was made printable before is not escaped twice"),
    ];
    for (profile, state, reason, line, sentence) in rows {
        let change = Change {
            profile: profile.to_owned(),
            name: None,
            prior_state: state.map(str::to_owned),
            action: Action::Skipped,
            reason: reason.map(str::to_owned),
            warning: Some("which is not in it".to_owned()),
            steps: vec![Step::Up],
        };
        assert_eq!(change.to_string(), line, "{sentence}");
    }
    let words = [
        (Action::Started, "started"),
        (Action::Registered, "registered"),
        (Action::Updated, "updated"),
        (Action::Stopped, "stopped"),
        (Action::Removed, "removed"),
        (Action::Skipped, "skipped"),
        (Action::Unchanged, "unchanged"),
        (Action::Failed, "failed"),
    ];
    for (action, word) in words {
        let change = Change::new(&name("coder"), None, action);
        let line = format!("profile=coder prior_state=None action={word}");
        assert_eq!(change.to_string(), line);
    }
}
