/* sim_oracle: independent bookkeeping. It knows which inner steps were really trained, which of them each payload holds, and which payloads
 * each version is made of; it never takes the machines' word for any of that. The numbers in brackets are the invariants of the design. */
#include "sim/sim.h"
#include <string.h>

static struct {
    struct head newest_published[SIM_FRAGMENTS];
    uint64_t seen_tokens[SIM_WORKERS]; /* the highest counter that this process of the outer heard of */
    uint64_t
        late_mask; /* slots that joined after FINISH: a step that they took before they heard of it counts nowhere */
    uint32_t outer_life;
    bool rolled_back;
    bool
        began_anew; /* all had lost all, and a backup came back later: numbers of the first run meet those of the second */
    uint64_t counted_us[SIM_WORKERS][SIM_FRAGMENTS]; /* when it counted last, or all began to have to */
} oracle;

struct commit *sim_oracle_new_commit(uint32_t *index) {
    DEMAND(world.commit_count < SIM_COMMITS, "simulator: too many commits");
    if (world.commit_count == 0)
        memset(&oracle, 0, sizeof oracle);
    *index = world.commit_count++;
    struct sim_commit *commit = &world.commits[*index];
    commit->published = false;
    commit->counted_count = 0;
    memset(&commit->commit, 0, offsetof(struct commit, counted));
    commit->commit.total_count = 0;
    return &commit->commit;
}

void sim_oracle_disk_changed(void) {
    oracle.rolled_back = true;
}

static bool is_newer(const struct head *a, const struct head *b) {
    return a->epoch > b->epoch || (a->epoch == b->epoch && a->version > b->version);
}

/* Does theta - g hold anything that the chain of this commit holds too? */
static bool holds_applied(uint32_t slot, uint32_t commit, const struct sim_work *work) {
    for (uint32_t at = world.commits[commit].newest[slot]; at != SIM_NOBODY;) {
        const struct sim_commit *counting = &world.commits[at];
        for (uint32_t i = 0; i < counting->counted_count; i++) {
            const struct sim_content *content = &world.contents[counting->counted[i]];
            if (content->slot == slot && sim_work_meets(work, &content->work))
                return true;
        }
        at = world.commits[counting->parent].newest[slot];
    }
    return false;
}

bool sim_oracle_is_applied(uint32_t slot, uint32_t commit, uint32_t content) {
    for (uint32_t at = world.commits[commit].newest[slot]; at != SIM_NOBODY;) {
        const struct sim_commit *counting = &world.commits[at];
        for (uint32_t i = 0; i < counting->counted_count; i++)
            if (counting->counted[i] == content)
                return true;
        at = world.commits[counting->parent].newest[slot];
    }
    return false;
}

static uint64_t applied_tokens(uint32_t slot, uint32_t commit) {
    uint64_t tokens = 0;
    for (uint32_t at = world.commits[commit].newest[slot]; at != SIM_NOBODY;) {
        const struct sim_commit *counting = &world.commits[at];
        for (uint32_t i = 0; i < counting->counted_count; i++)
            if (world.contents[counting->counted[i]].slot == slot)
                tokens += sim_work_size(&world.contents[counting->counted[i]].work);
        at = world.commits[counting->parent].newest[slot];
    }
    return tokens;
}

/* ---- work ---- */

void sim_oracle_step(uint32_t slot, uint64_t tokens) {
    struct sim_worker *worker = &world.workers[slot];
    uint64_t limit = world.config.strict ? world.config.overlap_steps : world.config.drift;
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        struct sim_piece *piece = &worker->pieces[f];
        sim_work_add(&piece->work, worker->true_tokens, worker->true_tokens + tokens);
        if (!piece->uploading)
            continue;
        piece->trained++;
        DEMAND(piece->trained <= limit, "[5] worker %u trained %llu steps past its send of fragment %u, at most %llu",
               slot, (unsigned long long)piece->trained, f, (unsigned long long)limit);
    }
    worker->true_tokens += tokens;
}

