# shellcheck shell=bash
# The life of a job, sourced by its batch script: `live RUN` runs the training of RUN as one step of srun and decides
# what comes of its end. Only this file brings a job back; it runs on the host, also where Python runs in a container.
#
#   EULER_PYTHON        the interpreter
#   EULER_CODE          the copy of the code
#   EULER_SCRIPT        the batch script, for a successor
#   EULER_COMEBACK      requeue, or chain where the site allows no requeueing
#   EULER_MAX_RESTARTS  starts after the first, at most
#   srun_args           array of further arguments of srun
#   EULER_IMAGE         an image that the tasks run in; empty: none. EULER_PYTHON is the interpreter in it then
#   in_image            array of arguments of in_image.sh, before its --
#
# In RUN/.job: `failure` (only a genuine error writes it), `reason` (of ranks that leave to come back), `history` (time,
# job, restart, event), `checkpoints` (where they are), `stuck` (newest checkpoint at the last return, returns in a row
# without a newer one), `successor`.

readonly EULER_MOST_VAIN_RETURNS=4 EULER_MOST_STOPS=20 # in a row without a new checkpoint: deaths, orders to stop
srun_pid='' signalled='' returned='' successor=''
# shellcheck source=slurm/image.sh
. "$EULER_CODE/slurm/image.sh"

live() {
  set +eC +o pipefail # what set-up lines may have set: a training that leaves to come back would end the script here
  IFS=$' \t\n'
  run=$1
  if [ -z "${SLURM_JOB_ID:-}" ]; then
    echo 'slurm/job.sh: no SLURM_JOB_ID; it is part of a batch script, which sbatch starts' >&2
    exit 1
  fi
  job=$SLURM_JOB_ID
  # an array task is never named by its raw number, which may be that of the whole array
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  restart=$((${EULER_RESTARTS:-0} + ${SLURM_RESTART_COUNT:-0}))
  mkdir -p "$run/.job" || exit 1
  [ -z "${EULER_AFTER:-}" ] || leave_if_predecessor_was_ended
  rm -f "$run/.job/failure" "$run/.job/reason"
  [ "$restart" -gt 0 ] || rm -f "$run/.job/stuck" # submitted again, whatever came before
  note "start $(nodes)"
  if [ "$EULER_COMEBACK" = chain ]; then queue_successor_at_start; fi
  if [ -n "${EULER_IMAGE:-}" ]; then check_image "$run" || conclude 1; fi
  # the tasks get the signals themselves, and save; the shell has to outlive them
  trap 'signalled=1; return_if_out_of_time' TERM
  trap 'signalled=1; pass_on USR1' USR1
  trap 'signalled=1; pass_on USR2' USR2
  run_step &
  srun_pid=$!
  await_step
  conclude "$rc"
}

