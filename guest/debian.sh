# Purpose: a Debian system in an archive, from the mirrors this computer uses itself; sourced by the recipes of guests.
# The caller defines say(), for what a person sees, and ends $running, if there is one, before it ends itself.

. "$(dirname "${BASH_SOURCE[0]}")/../tools/progress.sh"

default_mirror=http://deb.debian.org/debian
mirror_attempts=3
mirror_pause=15

# The Debian mirror this computer uses itself; deb.debian.org on computers that are not Debian.
host_mirror() {  # "" or "-security"
    local found
    found=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
        awk -v want="$1" '(want == "" && $2 !~ /security/) || (want != "" && $2 ~ /security/) { print $1 }' |
        grep -E '^https?://' | head -n 1 || true)
    printf '%s\n' "${found:-$default_mirror$1}"
}
outside_apt_options() {  # a proxy this computer reaches its mirror through
    apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https)::Proxy(::[^ ]+)? ' | grep -v '""' |
        sed 's/^\([^ ]*\) \(.*\)$/--aptopt=\1 \2/' || true
}

run_mmdebstrap() {  # with security updates: yes or no; release; archive; options of mmdebstrap
    local security=$1 release=$2 archive=$3 sources options
    shift 3
    sources=("deb $(host_mirror '') $release main")
    [ "$security" = no ] || sources+=("deb $(host_mirror -security) $release-security main")
    mapfile -t options < <(outside_apt_options)
    rm -f "$archive"
    mmdebstrap --verbose --format=tar "${options[@]}" --aptopt='Acquire::Retries "3"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$@" "$release" "$archive" "${sources[@]}"
}

mid_update='Mirror sync in progress|Hash Sum mismatch|unexpected size|404 +Not Found|not (yet )?valid|unmet dependencies'

# make_debian_system LOG LINES RELEASE ARCHIVE OPTION...: LINES that the log has at the end, about. Asks again, and says so, when a mirror is caught in the middle of its own update.
make_debian_system() {
    local log=$1 lines=$2 attempt security=yes
    shift 2
    for attempt in $(seq "$mirror_attempts"); do
        : > "$log"
        if [ "$attempt" = "$mirror_attempts" ] && [ "$security" = yes ]; then
            security=no
            say "      the security archive is still inconsistent: building from the main archive alone"
        fi
        if logged "$log" "$lines" run_mmdebstrap "$security" "$@"; then
            return
        fi
        grep -qE "$mid_update" "$log" || break
        [ "$attempt" != "$mirror_attempts" ] || break
        say "      the mirror is being updated at this moment ($(grep -oE "$mid_update" "$log" | head -n 1)):" \
            "attempt $attempt of $mirror_attempts failed, next in $mirror_pause s"
        sleep "$mirror_pause"
    done
    tail -n 25 "$log" >&2
    return 1
}
