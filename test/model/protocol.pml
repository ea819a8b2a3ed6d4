/* protocol: the rounds and the recovery of atoll, for spin. Run by test/model/run.sh, which sets the bounds (-D) of each configuration.
 *
 * The same machines as in C, with smaller numbers:
 *   node: the worker      worker/sync_machine.c  train = on_step, end_training = on_end, boundary, merge = on_merged, run_clock = sync_run_clock
 *                         worker/follow.c        on_state, on_commit, on_snapshot, apply = on_applied and on_differs, consider_joined
 *   node: the outer       outer/round.c          on_offer, WHOLE, join = on_join, leave = on_leave;  outer/outer_catch_up.c  on_fetch, say_state
 *   rounds                outer/round.c          CLOSES = consider_close, close_round, committed = on_committed;  outer/ledger.c  the marks
 *   consider, lead        outer/recovery.c       fetch_newer, has_heard_enough;  outer_catch_up.c  lead
 *   world                 deadlines that may pass at any time, and the faults
 *
 * Abstractions. A version's state is its identity, an index into a ghost table of commits (epoch, version, parent, marks, units). The work of a
 * step is one unit (a bit); a contribution carries the units that it holds, a version those that are in it: so a double count is seen
 * whatever the counters say. Messages are FIFO per worker, each with its session. Bytes of a contribution arrive in a step of their own
 * after OFFER (RECEIVING, WHOLE); a commit's bytes come with its record. What a lost member was sending is given up at any COMMITTED of the
 * fragment, or at none (GIVES_UP): how long it has been lost by then is not kept. CLOSE with what makes it durable, and PUBLISH, are two steps:
 * an outer can die between them; one that dies between CLOSE and durable leaves what one leaves that dies before CLOSE, since its rounds are
 * gone and nobody has seen the version, and nothing else looks at the difference. READY and JOINED are heard with HELLO. With EAGER what a
 * worker says is heard before anything else happens. Faults strike worker 0: the workers are alike. A session is 1 or 2: links are FIFO, so at
 * most two sessions of a worker are ever under way. BLOCKED is looked up when a round could close, not kept: from when it is true it stays so
 * until the next commit.
 * REFUSE is heard at once, as `again`: it is said before the commit that frees the place. A snapshot is made and said in one step, of the newest
 * version. Not here: refused contents (EXCUSED, RESET), grace, min_workers, an outer that stood still, evaluation, END, FINISH, admission, the
 * token log of a worker, paced steps.
 *
 * With PATIENT (the configurations with 3 workers and 2 fragments) what a deadline ends is waited for: ROUND_END_PATIENCE and ROUND_RETURN_PATIENCE
 * pass when nothing else can happen, but for EARLY of them, which pass at any time. This is a bound, as EAGER is: the other configurations let
 * them pass at any time. (Giving up is not bounded so: these configurations are strict, where nothing outlives a COMMITTED that could be given
 * up.) Besides, three steps are taken as soon as they can be, since whatever can happen first commutes with them; this loses no end and no
 * violation, as runs are finite:
 *   HEARS_AT_ONCE  a COMMIT that follows the tail of a queue with room, where no fault can strike this worker any more: it is appended; apply takes
 *                  from the other end, train and merges do not look at the queue
 *   TAKES          apply of a fragment whose record is due, under the same conditions: the worker cannot train, nor this fragment
 *                  be sent, before this version is merged
 *   GREETS         HELLO of a worker that bears nothing newer and cannot apply, to an outer that does not lead, when no fault is left: it
 *                  only adds to who is heard, and the outer leads when the last one is
 *
 * Checked. Invariant 1: close_round (no unit twice, the record whole, measured from the run's own line), merge (what resolves a record holds
 * it). 2: merge (never bytes of another state). 3: merge, send (work against units; the CHECKs of sync_ledger_check). 4: apply (what is held only
 * grows, and nobody holds what a crash of the outer would lose, as long as no disk was lost), lead (nobody who is linked bears newer; no
 * fresh model while somebody bears a trained one); with LATE a worker may be heard after the window: then its versions may be lost,
 * but the run still has to go on.
 * Progress. The number of faults is chosen at the start, from none to the bound; steps, faults and versions are bounded, so a run of the model
 * ends, and when nothing is possible any more (timeout) it must have ended as a run: all who live have trained to the last step, nothing of
 * theirs is unsent, all hold the outer's heads. Since every reachable state with faults left is also reached with none left,
 * a state from which the run cannot go on would be such an end. Deadlines are steps that may be taken at any time, so that weak fairness is all
 * that is asked of the machine under it.
 *
 * BUG_...: planted bugs, each found by run.sh. Some were bugs of the C machines once. What the model asks of C: BUG_OFFERED_ONCE,
 * BUG_APPLIED_AFTER_HELLO, BUG_NEWEST_ONLY, BUG_LIVE_ONLY and DOOMED name the places. */

/* ---- bounds: each configuration of run.sh sets its own ---- */
#ifndef WORKERS
#define WORKERS 3 /* of W slots; the others stay empty */
#endif
#ifndef F
#define F 1 /* fragments */
#endif
#ifndef H
#define H 1 /* every_steps */
#endif
#ifndef TAU
#define TAU 0 /* strict: overlap_steps; else: drift */
#endif
#ifndef T
#define T 2 /* steps */
#endif
#ifndef STRICT
#define STRICT 1
#endif
#ifndef QUORUM
#define QUORUM 0 /* 0 = all live */
#endif
#ifndef STALE
#define STALE (QUORUM > 0 -> NC : (STRICT -> 0 : 1)) /* auto; NC: more than all versions, nothing expires for its age */
#endif
#ifndef KEPT
#define KEPT 2 /* commits that can be replayed */
#endif
#ifndef LINK_LOSSES
#define LINK_LOSSES 0
#endif
#ifndef WORKER_CRASHES
#define WORKER_CRASHES 0
#endif
#ifndef CHECKPOINTS
#define CHECKPOINTS 0
#endif
#ifndef OUTER_CRASHES
#define OUTER_CRASHES 0
#endif
#ifndef MODES
#define MODES 1 /* how an outer may come back: 1 on its disk, 2 on an older backup, 4 on an empty disk, added */
#endif
#ifndef LATE
#define LATE 0 /* 1: the window may end before a worker that could be heard is heard */
#endif
#ifndef CORRUPTIONS
#define CORRUPTIONS 0
#endif
#ifndef EARLY
#define EARLY 0 /* with PATIENT: how many deadlines may pass although something else can happen */
#endif
#ifndef LIMIT
#define LIMIT 5 /* versions of a fragment that are told apart, those of lost branches included */
#endif

#define W 3
#define NC LIMIT
#define NOTHING 255 /* a head that no chain holds: after DIFFERS */
#define NOBODY 255
#define LOCKSTEP (QUORUM == 0)

#define I(f, w) ((f) * W + (w))
#define C(f, c) ((f) * NC + (c))
#define MARK(f, c, w) c_mark[C(f, c) * W + (w)]
#define APPLIED(f, c, w) c_applied[C(f, c) * W + (w)]
#define EPOCH(f, c) ((c) == NOTHING -> 0 : c_epoch[C(f, c)])
#define VERSION(f, c) ((c) == NOTHING -> 0 : c_version[C(f, c)])
#define NEWER(f, a, b) (EPOCH(f, a) > EPOCH(f, b) || (EPOCH(f, a) == EPOCH(f, b) && VERSION(f, a) > VERSION(f, b)))
#define BIT(w) (1 << (w))
#define MAX_(a, b) ((a) > (b) -> (a) : (b))
#define LESS(a, b) ((a) < (b) -> (a) : (b))
#define ALL (BIT(WORKERS) - 1)
#define ONES(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1) + (((x) >> 3) & 1) + (((x) >> 4) & 1) + (((x) >> 5) & 1) + \
                 (((x) >> 6) & 1) + (((x) >> 7) & 1))
#define OFFSET(f) ((f) * H / F)
#define DUE(f, t) ((t) > OFFSET(f) && ((t) - OFFSET(f)) % H == 0)
#define NEXT_DUE(f, t) ((t) < OFFSET(f) -> OFFSET(f) + H : OFFSET(f) + (((t) - OFFSET(f)) / H + 1) * H)

/* ---- commits: index = identity; 0 = the seed's parameters. A ghost table: who holds a signed commit holds its line of it ---- */
byte c_count[F];
byte c_epoch[F * NC], c_version[F * NC], c_parent[F * NC], c_run_step[F * NC], c_counted[F * NC];
byte c_mark[F * NC * W];    /* totals: mark of a slot */
byte c_applied[F * NC * W]; /* ghost: which units of work of a slot are in this state */

