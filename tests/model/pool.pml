/* A pool's protocol between parent and workers, as libpool/doc/segment_and_rings.md and calls_and_crashes.md have it: publish, sleep and wake,
 * arm and ring, claim, revoke, condemn, kill at any step, reap, drain, hand back, recycle. Each step is one access to shared memory with
 * the work on private memory around it, and a worker may be killed before each. `tests/model/run` checks it in several sizes, and that each mutant (M_...) is refused.
 *
 * Spin's memory is sequentially consistent: what a release store and the two fences forbid is written down as mutants in the order that a
 * weak machine would make of it. With BUFFER the parent makes no fence behind the publish of a call, as where the kernel has membarrier: the store lies in
 * the parent's store buffer until some later time, and at the latest until the worker's heavy barrier.
 *
 * What stands for what, where the name is not the same:
 *
 *     Caller                 PoolCore::submit, and Waiters::wait_until with lead, sleep, stop_leading and follow
 *     submit, refill         Dispatcher::dispatch_or_enqueue and refill
 *     dispatch               CallWriter::dispatch and publish, with WorkerControl::ask_to_leave where a worker is recycled
 *     wake_worker, wake      WorkerControl::wake, Waiters::wake
 *     collect_results        Dispatcher::collect_results, and collect_results_of for one worker
 *     take_results           ResultIntake::take_results
 *     revoke_last            Dispatcher::rebalance: with two calls ahead, those behind the first are the last one
 *     arm, arm_all           Bells::arm, Dispatcher::arm_all
 *     finish                 Completion::finish
 *     Supervisor, check_slot Supervisor::round, check_workers; the start of a worker, Starter::adopt
 *     bury                   Burial::bury: begin, take_obituary, sort_out_calls, tell_death, lose
 *     Canceller, cancel_in   PoolCore::cancel, cancel_dispatched: ResultIntake::revoke, WorkerControl::condemn
 *     Worker                 WorkerProcess::run, wait_for_call, run_call; ResultWriter::write; ParentBells::ring_if_armed
 *
 * Left out: spinning and naps, timers and limits, a submitting thread that takes results in, large values, the worker's ready message (a worker
 * is ready when it is started), low water (it is 0: the supervisor is rung when a worker has run dry), an end that the fork server does not tell at once.
 */
#ifndef TASKS
#define TASKS 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef KILLS
#define KILLS 1      /* SIGKILLs out of nowhere */
#endif
#ifndef CANCELS
#define CANCELS 0    /* cancel(Running::kill), at any time, of any task */
#endif
#ifndef RECYCLES
#define RECYCLES 0   /* workers asked to leave after a call */
#endif
#ifndef HANGS
#define HANGS 0      /* the last task never ends */
#endif
#ifndef LOG
#define LOG 0        /* does each task log a record? */
#endif
#ifndef CALLBACKS
#define CALLBACKS 0  /* with threads in get(): that many tasks, the last, have a callback instead of a thread */
#endif
#ifndef GETTERS
#define GETTERS 1    /* threads in get(); 0: nobody waits, each task has a callback */
#endif
#ifndef RINGS_LOST
#define RINGS_LOST 0 /* rings of workers that a task's wild write destroys */
#endif
#if RINGS_LOST > 0 && !defined(M_NO_LOOK_AGAIN)
#if SLOTS > 1
#define may_look_again (slot[0].flights != 0 || slot[1].flights != 0)
#else
#define may_look_again (slot[0].flights != 0)   /* LookAgain: a thread that sleeps while calls are in flight looks after a while */
#endif
#else
#define may_look_again false
#endif
#ifndef CELLS
#define CELLS 2      /* room of the call ring, in calls */
#endif
#ifndef ROOM
#define ROOM 1       /* room of the result ring, in results */
#endif
#if GETTERS > 0
#define CALLERS GETTERS
#else
#define CALLERS 1
#endif
#ifdef BUFFER
#define stored(s) slot[s].calls_stored     /* what the parent has stored */
#else
#define stored(s) slot[s].calls_published
#endif
#define AHEAD 2      /* prefetch_limit */

#define NOBODY 255
#define JUNK 0       /* bytes that were not written yet; tasks are 1..TASKS */

