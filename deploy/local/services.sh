# The two services of a local fleet: the BigQuery emulator and a Kafka broker. Sourced after lib.sh.
# A running service is a folder: address, ports, pid, since, log, data/. Starting it in a folder that has data keeps the data and
# the ports, which is how a restart is done; a fresh one starts in a fresh folder.

emulator_pins="local-bigquery==0.3.2 duckdb==1.5.5 duckdb-extension-ducklake==1.5.5"
emulator_extensions="duckdb-extension-icu==1.5.5 duckdb-extension-spatial==1.5.5"
emulator=$build/emulator
broker=$build/broker

# A folder is complete when its stamp holds what it was made from.
stamped() { [ -f "$1/stamp" ] && [ "$(cat "$1/stamp")" = "$2" ]; }

emulator_install() {
    local from="$emulator_pins $emulator_extensions" extensions
    stamped "$emulator" "$from" && return
    require_python
    say "Installing the BigQuery emulator into $emulator (once, half a minute) ..."
    rm -rf "$emulator"
    mkdir -p "$emulator"
    quietly "$build/logs/emulator-venv.log" "making a virtual environment" "$python" -m venv "$emulator/venv"
    # shellcheck disable=SC2086 # one word per package
    quietly "$build/logs/emulator-pip.log" "pip install" "$emulator/venv/bin/pip" install -q $emulator_pins
    # shellcheck disable=SC2086
    quietly "$build/logs/emulator-pip.log" "pip install" "$emulator/venv/bin/pip" install -q --no-deps $emulator_extensions
    # Without all three files in its home the emulator would try to download them.
    extensions=$emulator/home/.duckdb/extensions/v1.5.5/linux_amd64
    mkdir -p "$extensions"
    cp "$emulator"/venv/lib/python3.13/site-packages/duckdb_extension_*/extensions/v1.5.5/*.duckdb_extension "$extensions/"
    printf '%s\n' "$from" >"$emulator/stamp"
}

broker_install() {
    local from
    from=$(cat "$root/deploy/local/broker/pom.xml")
    stamped "$broker" "$from" && return
    command -v java >/dev/null && command -v mvn >/dev/null || die_usage "a Kafka broker needs java (17 or later) and mvn on PATH"
    say "Fetching a Kafka broker into $broker (once) ..."
    rm -rf "$broker"
    mkdir -p "$broker/libs"
    quietly "$build/logs/broker-maven.log" "fetching the broker by Maven" \
        mvn -q -B -f "$root/deploy/local/broker/pom.xml" "-DbuildDirectory=$broker/target" dependency:copy-dependencies \
        -DincludeScope=runtime "-DoutputDirectory=$broker/libs"
    printf '%s\n' "$from" >"$broker/stamp"
}

# free_ports N: ports below the range that outgoing connections use, so that none is taken between a stop and a restart.
free_ports() {
    python3 - "$1" <<'PY'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", random.randrange(20000, 32000)))
        held.append(s)
    except OSError:
        s.close()
print(*(s.getsockname()[1] for s in held))
PY
}

# When a process started, in ticks since boot: with it a pid means one process for ever, though pids are used again.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

service_running() { # FOLDER
    [ -s "$1/pid" ] && [ -s "$1/since" ] && [ "$(started_at "$(cat "$1/pid")")" = "$(cat "$1/since")" ]
}

# service_start KIND FOLDER: returns when it answers, dies with the end of its log when it does not within a minute.
service_start() {
    local kind=$1 folder=$2 ports
    service_running "$folder" && return
    mkdir -p "$folder/data"
    [ -f "$folder/ports" ] || free_ports 2 >"$folder/ports"
    ports=$(cat "$folder/ports")
    printf '127.0.0.1:%s\n' "${ports% *}" >"$folder/address"
    "${kind}_start" "$folder" "${ports% *}" "${ports#* }"
    python3 "$root/deploy/local/ready.py" "$kind" "$(cat "$folder/address")" "$(cat "$folder/pid")" 60 && return
    show_log "$folder/log" 20
    service_stop "$folder"
    die "the $kind did not come up; its log is $folder/log"
}

# In a session of its own: Ctrl-C reaches the program that uses a service, which then ends in order, before the service does.
service_spawn() { # FOLDER COMMAND...
    local folder=$1; shift
    setsid "$@" >>"$folder/log" 2>&1 </dev/null 9>&- &
    printf '%s\n' "$!" >"$folder/pid"
    started_at "$!" >"$folder/since"
}

emulator_start() { # FOLDER PORT PORT
    service_spawn "$1" env "HOME=$emulator/home" PYTHONDONTWRITEBYTECODE=1 "$emulator/venv/bin/local-bigquery" \
        --host 127.0.0.1 --port "$2" --grpc-port "$3" --data-dir "$1/data" --project local
}

broker_start() { # FOLDER PORT PORT
    local folder=$1 libs="$broker/libs/*"
    if [ ! -f "$folder/server.properties" ]; then
        cat >"$folder/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$3
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=PLAINTEXT://127.0.0.1:$2
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$folder/data
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
END
    fi
    if [ ! -f "$folder/data/meta.properties" ]; then
        quietly "$folder/format.log" "formatting the broker's data folder" \
            java -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$root/deploy/local/broker/log4j2.properties" -cp "$libs" \
            kafka.tools.StorageTool format -t "$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d =)" \
            -c "$folder/server.properties" --ignore-formatted
    fi
    service_spawn "$folder" java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        "-Dlog4j2.configurationFile=$root/deploy/local/broker/log4j2.properties" -cp "$libs" kafka.Kafka "$folder/server.properties"
}

# ended PID TENTHS: true once the process is gone or a zombie; looks ten times a second.
ended() {
    local left=$2
    while [ -r "/proc/$1/stat" ] && ! grep -q '^State:	Z' "/proc/$1/status" 2>/dev/null; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 0.1
    done
}

# service_stop FOLDER: asks, waits 10 s, insists. Its whole process group goes.
service_stop() {
    local pid
    service_running "$1" || { rm -f "$1/pid"; return 0; }
    pid=$(cat "$1/pid")
    kill -TERM -- "-$pid" 2>/dev/null
    ended "$pid" 100 || kill -KILL -- "-$pid" 2>/dev/null
    ended "$pid" 100 || say "process $pid of $1 does not end"
    rm -f "$1/pid"
}