/* ---- the links: FIFO, fenced by session numbers. up outlives a session (what a DEALER queued), down does not ---- */
mtype = {HELLO, JOINED, OFFER, FETCH, SNAPSHOT, DONE, WELCOME, STATE, COMMIT};
#ifndef UP
#define UP 8
#endif
#ifndef DOWN
#define DOWN 8
#endif
chan up[W] = [UP] of {mtype, byte /* session */, byte /* fragment */, byte, byte, byte, byte, byte, byte};
chan down[W] = [DOWN] of {mtype, byte /* session */, byte, byte, byte};
bool cut[W]; /* the link behind the outer's session is dead, and the outer may not know it yet */

/* ---- the outer ---- */
bool leading, started, uneven, finished, window_over;
byte epoch, mode;
byte head[F];  /* of the newest durable version; round_fragment.version */
byte floor[F]; /* the oldest version from which a replay is possible */
byte closing[F], made[F]; /* 0 open, 2 durable, 1 and 3 a planted bug: not durable, and published before */
byte o_session[W];  /* 0 = not connected */
byte o_last[W];     /* the number of the last session, 1 or 2: there are never messages of more than two of them */
bit o_incarnation[W];
bool o_stated[W], o_joined[W];
byte member[W];     /* 0 lost or absent, 1 live, 2 done */
byte joined_step[W], offered_step[W];
byte processed[W];
byte returning;
byte p_state[F * W], p_base[F * W], p_from[F * W], p_to[F * W], p_tokens[F * W], p_step[F * W], p_units[F * W];
bit p_incarnation[F * W];
#define P_EMPTY 0
#define P_RECEIVING 1
#define P_WHOLE 2
#define P_CLOSING 3
/* recovery */
byte heard;
byte claim_epoch[W], claim_step[W], claim_mask[W];
byte borne[F * W], fetching_from[F];
/* its disk, and a backup of it */
byte d_head[F], d_floor[F], d_epoch, d_live;
#if MODES & 2
byte b_head[F], b_floor[F], b_epoch, b_live;
bool backed_up;
#endif
bool lossy; /* ghost: versions were lost with a disk, the run's line may have forks */
bool late;  /* ghost: a worker that could be heard was not */

/* ---- the workers ---- */
bool alive[W], said_hello[W], stated[W], joined[W], catching_up[W], back[W], last[W], done[W], said_done[W], w_started[W];
bit incarnation[W];
byte session[W], step[W], counter[W], units[W]; /* units: ghost, how many steps were ever trained: names of units of work */
byte held[F * W], queued[F * W], queue[F * W * 2], wanted[F * W], asked[F * W];
bool first_is_snapshot[F * W], of_run[F * W], here[F * W], fetching[F * W], behind[F * W];
byte merged[F * W], ready[F * W]; /* ready 0 = none */
bool wrong[F * W] /* ghost: the bytes of the ready copy are not those of its identity */;
byte work[F * W], orphaned[F * W];
bool r_active[F * W], again[F * W] /* its offer was refused as DUPLICATE */;
byte r_base[F * W], r_step[F * W], r_from[F * W], r_to[F * W], r_tokens[F * W], r_units[F * W];
byte copy_units[F * W]; /* ghost: units of work that theta holds and the merged version does not */
/* the checkpoint of worker 0 */
#if CHECKPOINTS
bool k_exists;
byte k_step, k_counter, k_merged[F], k_work[F], k_r_base[F], k_r_step[F], k_r_from[F], k_r_to[F], k_r_tokens[F], k_r_units[F], k_units[F];
bool k_r_active[F];
#endif
bool ever_jumped[W]; /* ghost: work was guessed */

/* ---- faults that are left ---- */
byte link_losses, worker_crashes, outer_crashes, checkpoints, corruptions, lates, early;

/* scratch: written before it is read within one atomic step, no part of the state */
hidden byte f, g, x, y, z, n, m, clock, open_step, any;
hidden byte a1, a2, a3, a4, a5, a6, s1;
hidden byte b1, b2, b3;
hidden byte claimed_epoch, claimed_step, claimed_mask;
hidden mtype kind;

#ifdef BUG_OLD_SESSIONS_HEARD
#define FOREIGN(a, b) false
#else
#define FOREIGN(a, b) ((a) != (b))
#endif

/* ---- worker: sync_machine.c ---- */
#define COUNTS(f, w) (ready[I(f, w)] && r_active[I(f, w)] && COUNTS_MARK(f, w) && MARK(f, ready[I(f, w)], w) > MARK(f, merged[I(f, w)], w))
#ifdef BUG_RESOLVED_BY_ANY
#define COUNTS_MARK(f, w) (MARK(f, ready[I(f, w)], w) >= r_from[I(f, w)])
#undef COUNTS
#define COUNTS(f, w) (ready[I(f, w)] && r_active[I(f, w)])
#else
#define COUNTS_MARK(f, w) (MARK(f, ready[I(f, w)], w) == r_to[I(f, w)])
#endif
#define COVERS(f, w) (ready[I(f, w)] && MARK(f, ready[I(f, w)], w) > MARK(f, merged[I(f, w)], w) && !COUNTS(f, w) && orphaned[I(f, w)] > 0)
#define COVERED(f, w) (COVERS(f, w) -> LESS(orphaned[I(f, w)], work[I(f, w)]) : 0)
#define EXPIRES(f, w) (ready[I(f, w)] && r_active[I(f, w)] && !COUNTS(f, w) && (MARK_EXPIRES(f, w) || \
                       VERSION(f, ready[I(f, w)]) < VERSION(f, r_base[I(f, w)]) || \
                       VERSION(f, ready[I(f, w)]) - VERSION(f, r_base[I(f, w)]) > STALE))
#define MARK_EXPIRES(f, w) (MARK(f, ready[I(f, w)], w) != r_from[I(f, w)])
#define DOOMED(f, w) (EXPIRES(f, w)) /* its merge, due at the next boundary, ends the record */
#define MERGE_DUE(f, w) (r_active[I(f, w)] && (step[w] >= T || step[w] >= r_step[I(f, w)] + TAU))
#define MERGEABLE(f, w) (ready[I(f, w)] && (COVERS(f, w) || !COUNTS(f, w) || MERGE_DUE(f, w) || last[w] || !STRICT))
#define WAITS(f, w) (MERGE_DUE(f, w))

inline forget_record(f, w) {
    r_active[I(f, w)] = false; r_base[I(f, w)] = 0; r_step[I(f, w)] = 0; r_from[I(f, w)] = 0;
    r_to[I(f, w)] = 0; r_tokens[I(f, w)] = 0; r_units[I(f, w)] = 0; again[I(f, w)] = false
}

inline say_offer(f, w) {
    again[I(f, w)] = false;
    assert(nfull(up[w]));
    up[w]!OFFER, session[w], f, r_base[I(f, w)], r_from[I(f, w)], r_to[I(f, w)], r_tokens[I(f, w)], r_step[I(f, w)], r_units[I(f, w)]
}

/* COUNTED, COVERED, SHIFT or TAKE, with its MERGED: on_merged */
inline merge(f, w) {
    b1 = COUNTS(f, w); b2 = COVERED(f, w); b3 = EXPIRES(f, w);
    n = ready[I(f, w)];
    assert(!wrong[I(f, w)]); /* invariant 2: the merge sees only bytes that are those of the identity */
    if
    :: b1 ->
        assert((r_units[I(f, w)] & ~APPLIED(f, n, w)) == 0); /* invariant 1: what resolves a record holds all of it */
        work[I(f, w)] = work[I(f, w)] - r_tokens[I(f, w)];
#ifdef BUG_ORPHANS_FORGOTTEN
        orphaned[I(f, w)] = 0;
#else
        orphaned[I(f, w)] = orphaned[I(f, w)] - LESS(orphaned[I(f, w)], r_tokens[I(f, w)]);
#endif
        forget_record(f, w)
    :: else ->
        work[I(f, w)] = work[I(f, w)] - b2;
        orphaned[I(f, w)] = orphaned[I(f, w)] - b2;
        if
        :: b3 -> /* on another branch it may count all the same */
            b3 = r_tokens[I(f, w)] - LESS(b2, r_tokens[I(f, w)]);
            orphaned[I(f, w)] = MAX_(orphaned[I(f, w)], b3);
            ever_jumped[w] = true;
            forget_record(f, w)
        :: else
        fi
    fi;
    ever_jumped[w] = ever_jumped[w] || b2 > 0;
    merged[I(f, w)] = n;
    ready[I(f, w)] = 0;
    orphaned[I(f, w)] = LESS(orphaned[I(f, w)], work[I(f, w)]);
    copy_units[I(f, w)] = copy_units[I(f, w)] & ~APPLIED(f, n, w);
    /* Invariant 3, the worker's side: no token of work that is not in the copy any more; exact unless the worker had to guess. */
    assert(work[I(f, w)] <= ONES(copy_units[I(f, w)]));
    assert(ever_jumped[w] || incarnation[w] || work[I(f, w)] == ONES(copy_units[I(f, w)]))
}

