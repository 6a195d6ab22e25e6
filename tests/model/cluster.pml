/* Heads and nodes (libpool/cluster/doc/heads_and_nodes.md): one task, two nodes, and a queue that gives a task out again at any time,
 * loses what is told to it, and may lose its whole store once.
 *
 * Checked: without retries the task begins at most once; it ends at most once; a node of another build never gets it; and the head is
 * never left waiting for a task that nobody has.
 *
 * Built with -DRETRIES=1, the task is published again after a node was lost, and may begin twice, but ends once.
 * Mutants, each of which spin must find:
 *   -DM_ACK_ACROSS   the streams of all epochs have one name: an acknowledgement from before a wipe removes what was published after it
 *   -DM_NO_BUILD     the consumer's name and the message do not hold the build
 *   -DM_NO_PERMIT    a node begins what it has fetched and acknowledged, and asks nobody
 *   -DM_UNNUMBERED   a permit is for a task, and not for one fetch of it
 *   -DM_EARLY_GRANT  the head permits a second node before the first is lost
 */
#ifndef RETRIES
#define RETRIES 0
#endif
#ifndef FETCHES
#define FETCHES 2
#endif
#define NOBODY 9

/* The store: of each epoch, whether the task's message is there, and whether a node has it at the moment. */
byte epoch = 1;          /* that the head works in */
bool there[3];
bool out[3];
byte number[3];          /* of its latest publication in this epoch, as the stream counts */
bool wiped = false;

byte holder = NOBODY;    /* the node with the permit */
byte holder_claim;
byte deaths = 0;
byte begun = 0;
byte ended = 0;
bool done = false;
bool alive[2];
byte claim[2];           /* number of a node's latest fetch */
bool stored[2];          /* a node's result, in the results */
byte stored_claim[2];
bool returned[2];        /* a node gives the permit of this claim back */
byte returned_claim[2];

chan claims = [1] of {byte, byte};             /* node, number of the fetch */
chan permits[2] = [1] of {byte};               /* number of the fetch */
chan drops[2] = [1] of {byte};
chan acks = [1] of {byte, byte};               /* epoch and number of the delivery */

inline publish() { number[epoch]++; there[epoch] = true; out[epoch] = false }
inline finish() { ended++; done = true }

proctype Head() {
  byte n, c;
  do
  :: done -> break
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
  :: atomic { !done && stored[0] && (holder == 0 || RETRIES > 0) -> finish() }
  :: atomic { !done && stored[1] && (holder == 1 || RETRIES > 0) -> finish() }
  /* Given back: it has not begun there. */
  :: atomic { !done && holder == 0 && returned[0] && returned_claim[0] == holder_claim -> returned[0] = false; holder = NOBODY; publish() }
  :: atomic { !done && holder == 1 && returned[1] && returned_claim[1] == holder_claim -> returned[1] = false; holder = NOBODY; publish() }
  /* Nothing was heard of the holder for the lease, and the results have nothing. */
  :: atomic { !done && holder != NOBODY && !alive[holder] && !stored[holder] ->
       holder = NOBODY; deaths++;
       if
       :: deaths > RETRIES -> finish()      /* NodeLost */
       :: else -> publish()
       fi }
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
  byte c;
  do
  :: done -> break
  :: atomic { !done && alive[me] && state == 0 && claim[me] < FETCHES && there[epoch] && !out[epoch] ->
       out[epoch] = true; from = epoch; which = number[epoch]; claim[me]++; state = 1 }
  :: atomic { !done && alive[me] && state == 1 && nfull(claims) -> claims!me, claim[me] }   /* again and again */
#ifdef M_NO_PERMIT
  :: atomic { !done && alive[me] && state == 1 && nfull(acks) -> acks!from, which; begun++; state = 2 }
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
            begun++; state = 2
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
  :: atomic { !done && alive[me] && state == 2 -> stored[me] = true; stored_claim[me] = claim[me]; state = 3 }
  :: atomic { !done && alive[me] && state == 3 && nfull(acks) -> acks!from, which; state = 0 }
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
  :: atomic { !done && !wiped -> wiped = true; there[1] = false; out[1] = false }
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
    there[1] = true; number[1] = 1;
    run Head(); run Node(0); run Node(1); run Engine();
  }
}