/* states of a call */
#define QUEUED 1
#define BEGUN 2
#define REVOKED 3
#define CONDEMNED 4
#define DONE 5
/* where a task is */
#define PENDING 1
#define DISPATCHED 2
#define NOWHERE 3
/* outcomes */
#define NONE 0
#define VALUE 1
#define LOST 2
#define CANCELLED 3  /* before it began */
#define KILLED 4     /* cancelled while it ran */
/* slots */
#define EMPTY 0
#define ALIVE 1
#define LEAVING 2
#define DYING 3
/* armed */
#define WAITER 1
#define SERVICE 2
#define DRY 4

typedef Slot {
  /* the segment */
  byte calls_published; byte calls_consumed;
#ifdef BUFFER
  byte calls_stored;
#endif
  byte cell_task[CELLS]; byte cell_state[CELLS];
  byte results_published; byte results_consumed;
  byte result_task[ROOM];
  byte armed; byte epoch;
  bit sleeps; bit command;
  bit wake_raised;            /* the futex word has moved since the worker read it */
  byte lane_published; byte lane_task[TASKS];
  /* the process, as the kernel knows it */
  bit started; bit dead; bit kill_pending; bit asleep;
  byte last_rung; byte seen_epoch;
  /* the parent's own memory */
  byte state;
  bit found_dead; bit watched;
  byte flights; byte flight_task[CELLS]; byte flight_cell[CELLS]; byte flight_end[CELLS];
  byte known;                 /* RingWriter::consumed_ of the calls */
  byte results_read;
  byte armed_bits;
  byte lane_read;
};
Slot slot[SLOTS];

bit mutex;
bit waiter_bell; bit service_bell; byte lost_rings;
byte place[TASKS + 1]; byte outcome[TASKS + 1];
byte leader = NOBODY; bit leader_sleeps; byte target[GETTERS + 1];
bit led[GETTERS + 1]; bit followed[GETTERS + 1];  /* in this wait */
bit follows[GETTERS + 1]; bit signalled[GETTERS + 1];
bit bells_stale;
byte wanted;
byte kills_left = KILLS; byte recycles_left = RECYCLES;

/* What an oracle outside of the pool knows. */
byte runs[TASKS + 1]; bit result_committed[TASKS + 1];
byte records_committed[TASKS + 1]; byte records_delivered[TASKS + 1];
byte kills_done; byte tasks_lost; byte waiters_done;

/* ------------------------------------------------------------------ the worker */

inline ring_if_armed(s) {
  atomic {
    bits = (slot[s].epoch == slot[s].last_rung -> 0 : slot[s].armed);
    slot[s].seen_epoch = slot[s].epoch
  }
  if
  :: atomic { (bits & WAITER) || (bits & SERVICE) -> slot[s].last_rung = slot[s].seen_epoch; slot[s].seen_epoch = 0 }
    if
    :: atomic { bits & WAITER -> bits = 0; waiter_bell = 1 }
    :: atomic { !(bits & WAITER) -> bits = 0; service_bell = 1 }
    :: atomic { lost_rings < RINGS_LOST -> lost_rings++; bits = 0 }  /* a task writes the bell's old word back */
    fi
  :: atomic { bits == DRY && slot[s].calls_published == position -> slot[s].last_rung = slot[s].seen_epoch; slot[s].seen_epoch = 0; bits = 0 }
    service_bell = 1
  :: atomic { bits == DRY && slot[s].calls_published != position -> slot[s].seen_epoch = 0; bits = 0 }
  :: atomic { bits == 0 -> slot[s].seen_epoch = 0 }
  fi
}

#define calls_ready (slot[s].calls_published != position)
#define cell_state_here slot[s].cell_state[(position - 1) % CELLS]
#define room_ready (slot[s].results_published - slot[s].results_consumed < ROOM)

/* `ready` is looked at in one step: it is one load, and `command`, which is only ever set. */
inline sleep_until(s, ready) {
  do
  :: slot[s].wake_raised = 0;             /* seen = wake */
#ifdef M_SLEEP_STORE_LATE
     if
     :: ready -> break
     :: else -> slot[s].sleeps = 1
     fi;
#else
     slot[s].sleeps = 1;
#endif
#if defined(BUFFER) && !defined(M_NO_HEAVY_BARRIER)
     slot[s].calls_published = slot[s].calls_stored;
#endif
     if
#if !defined(M_SLEEP_STORE_LATE) && !defined(M_NO_RECHECK)
     :: ready -> break
     :: else -> skip
#else
     :: skip
#endif
     fi;
     slot[s].asleep = !slot[s].wake_raised;  /* FUTEX_WAIT */
     !slot[s].asleep;
#ifdef M_NO_RECHECK
     if
     :: ready -> break
     :: else -> skip
     fi
#endif
  od;
  slot[s].sleeps = 0
}