inline send(f, w) {
    r_active[I(f, w)] = true;
    r_base[I(f, w)] = merged[I(f, w)];
    r_step[I(f, w)] = step[w];
    r_from[I(f, w)] = MARK(f, merged[I(f, w)], w);
    r_to[I(f, w)] = counter[w];
    r_tokens[I(f, w)] = work[I(f, w)];
    r_units[I(f, w)] = copy_units[I(f, w)];
    /* sync_ledger_check: the CHECK that would stop the worker */
    assert(r_tokens[I(f, w)] > 0 && r_to[I(f, w)] > r_from[I(f, w)] && r_tokens[I(f, w)] <= r_to[I(f, w)] - r_from[I(f, w)]);
    if
    :: joined[w] -> say_offer(f, w)
    :: else
    fi
}

inline boundary(w) {
    for (g : 0 .. F - 1) {
        if
        :: MERGEABLE(g, w) -> merge(g, w)
        :: else
        fi
    }
    any = 0 /* a d_step may not end in a loop */
}

/* sync_run_clock -> clock */
inline run_clock(w) {
    clock = 0; open_step = 255;
    for (g : 0 .. F - 1) {
        x = c_run_step[C(g, (ready[I(g, w)] -> ready[I(g, w)] : merged[I(g, w)]))];
        y = MAX_(x, step[w]);
        z = NEXT_DUE(g, y);
        clock = MAX_(clock, x);
        open_step = (z < open_step -> z : open_step)
    }
    if
    :: clock <= step[w] || (!LOCKSTEP && !back[w]) -> clock = step[w]
    :: else ->
        if
        :: LOCKSTEP && clock >= open_step -> clock = open_step - 1
        :: else
        fi
    fi
}

/* STEP at t = T + 1 does not happen; where the clock jumps past T, training has ended */
inline train(w) {
    run_clock(w);
    back[w] = false;
    step[w] = MAX_(step[w], clock);
    if
    :: step[w] < T ->
        step[w] = step[w] + 1;
        counter[w] = counter[w] + 1;
        assert(units[w] < 8);
        for (g : 0 .. F - 1) {
            work[I(g, w)] = work[I(g, w)] + 1;
            copy_units[I(g, w)] = copy_units[I(g, w)] | (1 << units[w])
        }
        units[w] = units[w] + 1;
        for (f : 0 .. F - 1) {
            if
            :: DUE(f, step[w]) && !r_active[I(f, w)] &&
               !(LOCKSTEP && c_run_step[C(f, (ready[I(f, w)] -> ready[I(f, w)] : merged[I(f, w)]))] >= step[w]) ->
                if
                :: ready[I(f, w)] -> merge(f, w)
                :: else
                fi;
                if
                :: work[I(f, w)] > 0 -> send(f, w)
                :: else
                fi
            :: else
            fi
        }
    :: else -> step[w] = T
    fi;
    boundary(w)
}

/* END, again after each WAIT */
inline end_training(w) {
    boundary(w);
    any = 0;
    for (g : 0 .. F - 1) { any = any + (r_active[I(g, w)] || ready[I(g, w)] -> 1 : 0) }
    if
    :: any == 0 -> last[w] = true
    :: else
    fi;
    if
    :: last[w] ->
        for (f : 0 .. F - 1) {
            if
            :: !r_active[I(f, w)] && work[I(f, w)] > 0 && !ready[I(f, w)] -> send(f, w)
            :: else
            fi
        }
        any = 0;
        for (g : 0 .. F - 1) { any = any + (r_active[I(g, w)] || ready[I(g, w)] -> 1 : 0) }
        if
        :: any == 0 -> done[w] = true
        :: else
        fi
    :: else
    fi;
    say_done(w)
}
inline say_done(w) {
    if
    :: done[w] && joined[w] && !said_done[w] ->
        assert(nfull(up[w]));
        up[w]!DONE, session[w], 0, 0, 0, 0, 0, 0, 0;
        said_done[w] = true
    :: else
    fi
}

/* ---- worker: follow.c ---- */
#define TAIL(f, w) (queued[I(f, w)] == 0 -> held[I(f, w)] : queue[I(f, w) * 2 + queued[I(f, w)] - 1])
#define KNOWS(f, w, c) (!first_is_snapshot[I(f, w)] && held[I(f, w)] == (c) || queued[I(f, w)] > 0 && queue[I(f, w) * 2] == (c) || \
                        queued[I(f, w)] > 1 && queue[I(f, w) * 2 + 1] == (c))

inline answered(f, w) {
    fetching[I(f, w)] = false; asked[I(f, w)] = 0
}

inline fetch(f, w, have) {
    if
    :: !fetching[I(f, w)] ->
        fetching[I(f, w)] = true;
        asked[I(f, w)] = have;
        behind[I(f, w)] = false;
        if
        :: session[w] ->
            assert(nfull(up[w]));
            up[w]!FETCH, session[w], f, have, 0, 0, 0, 0, 0
        :: else
        fi
    :: else
    fi
}

inline drop_queue(f, w) {
    queued[I(f, w)] = 0; queue[I(f, w) * 2] = 0; queue[I(f, w) * 2 + 1] = 0;
    first_is_snapshot[I(f, w)] = false; of_run[I(f, w)] = false
}

inline note_held(f, w, is_of_run) {
    here[I(f, w)] = here[I(f, w)] || held[I(f, w)] == wanted[I(f, w)] || (is_of_run) && !NEWER(f, wanted[I(f, w)], held[I(f, w)])
}

inline consider_joined(w) {
    if
    :: stated[w] && !joined[w] && here[I(0, w)] && here[I(F - 1, w)] ->
        joined[w] = true;
        for (g : 0 .. F - 1) { wanted[I(g, w)] = 0 }
        z = step[w]; /* sync_joined_step */
        for (g : 0 .. F - 1) {
            if
            :: r_active[I(g, w)] && r_step[I(g, w)] <= z && !DOOMED(g, w) -> z = r_step[I(g, w)] - 1
            :: else
            fi
        }
        assert(nfull(up[w]));
        up[w]!JOINED, session[w], 0, z, counter[w], 0, 0, 0, 0;
        if /* in the order of their steps */
        :: F > 1 && r_step[I(F - 1, w)] < r_step[I(0, w)] && r_active[I(F - 1, w)] && !DOOMED(F - 1, w) -> say_offer(F - 1, w)
        :: else
        fi;
        if
        :: r_active[I(0, w)] && !DOOMED(0, w) -> say_offer(0, w)
        :: else
        fi;
        if
        :: F > 1 && r_step[I(F - 1, w)] >= r_step[I(0, w)] && r_active[I(F - 1, w)] && !DOOMED(F - 1, w) -> say_offer(F - 1, w)
        :: else
        fi;
        back[w] = !LOCKSTEP && step[w] < T;
        catching_up[w] = false;
        say_done(w)
    :: else
    fi
}

inline on_state(w, h0, h1, tokens) {
    if
    :: tokens > counter[w] -> counter[w] = tokens
    :: else
    fi;
    stated[w] = true; joined[w] = false; said_done[w] = false;
    for (f : 0 .. F - 1) {
        x = (f == 0 -> h0 : h1);
        wanted[I(f, w)] = x;
#ifdef BUG_LOST_BRANCH_IS_HERE
        here[I(f, w)] = held[I(f, w)] == x || NEWER(f, held[I(f, w)], x);
#else
        here[I(f, w)] = held[I(f, w)] == x;
#endif
        of_run[I(f, w)] = false;
        if
        :: TAIL(f, w) == x
        :: else ->
#ifndef BUG_LOST_QUEUE_KEPT
            /* What follows the run's head is of a branch that was lost. */
            if
            :: here[I(f, w)] || KNOWS(f, w, x) -> drop_queue(f, w)
            :: else
            fi;
#endif
            if
            :: here[I(f, w)]
            :: !here[I(f, w)] && VERSION(f, x) == 0 ->
                assert(lossy); /* LOST: a trained worker must not be reset */
#ifndef BUG_LOST_JOINS
                alive[w] = false; cut[w] = true; session[w] = 0; stated[w] = false /* it says so and waits for its user */
#else
                here[I(f, w)] = true
#endif
            :: else ->
                y = (first_is_snapshot[I(f, w)] -> held[I(f, w)] : TAIL(f, w));
                fetch(f, w, y)
            fi
        fi
    }
    consider_joined(w)
}