uint32_t sim_oracle_sent(uint32_t slot, uint32_t f, const struct sync_action *action, uint32_t base_commit) {
    const struct sim_piece *piece = &world.workers[slot].pieces[f];
    DEMAND(world.content_count < SIM_CONTENTS, "simulator: too many contents");
    struct sim_content *content = &world.contents[world.content_count];
    content->slot = slot;
    content->fragment = f;
    content->weight = action->tokens;
    content->work = piece->work;
    content->identity = sim_work_hash(&piece->work, sim_hash(piece->g_state, piece->residual + slot));
    DEMAND(world.commits[base_commit].head.version == action->version,
           "worker %u sends fragment %u from base %llu, its outer copy is at %llu", slot, f,
           (unsigned long long)action->version, (unsigned long long)world.commits[base_commit].head.version);
    DEMAND(sim_work_size(&piece->work) == action->tokens,
           "[1] worker %u says that fragment %u holds %llu tokens of work, and it holds %llu", slot, f,
           (unsigned long long)action->tokens, (unsigned long long)sim_work_size(&piece->work));
    DEMAND(!holds_applied(slot, base_commit, &piece->work),
           "[1] worker %u sends work of fragment %u that is in its outer copy", slot, f);
    return world.content_count++;
}

void sim_oracle_prepared(uint32_t slot, uint32_t f) {
    const struct sim_piece *piece = &world.workers[slot].pieces[f];
    DEMAND(piece->next_state == world.commits[piece->next_commit].state,
           "[2] worker %u prepares fragment %u in another state than its commit's", slot, f);
}

void sim_oracle_merged(uint32_t slot, uint32_t f, enum sync_action_kind kind) {
    struct sim_worker *worker = &world.workers[slot];
    struct sim_piece *piece = &worker->pieces[f];
    if (kind == SYNC_ACTION_SHIFT) {
        DEMAND(!holds_applied(slot, piece->g_commit, &piece->work),
               "[1] worker %u shifts fragment %u to version %llu, which holds work that stays unsent here", slot, f,
               (unsigned long long)world.commits[piece->g_commit].head.version);
        return;
    }
    for (uint32_t at = world.commits[piece->g_commit].newest[slot]; at != SIM_NOBODY;) {
        const struct sim_commit *counting = &world.commits[at];
        for (uint32_t i = 0; i < counting->counted_count; i++)
            if (world.contents[counting->counted[i]].slot == slot)
                sim_work_remove(&piece->work, &world.contents[counting->counted[i]].work);
        at = world.commits[counting->parent].newest[slot];
    }
    /* A commit counts a send of an earlier process. It may be one of before the checkpoint that brought this work back, or that process may
     * have given the work up (RESET). Nobody can tell, so that the machine takes all that may be in it for settled: the one case in which a
     * weight may be too small. It is dropped below the mark. */
    if (kind == SYNC_ACTION_COVERED) {
        sim_work_remove(&piece->work, &piece->orphans);
        piece->orphans.count = 0;
    }
}

void sim_oracle_same_numbers(uint32_t slot, uint32_t f) {
    struct sim_piece *piece = &world.workers[slot].pieces[f];
    struct sim_work rest = piece->work, record = piece->work;
    sim_work_remove(&rest, &world.contents[piece->content].work);
    sim_work_remove(&record, &rest);
    sim_work_remove(&record, &piece->orphans);
    DEMAND(oracle.began_anew || record.count == 0,
           "[3] worker %u takes its send of fragment %u for counted, and another one is", slot, f);
    piece->work = rest;
}

void sim_oracle_reset(uint32_t slot, uint32_t f, uint64_t tokens) {
    struct sim_piece *piece = &world.workers[slot].pieces[f];
    DEMAND(sim_work_size(&piece->work) == tokens, "[3] worker %u drops %llu tokens of fragment %u, and it holds %llu",
           slot, (unsigned long long)tokens, f, (unsigned long long)sim_work_size(&piece->work));
    piece->work.count = piece->orphans.count = 0;
}

void sim_oracle_waits(uint32_t slot, uint32_t f) {
    const struct sim_worker *worker = &world.workers[slot];
    uint64_t limit = world.config.strict ? world.config.overlap_steps : world.config.drift;
    DEMAND(worker->machine.phase != SYNC_PHASE_TRAINING || worker->step >= worker->pieces[f].offer.send_step + limit,
           "[5] worker %u waits for fragment %u at step %llu, before it is due", slot, f,
           (unsigned long long)worker->step);
}