run_step() {
  local task=("$EULER_PYTHON" -m pipeline.launch.slurm.task "$run")
  MASTER_ADDR=$(address)
  MASTER_PORT=$(free_port)
  export MASTER_ADDR MASTER_PORT
  export EULER_JOB=$job EULER_RESTART=$restart
  # SAFEPATH: the working directory may be the checkout, whose code would come before the copy
  export PYTHONPATH=$EULER_CODE${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
  # srun has not taken it from sbatch since SLURM 22.05
  [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  # shellcheck disable=SC2154 # the batch script may set it
  if [ -n "${EULER_IMAGE:-}" ]; then
    task=(bash "$EULER_CODE/slurm/in_image.sh" "$run" ${in_image[@]+"${in_image[@]}"} -- "${task[@]}")
  fi
  # shellcheck disable=SC2154 # the batch script may set it
  exec srun --kill-on-bad-exit=1 --wait=0 --export=ALL --distribution=block ${srun_args[@]+"${srun_args[@]}"} \
    "${task[@]}" < /dev/null
}

await_step() { # sets rc
  local status
  rc=''
  while :; do
    signalled=''
    wait "$srun_pid"
    status=$?
    # 127: collected by the wait that a signal has ended
    if [ -z "$rc" ] || [ "$status" -ne 127 ]; then rc=$status; fi
    [ -n "$signalled" ] || return 0
  done
}

pass_on() {
  [ -z "$srun_pid" ] || kill -s "$1" "$srun_pid" 2> /dev/null
}

conclude() {
  local code
  if [ "$1" -eq 0 ]; then
    note finished
    cancel_successor
    exit 0
  fi
  if [ -e "$run/.job/failure" ]; then
    code=$(sed -n 's/.*"code": \([0-9][0-9]*\).*/\1/p' "$run/.job/failure")
    code=${code:-$1}
    note "failed $code"
    cancel_successor
    exit "$code"
  fi
  come_back "$1"
}

come_back() {
  local reason vain
  reason=$(head -n 1 "$run/.job/reason" 2> /dev/null | cut -c 1-200)
  case $1 in
    75 | 143) reason=${reason:-stopped} ;; # 143: srun ends the ranks that leave after the first
    129 | 1[3-5]? | 16[0-4]) reason="killed by signal $(($1 - 128))" ;;
    *) reason="srun ended with $1" ;;
  esac
  leave_unless_running "$1"
  vain=$(count_vain_returns)
  if [ "$vain" -ge "$(most_vain_returns "$reason")" ]; then
    give_up "$1" "$reason, $vain times in a row without a new checkpoint"
  fi
  if [ "$restart" -ge "$EULER_MAX_RESTARTS" ]; then
    give_up "$1" "$reason after $restart restarts (hydra.launcher.max_restarts)"
  fi
  if [ "$EULER_COMEBACK" = requeue ]; then requeue "$1" "$reason"; fi
  hand_over "$1" "$reason"
}

requeue() { # returns only if SLURM does not do it
  local pause answer
  for pause in 0 1 2 4 8; do
    sleep "$pause"
    leave_unless_running "$1"
    if answer=$(scontrol requeue "$job" 2>&1); then
      note "requeued $2"
      trap - TERM USR1 USR2
      sleep 600 # until SLURM ends it: an end of its own would count as the end of the job
      exit "$1"
    fi
    say "scontrol requeue: $answer"
  done
}

return_if_out_of_time() { # at once: SLURM takes such a job for done, and kills this shell before the tasks have saved
  [ "$EULER_COMEBACK" = requeue ] && [ -z "$returned" ] || return 0
  [ "$(squeue -h -j "$job" -o '%T %r' 2> /dev/null)" = 'COMPLETING TimeLimit' ] || return 0
  [ "$restart" -lt "$EULER_MAX_RESTARTS" ] && [ "$(count_vain_returns)" -lt "$EULER_MOST_STOPS" ] || return 0
  returned=1
  if scontrol requeue "$job"; then note 'requeued out of time'; else queue_successor; fi
}

hand_over() {
  [ -n "$successor" ] || queue_successor
  if [ -z "$successor" ]; then
    give_up "$1" "$2; neither scontrol requeue nor sbatch works here"
  fi
  note "chained $successor $2"
  exit "$1"
}

give_up() {
  note "gave up $2"
  cancel_successor
  exit "$1"
}

leave_unless_running() { # else SLURM has decided: cancelled, preempted, out of time, requeued by someone
  local state
  state=$(state_of "$job")
  [ "$state" = RUNNING ] && return 0
  note "left ${state:-gone}"
  exit "$1"
}

state_of() { # an unanswered question counts as RUNNING: what is tried then does not work either, or does
  local pause state
  for pause in 0 2 5; do
    sleep "$pause"
    if state=$(squeue -h -j "$1" -o %T 2> /dev/null); then
      echo "$state"
      return
    fi
  done
  echo RUNNING
}

most_vain_returns() { # being preempted at every start is bad luck, dying at every start is a defect
  case $1 in
    stopped* | 'killed by signal 10' | 'killed by signal 12') echo "$EULER_MOST_STOPS" ;;
    *) echo "$EULER_MOST_VAIN_RETURNS" ;;
  esac
}