#ifdef BUG_FULL_QUEUE_WAITS
#define ANSWERS_AT_ONCE false
#else
#define ANSWERS_AT_ONCE true
#endif
inline on_commit(w, f, c) {
    if /* the answer to the FETCH, whatever has come or was applied meanwhile */
    :: ANSWERS_AT_ONCE && fetching[I(f, w)] && (c_parent[C(f, c)] == asked[I(f, w)] || c == asked[I(f, w)]) ->
        if
        :: first_is_snapshot[I(f, w)] && held[I(f, w)] == asked[I(f, w)] -> drop_queue(f, w)
        :: else
        fi;
        answered(f, w)
    :: else
    fi;
    x = TAIL(f, w);
    if
    :: KNOWS(f, w, c) ->
        if
        :: x == c -> answered(f, w)
        :: else
        fi;
        consider_joined(w)
    :: else ->
        if
        :: c_parent[C(f, c)] != x && !NEWER(f, c, x)
        :: (c_parent[C(f, c)] == x || NEWER(f, c, x)) && queued[I(f, w)] == 2 ->
#ifndef BUG_FULL_QUEUE_WAITS
            answered(f, w); /* it is fetched again when the queue is empty */
#endif
            behind[I(f, w)] = true
        :: c_parent[C(f, c)] != x && NEWER(f, c, x) && queued[I(f, w)] < 2 -> behind[I(f, w)] = true; fetch(f, w, x)
        :: else ->
            answered(f, w);
            queue[I(f, w) * 2 + queued[I(f, w)]] = c;
            queued[I(f, w)] = queued[I(f, w)] + 1
        fi
    fi
}

inline on_snapshot(w, f, c) {
    if
    :: !fetching[I(f, w)] && !first_is_snapshot[I(f, w)] && !NEWER(f, c, held[I(f, w)])
    :: else ->
        answered(f, w);
        if
        :: here[I(f, w)] && !NEWER(f, c, held[I(f, w)]) -> consider_joined(w) /* a late answer */
        :: else ->
            if
            :: first_is_snapshot[I(f, w)] && queue[I(f, w) * 2] == c -> of_run[I(f, w)] = stated[w]
            :: else ->
                drop_queue(f, w);
                if
                :: held[I(f, w)] == c -> note_held(f, w, true); consider_joined(w)
                :: else ->
                    queue[I(f, w) * 2] = c;
                    queued[I(f, w)] = 1;
                    first_is_snapshot[I(f, w)] = true;
                    of_run[I(f, w)] = stated[w]
                fi
            fi
        fi
    fi
}

#ifdef BUG_MERGED_BEFORE_COMPARED
#define COMPARED false
#else
#define COMPARED true
#endif
/* The oldest entry is stepped aside and compared: READY and APPLIED. */
inline apply(w, f, bad) {
    x = queue[I(f, w) * 2];
    if
    :: bad && !first_is_snapshot[I(f, w)] && COMPARED -> /* DIFFERS */
        drop_queue(f, w);
        answered(f, w);
        here[I(f, w)] = false;
        held[I(f, w)] = NOTHING;
        fetch(f, w, NOTHING)
    :: else ->
        b1 = first_is_snapshot[I(f, w)];
        assert(b1 || c_parent[C(f, x)] == held[I(f, w)]);
        /* Invariant 4: while nothing was lost with a disk, what a worker holds only grows. */
        assert(lossy || held[I(f, w)] == NOTHING || VERSION(f, x) > VERSION(f, held[I(f, w)]));
        y = d_head[f];
        do
        :: y != x && y != 0 -> y = c_parent[C(f, y)]
        :: else -> break
        od;
        assert(lossy || y == x); /* nobody holds what a crash of the outer would lose */
        ready[I(f, w)] = x;
        wrong[I(f, w)] = bad && !b1;
        n = MARK(f, x, w) + work[I(f, w)] - (COUNTS(f, w) -> r_tokens[I(f, w)] : COVERED(f, w));
        counter[w] = MAX_(counter[w], n);
#ifndef BUG_OFFERED_ONCE
        /* It was refused for what the outer held at that time. */
        if
        :: again[I(f, w)] && r_active[I(f, w)] && joined[w] && !DOOMED(f, w) -> say_offer(f, w)
        :: else
        fi;
#endif
        held[I(f, w)] = x;
        if
        :: stated[w] && !joined[w] -> note_held(f, w, b1 && of_run[I(f, w)])
        :: else
        fi;
        b2 = b1 && !of_run[I(f, w)] && fetching[I(f, w)]; /* STATE came meanwhile: that answer may lead nowhere now */
        first_is_snapshot[I(f, w)] = false; of_run[I(f, w)] = false;
        queue[I(f, w) * 2] = queue[I(f, w) * 2 + 1];
        queue[I(f, w) * 2 + 1] = 0;
        queued[I(f, w)] = queued[I(f, w)] - 1;
        if
        :: b2 -> answered(f, w)
        :: else
        fi;
        y = TAIL(f, w);
        if
        :: b2 || queued[I(f, w)] == 0 && behind[I(f, w)] && stated[w] -> fetch(f, w, y)
        :: else
        fi;
        consider_joined(w)
    fi
}

inline worker_hears(w) {
    down[w]?kind, s1, a1, a2, a3;
    if
    :: kind == WELCOME || kind == STATE && a3 >= 128 -> /* WELCOME, or WELCOME and STATE in one */
        session[w] = s1;
        for (f : 0 .. F - 1) { answered(f, w) }
        stated[w] = false; joined[w] = false
    :: else
    fi;
    if
    :: FOREIGN(s1, session[w]) /* of an old session: dropped */
    :: kind == WELCOME
    :: else ->
        if
        :: kind == STATE -> on_state(w, a1, a2, (a3 & 127))
        :: kind == COMMIT -> on_commit(w, a1, a2)
        :: kind == SNAPSHOT -> on_snapshot(w, a1, a2)
        :: kind == FETCH -> /* the outer recovers and asks for what was borne */
            if
            :: held[I(a1, w)] != NOTHING ->
                assert(nfull(up[w]));
                up[w]!SNAPSHOT, session[w], a1, held[I(a1, w)], 0, 0, 0, 0, 0
            :: else
            fi
        fi
    fi
}

/* ---- the outer: round.c, ledger.c ---- */
#define LIVE_IS(w) (member[w] != 0)
#define LIVE_COUNT (LIVE_IS(0) + LIVE_IS(1) + LIVE_IS(2))
#define LIVE_MASK ((member[0] != 0) + 2 * (member[1] != 0) + 4 * (member[2] != 0))
#define EXPECTED_COUNT ((member[0] == 1) + (member[1] == 1) + (member[2] == 1))
#define WHOLE(f, w) (p_state[I(f, w)] == P_WHOLE)
#define WHOLE_COUNT(f) (WHOLE(f, 0) + WHOLE(f, 1) + WHOLE(f, 2))
/* Some whole contribution is of a later step than this member's joining: then the largest step is. So too for what it has offered since. */
#define AFTER(f, w, v) (WHOLE(f, v) && p_step[I(f, v)] > joined_step[w])
#define UP_TO(f, w, v) (WHOLE(f, v) && p_step[I(f, v)] >= offered_step[w])
#define PASSED_BY(f, w) (LOCKSTEP && !UP_TO(f, w, 0) && !UP_TO(f, w, 1) && !UP_TO(f, w, 2))
/* BLOCKED, said by telemetry and heard after all that was said before: it holds until the next commit. */
#define BLOCKED(w) (alive[w] && o_joined[w] && joined[w] && session[w] == o_session[w] && len(up[w]) == 0 && !catching_up[w] && step[w] < T && \
                    (WAITS(0, w) || WAITS(F - 1, w)) && merged[I(0, w)] == head[0] && merged[I(F - 1, w)] == head[F - 1])