void sim_oracle_worker(uint32_t slot) {
    const struct sim_worker *worker = &world.workers[slot];
    if (!worker->alive)
        return;
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        const struct sim_piece *piece = &worker->pieces[f];
        const struct sync_fragment *fragment = &worker->machine.fragments[f];
        DEMAND(fragment->work == sim_work_size(&piece->work),
               "[3] worker %u: fragment %u holds %llu tokens of work, its machine says %llu", slot, f,
               (unsigned long long)sim_work_size(&piece->work), (unsigned long long)fragment->work);
        DEMAND(fragment->version == world.commits[piece->g_commit].head.version,
               "worker %u: fragment %u is at version %llu, its machine says %llu", slot, f,
               (unsigned long long)world.commits[piece->g_commit].head.version, (unsigned long long)fragment->version);
        DEMAND(fragment->record.active == piece->uploading,
               "worker %u: fragment %u has a record in flight, or has none, and its upload does not know", slot, f);
    }
}

/* ---- commits ---- */

static void check_counted(const struct sim_commit *commit, uint32_t i) {
    const struct counted *counted = &commit->commit.counted[i];
    const struct sim_content *content = &world.contents[commit->counted[i]];
    uint32_t slot = counted->slot, f = commit->commit.fragment;
    DEMAND(content->slot == slot && content->fragment == f, "[1] a payload of another worker or fragment counts");
    DEMAND(counted->tokens == sim_work_size(&content->work),
           "[1] worker %u counts in fragment %u with %llu tokens, its work is %llu", slot, f,
           (unsigned long long)counted->tokens, (unsigned long long)sim_work_size(&content->work));
    DEMAND(!holds_applied(slot, commit->parent, &content->work),
           "[1] fragment %u version %llu counts work of worker %u that an earlier version holds", f,
           (unsigned long long)commit->commit.version, slot);
    DEMAND(commit->commit.version - 1 - counted->base_version <= world.config.stale,
           "fragment %u version %llu counts a contribution of base %llu: stale", f,
           (unsigned long long)commit->commit.version, (unsigned long long)counted->base_version);
    for (uint32_t j = 0; j < i; j++)
        DEMAND(commit->commit.counted[j].slot != slot, "[1] a worker counts twice in one commit");
}

static const struct total *total_of(const struct commit *commit, uint32_t slot) {
    for (uint32_t i = 0; i < commit->total_count; i++)
        if (commit->totals[i].slot == slot)
            return &commit->totals[i];
    return NULL;
}

static void check_totals(uint32_t index) {
    const struct sim_commit *commit = &world.commits[index];
    for (uint32_t slot = 0; slot < world.worker_count; slot++) {
        const struct total *total = total_of(&commit->commit, slot);
        const struct total *before = total_of(&world.commits[commit->parent].commit, slot);
        uint64_t applied = applied_tokens(slot, index);
        DEMAND((total == NULL ? 0 : total->applied) == applied,
               "[3] fragment %u version %llu says that %llu tokens of worker %u are applied, and %llu are",
               commit->commit.fragment, (unsigned long long)commit->commit.version,
               (unsigned long long)(total == NULL ? 0 : total->applied), slot, (unsigned long long)applied);
        if (total == NULL)
            continue;
        DEMAND(total->mark == total->applied + total->dropped, "[3] worker %u: mark, applied and dropped do not add up",
               slot);
        DEMAND(before == NULL || (total->mark >= before->mark && total->dropped >= before->dropped),
               "[3] worker %u: a mark of fragment %u went back", slot, commit->commit.fragment);
    }
}

void sim_oracle_everybody_anew(void) {
    for (uint32_t slot = 0; slot < SIM_WORKERS; slot++)
        for (uint32_t f = 0; f < SIM_FRAGMENTS; f++)
            oracle.counted_us[slot][f] = world.now_us;
}