active [SLOTS] proctype Worker() {
  byte s = _pid;
  byte position; byte task; byte bits;
end_unborn:
  do
  :: slot[s].started ->
    {
      do
      :: !calls_ready ->
        ring_if_armed(s);
        sleep_until(s, (slot[s].command || calls_ready));
        if
        :: calls_ready -> skip
        :: else -> break                     /* it was asked to leave, and there is nothing left */
        fi
      :: atomic {
           calls_ready ->
           task = slot[s].cell_task[position % CELLS];
           assert(task != JUNK);             /* published before it was written */
           slot[s].cell_task[position % CELLS] = JUNK;
           position++
         }
         if
         :: atomic { cell_state_here != QUEUED -> task = 0 }
         :: atomic {
              cell_state_here == QUEUED -> cell_state_here = BEGUN;
              runs[task]++; assert(runs[task] == 1)
            }
            do
            :: room_ready -> break
            :: else -> service_bell = 1; sleep_until(s, room_ready)
            od;
#if LOG
#ifdef M_RELAXED_LOG
            atomic { slot[s].lane_published++; records_committed[task]++ }
            slot[s].lane_task[slot[s].lane_published - 1] = task;
#else
            slot[s].lane_task[slot[s].lane_published] = task;
            atomic { slot[s].lane_published++; records_committed[task]++ }
#endif
#endif
            if
            :: HANGS && task == TASKS -> slot[s].dead
            :: else -> skip
            fi;
#ifdef M_DONE_WITHOUT_SWAP
            cell_state_here = DONE;
#else
            if
            :: atomic { cell_state_here == BEGUN -> cell_state_here = DONE }
            :: cell_state_here != BEGUN -> slot[s].dead  /* condemned: it waits for its end */
            fi;
#endif
#ifdef M_RING_BEFORE_PUBLISH
            ring_if_armed(s);
#endif
#ifdef M_RELAXED_RESULT
            atomic { slot[s].results_published++; result_committed[task] = 1 }
            slot[s].result_task[(slot[s].results_published - 1) % ROOM] = task;
#else
            atomic {                         /* the bytes, which nobody looks at yet, and the cursor */
              slot[s].result_task[slot[s].results_published % ROOM] = task;
              slot[s].results_published++; result_committed[task] = 1
            }
#endif
            task = 0;
#ifndef M_RING_BEFORE_PUBLISH
            ring_if_armed(s)
#endif
         fi;
         slot[s].calls_consumed = position
      od;
      slot[s].dead = 1                    /* it exits */
    } unless { slot[s].dead };
    atomic { slot[s].started = 0; slot[s].asleep = 0; position = 0; task = 0; bits = 0 }
  od
}

/* SIGKILL: sent by the parent, or out of nowhere. It takes effect at some later step of the worker. */
active proctype Kernel() {
  byte s;
end:
  do
  :: d_step { slot[0].started && !slot[0].dead && slot[0].kill_pending -> slot[0].dead = 1 }
  :: kills_left > 0 -> kills_left = 0  /* no more of them */
  :: d_step { slot[0].started && !slot[0].dead && kills_left > 0 -> kills_left--; kills_done++; slot[0].dead = 1 }
#if SLOTS > 1
  :: d_step { slot[1].started && !slot[1].dead && slot[1].kill_pending -> slot[1].dead = 1 }
  :: d_step { slot[1].started && !slot[1].dead && kills_left > 0 -> kills_left--; kills_done++; slot[1].dead = 1 }
#endif
  od
}

/* ------------------------------------------------------------------ the parent, under its lock */

#define lock() atomic { !mutex -> mutex = 1 }
#define unlock() mutex = 0

inline wake(g) {
  signalled[g] = 1;
  if
  :: g == leader && leader_sleeps -> waiter_bell = 1
  :: else -> skip
  fi
}

/* In the lock, and without an access to shared memory: the caller makes it part of its step. */
inline finish(t, how) {
  assert(outcome[t] == NONE);
  outcome[t] = how;
  place[t] = NOWHERE;
  w = 0;
  do
  :: w < GETTERS ->
    if
    :: (leader == w || follows[w]) && target[w] == t -> wake(w)
    :: else -> skip
    fi;
    w++
  :: else -> w = 0; break
  od
}

