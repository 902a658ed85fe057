#!/usr/bin/env bash
# Trains the networks of the open road on a machine with a GPU, in calls of under ten minutes each.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/gpu_day.sh pack DATA            pack CamVid, a folder or a .tar of one, for the machine with the GPU
       tools/gpu_day.sh train [OPTION]... [STAGE]...   train what has not ended yet; call it again until it says so

A STAGE is one recipe or more, joined by commas, which train side by side; the next stage starts when all of it have
ended. Without any: the networks, then the students of the two larger ones, then Lovasz as the last stage; with --folds
the networks with each drive left out, with and without the changes for roads that they have not seen.

  --minutes N     end after N minutes (9); what is not ready goes on from its checkpoint in the next call
  --data TAR      the packed data (build/gpu_day/camvid.tar), unpacked beside it
  --out DIR       folder of the runs (runs)
  --results DIR   write models, logs and scores there at the end, as results.tar.aa, .ab, … of 15 MB at most
  --workers N     processes that load, for each training (cores / trainings of the stage, 1 to 8)
  --folds         train and measure the recipes' folds (leave one drive out)
  --dry-run       say what would be done, check recipes and data, and do nothing

PYTHON names the Python to use (python3), which needs torch, lightning, matplotlib, tensorboard and OpenCV.
Exit status: 0 all has ended, 1 a training failed, 2 wrong use, 3 time is over: call again.
TEXT
}

fail() {
    echo "gpu_day: $1" >&2
    exit "${2:-2}"
}

here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
given() { # PATH of the caller's, who may stand elsewhere
    case $1 in
        /*) echo "$1" ;;
        *) echo "$here/$1" ;;
    esac
}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
[[ "$python" != */* ]] || python=$(given "$python")
started=$SECONDS
tarball=build/gpu_day/camvid.tar out=runs results= workers= minutes=9 folds= dry=
stages=() names=() # of the trainings
pids=()            # of those that run

pack() { # FOLDER OR TAR
    writable "$(dirname "$tarball")"
    if [ -d "$1" ]; then
        for folder in {train,val}/{images,labels}; do
            [ -d "$1/$folder" ] || fail "$1 has no $folder; give the folder that has train and val of CamVid"
        done
        # What links lead to travels, not the links.
        tar -chf "$tarball.part" -C "$1" train val
    elif [ -f "$1" ]; then
        cp "$1" "$tarball.part"
    else
        fail "there is no folder or file $1"
    fi
    check_tar "$tarball.part"
    mv "$tarball.part" "$tarball"
    echo "$tarball: $(du -m "$tarball" | cut -f1) MB"
}

check_tar() {
    local files
    files=$(tar -tf "$1" 2>/dev/null) || fail "$1 is no tar file that can be read"
    for folder in {train,val}/{images,labels}; do
        grep -q "^\(./\)\?$folder/." <<<"$files" || fail "$1 has no files in $folder"
    done
}

add_stage() { # RECIPE[,RECIPE]...: names, or paths of files
    local recipes
    IFS=, read -r -a recipes <<<"$1"
    for i in "${!recipes[@]}"; do
        [ ! -f "$here/${recipes[i]}" ] || recipes[i]=$here/${recipes[i]}
    done
    stages+=("$(IFS=, && echo "${recipes[*]}")")
}

writable() { # FOLDER, which is made
    mkdir -p "$1" 2>/dev/null && [ -w "$1" ] || fail "folder $1 cannot be made or written to"
}

left() { echo $((minutes_s - (SECONDS - started))); }

ended() { # RECIPE'S NAME
    if [ -n "$folds" ]; then
        grep -qx "missing: \[\]" "$out/$1/folds.yaml" 2>/dev/null
    else
        [ -f "$out/$1/score.yaml" ]
    fi
}

names_of() { # STAGE: a line "RECIPE<tab>NAME" for each; fails with the recipe's own sentence
    "$python" - "$1" <<'CODE'
import sys

from rt_segmentation.training.recipe import RecipeError, load_recipe

for given in sys.argv[1].split(","):
    try:
        print(given, load_recipe(given).name, sep="\t")
    except RecipeError as error:
        sys.exit(f"gpu_day: {error}")
CODE
}

command_of() { # RECIPE WORKERS: into the array `command`
    command=("$python" -m rt_segmentation.cli train "$1" --data-root "$data" --out "$out" --workers "$2")
    command+=(--checkpoint-s 60 ${folds:+--folds})
}

