/* hand_made_run: logs whose every number can be worked out on paper. Times are seconds on the run's clock; 1000 parameters, 64
 * tokens per step, 2 workers: a step is 128 tokens of the run; bf16 data-parallel is 4000 bytes per step and worker.
 *
 *   w0, slot 0    starts at 0.0 (header at 0.5)
 *     t       1.0   1.1   1.2   1.3   2.1   2.2   2.3   2.9   3.0   3.1
 *             step1 link  step2 eval  link  step3 link  step4 eval  end
 *     loss    4.0         3.0   2.5         null        2.0   2.25
 *     compute .1          .15               .2          .25               .7
 *     wire up       1000        1000  3000        3600        4000  4000          down: half of it
 *     wait          0                 .22         .22               .33
 *   w1, slot 1    starts at 1.0 (header at once), again at 11.0 with all counters at zero; a torn last line
 *     t       2.0   2.5   3.0               11.5  11.6  12.0
 *             step1 link  step2  bad unknown step3 eval link
 *     loss    5.0         4.0               3.0   3.0
 *     compute .1          .1                .2
 *     wire up       700                           100   300       (1000 in all)
 *     wait          .01                                 .02       (.03 in all)
 *     between 3.0 and 11.0 it did not run
 *
 * And one in which the worker and the outer were killed and started again (hand_made_recovery):
 *
 *   w0     0.0  1.0    2.0    2.0           4.0     4.1      5.0    6.0    6.5   7.0
 *          hdr  step1  step2  link  killed  hdr  recover  step2  step3   link  end
 *          tokens 64   128                                  192    256                compute .5 each
 *          wire up            500                                          300   500     (1000 in all)
 *   outer  0.0                        1.5     2.0           3.0    3.5      3.6    5.0     5.5      7.0
 *          hdr fresh  commit, 2 refused  killed          hdr disk lead snapshot commit  ledger  end */
#ifndef ATOLL_TEST_EXPERIMENTS_HAND_MADE_RUN_H
#define ATOLL_TEST_EXPERIMENTS_HAND_MADE_RUN_H

#include "unit/experiments/fixture.h"

static inline void hand_made_header(const char *directory, const char *t_wall, int64_t t_us, const char *run_id,
                                    const char *who) {
    char rest[1024];
    snprintf(rest, sizeof rest,
             ", \"schema\": 1, \"run_id\": \"%s\", %s, \"name\": \"by hand\", \"parameters\": 1000, "
             "\"fragments\": [{}, {}, {}], \"workers\": 2, \"steps\": 4, \"tokens_per_step\": 64, \"seed\": 7, "
             "\"every_steps\": 2, \"overlap_steps\": 1, \"keep_local\": 0.5, \"codec_up\": \"e3m0\", "
             "\"codec_down\": \"bf16\", \"error_feedback\": true, \"up_bytes_per_s\": 5000, \"down_bytes_per_s\": 0",
             run_id, who);
    fixture_record(directory, t_wall, t_us, "header", rest);
}

static inline void hand_made_worker_0(const char *directory, const char *run_id) {
    static const char wall[] = "2026-01-02T12:00:00.500Z"; /* only that of a header is looked at */
    hand_made_header(directory, wall, 500000, run_id, "\"role\": \"worker\", \"node\": \"island 0\", \"slot\": 0");
    fixture_record(directory, wall, 1000000, "step",
                   ", \"step\": 1, \"loss\": 4, \"tokens\": 64, \"compute_us\": 100000");
    fixture_record(
        directory, wall, 1100000, "link",
        ", \"wire_up\": 1000, \"wire_down\": 500, \"payload_up\": 800, \"payload_down\": 400, \"wait_us\": 0, "
        "\"control_up\": 100, \"control_down\": 50, \"retransmitted_up\": 10");
    fixture_record(directory, wall, 1200000, "step",
                   ", \"step\": 2, \"loss\": 3, \"tokens\": 128, \"compute_us\": 150000");
    fixture_record(directory, wall, 1300000, "eval",
                   ", \"step\": 2, \"loss\": 2.5, \"bits_per_byte\": 3.5, \"tokens\": 128, \"run_tokens\": 256, "
                   "\"wire_up\": 1000, \"wire_down\": 500, \"payload_up\": 800, \"payload_down\": 400");
    fixture_record(directory, wall, 2100000, "link",
                   ", \"wire_up\": 3000, \"wire_down\": 1500, \"payload_up\": 2400, \"payload_down\": 1200, "
                   "\"wait_us\": 220000, \"eval_us\": 100000, \"retransmitted_up\": 20");
    fixture_record(directory, wall, 2200000, "step",
                   ", \"step\": 3, \"loss\": null, \"tokens\": 192, \"compute_us\": 200000, \"applied\": false");
    fixture_record(directory, wall, 2300000, "link",
                   ", \"wire_up\": 3600, \"wire_down\": 1800, \"payload_up\": 2700, \"payload_down\": 1350, "
                   "\"wait_us\": 220000, \"eval_us\": 100000, \"retransmitted_up\": 25");
    fixture_record(directory, wall, 2900000, "step",
                   ", \"step\": 4, \"loss\": 2, \"tokens\": 256, \"compute_us\": 250000");
    fixture_record(
        directory, wall, 3000000, "eval",
        ", \"step\": 4, \"loss\": 2.25, \"bits_per_byte\": 3.25, \"tokens\": 256, \"run_tokens\": 512, "
        "\"wire_up\": 4000, \"wire_down\": 2000, \"payload_up\": 3200, \"payload_down\": 1600, \"final\": true");
    fixture_record(
        directory, wall, 3100000, "end",
        ", \"step\": 4, \"tokens\": 256, \"wait_us\": 330000, \"compute_us\": 700000, \"eval_us\": 220000, "
        "\"payload_up\": 3200, \"payload_down\": 1600, \"wire_up\": 4000, \"wire_down\": 2000, "
        "\"control_up\": 400, \"control_down\": 200, \"reason\": \"trained to the end\", \"state_hash\": \"aa\"");
}

