/* Heads and nodes (libpool/cluster/doc/heads_and_nodes.md): one task, two nodes, and a queue that gives a task out again at any time,
 * loses what is told to it, and may lose its whole store once.
 *
 * The head gives the task to a node itself (an assignment, which may be lost or come twice), or puts it into the queue, where it may put
 * it anew at any time. The epoch ends when the store is lost, or once though it is whole; a node follows later, and what it stores
 * before lies in the results of the epoch before.
 *
 * Checked: without retries the task begins at most once; it ends at most once; a node of another build never gets it; the head is never
 * left waiting for a task that nobody has; and it counts no task as lost whose result is there to be read.
 *
 * Built with -DRETRIES=1, the task is published again after a node was lost, and may begin twice, but ends once.
 * Mutants, each of which spin must find:
 *   -DM_ACK_ACROSS   the streams of all epochs have one name: an acknowledgement from before a wipe removes what was published after it
 *   -DM_NO_BUILD     the consumer's name and the message do not hold the build
 *   -DM_NO_PERMIT    a node begins what it has fetched and acknowledged, and asks nobody
 *   -DM_UNNUMBERED   a permit is for a task, and not for one fetch of it
 *   -DM_EARLY_GRANT  the head permits a second node before the first is lost
 *   -DM_NO_SERIAL    a node takes an assignment as often as it comes
 *   -DM_NOT_AGAIN    an assignment is sent once only
 *   -DM_NO_FORMER    the results of the epoch before are not asked before a task counts as lost
 *   -DM_PERMIT_ANEW  what is put into the queue anew is free, though a node has it
 */
#ifndef RETRIES
#define RETRIES 0
#endif
#ifndef FETCHES
#define FETCHES 2
#endif
#ifndef ASSIGNS
#define ASSIGNS 0        /* 1: the head may give the task to a node itself */
#endif
#ifndef ANEW
#define ANEW 0           /* how often what waits is put into the queue anew in one epoch */
#endif
#ifndef RAISES
#define RAISES 0         /* 1: the epoch may end though its store is whole */
#endif
#ifndef WIPES
#define WIPES 1          /* 0: the store is never lost */
#endif
#define NOBODY 9

/* The store: of each epoch, whether the task's message is there, and whether a node has it at the moment. */
byte epoch = 1;          /* that the head works in */
bool there[3];
bool out[3];
byte number[3];          /* of its latest publication in this epoch, as the stream counts */
bool wiped = false;
bool queued = false;     /* it was put into the queue at least once */
byte anew = 0;           /* how often it was put there anew in one epoch */

byte holder = NOBODY;    /* the node with the permit */
byte holder_claim;
bool assigned = false;   /* the holder has it from the head, and not from the queue */
byte deaths = 0;
byte begun = 0;
byte ended = 0;
bool done = false;
bool alive[2];
byte claim[2];           /* number of a node's latest fetch */
bool stored[2];          /* a node's result, in the results */
byte stored_claim[2];
byte stored_in[2];       /* their epoch */
byte confirmed[2];       /* claim of the result that the node knows to be stored; it has forgotten the task */
#if RAISES > 0
byte heard[2];           /* epoch that a node is in */
#define EPOCH_OF(n) heard[n]
#else
#define EPOCH_OF(n) epoch                      /* it follows at once */
#endif
bool taken[2];           /* a node has taken the assignment */
bool returned[2];        /* a node gives the permit of this claim back */
byte returned_claim[2];

chan claims = [1] of {byte, byte};             /* node, number of the fetch */
chan permits[2] = [1] of {byte};               /* number of the fetch */
chan drops[2] = [1] of {byte};
chan assignments[2] = [1] of {byte};           /* claim */
chan acks = [1] of {byte, byte};               /* epoch and number of the delivery */

#define ASSIGNED 7                             /* claim of an assignment */

inline publish() { number[epoch]++; there[epoch] = true; out[epoch] = false; queued = true }
inline finish() { ended++; done = true }
/* Holder n is out of the picture, and no result was found. */
inline conclude(n) {
  holder = NOBODY; assigned = false; deaths++;
  if
  :: deaths > RETRIES -> finish()      /* NodeLost */
  :: else -> publish()
  fi
}
/* Is there a result of n that can be read? A wipe takes those of epoch 1 along. */
#define READABLE(n) (stored[n] && !(stored_in[n] == 1 && wiped))
#ifdef M_NO_FORMER
#define FOUND(n) (READABLE(n) && stored_in[n] == epoch)
#else
#define FOUND(n) READABLE(n)
#endif