#define NOTHING_COMES(f, w) (p_state[I(f, w)] != P_RECEIVING && (PASSED_BY(f, w) || BLOCKED(w)))
#define MISSES(f, w) (!WHOLE(f, w) && member[w] == 1 && (AFTER(f, w, 0) || AFTER(f, w, 1) || AFTER(f, w, 2)) && !NOTHING_COMES(f, w))
#define MISSING(f) (MISSES(f, 0) || MISSES(f, 1) || MISSES(f, 2))
#define REACHED(w) (member[w] != 0 && !cut[w] && step[w] >= T)
#define IS_ENDING ((STALE > 0 || uneven) && (REACHED(0) || REACHED(1) || REACHED(2)))
#define QUORUM_NOW (QUORUM < LIVE_COUNT -> QUORUM : LIVE_COUNT)
#define MAY_CLOSE(f) (leading && started && closing[f] == 0 && returning == 0 && LIVE_COUNT > 0 && WHOLE_COUNT(f) > 0)
#define CLOSES(f) (MAY_CLOSE(f) && (!MISSING(f) || (QUORUM > 0 && WHOLE_COUNT(f) >= QUORUM_NOW)))
#define CLOSES_LATE(f) (MAY_CLOSE(f) && IS_ENDING) /* ROUND_END_PATIENCE_US is over */

inline empty_place(f, w) {
    p_state[I(f, w)] = P_EMPTY; p_base[I(f, w)] = 0; p_from[I(f, w)] = 0; p_to[I(f, w)] = 0; p_tokens[I(f, w)] = 0;
    p_step[I(f, w)] = 0; p_units[I(f, w)] = 0; p_incarnation[I(f, w)] = 0
}

inline close_round(f) {
    assert(c_count[f] < NC); /* the bound of the model */
    n = c_count[f];
    c_count[f] = n + 1;
    m = head[f];
    c_epoch[C(f, n)] = epoch;
    c_version[C(f, n)] = VERSION(f, m) + 1;
    c_parent[C(f, n)] = m;
    c_run_step[C(f, n)] = c_run_step[C(f, m)];
    for (x : 0 .. W - 1) {
        MARK(f, n, x) = MARK(f, m, x);
        APPLIED(f, n, x) = APPLIED(f, m, x);
        if
        :: WHOLE(f, x) ->
            /* Invariant 1: whole (what is summed is the whole record), once (no unit of work is in the run's line already). */
            assert((APPLIED(f, m, x) & p_units[I(f, x)]) == 0);
            assert(p_tokens[I(f, x)] <= ONES(p_units[I(f, x)]));
            /* Measured from the run's own line; or from a lost branch that holds no work of this slot but what the run's line holds too: a
             * record outlives a jump as long as its mark is the run's (expires_with_ready), and its difference is the same work then. */
            y = m;
            do
            :: y != p_base[I(f, x)] && y != 0 -> y = c_parent[C(f, y)]
            :: else -> break
            od;
            assert(y == p_base[I(f, x)] || lossy && (APPLIED(f, p_base[I(f, x)], x) & ~APPLIED(f, m, x)) == 0);
#ifndef BUG_MARK_NOT_COMPARED
            assert(p_from[I(f, x)] == MARK(f, m, x)); /* ledger_applied: a CHECK */
#endif
            p_state[I(f, x)] = P_CLOSING;
            c_counted[C(f, n)] = c_counted[C(f, n)] | BIT(x);
            MARK(f, n, x) = p_to[I(f, x)];
            APPLIED(f, n, x) = APPLIED(f, n, x) | p_units[I(f, x)];
            c_run_step[C(f, n)] = MAX_(c_run_step[C(f, n)], p_step[I(f, x)])
        :: else
        fi
    }
    made[f] = n;
#ifdef BUG_PUBLISHED_BEFORE_DURABLE
    closing[f] = 1
#else
    closing[f] = 2; d_head[f] = n
#endif
}

#ifdef PATIENT
#define SPARED(w) (outer_crashes == 0 && corruptions == 0 && ((w) != 0 || link_losses == 0 && worker_crashes == 0) && \
                   alive[w] && !cut[w] && joined[w] && session[w] == o_session[w])
#define TAKES(f, w) (SPARED(w) && ready[I(f, w)] == 0 && queued[I(f, w)] > 0 && r_active[I(f, w)] && MERGE_DUE(f, w))
#define STILL(f, w) (held[I(f, w)] != NOTHING && !NEWER(f, held[I(f, w)], head[f]) && (queued[I(f, w)] == 0 || ready[I(f, w)] != 0))
#define GREETS(w) (!leading && mode && alive[w] && session[w] == 0 && !said_hello[w] && STILL(0, w) && STILL(F - 1, w) && \
                   outer_crashes + link_losses + worker_crashes + corruptions + lates == 0)
#define HEARS_AT_ONCE(f, w, c) (SPARED(w) && len(down[w]) == 0 && !fetching[I(f, w)] && !behind[I(f, w)] && queued[I(f, w)] < 2 && \
                                TAIL(f, w) == c_parent[C(f, c)])
#else
#define TAKES(f, w) false
#define GREETS(w) false
#define HEARS_AT_ONCE(f, w, c) false
#endif
inline say_commit(f, c) {
    for (x : 0 .. W - 1) {
        if
        :: o_session[x] ->
            if
            :: HEARS_AT_ONCE(f, x, c) -> queue[I(f, x) * 2 + queued[I(f, x)]] = c; queued[I(f, x)] = queued[I(f, x)] + 1
            :: !HEARS_AT_ONCE(f, x, c) && !cut[x] -> assert(nfull(down[x])); down[x]!COMMIT, o_session[x], f, c, 0
            :: else
            fi
        :: else
        fi
    }
}

/* What a lost member was sending is given up at a COMMITTED when ROUND_RETURN_PATIENCE_US is over; strict, all of it has expired by then. */
#ifdef BUG_CONNECTED_GIVEN_UP
#define GIVEN_UP(f, w) (p_state[I(f, w)] == P_RECEIVING)
#else
#define GIVEN_UP(f, w) (p_state[I(f, w)] == P_RECEIVING && !LIVE_IS(w))
#endif
#define GIVES_UP(f) (STALE > 0 && (GIVEN_UP(f, 0) || GIVEN_UP(f, 1) || GIVEN_UP(f, 2)))

/* COMMITTED and PUBLISH */
inline committed(f, out_of_patience) {
    n = made[f];
    head[f] = n;
    if
    :: VERSION(f, n) > VERSION(f, floor[f]) + KEPT ->
        floor[f] = n;
        for (x : 1 .. KEPT) { floor[f] = c_parent[C(f, floor[f])] }
    :: else
    fi;
    if
    :: closing[f] == 2 -> say_commit(f, n)
    :: else /* published already: a planted bug */
    fi;
    closing[f] = 0;
    made[f] = 0;
    for (x : 0 .. W - 1) {
        if
        :: p_state[I(f, x)] == P_CLOSING -> empty_place(f, x)
        :: p_state[I(f, x)] != P_CLOSING && p_state[I(f, x)] != P_EMPTY &&
           (VERSION(f, n) - VERSION(f, p_base[I(f, x)]) > STALE || out_of_patience && GIVEN_UP(f, x)) -> empty_place(f, x)
        :: else
        fi
    }
}

inline write_live() {
    d_live = LIVE_MASK
}

inline leave(w) {
    o_session[w] = 0;
    o_stated[w] = false;
    o_joined[w] = false;
    returning = returning & ~BIT(w);
    member[w] = 0;
    joined_step[w] = 0; offered_step[w] = 0;
    write_live();
    if
    :: !leading ->
        heard = heard & ~BIT(w);
        for (g : 0 .. F - 1) {
            borne[I(g, w)] = 0;
            if
            :: fetching_from[g] == w -> fetching_from[g] = NOBODY
            :: else
            fi
        }
    :: else
    fi
}

inline join(w, at, tokens) {
    returning = returning & ~BIT(w);
    uneven = uneven || started;
    member[w] = 1;
    joined_step[w] = at; offered_step[w] = 0;
    processed[w] = MAX_(processed[w], tokens);
    for (g : 0 .. F - 1) {
        if
        :: p_state[I(g, w)] == P_RECEIVING && p_incarnation[I(g, w)] != o_incarnation[w] -> empty_place(g, w)
        :: else
        fi
    }
    if
    :: leading && EXPECTED_COUNT >= WORKERS -> started = true
    :: else
    fi;
    write_live()
}

