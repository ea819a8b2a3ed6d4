/* Tests of comms/transfer: both ends against each other over a link that breaks, repeats and lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comms/transfer.h"

static const struct transfer_key KEY = {.kind = TRANSFER_COMMIT, .leader = 1, .fragment = 5, .version = 9};
enum { PAYLOAD_MAX = 5000 };
static uint8_t payload[PAYLOAD_MAX], buffer[PAYLOAD_MAX];

static int set_up(void **state) {
    (void)state;
    for (size_t i = 0; i < PAYLOAD_MAX; i++)
        payload[i] = (uint8_t)(i * 31 + i / 251);
    return 0;
}

static void open_both(struct transfer_sender *sender, struct transfer_receiver *receiver, uint64_t bytes,
                      uint64_t window) {
    uint8_t hash[MESSAGE_HASH_BYTES];
    memset(buffer, 0xee, sizeof buffer);
    payload_hash_of(payload, bytes, hash);
    transfer_sender_open(sender, KEY, payload, bytes);
    transfer_receiver_open(receiver, KEY, buffer, bytes, window, hash);
}

/* One grant, if one is due, from the receiver to the sender. */
static bool pass_grant(struct transfer_receiver *receiver, struct transfer_sender *sender) {
    struct message_grant grant;
    if (!transfer_receiver_grant(receiver, &grant))
        return false;
    assert_true(grant.key.kind == KEY.kind && grant.key.leader == KEY.leader && grant.key.fragment == KEY.fragment &&
                grant.key.version == KEY.version);
    assert_true(transfer_sender_grant(sender, grant.offset, grant.limit));
    return true;
}

static enum transfer_verdict pass_chunk(struct transfer_sender *sender, struct transfer_receiver *receiver,
                                        uint32_t chunk_bytes) {
    struct chunk chunk;
    assert_true(transfer_sender_next(sender, chunk_bytes, &chunk));
    assert_true(chunk.bytes >= 1 && chunk.bytes <= chunk_bytes);
    assert_true(receiver->granted - receiver->received <= receiver->window);
    return transfer_receiver_chunk(receiver, &chunk, sender->payload + chunk.offset);
}

/* From any state to the end; returns the bytes that were sent. */
static uint64_t run_to_end(struct transfer_sender *sender, struct transfer_receiver *receiver, uint32_t chunk_bytes) {
    uint64_t sent = 0;
    for (;;) {
        struct chunk chunk;
        pass_grant(receiver, sender);
        assert_true(transfer_sender_next(sender, chunk_bytes, &chunk)); /* never stuck */
        sent += chunk.bytes;
        enum transfer_verdict verdict = transfer_receiver_chunk(receiver, &chunk, sender->payload + chunk.offset);
        if (verdict == TRANSFER_COMPLETE)
            break;
        assert_int_equal(verdict, TRANSFER_TAKEN);
    }
    assert_memory_equal(buffer, sender->payload, receiver->bytes);
    struct message_grant grant;
    assert_false(transfer_receiver_grant(receiver, &grant));
    return sent;
}

static void test_chunk_bytes_follow_the_cap(void **state) {
    (void)state;
    assert_int_equal(transfer_chunk_bytes(0), 262144);
    assert_int_equal(transfer_chunk_bytes(1), 4096);
    assert_int_equal(transfer_chunk_bytes(40969), 4096);
    assert_int_equal(transfer_chunk_bytes(40970), 4097);
    assert_int_equal(transfer_chunk_bytes(1250000), 125000); /* 10 Mbit/s */
    assert_int_equal(transfer_chunk_bytes(2621440), 262144);
    assert_int_equal(transfer_chunk_bytes(UINT64_MAX), 262144);
}

static void test_every_size_window_and_chunk(void **state) {
    (void)state;
    for (uint64_t bytes = 1; bytes <= 70; bytes++)
        for (uint64_t window = 1; window <= 20; window++)
            for (uint32_t chunk_bytes = 1; chunk_bytes <= 9; chunk_bytes++) {
                struct transfer_sender sender;
                struct transfer_receiver receiver;
                open_both(&sender, &receiver, bytes, window);
                assert_int_equal(run_to_end(&sender, &receiver, chunk_bytes), bytes); /* nothing sent twice */
            }
}