proctype Head() {
  byte n, c;
  bool sent = false;
  do
  :: done -> break
  /* At first it waits at the head: it goes to a node, or into the queue. */
#if ASSIGNS > 0
  :: atomic { !done && !queued && holder == NOBODY && deaths == 0 && alive[0] -> holder = 0; holder_claim = ASSIGNED; assigned = true }
  :: atomic { !done && !queued && holder == NOBODY && deaths == 0 && alive[1] -> holder = 1; holder_claim = ASSIGNED; assigned = true }
#endif
  :: atomic { !done && !queued && holder == NOBODY -> publish() }
#ifdef M_NOT_AGAIN
  :: atomic { !done && assigned && !sent -> sent = true;
       if
       :: nfull(assignments[holder]) -> assignments[holder]!holder_claim
       :: skip
       fi }
#else
  :: atomic { !done && assigned && !taken[holder] && nfull(assignments[holder]) -> assignments[holder]!holder_claim }
#endif
  /* The queue seems to have lost it: it is put there anew. */
#if ANEW > 0
  :: atomic { !done && queued && holder == NOBODY && anew < ANEW -> anew++; publish() }
#endif
#ifdef M_PERMIT_ANEW
  :: atomic { !done && queued && holder != NOBODY && anew < 1 -> anew++; holder = NOBODY; publish() }
#endif
  /* The queue stands, though it is whole: a new epoch. */
#if RAISES > 0
  :: atomic { !done && !wiped && epoch == 1 && queued -> epoch = 2;
       if
       :: holder == NOBODY -> publish()
       :: else -> skip
       fi }
#endif
  /* A claim. */
  :: atomic { !done && nempty(claims) -> claims?n, c;
       if
       :: holder == n && holder_claim == c && nfull(permits[n]) -> permits[n]!c     /* the permit was lost */
       :: holder == NOBODY && nfull(permits[n]) -> holder = n; holder_claim = c; permits[n]!c
#ifdef M_EARLY_GRANT
       :: holder != NOBODY && holder != n && nfull(permits[n]) -> holder = n; holder_claim = c; permits[n]!c
#else
       :: holder != NOBODY && !(holder == n && holder_claim == c) && nfull(drops[n]) -> drops[n]!c
#endif
       :: else -> skip                                                             /* the answer is lost */
       fi }
  /* A result. */
  :: atomic { !done && READABLE(0) && (holder == 0 || RETRIES > 0) -> finish() }
  :: atomic { !done && READABLE(1) && (holder == 1 || RETRIES > 0) -> finish() }
  /* Given back: it has not begun there. */
  :: atomic { !done && holder == 0 && returned[0] && returned_claim[0] == holder_claim -> returned[0] = false; holder = NOBODY; assigned = false; publish() }
  :: atomic { !done && holder == 1 && returned[1] && returned_claim[1] == holder_claim -> returned[1] = false; holder = NOBODY; assigned = false; publish() }
  /* Nothing was heard of the holder for the lease, and the results have nothing. */
  :: atomic { !done && holder != NOBODY && !alive[holder] && !FOUND(holder) -> assert(!READABLE(holder)); conclude(holder) }
  /* It lives, and has forgotten the task, because its result was stored: and then that was lost. */
  :: atomic { !done && holder != NOBODY && alive[holder] && confirmed[holder] == holder_claim && !FOUND(holder) ->
       assert(!READABLE(holder)); conclude(holder) }
  /* The store is gone: a new epoch, and what no node has a permit for is published again. */
  :: atomic { !done && wiped && epoch == 1 -> epoch = 2;
       if
       :: holder == NOBODY -> publish()
       :: else -> skip
       fi }
  /* No node is left: it ends after node_timeout. */
  :: atomic { !done && holder == NOBODY && !alive[0] && !alive[1] -> finish() }
  od
}