#define SAME(f, w, base, to, work_units) (p_base[I(f, w)] == (base) && p_to[I(f, w)] == (to) && p_units[I(f, w)] == (work_units))
inline on_offer(w, f, base, from, to, tokens, at, work_units) {
    /* the newest version of this outer that counts this slot */
    y = head[f];
    do
    :: y != 0 && !(c_epoch[C(f, y)] == epoch && (c_counted[C(f, y)] & BIT(w))) -> y = c_parent[C(f, y)]
    :: else -> break
    od;
#ifdef BUG_MARK_NOT_COMPARED
    b1 = false;
#else
    b1 = from < MARK(f, head[f], w) || VERSION(f, base) < VERSION(f, y); /* DUPLICATE */
#endif
    b2 = b1 || member[w] != 1 || VERSION(f, base) > VERSION(f, head[f]) || VERSION(f, head[f]) - VERSION(f, base) > STALE;
#ifdef BUG_OFFER_BEFORE_START
    b2 = b2 || !started;
#endif
    if
    :: p_state[I(f, w)] == P_RECEIVING && !b2 && !SAME(f, w, base, to, work_units) -> empty_place(f, w)
    :: else
    fi;
    if
    :: p_state[I(f, w)] != P_EMPTY -> b1 = !SAME(f, w, base, to, work_units)
    :: p_state[I(f, w)] == P_EMPTY && b2 -> b1 = b1 && member[w] == 1
#ifndef BUG_MARK_NOT_COMPARED
    :: p_state[I(f, w)] == P_EMPTY && !b2 && from != MARK(f, head[f], w) /* above it: MALFORMED */
#endif
    :: else ->
        p_state[I(f, w)] = P_RECEIVING;
        p_base[I(f, w)] = base;
        p_from[I(f, w)] = from;
        p_to[I(f, w)] = to;
        p_tokens[I(f, w)] = tokens;
        p_step[I(f, w)] = at;
        p_units[I(f, w)] = work_units;
        p_incarnation[I(f, w)] = o_incarnation[w];
        processed[w] = MAX_(processed[w], to);
        offered_step[w] = MAX_(offered_step[w], at)
    fi;
    /* REFUSE_OFFER comes before any commit that would free the place. */
    again[I(f, w)] = again[I(f, w)] || b1 && r_active[I(f, w)] && r_base[I(f, w)] == base && session[w] == o_session[w]
}

/* ---- the outer: recovery.c, outer_catch_up.c ---- */
#define HEARD_COUNT (ONES(heard))
inline say_state(w, with_welcome) {
    o_stated[w] = true;
    if
    :: !cut[w] ->
        assert(nfull(down[w]));
        down[w]!STATE, o_session[w], head[0], head[F - 1], processed[w] + with_welcome
    :: else
    fi
}

inline lead() {
    leading = true;
    x = 0;
    for (f : 0 .. F - 1) { x = MAX_(x, EPOCH(f, head[f])) }
    epoch = MAX_(d_epoch, x) + 1;
    d_epoch = epoch;
    /* Invariant 4: no newer version is anywhere that could be heard, and no fresh model replaces a trained one. */
    for (f : 0 .. F - 1) {
        for (x : 0 .. W - 1) {
            assert(late || !alive[x] || cut[x] || held[I(f, x)] == NOTHING || !NEWER(f, held[I(f, x)], head[f]));
            assert(late && mode != 4 || head[f] != 0 || !alive[x] || cut[x] || held[I(f, x)] == NOTHING || held[I(f, x)] == 0)
        }
    }
    returning = 0;
    for (x : 0 .. W - 1) {
        if
        :: o_session[x] ->
            if
            :: started && LOCKSTEP -> returning = returning | BIT(x)
            :: else
            fi;
            say_state(x, 0)
        :: else
        fi
    }
    /* what only recovery knows is not needed any more */
    heard = 0; window_over = false; mode = 0;
    for (x : 0 .. W - 1) { claim_epoch[x] = 0; claim_step[x] = 0; claim_mask[x] = 0 }
    for (x : 0 .. F * W - 1) { borne[x] = 0 }
}

inline newest_claim() {
    claimed_epoch = 0; claimed_step = 0; claimed_mask = 0;
    for (x : 0 .. W - 1) {
        if
        :: (claim_epoch[x] != claimed_epoch -> claim_epoch[x] > claimed_epoch : claim_step[x] > claimed_step) ->
            claimed_epoch = claim_epoch[x]; claimed_step = claim_step[x]; claimed_mask = claim_mask[x]
        :: else
        fi
    }
}
#define HALF_HERE (2 * ONES(claimed_mask & heard) >= ONES(claimed_mask))
#define HOLDS_ANYTHING (head[0] != 0 || head[F - 1] != 0)

/* recovery_step: consider */
inline consider() {
    any = 0;
    for (f : 0 .. F - 1) {
        y = head[f]; z = NOBODY;
        for (x : 0 .. W - 1) {
            if
            :: (heard & BIT(x)) && NEWER(f, borne[I(f, x)], y) -> y = borne[I(f, x)]; z = x
            :: else
            fi
        }
        if
        :: z != NOBODY && fetching_from[f] == NOBODY ->
            fetching_from[f] = z;
            if
            :: !cut[z] -> assert(nfull(down[z])); down[z]!FETCH, o_session[z], f, 0, 0
            :: else
            fi
        :: else
        fi;
        any = any + (z != NOBODY || fetching_from[f] != NOBODY -> 1 : 0)
    }
    b1 = false;
    if
#ifdef BUG_BACKUP_DOES_NOT_LISTEN
    :: mode == 1 || mode == 2 -> b1 = true; any = 0
#endif
#ifdef BUG_EMPTY_LEADS_ALONE
    :: mode == 4 && window_over -> b1 = true
#endif
    :: mode != 4 ->
#ifdef BUG_LIVE_ONLY
        b1 = window_over && heard || (d_live & ~heard) == 0
#else
        b1 = window_over && heard || (ALL & ~heard) == 0
#endif
    :: else ->
        newest_claim();
        if
        :: claimed_mask == 0 -> b1 = (ALL & ~heard) == 0
        :: else ->
#ifdef BUG_NEWEST_ONLY
            b1 = (claimed_mask & ~heard) == 0 || window_over && HALF_HERE
#else
            b1 = HOLDS_ANYTHING && ((ALL & ~heard) == 0 || window_over && HALF_HERE)
#endif
        fi
    fi;
    if
    :: b1 && any == 0 && !leading -> lead()
    :: else
    fi
}

inline on_hello(w, s) {
    cut[w] = false;
    leave(w);
    o_last[w] = (o_last[w] == 1 -> 2 : 1);
    o_session[w] = o_last[w];
    o_incarnation[w] = a4;
    if
    :: leading -> say_state(w, 128)
    :: else ->
        assert(nfull(down[w]));
        down[w]!WELCOME, o_session[w], 0, 0, 0;
        window_over = window_over && (mode == 4 || heard); /* it begins with the first who comes */
        heard = heard | BIT(w);
        claim_epoch[w] = 0; claim_step[w] = 0; claim_mask[w] = 0;
        for (f : 0 .. F - 1) {
            y = (f == 0 -> a2 : a3);
            borne[I(f, w)] = (y == NOTHING -> 0 : y);
            if
            :: y != NOTHING && y != 0 ->
                claim_epoch[w] = MAX_(claim_epoch[w], c_epoch[C(f, y)]);
                if
                :: c_run_step[C(f, y)] >= claim_step[w] -> claim_step[w] = c_run_step[C(f, y)]; claim_mask[w] = c_counted[C(f, y)]
                :: else
                fi
            :: else
            fi
        }
        consider()
    fi
}

inline on_fetch(w, f, have) {
    /* recovery_answer: is `have` between floor and head? */
    x = head[f]; any = 0;
    do
    :: x != have && x != floor[f] -> x = c_parent[C(f, x)]; any = any + 1
    :: else -> break
    od;
    if
    :: !leading || cut[w]
    :: leading && !cut[w] && x == have -> /* REPLAY; NOTHING says the newest again */
        if
        :: any == 0 && have != 0 -> assert(nfull(down[w])); down[w]!COMMIT, o_session[w], f, have, 0
        :: any > 0 ->
            for (y : 1 .. any) {
                x = head[f];
                for (z : 1 .. any - y) { x = c_parent[C(f, x)] }
                assert(nfull(down[w]));
                down[w]!COMMIT, o_session[w], f, x, 0
            }
        :: else
        fi
    :: else ->
        if
        :: head[f] != 0 -> assert(nfull(down[w])); down[w]!SNAPSHOT, o_session[w], f, head[f], 0
        :: else
        fi
    fi
}