inline wake_worker(s) {
  if
  :: !slot[s].sleeps -> skip
  :: slot[s].sleeps -> atomic { slot[s].wake_raised = 1; slot[s].asleep = 0 }
  fi
}

/* The epoch is fresh: one that the worker has neither rung for nor holds in a register. */
inline arm(s, what) {
  d_step {
    slot[s].armed_bits = what;
    slot[s].armed = what;
    if
    :: slot[s].last_rung != 1 && slot[s].seen_epoch != 1 -> slot[s].epoch = 1
    :: else ->
      if
      :: slot[s].last_rung != 2 && slot[s].seen_epoch != 2 -> slot[s].epoch = 2
      :: else -> slot[s].epoch = 3
      fi
    fi
  }
}

inline count_work() {  /* work: tasks pending or dispatched; live, busy: workers */
  d_step {
    i = 1; n_pending = 0; n_in_flight = 0; live = 0; busy = 0;
    do
    :: i <= TASKS ->
      if
      :: place[i] == PENDING -> n_pending++
      :: else -> skip
      fi;
      i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < SLOTS ->
      if
      :: slot[i].state != EMPTY -> live++
      :: else -> skip
      fi;
      if
      :: slot[i].state != EMPTY && slot[i].flights > 0 -> busy++; n_in_flight = n_in_flight + slot[i].flights
      :: else -> skip
      fi;
      i++
    :: else -> break
    od;
    i = 0
  }
}

inline want_workers() {
  atomic {
    count_work();
    if
    :: live + wanted < SLOTS && n_pending + n_in_flight > live + wanted -> wanted++; service_bell = 1
    :: else -> skip
    fi;
    forget_work()
  }
}

inline forget_work() { n_pending = 0; n_in_flight = 0; live = 0; busy = 0 }

inline arm_for_sleeper(s) {  /* a waiter that fell asleep while this slot had nothing to do */
  if
  :: leader_sleeps && slot[s].flights == 1 -> arm(s, WAITER)
  :: else -> skip
  fi
}

inline dispatch(t, s) {  /* the worker may have another call; `dispatched`: its ring has space for it */
  if
  :: atomic { stored(s) - slot[s].known == CELLS && slot[s].flights == 0 -> slot[s].known = slot[s].calls_consumed }
  :: else -> skip
  fi;
  if
  :: stored(s) - slot[s].known == CELLS -> dispatched = 0
  :: else ->
    atomic {
      dispatched = 1;
      slot[s].flight_task[slot[s].flights] = t;
      slot[s].flight_cell[slot[s].flights] = stored(s) % CELLS;
      slot[s].flight_end[slot[s].flights] = stored(s) + 1;
      slot[s].flights++;
      place[t] = DISPATCHED;
#ifndef M_RELAXED_CALL
      /* the bytes: nobody looks at them yet */
      slot[s].cell_task[stored(s) % CELLS] = t;
#endif
      slot[s].cell_state[stored(s) % CELLS] = QUEUED;
#ifndef M_ARM_AFTER_PUBLISH
      arm_for_sleeper(s)
#endif
    }
#ifdef M_WAKE_BEFORE_PUBLISH
    wake_worker(s);
#endif
    stored(s)++;
#ifdef M_ARM_AFTER_PUBLISH
    atomic { arm_for_sleeper(s) }
#endif
#ifdef M_RELAXED_CALL
    slot[s].cell_task[(stored(s) - 1) % CELLS] = t;
#endif
    if
    :: atomic { recycles_left > 0 && slot[s].state == ALIVE -> recycles_left--; slot[s].state = LEAVING; slot[s].calls_published = stored(s); slot[s].command = 1 }
    :: skip
    fi;
#ifndef M_WAKE_BEFORE_PUBLISH
    wake_worker(s)
#endif
  fi
}

inline choose_slot() {  /* chosen, or NOBODY */
  d_step {
    i = 0; chosen = NOBODY;
    do
    :: i < SLOTS ->
      if
      :: slot[i].state == ALIVE && slot[i].flights < AHEAD && slot[i].flights < CELLS ->
        if
        :: chosen == NOBODY -> chosen = i
        :: else ->
          if
          :: slot[i].flights < slot[chosen].flights -> chosen = i
          :: else -> skip
          fi
        fi
      :: else -> skip
      fi;
      i++
    :: else -> break
    od;
    i = 0
  }
}

