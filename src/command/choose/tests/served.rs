//! What is said of a gateway that another one serves.

use super::*;

const CODER_IS_ALONE: (&str, &str) = (
    "coder",
    "the default profile's gateway, which is to serve it (multiplex_profiles), does not run: its own gateway runs on its own, and is to be stopped before that of default is started",
);

#[test]
fn who_starts_what_the_default_profile_serves_is_warned() {
    let served = |verb| Case {
        settings: Settings::multiplex(),
        ..named(verb, &["default", "coder"])
    };
    let served_alone = |verb| Case {
        settings: Settings::multiplex(),
        ..named(verb, &["coder"])
    };
    let both = ["default", "coder"];
    let in_config = Survey {
        multiplex_in_config: Answer::Known(true),
        ..survey()
    };
    let not_in_env_file = Survey {
        multiplex_in_env_file: Answer::Known(Some(false)),
        ..survey()
    };
    let gateway_run = Command {
        other_role: None,
        gateway: Some(Gateway {
            profile: Some(name("coder")),
            supervised: false,
        }),
    };
    #[rustfmt::skip]
    choose_all([
        (served(Start), warning(&both, CODER_IS_SERVED), "a start"),
        (served(Restart), warning(&both, CODER_IS_SERVED), "a restart"),
        (served(Stop), plainly(&both), "a stop is right"),
        (served(Remove), plainly(&both), "so is a removal"),
        (Case { default_runs: true, ..served_alone(Start) }, warning(&["coder"], CODER_IS_SERVED), "it runs"),
        (served_alone(Start), warning(&["coder"], CODER_IS_ALONE), "it does not"),
        (served_alone(Restart), warning(&["coder"], CODER_IS_ALONE), "nor here"),
        (served_alone(Stop), plainly(&["coder"]), "a stop is right in any case"),
        (Case { survey: in_config, ..named(Start, &["default", "coder"]) }, warning(&both, CODER_IS_SERVED), "its config.yaml says so too"),
        (Case { survey: not_in_env_file, ..served(Start) }, plainly(&both), "its .env goes before the environment"),
        (Case { command: gateway_run, ..served(Start) }, warning(&both, CODER_IS_SERVED), "whatever the container's command is"),
        (Case { settings: Settings { autostart: Some(false), ..Settings::multiplex() }, ..served(Start) }, warning(&both, CODER_IS_SERVED), "and whatever it starts by itself"),
    ]);
}

#[test]
fn who_starts_what_may_be_served_is_warned_and_all_leaves_it_out() {
    let problem = Problem::new("config-unreadable", "why");
    let unsure = |case: Case| Case {
        survey: Survey {
            multiplex_in_config: Answer::Unknown(problem.clone()),
            ..survey()
        },
        ..case
    };
    let may_be = (
        "coder",
        "whether the default profile's gateway serves it is not known: why",
    );
    let left = Choice {
        failures: vec![Warning::new("why")],
        ..leaving(
            &["default"],
            &["coder", "viewer", "writer"],
            "multiplex-unknown",
        )
    };
    #[rustfmt::skip]
    choose_all([
        (unsure(named(Start, &["coder"])), warning(&["coder"], may_be), "who names it means it"),
        (unsure(named(Start, &["default"])), plainly(&["default"]), "it serves, if any does"),
        (unsure(named(Stop, &["coder"])), plainly(&["coder"]), "a stop is right"),
        (unsure(all(Start)), left, "nobody has named it; and it is a failure, once"),
        (unsure(running(&["coder"], all(Restart))), plainly(&["coder"]), "what runs is restarted"),
    ]);
}
