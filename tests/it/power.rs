//! Power cuts between two system calls of a command.

use crate::support::{Run, TestEnv, is_root, programs, say, skip};

#[test]
fn a_power_cut_at_any_moment_tears_nothing_and_takes_nothing_back() {
    let env = TestEnv::new();
    let can_cut = "PATH=$PATH:/usr/sbin:/sbin; mount -t tmpfs tmpfs /mnt && test -e /dev/loop-control || exit 1
        for program in mkfs.ext4 python3; do command -v $program || exit 1; done
        strace -o /dev/null true";
    let mut probe = env.root_command("unshare");
    if !is_root() || probe.args(["-m", "sh", "-c", can_cut]).ran().code != 0 {
        return skip(
            "only root mounts file systems, and not everywhere; strace stops the commands",
        );
    }
    let mut command = env.root_command("unshare");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/power.py");
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    command
        .args(["-m", "python3", script])
        .arg(programs().join("hermes-s6"));
    let ran = command.ran().ends(0);
    say(&format!("power: {}", ran.stdout.lines().last().unwrap()));
    assert!(!ran.stdout.contains("fault: "), "{}", ran.stdout);
}