inline first_pending() {  /* next, or 0 */
  d_step {
    next = 1;
    do
    :: next <= TASKS && place[next] != PENDING -> next++
    :: else -> break
    od;
    if
    :: next > TASKS -> next = 0
    :: else -> skip
    fi
  }
}

inline refill() {
  do
  :: atomic {
       first_pending(); choose_slot();
       if
       :: next == 0 || chosen == NOBODY -> next = 0; chosen = 0; dispatched = 0; break
       :: else -> skip
       fi
     }
     dispatch(next, chosen);
     if
     :: dispatched -> skip
     :: else -> atomic { next = 0; chosen = 0; break }
     fi
  od
}

inline drop_flight(s, at) {
  i = at;
  do
  :: i + 1 < slot[s].flights ->
    slot[s].flight_task[i] = slot[s].flight_task[i + 1];
    slot[s].flight_cell[i] = slot[s].flight_cell[i + 1];
    slot[s].flight_end[i] = slot[s].flight_end[i + 1];
    i++
  :: else -> break
  od;
  slot[s].flights--;
  slot[s].flight_task[slot[s].flights] = 0; slot[s].flight_cell[slot[s].flights] = 0; slot[s].flight_end[slot[s].flights] = 0;
  i = 0
}

inline take_results(s) {
  do
  :: atomic {
       slot[s].results_published != slot[s].results_read ->
       t = slot[s].result_task[slot[s].results_read % ROOM];
       assert(t != JUNK);                                /* published before it was written */
       slot[s].result_task[slot[s].results_read % ROOM] = JUNK;
       slot[s].results_read++;
       assert(slot[s].flights > 0 && slot[s].flight_task[0] == t);
       slot[s].known = slot[s].flight_end[0];
       drop_flight(s, 0);
       assert(outcome[t] == NONE);                       /* else the result of a condemned call was published */
       finish(t, VALUE);
       took = 1; t = 0
     }
  :: atomic {
       slot[s].results_published == slot[s].results_read ->
       if
       :: !took -> break
       :: else -> skip
       fi
     }
     atomic { took = 0; came = 1; slot[s].results_consumed = slot[s].results_read }
#ifndef M_NO_ROOM_WAKE
     if
     :: slot[s].flights != 0 -> wake_worker(s)           /* it may wait for room */
     :: else -> skip
     fi;
#endif
     break
  od
}

/* The call behind the one that runs is given to an idle worker, or stays: it may be young. */
inline revoke_last(s) {
  atomic {
    count_work();
    if
    :: n_pending == 0 && slot[1 - s].state == ALIVE && slot[1 - s].flights == 0 && slot[s].state == ALIVE && slot[s].flights > 1 &&
       slot[s].cell_state[slot[s].flight_cell[slot[s].flights - 1]] == QUEUED ->
      slot[s].cell_state[slot[s].flight_cell[slot[s].flights - 1]] = REVOKED;
      t = slot[s].flight_task[slot[s].flights - 1];
      drop_flight(s, slot[s].flights - 1);
      place[t] = PENDING; t = 0
    :: skip
    fi;
    forget_work()
  }
  refill()
}

#ifdef M_NO_FINAL_DRAIN
#define still_read(s) !slot[s].found_dead
#else
#define still_read(s) true
#endif
inline collect_results_of(s) {
  if
  :: slot[s].state != EMPTY && slot[s].flights > 0 && still_read(s) -> take_results(s)
  :: else -> skip
  fi
}

inline collect_results() {  /* came: there was something */
  came = 0;
  collect_results_of(0);
#if SLOTS > 1
  collect_results_of(1);
#endif
  if
  :: came ->
    refill();
#if SLOTS > 1
    revoke_last(0);
    revoke_last(1)
#endif
  :: else -> skip
  fi
}

#ifdef M_STALE_BELLS
#define arm_anew false
#else
#define arm_anew anew
#endif
inline arm_one(s) {
  atomic {
    if
    :: slot[s].state != EMPTY && slot[s].flights > 0 && (common != slot[s].armed_bits || arm_anew) -> arm(s, common)
    :: slot[s].state != EMPTY && slot[s].flights == 0 && anew -> slot[s].armed_bits = 0
    :: else -> skip
    fi
  }
}