collect() {
    local found=()
    for name in "${names[@]}"; do
        for path in "$out/$name" "$out/$name.log"; do
            [ ! -e "$path" ] || found+=("$path")
        done
    done
    [ -n "$results" ] && [ ${#found[@]} -gt 0 ] || return 0
    rm -rf "$results/.new"
    mkdir "$results/.new" || fail "folder $results cannot be written to" 1
    # Without checkpoints: LinkNet's are too large to travel.
    find "${found[@]}" -type f ! -name '*.ckpt' ! -path '*/tensorboard/*' ! -name '.*' -print0 |
        tar -czf - --null -T - | split -b 15000000 - "$results/.new/results.tar." || {
        rm -rf "$results/.new"
        fail "the results could not be written to $results; what was there before is left" 1
    }
    rm -f "$results"/results.tar.*
    mv "$results"/.new/* "$results"
    rmdir "$results/.new"
    echo "results: $results/results.tar.* (cat them | tar xz)"
}

train() {
    local folder=research/ablations
    if [ ${#stages[@]} = 0 ] && [ -n "$folds" ]; then
        for network in linknet enet lednet; do
            stages+=("$folder/${network}_folds_gpu.yaml,$folder/${network}_folds_gpu_open.yaml")
        done
    elif [ ${#stages[@]} = 0 ]; then
        stages=(
            enet_open_road_gpu,linknet_open_road_gpu,lednet_open_road_gpu
            enet_open_road_gpu_student,linknet_open_road_gpu_student,lednet_open_road_gpu_student
            enet_open_road_gpu_lovasz,linknet_open_road_gpu_lovasz,lednet_open_road_gpu_lovasz
        )
    fi
    minutes_s=$(awk -v m="$minutes" 'BEGIN { if (m !~ /^[0-9.]+$/ || m <= 0) exit 1; print int(m * 60 + 0.5) }') ||
        fail "--minutes is '$minutes', it must be a number above 0"
    [[ "$workers" =~ ^[0-9]*$ ]] || fail "--workers is '$workers', it must be a whole number"
    [ -f "$tarball" ] || fail "there is no $tarball; make it with: tools/gpu_day.sh pack DATA"
    check_tar "$tarball"
    data=$(dirname "$tarball")/data
    # All recipes are read before any trains: a wrong one in the last stage is known now.
    local lists=()
    for stage in "${stages[@]}"; do
        lists+=("$(names_of "$stage")") || exit 2
        mapfile -t -O "${#names[@]}" names < <(cut -f2 <<<"${lists[-1]}")
    done
    [ -n "$dry" ] || prepare
    for list in "${lists[@]}"; do
        stage "$list"
    done
    if [ -z "$dry" ]; then
        collect
        echo "all has ended"
    fi
}

prepare() { # the folders; what they lack is known before hours of training
    local packed
    writable "$out"
    [ -z "$results" ] || writable "$results"
    packed=$(cksum <"$tarball")
    if [ ! -f "$data/.unpacked" ] || [ "$(<"$data/.unpacked")" != "$packed" ]; then
        # Of another tar there may be more files.
        rm -rf "$data"
        writable "$data"
        tar -xf "$tarball" -C "$data" || fail "$tarball could not be unpacked into $data"
        echo "$packed" >"$data/.unpacked"
    fi
}

stage() { # LIST of names_of
    local waiting=() count each
    while IFS=$'\t' read -r recipe name; do
        if ended "$name"; then
            echo "$name has ended"
        else
            waiting+=("$recipe"$'\t'"$name")
        fi
    done <<<"$1"
    count=${#waiting[@]}
    [ "$count" -gt 0 ] || return 0
    each=${workers:-$(($(nproc) / count))}
    each=$((each < 1 ? 1 : each > 8 ? 8 : each))
    if [ -n "$dry" ]; then
        for pair in "${waiting[@]}"; do
            command_of "${pair%$'\t'*}" "$each"
            printf '%q ' "${command[@]}"
            echo
        done
        echo "-- then --"
        return 0
    fi
    [ "$(left)" -gt 0 ] || over
    local code failed=() late=
    for pair in "${waiting[@]}"; do
        command_of "${pair%$'\t'*}" "$each"
        timeout -k 10 "$(left)" "${command[@]}" >>"$out/${pair#*$'\t'}.log" 2>&1 &
        pids+=($!)
    done
    for i in "${!pids[@]}"; do
        code=0
        wait "${pids[i]}" 2>/dev/null || code=$?
        # timeout's own status; or that of its kill, which without it is somebody else's, as the system's.
        [ $code != 137 ] || [ "$(left)" -gt 1 ] || code=124
        case $code in
            0) echo "${waiting[i]#*$'\t'} has ended after $((SECONDS - started)) s of this call" ;;
            124) late=yes ;;
            13[0-9] | 14[0-9])
                failed+=("${waiting[i]#*$'\t'}")
                echo "gpu_day: ${failed[-1]} was killed by signal $((code - 128))" >&2
                ;;
            *) failed+=("${waiting[i]#*$'\t'}") ;;
        esac
    done
    pids=()
    if [ ${#failed[@]} -gt 0 ]; then
        collect
        tail -n 3 "$out/${failed[0]}.log" >&2
        fail "the training of ${failed[*]} failed; $out/${failed[0]}.log says why" 1
    fi
    [ -z "$late" ] || over
}

stop() { # SIGNAL'S NUMBER: a shell's background processes do not hear of Ctrl-C, and would train on
    trap '' INT TERM HUP
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    echo "gpu_day: stopped; call again to go on" >&2
    exit $((128 + $1))
}

over() {
    collect
    echo "time is over after $((SECONDS - started)) s; call again to go on"
    exit 3
}

[ $# -gt 0 ] || { usage >&2; exit 2; }
verb=$1
shift
case $verb in
    pack)
        [ $# = 1 ] || fail "pack needs one folder or .tar with train and val of CamVid"
        pack "$(given "$1")"
        ;;
    train)
        while [ $# -gt 0 ]; do
            case $1 in
                --minutes | --data | --out | --results | --workers)
                    [ $# -gt 1 ] || fail "$1 needs a value"
                    case $1 in
                        --minutes) minutes=$2 ;;
                        --data) tarball=$(given "$2") ;;
                        --out) out=$(given "$2") ;;
                        --results) results=$(given "$2") ;;
                        --workers) workers=$2 ;;
                    esac
                    shift
                    ;;
                --folds) folds=yes ;;
                --dry-run) dry=yes ;;
                -*) fail "unknown option $1; tools/gpu_day.sh -h lists them" ;;
                *) add_stage "$1" ;;
            esac
            shift
        done
        trap 'stop 1' HUP
        trap 'stop 2' INT
        trap 'stop 15' TERM
        train
        ;;
    -h | --help) usage ;;
    *) fail "unknown command '$verb'; there are pack and train" ;;
esac