static inline void hand_made_worker_1(const char *directory, const char *run_id) {
    static const char who[] = "\"role\": \"worker\", \"node\": \"w1\", \"slot\": 1";
    static const char wall[] = "2026-01-02T12:00:01.000Z", again[] = "2026-01-02T12:00:11.000Z";
    hand_made_header(directory, wall, 0, run_id, who);
    fixture_record(directory, wall, 1000000, "step",
                   ", \"step\": 1, \"loss\": 5, \"tokens\": 64, \"compute_us\": 100000");
    fixture_record(directory, wall, 1500000, "link",
                   ", \"wire_up\": 700, \"wire_down\": 300, \"payload_up\": 500, \"payload_down\": 200, "
                   "\"control_up\": 70, \"control_down\": 30, \"retransmitted_up\": 1, \"wait_us\": 10000");
    fixture_record(directory, wall, 2000000, "step",
                   ", \"step\": 2, \"loss\": 4, \"tokens\": 128, \"compute_us\": 100000");
    fixture_record(directory, wall, 2100000, "step",
                   ", \"step\": 3, \"loss\": \"4\", \"tokens\": 192, \"compute_us\": 1");
    fixture_record(directory, wall, 2200000, "not_yet_invented", ", \"step\": -1");
    hand_made_header(directory, again, 0, run_id, who);
    fixture_record(directory, again, 500000, "step",
                   ", \"step\": 3, \"loss\": 3, \"tokens\": 192, \"compute_us\": 200000");
    fixture_record(directory, again, 600000, "eval",
                   ", \"step\": 3, \"loss\": 3, \"bits_per_byte\": null, \"tokens\": 192, \"run_tokens\": 384, "
                   "\"wire_up\": 100, \"wire_down\": 50, \"payload_up\": 80, \"payload_down\": 40");
    fixture_record(
        directory, again, 1000000, "link",
        ", \"wire_up\": 300, \"wire_down\": 200, \"payload_up\": 250, \"payload_down\": 150, "
        "\"control_up\": 30, \"control_down\": 20, \"retransmitted_up\": 2, \"wait_us\": 20000, \"eval_us\": 101000");
    static const char torn[] = "{\"event\": \"end\", \"t_us\": 9";
    fixture_append(directory, "log.jsonl", torn, strlen(torn));
}

static inline void hand_made_outer(const char *directory, const char *run_id) {
    static const char wall[] = "2026-01-02T12:00:00.250Z";
    hand_made_header(directory, wall, 250000, run_id, "\"role\": \"outer\", \"node\": \"outer\", \"slot\": -1");
    fixture_record(directory, wall, 900000, "refuse", ", \"what\": \"hello\", \"reason\": \"unlisted key\"");
    fixture_record(directory, wall, 1500000, "commit", ", \"fragment\": 0, \"version\": 1, \"counted\": [{}, {}]");
    fixture_record(directory, wall, 1600000, "commit", ", \"fragment\": 1, \"version\": 1, \"counted\": [{}]");
    fixture_record(directory, wall, 3200000, "end",
                   ", \"reason\": \"trained to the end\", \"commits\": 2, \"state_hash\": \"aa\", \"eval_loss\": 2.26, "
                   "\"bits_per_byte\": 3.26");
}