/* The last CALLBACKS tasks (all, with GETTERS 0) have a callback, and no thread waits for them. */
#if GETTERS == 0
#define OPEN_CALLBACKS true
#elif CALLBACKS > 0
#define OPEN_CALLBACKS (outcome[TASKS] == NONE)
#else
#define OPEN_CALLBACKS false
#endif

inline arm_all() {
  atomic {
    count_work();
    anew = bells_stale; bells_stale = 0; common = 0;
    if
    :: leader != NOBODY && leader_sleeps -> common = WAITER
    :: leader != NOBODY && !leader_sleeps -> skip
    :: leader == NOBODY ->
      common = (OPEN_CALLBACKS -> SERVICE : 0) | (n_pending > 0 || (n_in_flight > busy && busy < live) -> DRY : 0)
    fi;
    forget_work()
  }
  arm_one(0);
#if SLOTS > 1
  arm_one(1);
#endif
  atomic { anew = 0; common = 0 }
}

#define PARENT_REGISTERS \
  byte i; byte k; byte t; byte w; byte next; byte chosen; byte n_pending; byte n_in_flight; byte live; byte busy; byte common; \
  bit dispatched; bit took; bit came; bit anew;

/* ------------------------------------------------------------------ the parent's threads */

inline arm_for_the_supervisor() {
  bells_stale = 1; arm_all(); collect_results();
  if
  :: came -> arm_all()
  :: else -> skip
  fi
}

inline submit(task) {
  place[task] = PENDING;
  refill();
  want_workers();
  if
  :: leader == NOBODY -> arm_all()
  :: else -> skip
  fi
}

/* Thread g submits its tasks and gets one after the other. With GETTERS 0 it submits, and waits until all callbacks have run. */
active [CALLERS] proctype Caller() {
  byte g = _pid - SLOTS - 1;
  byte mine;
  PARENT_REGISTERS
  mine = g + 1;
  do
  :: mine <= TASKS ->
    lock();
    submit(mine);
    unlock();
    if
    :: GETTERS == 0 || mine > TASKS - CALLBACKS ->
      /* add_continuation */
      lock();
      arm_all();
      collect_results();
      if
      :: came -> arm_all()
      :: else -> skip
      fi;
      unlock()
    :: else -> skip
    fi;
    mine = mine + (GETTERS == 0 -> 1 : GETTERS)
  :: else -> break
  od;
#if GETTERS == 0
  mine = 1;
  do
  :: mine <= TASKS -> outcome[mine] != NONE; mine++
  :: else -> break
  od;
#else
  mine = g + 1;
  do
  :: mine <= TASKS - CALLBACKS ->
    target[g] = mine;
    lock();
    collect_results();
    do
    :: outcome[mine] != NONE -> break
    :: else ->
      if
      :: leader == NOBODY ->
        leader = g; led[g] = 1;
        do
        :: signalled[g] = 0;
           leader_sleeps = 1; bells_stale = 1;
#ifndef M_LOOK_BEFORE_ARMING
           arm_all();
           collect_results();
#else
           collect_results();
           arm_all();
#endif
           if
           :: !came && outcome[mine] == NONE ->
             unlock();
             if
             :: waiter_bell -> waiter_bell = 0           /* sleeps until it rings */
             :: may_look_again -> skip
             fi;
             lock()
           :: else -> skip
           fi;
           leader_sleeps = 0;
           waiter_bell = 0;
           collect_results();
           if
           :: outcome[mine] != NONE -> break
           :: else -> skip
           fi
        od;
        leader = NOBODY;
        break
      :: else ->
        follows[g] = 1; followed[g] = 1; signalled[g] = 0;
        unlock();
        signalled[g];
        lock();
        follows[g] = 0
      fi
    od;
    /* pass_lead: by the leader that stops, and by a thread that was woken to lead and finds its result there */
    if
#ifndef M_LEAD_NOT_PASSED_ON
    :: leader == NOBODY && (led[g] || followed[g]) ->
#else
    :: leader == NOBODY && led[g] ->
#endif
#if GETTERS > 1 && !defined(M_NO_SUCCESSOR)
      if
      :: follows[1 - g] -> wake((1 - g))
      :: else -> arm_for_the_supervisor()
      fi
#else
      arm_for_the_supervisor()
#endif
    :: else -> skip
    fi;
    led[g] = 0; followed[g] = 0;
    unlock();
    mine = mine + GETTERS
  :: else -> break
  od;
#if CALLBACKS > 0
  outcome[TASKS] != NONE;  /* the callback runs */
#endif
#endif
  waiters_done++
}