/* The hash takes whole stripes as they come, and the last one at the end, whole or not. */
static void test_around_stripes(void **state) {
    (void)state;
    for (uint64_t bytes = PAYLOAD_HASH_STRIPE_BYTES; bytes <= 4 * PAYLOAD_HASH_STRIPE_BYTES;
         bytes += PAYLOAD_HASH_STRIPE_BYTES)
        for (uint32_t chunk_bytes = 300; chunk_bytes <= 3072; chunk_bytes += 4)
            for (uint64_t more = 0; more < 3; more++) {
                struct transfer_sender sender;
                struct transfer_receiver receiver;
                open_both(&sender, &receiver, bytes + more - 1, 2000);
                assert_int_equal(run_to_end(&sender, &receiver, chunk_bytes), bytes + more - 1);
            }
}

static void test_grants_renew_at_half_a_window(void **state) {
    (void)state;
    struct transfer_sender sender;
    struct transfer_receiver receiver;
    struct message_grant grant;
    open_both(&sender, &receiver, 1000, 100);
    assert_true(transfer_receiver_grant(&receiver, &grant));
    assert_int_equal(grant.offset, 0);
    assert_int_equal(grant.limit, 100);
    assert_false(transfer_receiver_grant(&receiver, &grant)); /* once */
    assert_true(transfer_sender_grant(&sender, grant.offset, grant.limit));
    assert_int_equal(pass_chunk(&sender, &receiver, 49), TRANSFER_TAKEN);
    assert_false(transfer_receiver_grant(&receiver, &grant));
    assert_int_equal(pass_chunk(&sender, &receiver, 1), TRANSFER_TAKEN);
    assert_true(transfer_receiver_grant(&receiver, &grant));
    assert_int_equal(grant.offset, 100);
    assert_int_equal(grant.limit, 150);
}

static void test_nothing_is_sent_without_a_grant(void **state) {
    (void)state;
    struct transfer_sender sender;
    struct transfer_receiver receiver;
    struct chunk chunk;
    open_both(&sender, &receiver, 100, 30);
    assert_false(transfer_sender_next(&sender, 10, &chunk));
    assert_true(pass_grant(&receiver, &sender));
    uint64_t sent = 0;
    while (transfer_sender_next(&sender, 7, &chunk))
        sent += chunk.bytes;
    assert_int_equal(sent, 30);
}

static void test_bad_grants_change_nothing(void **state) {
    (void)state;
    struct transfer_sender sender;
    struct transfer_receiver receiver;
    open_both(&sender, &receiver, 100, 30);
    assert_true(transfer_sender_grant(&sender, 10, 40));
    struct transfer_sender before = sender;
    assert_false(transfer_sender_grant(&sender, 101, 101));
    assert_false(transfer_sender_grant(&sender, 0, 101));
    assert_false(transfer_sender_grant(&sender, 20, 19));
    assert_false(transfer_sender_grant(&sender, UINT64_MAX, UINT64_MAX));
    assert_false(transfer_sender_grant(&sender, UINT64_MAX, 0));
    assert_memory_equal(&before, &sender, sizeof sender);
    assert_true(transfer_sender_grant(&sender, 100, 100));
}