static inline void hand_made_run(const char *name, const char *run_id) {
    char directory[64];
    snprintf(directory, sizeof directory, "%s/w0", name);
    hand_made_worker_0(directory, run_id);
    snprintf(directory, sizeof directory, "%s/w1", name);
    hand_made_worker_1(directory, run_id);
    snprintf(directory, sizeof directory, "%s/outer", name);
    hand_made_outer(directory, run_id);
}

/* Each of the three fragments lost 64 tokens, those of step 2 that were trained twice. */
static inline void hand_made_ledger(const char *directory, const char *wall, int64_t t_us) {
    for (int fragment = 0; fragment < 3; fragment++) {
        char rest[192];
        snprintf(
            rest, sizeof rest,
            ", \"slot\": 0, \"fragment\": %d, \"processed\": 256, \"applied\": 192, \"in_flight\": 0, \"unsent\": 0, "
            "\"dropped\": 64",
            fragment);
        fixture_record(directory, wall, t_us, "ledger", rest);
    }
}

static inline void hand_made_recovery(const char *name, const char *run_id) {
    static const char who[] = "\"role\": \"worker\", \"node\": \"w0\", \"slot\": 0";
    static const char hub[] = "\"role\": \"outer\", \"node\": \"outer\", \"slot\": -1";
    static const char wall[] = "2026-01-02T12:00:00.000Z", again[] = "2026-01-02T12:00:04.000Z",
                      hub_again[] = "2026-01-02T12:00:03.000Z";
    char w[64], o[64];
    snprintf(w, sizeof w, "%s/w0", name);
    hand_made_header(w, wall, 0, run_id, who);
    fixture_record(w, wall, 1000000, "step", ", \"step\": 1, \"loss\": 5, \"tokens\": 64, \"compute_us\": 500000");
    fixture_record(w, wall, 2000000, "step", ", \"step\": 2, \"loss\": 9, \"tokens\": 128, \"compute_us\": 500000");
    fixture_record(w, wall, 2000000, "link", ", \"wire_up\": 500, \"wire_down\": 0, \"wait_us\": 100000");
    hand_made_header(w, again, 0, run_id, who);
    fixture_record(w, again, 100000, "recover",
                   ", \"what\": \"restart\", \"generation\": 1, \"step\": 1, \"tokens\": 128");
    fixture_record(w, again, 1000000, "step", ", \"step\": 2, \"loss\": 4, \"tokens\": 192, \"compute_us\": 500000");
    fixture_record(w, again, 2000000, "step", ", \"step\": 3, \"loss\": 3, \"tokens\": 256, \"compute_us\": 500000");
    fixture_record(w, again, 2500000, "link", ", \"wire_up\": 300, \"wire_down\": 0, \"wait_us\": 200000");
    fixture_record(w, again, 3000000, "end",
                   ", \"step\": 3, \"tokens\": 256, \"wait_us\": 200000, \"compute_us\": 1000000, \"eval_us\": 0, "
                   "\"wire_up\": 500, \"wire_down\": 0, \"reason\": \"trained to the end\"");

    snprintf(o, sizeof o, "%s/outer", name);
    hand_made_header(o, wall, 0, run_id, hub);
    fixture_record(o, wall, 0, "recover",
                   ", \"what\": \"outer start\", \"from\": \"fresh\", \"commits\": 0, \"run_step\": 0");
    fixture_record(o, wall, 1500000, "commit", ", \"fragment\": 0, \"version\": 1, \"counted\": [{}]");
    fixture_record(o, wall, 2000000, "refuse", ", \"what\": \"contribution\", \"reason\": \"not finite\", \"slot\": 0");
    fixture_record(o, wall, 2000000, "refuse", ", \"what\": \"contribution\", \"reason\": \"stale\", \"slot\": 0");
    hand_made_header(o, hub_again, 0, run_id, hub);
    fixture_record(o, hub_again, 0, "recover",
                   ", \"what\": \"outer start\", \"from\": \"disk\", \"commits\": 1, \"run_step\": 1");
    fixture_record(o, hub_again, 500000, "lead", ", \"epoch\": 2, \"run_step\": 1");
    fixture_record(o, hub_again, 600000, "recover",
                   ", \"what\": \"snapshot\", \"slot\": 0, \"fragment\": 1, \"version\": 1, \"bytes\": 9");
    fixture_record(o, hub_again, 600000, "recover",
                   ", \"what\": \"snapshot\", \"slot\": 0, \"fragment\": 2, \"version\": 1, \"bytes\": 9");
    fixture_record(o, hub_again, 2000000, "commit", ", \"fragment\": 0, \"version\": 2, \"counted\": [{}]");
    hand_made_ledger(o, hub_again, 2500000);
    fixture_record(o, hub_again, 4000000, "end",
                   ", \"reason\": \"trained to the end\", \"commits\": 2, \"eval_loss\": 2.5");
}

#endif
