//! The status as metrics for Prometheus, in its text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use crate::view::row::{Report, Row, State};

/// Reads the value of a metric from a row; `None` if the row has no value for it.
type Value = fn(&Row) -> Option<u64>;

/// The metrics of a profile, all gauges: name, help text, and value.
const METRICS: [(&str, &str, Value); 8] = [
    ("up", "Whether the profile has a gateway process.", |row| {
        Some(row.pid.is_some().into())
    }),
    (
        "ready",
        "Whether the gateway has said that it serves.",
        |row| Some((row.state == State::Ready).into()),
    ),
    (
        "wanted",
        "Whether the gateway is to run, and nothing here holds it down.",
        |row| row.intent_problem.is_none().then(|| row.wanted.into()),
    ),
    (
        "parked",
        "Whether the gateway is down because it failed for good.",
        |row| Some((row.state == State::Parked).into()),
    ),
    (
        "log_written",
        "Whether what the gateway says is written into its log directory.",
        |row| row.log.as_ref().map(|log| log.written.into()),
    ),
    (
        "log_losses",
        "How often its logger could not write all that it had.",
        |row| row.log.as_ref().map(|log| log.losses as u64),
    ),
    (
        "restarts",
        "How often a process of the gateway has ended in the last two minutes.",
        |row| row.restarts.map(|count| count as u64),
    ),
    (
        "last_change_timestamp_seconds",
        "When the gateway last went up or down.",
        |row| row.changed,
    ),
];

/// Writes the status as metrics.
pub fn exposition(report: &Report) -> String {
    let mut text = String::new();
    let head = |text: &mut String, name: &str, help: &str| {
        for (keyword, value) in [("HELP", help), ("TYPE", "gauge")] {
            text.extend(["# ", keyword, " hermes_s6_", name, " ", value, "\n"]);
        }
    };
    head(&mut text, "manager", "Whether s6 supervises the gateways.");
    let s6 = if report.manager.is_s6() { "1" } else { "0" };
    text.extend(["hermes_s6_manager ", s6, "\n"]);
    head(
        &mut text,
        "volume",
        "Whether the volume could be read, which says what is wanted.",
    );
    let is_read = report.volume.is_none();
    text.extend(["hermes_s6_volume ", if is_read { "1" } else { "0" }, "\n"]);
    for (name, help, value) in METRICS {
        if name == "wanted" && !is_read {
            continue;
        }
        head(&mut text, name, help);
        for row in &report.profiles {
            if let Some(value) = value(row) {
                // A profile's name has no characters that need an escape.
                let profile = row.profile.as_str();
                let value = value.to_string();
                text.extend([
                    "hermes_s6_",
                    name,
                    "{profile=\"",
                    profile,
                    "\"} ",
                    &value,
                    "\n",
                ]);
            }
        }
    }
    if let Some(dashboard) = &report.dashboard {
        let state = dashboard.state;
        for (name, help, value) in [
            (
                "dashboard_up",
                "Whether the dashboard has a process.",
                dashboard.pid.is_some(),
            ),
            (
                "dashboard_ready",
                "Whether the dashboard listens.",
                state == State::Ready,
            ),
            (
                "dashboard_parked",
                "Whether the dashboard is down because it failed for good.",
                state == State::Parked,
            ),
        ] {
            head(&mut text, name, help);
            let value = if value { " 1\n" } else { " 0\n" };
            text.extend(["hermes_s6_", name, value]);
        }
    }
    text
}