/* The link breaks after any number of bytes, with any number of them lost on the way; the sender may have lost its state as well. */
static void test_resume_at_every_offset(void **state) {
    (void)state;
    enum { BYTES = 64, WINDOW = 20 };
    for (uint64_t arrived = 0; arrived < BYTES; arrived++)
        for (uint32_t lost = 0; lost <= WINDOW; lost++)
            for (int reopened = 0; reopened < 2; reopened++) {
                struct transfer_sender sender;
                struct transfer_receiver receiver;
                struct chunk chunk;
                open_both(&sender, &receiver, BYTES, WINDOW);
                for (uint64_t i = 0; i < arrived; i++) {
                    pass_grant(&receiver, &sender);
                    assert_int_equal(pass_chunk(&sender, &receiver, 1), TRANSFER_TAKEN);
                }
                pass_grant(&receiver, &sender);
                for (uint32_t i = 0; i < lost; i++)
                    if (!transfer_sender_next(&sender, 1, &chunk))
                        break;
                if (reopened)
                    transfer_sender_open(&sender, KEY, payload, BYTES);
                transfer_receiver_reset_credit(&receiver);
                assert_true(pass_grant(&receiver, &sender));
                assert_int_equal(run_to_end(&sender, &receiver, 7), BYTES - arrived);
            }
}

/* A repeated or stale grant leads to duplicates at most; the transfer goes on. */
static void test_repeated_grants(void **state) {
    (void)state;
    for (uint64_t step = 0; step < 60; step++) {
        struct transfer_sender sender;
        struct transfer_receiver receiver;
        struct message_grant grants[100];
        size_t count = 0;
        open_both(&sender, &receiver, 200, 20);
        bool complete = false;
        for (uint64_t i = 0; !complete; i++) {
            if (transfer_receiver_grant(&receiver, &grants[count])) {
                assert_true(transfer_sender_grant(&sender, grants[count].offset, grants[count].limit));
                count++;
            }
            if (i == step) { /* the newest once more */
                assert_true(transfer_sender_grant(&sender, grants[count - 1].offset, grants[count - 1].limit));
            }
            enum transfer_verdict verdict = pass_chunk(&sender, &receiver, 3);
            assert_true(verdict != TRANSFER_HOSTILE && verdict != TRANSFER_BAD_HASH);
            complete = verdict == TRANSFER_COMPLETE;
        }
        assert_memory_equal(buffer, payload, 200);
    }
}

static enum transfer_verdict give(struct transfer_receiver *receiver, uint64_t offset, uint32_t bytes) {
    struct chunk chunk = {.key = KEY, .offset = offset, .bytes = bytes};
    /* what lies beyond the payload must not be read */
    return transfer_receiver_chunk(receiver, &chunk, payload + (offset < PAYLOAD_MAX ? offset : 0));
}

static void test_duplicates_gaps_and_overlaps(void **state) {
    (void)state;
    struct transfer_sender sender;
    struct transfer_receiver receiver;
    struct message_grant grant;
    open_both(&sender, &receiver, 100, 60);
    assert_true(transfer_receiver_grant(&receiver, &grant));
    assert_int_equal(give(&receiver, 0, 20), TRANSFER_TAKEN);
    struct transfer_receiver before = receiver;
    assert_int_equal(give(&receiver, 0, 20), TRANSFER_DUPLICATE);
    assert_int_equal(give(&receiver, 5, 15), TRANSFER_DUPLICATE);
    assert_int_equal(give(&receiver, 21, 5), TRANSFER_DUPLICATE); /* a gap */
    assert_int_equal(give(&receiver, 40, 20), TRANSFER_DUPLICATE);
    assert_memory_equal(&before, &receiver, sizeof receiver);
    assert_int_equal(buffer[20], 0xee);
    assert_int_equal(give(&receiver, 10, 20), TRANSFER_TAKEN); /* its second half is new */
    assert_int_equal(receiver.received, 30);
    assert_memory_equal(buffer, payload, 30);
    assert_int_equal(buffer[30], 0xee);
    assert_int_equal(give(&receiver, 30, 30), TRANSFER_TAKEN);
    assert_true(transfer_receiver_grant(&receiver, &grant));
    assert_int_equal(give(&receiver, 50, 50), TRANSFER_COMPLETE);
    assert_int_equal(give(&receiver, 50, 50), TRANSFER_DUPLICATE); /* late */
    assert_memory_equal(buffer, payload, 100);
}