/* stale: auto. Who is here and trains counts, however slow its way is. At the end other rules hold. */
static void check_nobody_starves(void) {
    const struct round_machine *machine = &world.outer.machine;
    if (!world.healed || world.config.stale != ROUND_STALE_QUORUM || machine->ended)
        return;
    for (uint32_t slot = 0; slot < world.worker_count; slot++)
        for (uint32_t f = 0; f < world.config.fragments; f++)
            DEMAND(machine->members.slot[slot].state != MEMBER_LIVE || machine->members.slot[slot].reached ||
                       world.now_us - oracle.counted_us[slot][f] <= sim_faults_starving_us(),
                   "[starved] worker %u has not counted in fragment %u for %.3f s, and it may take %.3f s", slot, f,
                   (double)(world.now_us - oracle.counted_us[slot][f]) / 1e6, (double)sim_faults_starving_us() / 1e6);
}

void sim_oracle_committed(uint32_t index) {
    struct sim_commit *commit = &world.commits[index];
    const struct sim_commit *parent = &world.commits[commit->parent];
    uint32_t f = commit->commit.fragment;
    world.counts.commits++;
    DEMAND(commit->counted_count > 0, "a commit without contributions");
    DEMAND(commit->head.version == parent->head.version + 1 && commit->head.epoch >= parent->head.epoch,
           "[4] fragment %u: version %llu epoch %llu on top of version %llu epoch %llu", f,
           (unsigned long long)commit->head.version, (unsigned long long)commit->head.epoch,
           (unsigned long long)parent->head.version, (unsigned long long)parent->head.epoch);
    /* What the next encoding adds must be what this one left out, unless the version was taken over or the disk was changed. */
    DEMAND(commit->residual_before == parent->residual_after || commit->residual_before == 0 || oracle.rolled_back,
           "fragment %u version %llu starts from another residual than its parent left", f,
           (unsigned long long)commit->head.version);
    memcpy(commit->newest, parent->newest, sizeof commit->newest);
    for (uint32_t i = 0; i < commit->counted_count; i++) {
        check_counted(commit, i);
        commit->newest[world.contents[commit->counted[i]].slot] = index;
        oracle.counted_us[world.contents[commit->counted[i]].slot][f] = world.now_us;
    }
    check_totals(index);
    check_nobody_starves();
}

/* [2] Also where the outer was put back twice from one copy of its disk. */
static bool is_published_once(uint32_t index) {
    const struct sim_commit *commit = &world.commits[index];
    for (uint32_t i = 0; i < world.commit_count; i++) {
        const struct sim_commit *other = &world.commits[i];
        if (i != index && other->published && other->commit.fragment == commit->commit.fragment &&
            other->head.epoch == commit->head.epoch && other->head.version == commit->head.version)
            return false;
    }
    return true;
}

/* [4] Durable before it is said; [2] one commit per (epoch, version). After a rollback that no member could tell of, the run goes on from an
 * older version: then its order is not demanded. */
void sim_oracle_published(uint32_t index) {
    struct sim_commit *commit = &world.commits[index];
    uint32_t f = commit->commit.fragment;
    if (commit->published)
        return;
    const struct sim_log *log = &world.outer.disk.logs[f];
    bool durable = false;
    for (uint32_t i = 0; i < log->count; i++)
        durable = durable || log->commits[i] == index;
    DEMAND(durable, "[4] fragment %u version %llu is published before it is durable", f,
           (unsigned long long)commit->head.version);
    DEMAND(is_published_once(index), "[2] fragment %u: version %llu epoch %llu is published twice", f,
           (unsigned long long)commit->head.version, (unsigned long long)commit->head.epoch);
    DEMAND(oracle.rolled_back || is_newer(&commit->head, &oracle.newest_published[f]),
           "[4] fragment %u: version %llu epoch %llu is published after version %llu epoch %llu", f,
           (unsigned long long)commit->head.version, (unsigned long long)commit->head.epoch,
           (unsigned long long)oracle.newest_published[f].version,
           (unsigned long long)oracle.newest_published[f].epoch);
    commit->published = true;
    if (is_newer(&commit->head, &oracle.newest_published[f]))
        oracle.newest_published[f] = commit->head;
}

/* ---- the outer ---- */

/* Of those that start the run: whether somebody joined later, an outer that lost everything but its key cannot know. */
static bool anybody_bears_a_trained_version(void) {
    for (uint32_t slot = 0; slot < world.config.workers; slot++) {
        const struct sim_worker *worker = &world.workers[slot];
        for (uint32_t f = 0; f < world.config.fragments; f++)
            if (worker->alive ? worker->follow.list[f].held.version > 0
                              : worker->checkpoints[0].valid && worker->checkpoints[0].fragments[f].version > 0)
                return true;
    }
    return false;
}