inline outer_hears(w) {
    up[w]?kind, s1, a1, a2, a3, a4, a5, a6, z;
    if
    :: kind == HELLO -> on_hello(w, s1)
    :: kind != HELLO && (o_session[w] == 0 || FOREIGN(s1, o_session[w])) /* of an old session: dropped */
    :: else ->
        if
        :: kind == JOINED ->
            if
            :: o_stated[w] && !o_joined[w] ->
                o_joined[w] = true;
                join(w, a2, a3)
            :: else
            fi
        :: kind == OFFER -> on_offer(w, a1, a2, a3, a4, a5, a6, z)
        :: kind == FETCH -> on_fetch(w, a1, a2)
        :: kind == SNAPSHOT ->
            if
            :: !leading && fetching_from[a1] == w -> /* TAKEN: verified and durable */
                head[a1] = a2; floor[a1] = a2;
                d_head[a1] = a2; d_floor[a1] = a2;
                borne[I(a1, w)] = a2;
                fetching_from[a1] = NOBODY;
                started = true;
                for (x : 0 .. W - 1) { processed[x] = MAX_(processed[x], MARK(a1, a2, x)) }
                consider()
            :: else
            fi
        :: kind == DONE ->
            if
            :: member[w] == 1 -> member[w] = 2
            :: else
            fi
        fi
    fi
}

/* ---- faults ---- */
inline lose_session(w) { /* as the worker sees it: at once */
    session[w] = 0; said_hello[w] = false; stated[w] = false; joined[w] = false; said_done[w] = false;
    for (g : 0 .. F - 1) { answered(g, w); here[I(g, w)] = false; wanted[I(g, w)] = 0 }
#ifndef BUG_OLD_SESSIONS_HEARD
    do
    :: nempty(down[w]) -> down[w]?kind, s1, a1, a2, a3
    :: empty(down[w]) -> break
    od;
#endif
    cut[w] = true
}
inline lose_up(w) {
    do
    :: nempty(up[w]) -> up[w]?kind, s1, a1, a2, a3, a4, a5, a6, z
    :: empty(up[w]) -> break
    od;
    any = 0 /* a d_step may not end in a loop */
}

inline restart_outer(how) {
    for (x : 0 .. F - 1) {
        if
        :: closing[x] == 1 -> /* nobody has seen it: its identity is free again */
            n = made[x];
            c_epoch[C(x, n)] = 0; c_version[C(x, n)] = 0; c_parent[C(x, n)] = 0; c_run_step[C(x, n)] = 0; c_counted[C(x, n)] = 0;
            for (y : 0 .. W - 1) { MARK(x, n, y) = 0; APPLIED(x, n, y) = 0 }
            c_count[x] = n
        :: else
        fi;
        closing[x] = 0; made[x] = 0;
        for (y : 0 .. W - 1) { empty_place(x, y); borne[I(x, y)] = 0 }
        fetching_from[x] = NOBODY;
#if MODES & 2
        if
        :: how == 2 -> d_head[x] = b_head[x]; d_floor[x] = b_floor[x]
        :: else
        fi;
#endif
        if
        :: how == 4 -> d_head[x] = 0; d_floor[x] = 0
        :: else
        fi;
        head[x] = d_head[x]; floor[x] = d_floor[x]
    }
#if MODES & 2
    if
    :: how == 2 -> d_epoch = b_epoch; d_live = b_live
    :: else
    fi;
#endif
    if
    :: how == 4 -> d_epoch = 0; d_live = 0
    :: else
    fi;
    lossy = lossy || how != 1;
    leading = false; started = how != 4; uneven = false; window_over = false; mode = how; epoch = 0;
    returning = 0; heard = 0;
    for (y : 0 .. W - 1) {
#ifndef BUG_OLD_SESSIONS_HEARD
        lose_up(y); /* of sessions that the new outer does not know: it would drop all of it */
#endif
        claim_epoch[y] = 0; claim_step[y] = 0; claim_mask[y] = 0;
        o_session[y] = 0; o_last[y] = 0; o_incarnation[y] = 0; o_stated[y] = false; o_joined[y] = false; member[y] = 0; joined_step[y] = 0; offered_step[y] = 0;
        processed[y] = 0;
        for (x : 0 .. F - 1) { processed[y] = MAX_(processed[y], MARK(x, head[x], y)) }
        if
        :: y < WORKERS -> lose_session(y)
        :: else
        fi;
        cut[y] = false
    }
    consider()
}

inline restart_worker(w, how) { /* how: 0 from the seed, 1 from its checkpoint */
    lose_session(w);
    incarnation[w] = 1 - incarnation[w];
    catching_up[w] = true; back[w] = false; last[w] = false; done[w] = false;
    step[w] = 0; counter[w] = 0;
    for (g : 0 .. F - 1) {
        drop_queue(g, w);
        behind[I(g, w)] = false; ready[I(g, w)] = 0; wrong[I(g, w)] = false;
        forget_record(g, w);
        merged[I(g, w)] = 0; work[I(g, w)] = 0; copy_units[I(g, w)] = 0;
#if CHECKPOINTS
        if
        :: how == 1 ->
            merged[I(g, w)] = k_merged[g]; work[I(g, w)] = k_work[g]; copy_units[I(g, w)] = k_units[g];
#ifndef BUG_RECORD_FORGOTTEN
            r_active[I(g, w)] = k_r_active[g]; r_base[I(g, w)] = k_r_base[g]; r_step[I(g, w)] = k_r_step[g];
            r_from[I(g, w)] = k_r_from[g]; r_to[I(g, w)] = k_r_to[g]; r_tokens[I(g, w)] = k_r_tokens[g]; r_units[I(g, w)] = k_r_units[g];
#endif
        :: else
        fi;
#endif
        orphaned[I(g, w)] = work[I(g, w)];
#ifdef BUG_RECORD_FORGOTTEN
        orphaned[I(g, w)] = 0;
#endif
        held[I(g, w)] = merged[I(g, w)]
    }
#if CHECKPOINTS
    if
    :: how == 1 -> step[w] = k_step; counter[w] = k_counter
    :: else
    fi;
#endif
    any = 0 /* a d_step may not end in a loop */
}

/* ---- who acts ---- */
#if defined(EAGER)
#define UNSAID (len(up[0]) + len(up[1]) + len(up[2]) == 0)
#else
#define UNSAID true
#endif
#ifdef PATIENT
#define URGENT(w) (TAKES(0, w) || TAKES(F - 1, w) || GREETS(w))
#define QUIET (UNSAID && !URGENT(0) && !URGENT(1) && !URGENT(2))
#else
#define QUIET UNSAID
#endif
#ifdef BUG_APPLIED_AFTER_HELLO
#define MAY_APPLY(f, w) (queued[I(f, w)] > 0 && ready[I(f, w)] == 0)
#else
/* What was borne when HELLO was said stays what is borne until the outer says STATE. */
#define MAY_APPLY(f, w) (queued[I(f, w)] > 0 && ready[I(f, w)] == 0 && (!said_hello[w] || stated[w]))
#endif

proctype node(byte w) {
end:
    do
    /* the worker */
    :: d_step { QUIET && alive[w] && step[w] < T && !catching_up[w] &&
                !(WAITS(0, w)) && !(F > 1 && WAITS(F - 1, w)) -> train(w) }
    :: d_step { QUIET && alive[w] && (catching_up[w] || step[w] < T && (WAITS(0, w) || (F > 1 && WAITS(F - 1, w)))) &&
                (MERGEABLE(0, w) || (F > 1 && MERGEABLE(F - 1, w))) -> boundary(w) }
    :: d_step { QUIET && alive[w] && step[w] >= T && !catching_up[w] &&
                (MERGEABLE(0, w) || (F > 1 && MERGEABLE(F - 1, w)) ||
                 !done[w] && !r_active[I(0, w)] && !r_active[I(F - 1, w)]) -> end_training(w) }
    :: d_step { QUIET && alive[w] && nempty(down[w]) -> worker_hears(w) }
    :: d_step { (QUIET || UNSAID && TAKES(0, w)) && alive[w] && MAY_APPLY(0, w) -> apply(w, 0, false) }
    :: d_step { QUIET && alive[w] && MAY_APPLY(0, w) && corruptions > 0 && w == 0 -> corruptions = corruptions - 1; apply(w, 0, true) }
#if F > 1
    :: d_step { (QUIET || UNSAID && TAKES(1, w) && !TAKES(0, w)) && alive[w] && MAY_APPLY(1, w) -> apply(w, 1, false) }
#endif
    :: d_step { (QUIET || UNSAID && GREETS(w)) && alive[w] && session[w] == 0 && !said_hello[w] ->
                said_hello[w] = true;
                assert(nfull(up[w]));
                up[w]!HELLO, 0, 0, held[I(0, w)], held[I(F - 1, w)], incarnation[w], 0, 0, 0 }
    /* the outer, what concerns this worker */
    :: d_step { nempty(up[w]) -> outer_hears(w) }
    :: d_step { QUIET && cut[w] && o_session[w] -> leave(w);
                if
                :: !leading -> consider()
                :: else
                fi }
    :: d_step { QUIET && p_state[I(0, w)] == P_RECEIVING && alive[w] && o_session[w] && session[w] == o_session[w] && r_active[I(0, w)] &&
                r_base[I(0, w)] == p_base[I(0, w)] && r_to[I(0, w)] == p_to[I(0, w)] && r_units[I(0, w)] == p_units[I(0, w)] ->
                p_state[I(0, w)] = P_WHOLE }
#if F > 1
    :: d_step { QUIET && p_state[I(1, w)] == P_RECEIVING && alive[w] && o_session[w] && session[w] == o_session[w] && r_active[I(1, w)] &&
                r_base[I(1, w)] == p_base[I(1, w)] && r_to[I(1, w)] == p_to[I(1, w)] && r_units[I(1, w)] == p_units[I(1, w)] ->
                p_state[I(1, w)] = P_WHOLE }
#endif
    od
}