static void test_hostile_chunks(void **state) {
    (void)state;
    struct transfer_sender sender;
    struct transfer_receiver receiver;
    struct message_grant grant;
    open_both(&sender, &receiver, 100, 60);
    assert_int_equal(give(&receiver, 0, 1), TRANSFER_HOSTILE); /* before any grant */
    assert_true(transfer_receiver_grant(&receiver, &grant));
    struct transfer_receiver before = receiver;
    assert_int_equal(give(&receiver, 0, 0), TRANSFER_HOSTILE);
    assert_int_equal(give(&receiver, 0, 61), TRANSFER_HOSTILE);
    assert_int_equal(give(&receiver, 60, 1), TRANSFER_HOSTILE);
    assert_int_equal(give(&receiver, 0, 101), TRANSFER_HOSTILE);
    assert_int_equal(give(&receiver, 0, UINT32_MAX), TRANSFER_HOSTILE);
    assert_int_equal(give(&receiver, UINT64_MAX, 1), TRANSFER_HOSTILE);
    assert_int_equal(give(&receiver, UINT64_MAX - 1, 2), TRANSFER_HOSTILE);
    struct chunk chunk = {.key = KEY, .offset = 0, .bytes = 10};
    chunk.key.version++;
    assert_int_equal(transfer_receiver_chunk(&receiver, &chunk, payload), TRANSFER_HOSTILE);
    chunk.key = KEY;
    chunk.key.fragment++;
    assert_int_equal(transfer_receiver_chunk(&receiver, &chunk, payload), TRANSFER_HOSTILE);
    chunk.key = KEY;
    chunk.key.kind = TRANSFER_CONTRIBUTION;
    assert_int_equal(transfer_receiver_chunk(&receiver, &chunk, payload), TRANSFER_HOSTILE);
    chunk.key = KEY;
    chunk.key.leader++;
    assert_int_equal(transfer_receiver_chunk(&receiver, &chunk, payload), TRANSFER_HOSTILE);
    assert_memory_equal(&before, &receiver, sizeof receiver);
    assert_int_equal(buffer[0], 0xee);
    assert_int_equal(give(&receiver, 0, 60), TRANSFER_TAKEN);
}

/* What was under way when the credit was reset is not hostile: it was granted once. */
static void test_chunks_under_way_at_a_reset(void **state) {
    (void)state;
    struct transfer_sender sender;
    struct transfer_receiver receiver;
    open_both(&sender, &receiver, 100, 60);
    assert_true(pass_grant(&receiver, &sender));
    assert_int_equal(pass_chunk(&sender, &receiver, 10), TRANSFER_TAKEN);
    transfer_receiver_reset_credit(&receiver);
    assert_int_equal(pass_chunk(&sender, &receiver, 10), TRANSFER_DUPLICATE);
    assert_int_equal(receiver.received, 10);
    assert_int_equal(give(&receiver, 10, 51), TRANSFER_HOSTILE);
    assert_int_equal(run_to_end(&sender, &receiver, 10), 90);
}

static void test_wrong_hash_starts_again(void **state) {
    (void)state;
    static uint8_t wrong[300];
    struct transfer_sender sender, liar;
    struct transfer_receiver receiver;
    for (size_t at = 0; at < sizeof wrong; at++) {
        open_both(&sender, &receiver, sizeof wrong, 100);
        memcpy(wrong, payload, sizeof wrong);
        wrong[at] ^= 1;
        transfer_sender_open(&liar, KEY, wrong, sizeof wrong);
        enum transfer_verdict verdict;
        do {
            pass_grant(&receiver, &liar);
            verdict = pass_chunk(&liar, &receiver, 32);
            assert_true(verdict == TRANSFER_TAKEN || liar.next == sizeof wrong);
        } while (verdict == TRANSFER_TAKEN);
        assert_int_equal(verdict, TRANSFER_BAD_HASH);
        assert_int_equal(receiver.received, 0);
        if (at % 2) { /* the same sender, mended; or another */
            wrong[at] ^= 1;
            assert_int_equal(run_to_end(&liar, &receiver, 32), sizeof wrong);
        } else {
            assert_int_equal(run_to_end(&sender, &receiver, 32), sizeof wrong);
        }
    }
}