inline bury(s) {
#ifndef M_NO_FINAL_DRAIN
  take_results(s);
#endif
  atomic { came = 0; slot[s].found_dead = 0; slot[s].watched = 0; slot[s].state = DYING; unlock() }
  /* it is reaped; its lanes are drained */
#if LOG && !defined(M_NO_FINAL_LOG_DRAIN)
  do
  :: take_record(s)
  :: slot[s].lane_read == slot[s].lane_published -> break
  od;
#endif
  !slot[s].started;
  lock();
  atomic {
    chosen = NOBODY; k = 0;  /* chosen: the one that it had begun */
    do
    :: k < slot[s].flights ->
      t = slot[s].flight_task[k];
      if
      :: slot[s].cell_state[slot[s].flight_cell[k]] == QUEUED ->
        assert(outcome[t] == NONE);
#ifdef M_NO_HAND_BACK
        place[t] = NOWHERE
#else
        place[t] = PENDING
#endif
      :: else ->
        assert(chosen == NOBODY);                        /* one begun call, at most */
        chosen = t
      fi;
      k++
    :: else -> break
    od;
    k = 0;
    do
    :: k < CELLS -> slot[s].flight_task[k] = 0; slot[s].flight_cell[k] = 0; slot[s].flight_end[k] = 0; k++
    :: else -> break
    od;
    k = 0; t = 0; slot[s].flights = 0
  }
  /* What was handed back may go to other workers while the log is flushed; the lost task is with no worker, and not finished. */
  if
  :: chosen != NOBODY && outcome[chosen] == NONE -> unlock(); lock()
  :: else -> skip
  fi;
  atomic {
    if
    :: chosen != NOBODY && outcome[chosen] == NONE ->
      assert(!result_committed[chosen]);                 /* what was committed counts */
      assert(records_delivered[chosen] == records_committed[chosen]);  /* its records first */
      tasks_lost++;
      finish(chosen, LOST)
    :: else -> skip
    fi;
    forget_slot(s);
    chosen = 0
  }
  refill();
  want_all_workers()
}

inline forget_slot(s) {  /* the segment goes; the next one is new */
  k = 0;
  do
  :: k < CELLS ->
    slot[s].cell_task[k] = JUNK; slot[s].cell_state[k] = 0; k++
  :: else -> break
  od;
  k = 0;
  do
  :: k < ROOM -> slot[s].result_task[k] = JUNK; k++
  :: else -> break
  od;
  k = 0;
  do
  :: k < TASKS -> slot[s].lane_task[k] = JUNK; k++
  :: else -> break
  od;
  k = 0;
  slot[s].calls_published = 0; stored(s) = 0; slot[s].calls_consumed = 0; slot[s].results_published = 0; slot[s].results_consumed = 0;
  slot[s].armed = 0; slot[s].epoch = 0; slot[s].sleeps = 0; slot[s].command = 0; slot[s].wake_raised = 0; slot[s].lane_published = 0;
  slot[s].kill_pending = 0; slot[s].asleep = 0; slot[s].last_rung = 0; slot[s].seen_epoch = 0;
  slot[s].known = 0; slot[s].results_read = 0; slot[s].armed_bits = 0; slot[s].lane_read = 0;
  slot[s].state = EMPTY
}

inline want_all_workers() {
  atomic {
    count_work();
    do
    :: live + wanted < SLOTS && live + wanted < n_pending + n_in_flight -> wanted++; service_bell = 1
    :: else -> break
    od;
    forget_work()
  }
}

inline take_record(s) {
  d_step {
    slot[s].lane_read < slot[s].lane_published ->
    assert(slot[s].lane_task[slot[s].lane_read] != JUNK);  /* published before it was written */
    records_delivered[slot[s].lane_task[slot[s].lane_read]]++;
    slot[s].lane_read++
  }
}

inline check_slot(s) {
  if
  :: slot[s].found_dead -> bury(s)
  :: else -> skip
  fi;
  if
  :: atomic { wanted > 0 && slot[s].state == EMPTY -> wanted--; slot[s].dead = 0; slot[s].state = ALIVE; slot[s].watched = 1; slot[s].started = 1 }
     refill()
  :: else -> skip
  fi
}

