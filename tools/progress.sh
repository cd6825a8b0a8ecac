# Purpose: how far a long step is, for the person who waits: a bar on a terminal, nothing in a log. Sourced by scripts.

# bar DONE TOTAL TEXT: draws the bar anew. More than TOTAL is shown as all but done: totals may be what it was the last time.
bar() {
    [ -t 2 ] || return 0
    local total=$(($2 > 0 ? $2 : 1)) columns=${COLUMNS:-80} width=24 done=$1 filled
    [ "$done" -lt "$total" ] || done=$((total - 1 > 0 ? total - 1 : 0))
    filled=$((done * width / total))
    printf '\r\033[K   [%s%s] %3d %%  %s' "$(printf '%*s' "$filled" '' | tr ' ' '#')" "$(printf '%*s' $((width - filled)) '' | tr ' ' '.')" \
        $((done * 100 / total)) "$(printf '%s' "$3" | tr -d '\000-\037\033' | cut -c1-$((columns > 60 ? columns - 42 : 18)))" >&2
}
bar_end() { [ ! -t 2 ] || printf '\r\033[K' >&2; }

# logged LOG LINES COMMAND…: runs COMMAND with its output in LOG; the bar is full when that many lines have come. While it runs,
# its process is in $running, for the caller's traps.
running=
logged() {
    local log=$1 lines=$2 status=0 started=$SECONDS process
    shift 2
    "$@" >> "$log" 2>&1 < /dev/null &
    process=$!
    running=$process
    while [ -t 2 ] && kill -0 "$process" 2> /dev/null; do
        bar "$(wc -l < "$log")" "$lines" "$((SECONDS - started)) s  $(tail -c 300 "$log" | tr '\r\t' '\n ' | tail -n 1)"
        sleep 0.5
    done
    wait "$process" || status=$?
    running=
    bar_end
    [ $status != 0 ] || say "      done in $((SECONDS - started)) s"
    return $status
}

# counted LOG PATTERN TOTAL: from standard input to LOG; lines that match PATTERN (of grep -E's kind) move the bar. TOTAL 0: a line says
# itself "[done/total]", as ninja's do.
counted() {
    local log=$1 pattern=$2 total=$3 done=0 line
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$line" >> "$log"
        [[ $line =~ $pattern ]] || continue
        if [ "$total" = 0 ]; then
            [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] && bar "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${line#*] }"
        else
            done=$((done + 1))
            bar "$done" "$total" "${line##*/}"
        fi
    done
    bar_end
}
