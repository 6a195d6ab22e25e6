/* The lock of a pool (pool_lock.hpp): unlock stores, and looks whether somebody waits, without a fence in between; who waits says so and makes a heavy
 * barrier before it tries once more and sleeps. The store of an unlock lies in its thread's store buffer until some later time: at the latest
 * until a locked instruction or a system call of that thread, or another's heavy barrier. `tests/model/run` checks it, and its mutants.
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

byte held = 0;              /* in memory */
byte waiters = 0;
bool buffered[THREADS];     /* held = 0, on its way */
bool asleep[THREADS];
byte inside = 0;
byte finished = 0;

inline flush(t) {
  if
  :: buffered[t] -> held = 0; buffered[t] = false
  :: else
  fi
}

/* One locked instruction. */
inline try(t, got) {
  atomic { flush(t); got = (held == 0); held = 1 }
}

inline wake_one(u) {
  atomic {
    u = 0;
    do
    :: u < THREADS && asleep[u] -> asleep[u] = false; break
    :: u < THREADS && !asleep[u] -> u++
    :: else -> break
    od
  }
}

inline heavy_barrier(u) {
  u = 0;
  do
  :: u < THREADS -> atomic { flush(u); u++ }
  :: else -> break
  od
}

proctype Thread(byte me) {
  byte round = 0;
  byte other;
  bool got;
  bool somebody;
  do
  :: round == ROUNDS -> break
  :: else ->
    try(me, got);
    if
    :: got
    :: else ->
#ifdef M_COUNTED_AFTER_THE_BARRIER
      heavy_barrier(other);
      atomic { flush(me); waiters++ };
#else
      atomic { flush(me); waiters++ };
#ifndef M_NO_BARRIER
      heavy_barrier(other);
#endif
#endif
      do
      :: try(me, got);
        if
        :: got -> break
        :: else ->
          /* futex_wait(held, 1) */
          if
          :: atomic { held == 1 -> asleep[me] = true };
            !asleep[me]
          :: atomic { held != 1 -> skip }
          fi
        fi
      od;
      atomic { flush(me); waiters-- }
    fi;
    inside++;
    assert(inside == 1);
    inside--;
#ifdef M_LOOKS_BEFORE_IT_STORES
    somebody = waiters != 0;
    buffered[me] = true;
#else
    buffered[me] = true;
    somebody = waiters != 0;
#endif
    if
    :: somebody -> atomic { flush(me) };
#ifndef M_NO_WAKE
      wake_one(other)
#endif
    :: else
    fi;
    round++
  od;
  finished++
}

/* Store buffers empty themselves, sooner or later. */
active proctype Memory() {
end:
  do
  :: atomic { buffered[0] -> held = 0; buffered[0] = false }
  :: atomic { buffered[1] -> held = 0; buffered[1] = false }
#if THREADS > 2
  :: atomic { buffered[2] -> held = 0; buffered[2] = false }
#endif
  od
}

active proctype Judge() {
  timeout;
  assert(finished == THREADS)  /* nobody sleeps for a lock that is free */
}

init {
  byte t = 0;
  atomic {
    do
    :: t < THREADS -> run Thread(t); t++
    :: else -> break
    od
  }
}
