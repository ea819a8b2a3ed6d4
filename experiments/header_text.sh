# The text that the example runs train on: the C headers of this machine. Sourced by quickstart.sh and the scripts that run many processes.

# make_header_text DIR: DIR/train.txt and DIR/held-out.txt, unless they are there. Every 16th header is held out. Plain ASCII lines only, at most
# 6 MB and 400 kB; the same headers give the same text.
make_header_text() {
    local text=$1 size
    if [ ! -s "$text/train.txt" ] || [ ! -s "$text/held-out.txt" ]; then
        echo "== making a corpus from the headers in /usr/include"
        mkdir -p "$text"
        find -L /usr/include -name '*.h' -type f 2> /dev/null | LC_ALL=C sort > "$text/files"
        collect() { xargs -d '\n' cat -s 2> /dev/null | LC_ALL=C grep -a '^[ -~	]*$' | { head -c "$1"; cat > /dev/null; }; }
        awk 'NR % 16 == 0' "$text/files" | collect 400000 > "$text/held-out.txt"
        awk 'NR % 16 != 0' "$text/files" | collect 6000000 > "$text/train.txt.tmp"
        mv "$text/train.txt.tmp" "$text/train.txt"
    fi
    size=$(stat -c %s "$text/train.txt")
    [ "$size" -ge 500000 ] || { echo "${0##*/}: only $size bytes of headers under /usr/include; install some -dev packages (libc6-dev)" >&2; return 1; }
}