/* Deadlines pass at any time; with PATIENT when nothing else can happen, but for EARLY of them. */
#ifdef PATIENT
#define DEADLINE timeout
#define NO_DEADLINE (!(leading && returning) && !CLOSES_LATE(0) && !CLOSES_LATE(F - 1))
#else
#define DEADLINE QUIET
#define NO_DEADLINE true
#endif

proctype rounds(byte q) {
end:
    do
    :: d_step { QUIET && CLOSES(q) -> close_round(q) }
    :: atomic { CLOSES_LATE(q) && !CLOSES(q) && DEADLINE -> d_step { close_round(q) } }
#if EARLY
    :: d_step { QUIET && CLOSES_LATE(q) && !CLOSES(q) && early > 0 -> early = early - 1; close_round(q) }
#endif
#ifdef BUG_PUBLISHED_BEFORE_DURABLE
    :: d_step { QUIET && closing[q] == 1 -> say_commit(q, made[q]); closing[q] = 3 }
    :: d_step { QUIET && closing[q] == 3 -> d_head[q] = made[q]; committed(q, false); d_floor[q] = floor[q] }
#else
    :: d_step { QUIET && closing[q] == 2 -> committed(q, false); d_floor[q] = floor[q] }
    :: d_step { QUIET && closing[q] == 2 && GIVES_UP(q) -> committed(q, true); d_floor[q] = floor[q] }
#endif
    od
}

#define HEARS_ALL(w) (!alive[w] || w >= WORKERS || (heard & BIT(w)))
#define ENDED(w) (!alive[w] || done[w] && joined[w] && member[w] == 2 && work[I(0, w)] == 0 && work[I(F - 1, w)] == 0 && \
                  held[I(0, w)] == head[0] && held[I(F - 1, w)] == head[F - 1])
/* An outer without state may wait for somebody who is gone for good. */
#define WAITS_RIGHTLY (!leading && mode == 4 && (claimed_mask == 0 && (ALL & ~heard) || claimed_mask && (!HOLDS_ANYTHING || !HALF_HERE)))

proctype world() {
end:
    do
    :: d_step { QUIET && !leading && mode && !window_over && HEARS_ALL(0) && HEARS_ALL(1) && HEARS_ALL(2) -> window_over = true; consider() }
#if LATE
    :: d_step { QUIET && lates > 0 && !leading && mode && !window_over && !(HEARS_ALL(0) && HEARS_ALL(1) && HEARS_ALL(2)) ->
                lates = lates - 1; window_over = true; late = true; consider() }
#endif
    :: atomic { leading && returning && DEADLINE -> returning = 0 } /* ROUND_RETURN_PATIENCE_US is over */
#if EARLY
    :: d_step { QUIET && leading && returning && early > 0 -> early = early - 1; returning = 0 }
#endif
#if LINK_LOSSES
    :: d_step { (QUIET || nempty(up[0])) && link_losses > 0 && alive[0] && session[0] -> link_losses = link_losses - 1; lose_session(0); lose_up(0) }
    :: d_step { QUIET && link_losses > 0 && alive[0] && session[0] && nempty(up[0]) -> link_losses = link_losses - 1; lose_session(0) }
#endif
#if CHECKPOINTS
    :: d_step { QUIET && checkpoints > 0 && alive[0] && !catching_up[0] -> checkpoints = checkpoints - 1;
                k_exists = true; k_step = step[0]; k_counter = counter[0];
                for (f : 0 .. F - 1) {
                    k_merged[f] = merged[I(f, 0)]; k_work[f] = work[I(f, 0)]; k_units[f] = copy_units[I(f, 0)];
                    k_r_active[f] = r_active[I(f, 0)]; k_r_base[f] = r_base[I(f, 0)]; k_r_step[f] = r_step[I(f, 0)];
                    k_r_from[f] = r_from[I(f, 0)]; k_r_to[f] = r_to[I(f, 0)]; k_r_tokens[f] = r_tokens[I(f, 0)]; k_r_units[f] = r_units[I(f, 0)]
                }
                any = 0 }
    :: d_step { QUIET && worker_crashes > 0 && alive[0] && k_exists -> worker_crashes = worker_crashes - 1; restart_worker(0, 1) }
    :: d_step { QUIET && worker_crashes > 0 && alive[0] && k_exists && nempty(up[0]) -> worker_crashes = worker_crashes - 1; lose_up(0); restart_worker(0, 1) }
#endif
#if WORKER_CRASHES
    :: d_step { QUIET && worker_crashes > 0 && alive[0] -> worker_crashes = worker_crashes - 1; restart_worker(0, 0) }
    :: d_step { QUIET && worker_crashes > 0 && alive[0] -> worker_crashes = worker_crashes - 1; restart_worker(0, 0); lose_up(0); alive[0] = false; held[0] = 0; held[I(F - 1, 0)] = 0 }
#endif
#if OUTER_CRASHES
#if MODES & 1
    :: d_step { QUIET && outer_crashes > 0 -> outer_crashes = outer_crashes - 1; restart_outer(1) }
#endif
#if MODES & 2
    :: d_step { QUIET && !backed_up && leading -> backed_up = true; b_epoch = d_epoch; b_live = d_live;
                for (f : 0 .. F - 1) { b_head[f] = d_head[f]; b_floor[f] = d_floor[f] }
                any = 0 }
    :: d_step { QUIET && outer_crashes > 0 && backed_up -> outer_crashes = outer_crashes - 1; restart_outer(2) }
#endif
#if MODES & 4
    :: d_step { QUIET && outer_crashes > 0 -> outer_crashes = outer_crashes - 1; restart_outer(4) }
#endif
#endif
    :: atomic { timeout && NO_DEADLINE -> /* nothing can happen any more: the run has ended for everybody who lives */
        d_step {
        newest_claim();
        assert(WAITS_RIGHTLY || leading && ENDED(0) && ENDED(1) && ENDED(2) && closing[0] == 0 && closing[F - 1] == 0)
        } };
        break
    od
}

init {
    atomic {
        /* as many faults as the bounds allow, or any smaller number: what is reached with none left must lead to the end */
        select(link_losses : 0 .. LINK_LOSSES);
        select(worker_crashes : 0 .. WORKER_CRASHES);
        select(outer_crashes : 0 .. OUTER_CRASHES);
        select(checkpoints : 0 .. CHECKPOINTS);
        select(corruptions : 0 .. CORRUPTIONS);
        select(lates : 0 .. LATE);
        early = EARLY;
        for (f : 0 .. F - 1) { c_count[f] = 1; fetching_from[f] = NOBODY }
        leading = true; started = true; epoch = 1; d_epoch = 1; d_live = ALL;
        for (x : 0 .. WORKERS - 1) {
            alive[x] = true; session[x] = 1; said_hello[x] = true; stated[x] = true; joined[x] = true;
            o_session[x] = 1; o_last[x] = 1; o_stated[x] = true; o_joined[x] = true; member[x] = 1
        }
        for (x : 0 .. WORKERS - 1) { run node(x) }
        for (x : 0 .. F - 1) { run rounds(x) }
        run world()
    }
}
