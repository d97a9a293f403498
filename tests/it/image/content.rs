//! What is in the image, before anything runs.

#[test]
fn nothing_in_the_image_can_be_changed_by_everybody_or_gives_rights_that_debian_does_not() {
    volume!(volume);
    // Sticky directories let nobody change what is not theirs.
    let writable = volume.script(
        "0",
        "find / -xdev \\( -path /tmp -o -path /var/tmp -o -path /dev -o -path /proc -o -path /run \\) -prune \
          -o ! -type l -perm -2 ! -perm -1000 -print",
    );
    assert_eq!(writable, "");
    // What dpkg knows is Debian's, and s6-overlay-suexec is how s6-overlay's /init works without root.
    let privileged = volume.script(
        "0",
        "find / -xdev -type f -perm /6000 ! -name s6-overlay-suexec | while read -r file; do
          dpkg -S \"$file\" >/dev/null 2>&1 || dpkg -S \"/usr$file\" \"${file#/usr}\" 2>/dev/null | grep -q : || echo \"$file\"
        done
        getcap -r / 2>/dev/null || true",
    );
    assert_eq!(privileged, "");
}

#[test]
fn what_root_runs_belongs_to_root_and_hermes_cannot_change_it() {
    volume!(volume);
    let places = "/init /command /usr/local/bin /etc/cont-init.d /opt/hermes /usr/libexec/hermes-s6 \
        /usr/share/hermes-s6 /etc/s6-overlay /package/admin /etc/passwd /etc/group";
    // Each of them, all that is in it, and all that leads to it; where it is a link, what it leads to.
    let found = volume.script(
        "10000:10000",
        &format!(
            "for place in {places}; do
              [ -e $place ] || continue
              find -H $place ! -user root -o ! -type l -perm /22
              find -H $place ! -type l -writable
              while [ $place != / ]; do
                place=$(dirname $place)
                stat -c '%n %u %a' $place | grep -v ' 0 [0-7]*[0145][0145]$' || true
              done
            done"
        ),
    );
    assert_eq!(found, "");
    let programs = volume.script(
        "10000:10000",
        "for program in /command/* /usr/local/bin/*; do
          stat -L -c '%n %u %a' $program | grep -v ' 0 [0-7]*[0145][0145]$' || true
          [ ! -w $program ] || echo $program
        done",
    );
    assert_eq!(programs, "");
}

#[test]
fn programs_are_where_people_and_scripts_look_for_them() {
    volume!(volume);
    let ran = volume.script(
        "10000:10000",
        "for program in s6-svstat s6-svscan execlineb with-contenv s6-setuidgid; do
          [ $(command -v $program) = /command/$program ]
        done
        command -v hermes; command -v hermes-s6",
    );
    assert_eq!(ran, "/usr/local/bin/hermes\n/usr/local/bin/hermes-s6\n");
}
