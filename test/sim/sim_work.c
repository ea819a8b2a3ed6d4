#include "sim/sim.h"
#include <string.h>

void sim_work_add(struct sim_work *work, uint64_t from, uint64_t to) {
    if (from == to)
        return;
    if (work->count > 0 && work->list[work->count - 1].to == from) {
        work->list[work->count - 1].to = to;
        return;
    }
    DEMAND(work->count < SIM_SPANS, "simulator: more than %d spans of work", SIM_SPANS);
    work->list[work->count++] = (struct sim_span){from, to};
}

void sim_work_remove(struct sim_work *work, const struct sim_work *other) {
    for (uint32_t o = 0; o < other->count; o++) {
        struct sim_span cut = other->list[o];
        struct sim_work left = {0};
        for (uint32_t i = 0; i < work->count; i++) {
            struct sim_span span = work->list[i];
            if (span.from < cut.from)
                sim_work_add(&left, span.from, span.to < cut.from ? span.to : cut.from);
            if (span.to > cut.to)
                sim_work_add(&left, span.from > cut.to ? span.from : cut.to, span.to);
        }
        *work = left;
    }
}

void sim_work_unite(struct sim_work *work, const struct sim_work *other) {
    struct sim_work rest = *other, both = {0};
    uint32_t i = 0, j = 0;
    sim_work_remove(&rest, work);
    while (i < work->count || j < rest.count) {
        bool first = j == rest.count || (i < work->count && work->list[i].from < rest.list[j].from);
        const struct sim_span *span = first ? &work->list[i++] : &rest.list[j++];
        sim_work_add(&both, span->from, span->to);
    }
    *work = both;
}

uint64_t sim_work_size(const struct sim_work *work) {
    uint64_t size = 0;
    for (uint32_t i = 0; i < work->count; i++)
        size += work->list[i].to - work->list[i].from;
    return size;
}

bool sim_work_meets(const struct sim_work *a, const struct sim_work *b) {
    for (uint32_t i = 0; i < a->count; i++)
        for (uint32_t j = 0; j < b->count; j++)
            if (a->list[i].from < b->list[j].to && b->list[j].from < a->list[i].to)
                return true;
    return false;
}

uint64_t sim_work_hash(const struct sim_work *work, uint64_t hash) {
    for (uint32_t i = 0; i < work->count; i++)
        hash = sim_hash(hash, work->list[i].from * 1000003 + work->list[i].to);
    return hash;
}