void sim_oracle_leads(void) {
    const struct sim_outer *outer = &world.outer;
    bool fresh = true;
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        const struct head *ours = &world.commits[outer->heads[f]].head;
        fresh = fresh && ours->version == 0;
        DEMAND(oracle.rolled_back || !is_newer(&oracle.newest_published[f], ours),
               "[4] the outer leads fragment %u at version %llu, though %llu was published", f,
               (unsigned long long)ours->version, (unsigned long long)oracle.newest_published[f].version);
        for (uint32_t slot = 0; slot < world.worker_count; slot++) {
            const struct sim_session *session = &outer->sessions[slot];
            bool trusted = (outer->recovery.distrusted_mask >> slot & 1) == 0;
            DEMAND(!session->connected || !session->ready || !trusted || !is_newer(&session->bears[f], ours),
                   "[4] the outer leads fragment %u at version %llu, though worker %u is here with version %llu", f,
                   (unsigned long long)ours->version, slot, (unsigned long long)session->bears[f].version);
        }
    }
    DEMAND(!fresh || !anybody_bears_a_trained_version(), "[4] a fresh state replaces a trained one");
    for (uint32_t f = 0; f < world.config.fragments; f++)
        oracle.began_anew = oracle.began_anew || (fresh && oracle.newest_published[f].version > 0);
}

void sim_oracle_joined(uint32_t slot, uint64_t tokens) {
    if (oracle.outer_life != world.outer.life)
        memset(oracle.seen_tokens, 0, sizeof oracle.seen_tokens);
    oracle.outer_life = world.outer.life;
    DEMAND(tokens >= oracle.seen_tokens[slot], "[3] the counter of worker %u went back from %llu to %llu", slot,
           (unsigned long long)oracle.seen_tokens[slot], (unsigned long long)tokens);
    oracle.seen_tokens[slot] = tokens;
    if (world.outer.machine.finished)
        oracle.late_mask |= (uint64_t)1 << slot;
}

void sim_oracle_outer(void) {
    const struct sim_outer *outer = &world.outer;
    for (uint32_t f = 0; f < world.config.fragments; f++)
        DEMAND(!outer->alive || outer->machine.fragments[f].version == world.commits[outer->heads[f]].head.version,
               "the round machine is at another version of fragment %u than its disk", f);
}

/* ---- the end ---- */

static void check_calm_end(uint32_t slot) {
    const struct sim_worker *worker = &world.workers[slot];
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        const struct ledger_entry *entry = &world.outer.machine.ledger.entries[slot][f];
        uint64_t applied = applied_tokens(slot, world.outer.heads[f]);
        DEMAND(applied == worker->true_tokens && entry->applied == applied && entry->processed == applied &&
                   worker->machine.tokens == applied && entry->in_flight == 0 && entry->dropped == 0,
               "[3] no fault, and of %llu tokens of worker %u only %llu are in fragment %u",
               (unsigned long long)worker->true_tokens, slot, (unsigned long long)applied, f);
    }
}

void sim_oracle_ended(void) {
    const struct sim_outer *outer = &world.outer;
    for (uint32_t slot = 0; slot < world.worker_count; slot++) {
        const struct sim_worker *worker = &world.workers[slot];
        if (outer->machine.members.slot[slot].state != MEMBER_FINAL || !worker->alive || worker->mode != MODE_FINAL)
            continue; /* not final, or killed since */
        for (uint32_t f = 0; f < world.config.fragments; f++) {
            DEMAND(worker->pieces[f].g_commit == outer->heads[f],
                   "worker %u acknowledged the final versions, and holds another one of fragment %u", slot, f);
            DEMAND(worker->pieces[f].damaged || worker->pieces[f].g_state == world.commits[outer->heads[f]].state,
                   "[2] worker %u ends with another state of fragment %u", slot, f);
        }
        if (world.calm && (oracle.late_mask >> slot & 1) == 0)
            check_calm_end(slot);
    }
    world.counts.finished++;
}