/* The running hash may be copied and moved with its struct. */
static void test_receiver_may_move(void **state) {
    (void)state;
    struct transfer_sender sender;
    struct transfer_receiver receiver;
    open_both(&sender, &receiver, PAYLOAD_MAX, 1000);
    uint8_t *room = malloc(sizeof receiver + 64);
    assert_non_null(room);
    bool complete = false;
    for (size_t shift = 0; !complete; shift = (shift + 8) % 64) {
        struct transfer_receiver *moved = (struct transfer_receiver *)(void *)(room + shift);
        memcpy(moved, &receiver, sizeof receiver);
        pass_grant(moved, &sender);
        complete = pass_chunk(&sender, moved, 130) == TRANSFER_COMPLETE;
        memcpy(&receiver, moved, sizeof receiver);
    }
    free(room);
    assert_memory_equal(buffer, payload, PAYLOAD_MAX);
}

static void test_step_can_be_undone(void **state) {
    (void)state;
    struct transfer_sender sender;
    struct transfer_receiver receiver;
    struct chunk chunk;
    open_both(&sender, &receiver, 50, 50);
    pass_grant(&receiver, &sender);
    assert_true(transfer_sender_next(&sender, 20, &chunk));
    sender.next = chunk.offset; /* the link said STATUS_AGAIN */
    assert_int_equal(run_to_end(&sender, &receiver, 20), 50);
}

/* Random losses, repetitions, resets and chunk sizes, seeded: in the end all is there. */
static void test_random_links(void **state) {
    (void)state;
    uint32_t seed = 12345;
    for (int round = 0; round < 300; round++) {
        struct transfer_sender sender;
        struct transfer_receiver receiver;
        uint64_t bytes = 1 + (uint64_t)round * 16;
        open_both(&sender, &receiver, bytes, 1 + (uint64_t)(round % 7) * 50);
        bool complete = false;
        for (int step = 0; !complete; step++) {
            assert_true(step < 1000000);
            seed = seed * 1664525 + 1013904223;
            struct chunk chunk;
            switch (seed >> 24 & 15) {
            case 0: /* the link breaks and comes back */
                transfer_receiver_reset_credit(&receiver);
                break;
            case 1: /* the sender starts again, the receiver notices */
                transfer_sender_open(&sender, KEY, payload, bytes);
                transfer_receiver_reset_credit(&receiver);
                break;
            default:
                pass_grant(&receiver, &sender);
                if (!transfer_sender_next(&sender, 1 + (seed >> 8 & 63), &chunk)) {
                    transfer_receiver_reset_credit(&receiver); /* lost on the way: stalled, the owner asks again */
                    break;
                }
                if ((seed >> 16 & 31) == 0) /* lost */
                    break;
                enum transfer_verdict verdict = transfer_receiver_chunk(&receiver, &chunk, payload + chunk.offset);
                assert_true(verdict != TRANSFER_HOSTILE && verdict != TRANSFER_BAD_HASH);
                complete = verdict == TRANSFER_COMPLETE;
            }
        }
        assert_memory_equal(buffer, payload, bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunk_bytes_follow_the_cap),
        cmocka_unit_test(test_every_size_window_and_chunk),
        cmocka_unit_test(test_around_stripes),
        cmocka_unit_test(test_grants_renew_at_half_a_window),
        cmocka_unit_test(test_nothing_is_sent_without_a_grant),
        cmocka_unit_test(test_bad_grants_change_nothing),
        cmocka_unit_test(test_resume_at_every_offset),
        cmocka_unit_test(test_repeated_grants),
        cmocka_unit_test(test_duplicates_gaps_and_overlaps),
        cmocka_unit_test(test_hostile_chunks),
        cmocka_unit_test(test_chunks_under_way_at_a_reset),
        cmocka_unit_test(test_wrong_hash_starts_again),
        cmocka_unit_test(test_receiver_may_move),
        cmocka_unit_test(test_step_can_be_undone),
        cmocka_unit_test(test_random_links),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