active proctype Supervisor() {
  PARENT_REGISTERS
  lock();
  do
  :: collect_results();
     check_slot(0);
#if SLOTS > 1
     check_slot(1);
#endif
     want_all_workers();
     came = 0;
     if
     :: leader == NOBODY -> bells_stale = 1; arm_all(); collect_results()
     :: else -> skip
     fi;
     if
     :: came -> skip
     :: else ->
       unlock();
       if
       :: service_bell -> lock(); service_bell = 0
       :: may_look_again && leader == NOBODY -> lock()
       :: slot[0].watched && slot[0].dead -> lock(); slot[0].found_dead = 1
#if SLOTS > 1
       :: slot[1].watched && slot[1].dead -> lock(); slot[1].found_dead = 1
#endif
       fi
     fi
  od
}

#if CANCELS > 0
inline cancel_in(s, which) {  /* under the lock, one compare-and-swap */
  atomic {
    k = 0;
    do
    :: k < slot[s].flights && slot[s].flight_task[k] != which -> k++
    :: else -> break
    od;
    if
    :: k >= slot[s].flights -> skip
    :: k < slot[s].flights && slot[s].cell_state[slot[s].flight_cell[k]] == QUEUED ->
      slot[s].cell_state[slot[s].flight_cell[k]] = REVOKED;
      drop_flight(s, k);
      finish(which, CANCELLED)
    :: k < slot[s].flights && slot[s].cell_state[slot[s].flight_cell[k]] == BEGUN ->
      slot[s].cell_state[slot[s].flight_cell[k]] = CONDEMNED;
      finish(which, KILLED);
      slot[s].kill_pending = 1
    :: k < slot[s].flights && slot[s].cell_state[slot[s].flight_cell[k]] == DONE ->
#ifdef M_LATE_KILL
      slot[s].kill_pending = 1
#else
      skip
#endif
    fi;
    k = 0
  }
}

active proctype Canceller() {
  PARENT_REGISTERS
  byte left = CANCELS; byte which;
  do
  :: left > 0 ->
    atomic {
      left--;
      if
      :: which = 1
#if TASKS > 1
      :: which = 2
#endif
#if TASKS > 2
      :: which = 3
#endif
      fi
    }
    lock();
    collect_results();
    if
    :: outcome[which] == NONE && place[which] == PENDING -> atomic { finish(which, CANCELLED) }
    :: outcome[which] == NONE && place[which] == DISPATCHED ->
      cancel_in(0, which);
#if SLOTS > 1
      if
      :: outcome[which] == NONE -> cancel_in(1, which)
      :: else -> skip
      fi
#endif
    :: else -> skip
    fi;
    unlock();
    which = 0
  :: else -> break
  od
}
#endif

#if LOG
/* The collector takes records whenever it likes; what a dead worker left is drained by its burial. */
active proctype Collector() {
end:
  do
  :: atomic { slot[0].state != EMPTY && slot[0].state != DYING -> take_record(0) }
#if SLOTS > 1
  :: atomic { slot[1].state != EMPTY && slot[1].state != DYING -> take_record(1) }
#endif
  od
}
#endif

#ifdef BUFFER
active [SLOTS] proctype StoreBuffer() {
  byte s = _pid % SLOTS;
end:
  do
  :: atomic { slot[s].calls_published != slot[s].calls_stored -> slot[s].calls_published = slot[s].calls_stored }
  od
}
#endif

/* Nothing moves any more: is everything as it must be? */
active proctype Judge() {
  byte t;
end:
  timeout;
  d_step {
    assert(HANGS || waiters_done == CALLERS);                   /* a waiter sleeps for ever */
    assert(!HANGS || waiters_done == CALLERS || outcome[target[0]] == NONE);
    t = 1;
    do
    :: t <= TASKS ->
      assert(outcome[t] != NONE || (HANGS && !result_committed[t]));
      assert(outcome[t] != VALUE || (runs[t] == 1 && result_committed[t]));
      assert(outcome[t] != LOST || !result_committed[t]);
      assert(outcome[t] != CANCELLED || runs[t] == 0);
      assert(outcome[t] != KILLED || !result_committed[t]);
      assert(records_delivered[t] == records_committed[t]);
      t++
    :: else -> break
    od;
    assert(tasks_lost <= kills_done)                            /* one task a kill; a kill for one task hits no other */
  }
}