count_vain_returns() {
  local folder mark former='' count=0
  folder=$(cat "$run/.job/checkpoints" 2> /dev/null)
  mark=$(stat -c '%i-%.9Y-%s' "${folder:-$run/checkpoints}/last.ckpt" 2> /dev/null)
  mark=${mark:-none}
  [ ! -e "$run/.job/stuck" ] || read -r former count < "$run/.job/stuck"
  if [ "$mark" = "$former" ]; then count=$((count + 1)); else count=0; fi
  echo "$mark $count" > "$run/.job/stuck"
  echo "$count"
}

# --- successors: the same script as another job, where this one cannot be requeued

queue_successor_at_start() { # so that it is there however this job ends
  local owner waiting
  if read -r owner waiting 2> /dev/null < "$run/.job/successor" && [ "$owner" = "$job" ] &&
    [ "$(squeue -h -j "$waiting" -o %T 2> /dev/null)" = PENDING ]; then
    successor=$waiting # this job was requeued by someone
  elif [ "$restart" -lt "$EULER_MAX_RESTARTS" ]; then
    queue_successor
    [ -n "$successor" ] || say 'no successor could be queued; tried again at the end'
  fi
}

queue_successor() { # sets successor, to nothing if that fails
  local array=() answer
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || array=("--array=$SLURM_ARRAY_TASK_ID")
  answer=$(
    # what SLURM has told this job is not true of the next
    for name in $(compgen -e | grep -E '^(SLURM|SRUN)_' | grep -v '^SLURM_CONF$'); do unset "$name"; done
    # shellcheck disable=SC2154 # a template that was given arguments has them again
    exec env EULER_AFTER="$job" EULER_RESTARTS=$((restart + 1)) sbatch --parsable --dependency="afternotok:$job" --kill-on-invalid-dep=yes ${array[@]+"${array[@]}"} \
      "$EULER_SCRIPT" ${script_args[@]+"${script_args[@]}"}
  ) || return 0 # sbatch has said why
  successor=${answer%%;*}
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || successor=${successor}_$SLURM_ARRAY_TASK_ID
  echo "$job $successor" > "$run/.job/successor"
  note "successor $successor"
}

cancel_successor() {
  [ -z "$successor" ] || scancel "$successor" || say "scancel $successor failed; it will end by itself"
}

leave_if_predecessor_was_ended() { # a successor is started by any bad end, also by scancel and by a genuine error
  local state=''
  state=$(scontrol show job "$EULER_AFTER" 2> /dev/null | sed -n 's/^ *JobState=\([A-Z_]*\).*/\1/p' | head -n 1)
  [ -n "$state" ] || state=$(sacct -n -X -j "$EULER_AFTER" -o State%20 2> /dev/null | awk 'END { print $1 }')
  if [ "$state" = CANCELLED ]; then
    note "left $EULER_AFTER was cancelled"
  elif [ -e "$run/.job/failure" ]; then
    note "left $EULER_AFTER has failed"
  else
    return 0
  fi
  scancel "$job" && sleep 60
  exit 0
}

# --- the node

nodes() {
  scontrol show hostnames "${SLURM_JOB_NODELIST:-}" 2> /dev/null | paste -s -d , | grep . ||
    echo "${SLURM_JOB_NODELIST:-}"
}

address() { # of this node, where the batch script and rank 0 are; all nodes of the job have to understand it
  local name=${SLURMD_NODENAME:-$(hostname)} found
  if ! getent hosts "$name" > /dev/null; then
    found=$(scontrol show node -o "$name" 2> /dev/null | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
    if ! { [ -n "$found" ] && getent hosts "$found" > /dev/null; }; then found=$(hostname -I | cut -d ' ' -f 1); fi
    name=${found:-$name}
  fi
  echo "$name"
}

free_port() { # below the range that the kernel gives to outgoing connections
  local port
  for _ in 1 2 3 4 5 6 7 8 9; do
    port=$((12000 + RANDOM % 20000))
    (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
  done
  echo "$port"
}

note() {
  # no process tells the time: the signals that a job gets would kill it
  TZ=UTC0 printf '%(%Y-%m-%dT%H:%M:%S+00:00)T\t%s\t%s\t%s\n' -1 "$job" "$restart" "$1" >> "$run/.job/history"
  say "$1"
}

say() {
  echo "job $job, restart $restart, on ${SLURMD_NODENAME:-$(hostname)}: $1" >&2
}
