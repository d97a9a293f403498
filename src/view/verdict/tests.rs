//! What is seen of a gateway, and what is said of it.

use super::*;

#[test]
fn what_was_some_time_ago_has_one_unit() {
    let texts = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 900_000].map(ago);
    assert_eq!(
        texts,
        [
            "0 s ago",
            "59 s ago",
            "1 min ago",
            "59 min ago",
            "1 h ago",
            "23 h ago",
            "1 d ago",
            "10 d ago"
        ]
    );
}

#[test]
fn a_holder_is_named_as_it_signed_and_as_it_is_seen_here() {
    let named = |held, pid| {
        holder_text(&Lock {
            signature: "web-1 pid 7 since then".to_owned(),
            held,
            pid,
        })
    };
    let held = "its lock is held by web-1 pid 7 since then";
    assert_eq!(named(true, None), held, "elsewhere");
    assert_eq!(named(true, Some(7)), held);
    assert_eq!(named(true, Some(70)), format!("{held}, pid 70 here"));
    assert_eq!(
        named(false, None),
        "its lock was held by web-1 pid 7 since then, and is free now"
    );
}