proctype Node(byte me) {
  byte state = 0;          /* 0 nothing, 1 claimed, 2 running, 3 finished */
  byte from = 0;           /* epoch of the delivery */
  byte which = 0;          /* and its number */
  byte number_held = 0;    /* of the fetch that it runs, or ASSIGNED */
  byte c;
  do
  :: done -> break
  /* The head gives it the task. */
  :: atomic { !done && alive[me] && nempty(assignments[me]) ->
       if
       :: assignments[me]?c
       :: assignments[me]?<c>      /* it comes twice */
       fi;
       if
#ifdef M_NO_SERIAL
       :: state == 0 ->
#else
       :: !taken[me] && state == 0 ->
#endif
            taken[me] = true; number_held = c;
            if
            :: begun++; from = NOBODY; state = 2
            :: returned[me] = true; returned_claim[me] = c   /* it is about to end */
            fi
       :: skip                     /* it has come already, or is lost */
       fi }
#if RAISES > 0
  /* It hears of the new epoch. What is not confirmed is stored again there. */
  :: atomic { !done && alive[me] && heard[me] < epoch -> heard[me] = epoch;
       if
       :: state == 3 -> stored_in[me] = epoch
       :: else -> skip
       fi }
#endif
  :: atomic { !done && alive[me] && state == 0 && claim[me] < FETCHES && there[epoch] && !out[epoch] ->
       out[epoch] = true; from = epoch; which = number[epoch]; claim[me]++; state = 1 }
  :: atomic { !done && alive[me] && state == 1 && nfull(claims) -> claims!me, claim[me] }   /* again and again */
#ifdef M_NO_PERMIT
  :: atomic { !done && alive[me] && state == 1 && nfull(acks) -> acks!from, which; begun++; number_held = claim[me]; state = 2 }
#endif
  :: atomic { !done && alive[me] && nempty(permits[me]) ->
       if
       :: permits[me]?c
       :: permits[me]?<c>      /* it comes twice */
       fi;
       if
#ifdef M_UNNUMBERED
       :: state == 1 ->
#else
       :: state == 1 && c == claim[me] ->
#endif
            if
            :: RETRIES == 0 && nfull(acks) -> acks!from, which
            :: else -> skip     /* it is lost, or comes after the result */
            fi;
            begun++; number_held = c; state = 2
       :: (state == 0 || c != claim[me]) && !(stored[me] && stored_claim[me] == c) -> returned[me] = true; returned_claim[me] = c
       :: else -> skip
       fi }
  :: atomic { !done && alive[me] && nempty(drops[me]) -> drops[me]?c;
       if
       :: state == 1 && c == claim[me] -> state = 0;
            if
            :: nfull(acks) -> acks!from, which
            :: else -> skip
            fi
       :: else -> skip
       fi }
  /* It stores the result, where its epoch's store is there. */
  :: atomic { !done && alive[me] && state == 2 && !(EPOCH_OF(me) == 1 && wiped) ->
       stored[me] = true; stored_claim[me] = number_held; stored_in[me] = EPOCH_OF(me); state = 3 }
  :: atomic { !done && alive[me] && state == 3 && from == NOBODY -> confirmed[me] = number_held; state = 0 }
  :: atomic { !done && alive[me] && state == 3 && from != NOBODY && nfull(acks) -> acks!from, which; confirmed[me] = number_held; state = 0 }
  /* It dies. One of them stays. */
  :: atomic { !done && alive[me] && alive[1 - me] -> alive[me] = false }
  od
}

proctype Engine() {
  byte e, i;
  do
  :: done -> break
  :: atomic { nempty(acks) -> acks?e, i;
       if
#ifdef M_ACK_ACROSS
       :: i == number[epoch] -> there[epoch] = false
#else
       :: i == number[e] -> there[e] = false
#endif
       :: skip                 /* lost, or its message is gone */
       fi }
  /* Its lease is over, or a sign of life was lost. */
  :: atomic { !done && there[1] && out[1] -> out[1] = false }
  :: atomic { !done && there[2] && out[2] -> out[2] = false }
#if WIPES > 0
  :: atomic { !done && !wiped -> wiped = true; there[1] = false; out[1] = false }
#endif
#ifdef M_NO_BUILD
  :: atomic { !done && there[epoch] && !out[epoch] -> assert(false) }   /* a node of another build runs it */
#endif
  od
}

active proctype Watch() {
  do
  :: atomic { ended > 1 -> assert(false) }
#if RETRIES == 0
  :: atomic { begun > 1 -> assert(false) }
#endif
  :: atomic { done -> break }
  /* Nothing can happen any more: then it has ended, or the model allows no further fetch. */
  :: atomic { timeout -> assert(done || (alive[0] && claim[0] == FETCHES) || (alive[1] && claim[1] == FETCHES)); break }
  od
}

init {
  atomic {
    alive[0] = true; alive[1] = true;
#if RAISES > 0
    heard[0] = 1; heard[1] = 1;
#endif
    run Head(); run Node(0); run Node(1); run Engine();
  }
}
