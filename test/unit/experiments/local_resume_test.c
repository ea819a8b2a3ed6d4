/* What --resume finds in a directory, and what it refuses: before anything is started. */
#include "unit/experiments/hand_made_run.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include "comms/token.h"
#include "experiments/local_resume.h"

static struct run_file run;
static bool complete;

static const char RUN_YAML[] = "name: novels\n"
                               "model: {layers: 2, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32}\n"
                               "data: {train: [text.txt]}\n"
                               "inner: {steps: 4, warmup_steps: 1}\n"
                               "sync: {every_steps: 4, fragment_layers: 1}\n"
                               "workers: 2\n";
static const char PLAIN_YAML[] = "name: novels\n"
                                 "model: {layers: 2, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32}\n"
                                 "data: {train: [text.txt]}\n"
                                 "inner: {steps: 400, warmup_steps: 1}\n"
                                 "sync: off\n"
                                 "workers: 1\n";

static const char *directory(void) {
    static char path[FIXTURE_PATH_BYTES];
    return fixture_path("run", path);
}

static void make_run(void) {
    fixture_append("run", "run.yaml", RUN_YAML, strlen(RUN_YAML));
    fixture_append("run", "text.txt", "words", 5);
    fixture_append("run/outer", "text.txt", "words", 5);
    fixture_append("run/outer", "run.yaml", RUN_YAML, strlen(RUN_YAML));
}

static enum status load(const char *override, int64_t workers, struct error *error) {
    return local_resume_load(directory(), &override, override != NULL, workers, &run, &complete, error);
}

static void loads(const char *override, bool wanted_complete) {
    struct error error;
    if (load(override, 0, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_int_equal(complete, wanted_complete);
}

static void refuses(const char *override, int64_t workers, enum status status, const char *part) {
    struct error error;
    assert_int_equal(load(override, workers, &error), status);
    if (strstr(error.text, part) == NULL)
        fail_msg("'%s' lacks '%s'", error.text, part);
}

static void what_may_change(void **state) {
    (void)state;
    make_run();
    loads(NULL, false);
    assert_int_equal(run.inner.steps, 4);
    loads("inner.steps=9", false);
    assert_int_equal(run.inner.steps, 9);
    loads("eval.windows=3", false);
    loads("link.up=1Mbit/s", false);
    loads("checkpoint.every=3s", false);
    struct error error;
    assert_int_equal(load(NULL, 2, &error), STATUS_OK); /* as many as ever */
}

static void what_may_not(void **state) {
    (void)state;
    make_run();
    refuses(
        "inner.lr=0.5", 0, STATUS_CONFIG,
        "/run: inner.lr is 0.001 in this run and cannot become 0.5: a run is continued with other inner.steps, eval "
        "and keys of this machine only; start a new run for the rest");
    refuses("sync.codec_up=f32", 0, STATUS_CONFIG, "sync.codec_up is e3m0 in this run and cannot become f32");
    refuses("name=poems", 0, STATUS_CONFIG, "name is novels in this run and cannot become poems");
    refuses("sync.every_steps=3", 0, STATUS_CONFIG, "sync.every_steps is 4 in this run and cannot become 3");
    refuses("workers=1", 0, STATUS_CONFIG, "workers is 2 in this run and cannot become 1");
    refuses(NULL, 3, STATUS_CONFIG, "workers is 2 in this run and cannot become 3");
    refuses("inner.lr=fast", 0, STATUS_CONFIG, "inner.lr");
}

/* D/run.yaml was edited: the outer's own copy tells what the run is. */
static void edited(void **state) {
    (void)state;
    char text[sizeof RUN_YAML];
    memcpy(text, RUN_YAML, sizeof text);
    memcpy(strstr(text, "ffn: 64"), "ffn: 96", 7);
    fixture_append("run", "run.yaml", text, strlen(text));
    fixture_append("run", "text.txt", "words", 5);
    fixture_append("run/outer", "run.yaml", RUN_YAML, strlen(RUN_YAML));
    refuses(NULL, 0, STATUS_CONFIG, "model.ffn is 64 in this run and cannot become 96");
    loads("model.ffn=64", false);
}

static void switched_off(void **state) {
    (void)state;
    fixture_append("run", "run.yaml", PLAIN_YAML, strlen(PLAIN_YAML));
    fixture_append("run", "text.txt", "words", 5);
    fixture_append("run/worker-0", "log.jsonl", "", 0);
    loads(NULL, false);
    assert_true(run.sync.off);
    refuses("sync=on", 0, STATUS_CONFIG, "sync is off in this run and cannot become on");
}

static void no_run(void **state) {
    (void)state;
    refuses(NULL, 0, STATUS_NOT_FOUND,
            "/run: no run.yaml in it; --resume takes the directory of an earlier `atoll train` (its --dir)");
    fixture_append("run", "run.yaml", RUN_YAML, strlen(RUN_YAML));
    fixture_append("run", "text.txt", "words", 5);
    refuses(NULL, 0, STATUS_NOT_FOUND, "/run/outer is missing: ");
    refuses("data.train=[absent.txt]", 0, STATUS_CONFIG, "no file matches");
}

static void end_of_outer(int64_t steps, const char *reason) {
    char rest[512];
    snprintf(
        rest, sizeof rest,
        ", \"schema\": 1, \"role\": \"outer\", \"node\": \"outer\", \"slot\": -1, \"parameters\": 1, \"workers\": 2, "
        "\"tokens_per_step\": 64, \"steps\": %lld",
        (long long)steps);
    fixture_record("run/outer", "2026-01-02T12:00:00.000Z", 0, "header", rest);
    snprintf(rest, sizeof rest, ", \"reason\": \"%s\"", reason);
    fixture_record("run/outer", "2026-01-02T12:00:00.000Z", 1, "end", rest);
}

/* Nothing is left to do only when the outer said so, of as many steps, and its model is there, and what it would go on with. */
static void when_complete(void **state) {
    (void)state;
    make_run();
    end_of_outer(4, "trained to the end");
    loads(NULL, false); /* no model */
    fixture_append("run/outer/model", "model.safetensors", "x", 1);
    loads(NULL, false); /* no state */
    fixture_append("run/outer", "outer.json", "{}", 2);
    loads(NULL, true);
    loads("eval.windows=3", true);
    loads("inner.steps=5", false);
    end_of_outer(5, "stopped"); /* continued, and not to its end */
    loads("inner.steps=5", false);
    loads(NULL, false);
    end_of_outer(5, "trained to the end");
    loads("inner.steps=5", true);
    loads(NULL, true);
}

static void who_is_busy(void **state) {
    (void)state;
    char path[FIXTURE_PATH_BYTES];
    make_run();
    loads(NULL, false);
    assert_null(local_resume_busy(directory(), &run));
    fixture_append("run/worker-1", "lock", "", 0); /* of a process that is gone */
    assert_null(local_resume_busy(directory(), &run));
    int file = open(fixture_path("run/worker-1/lock", path), O_RDWR);
    assert_int_equal(flock(file, LOCK_EX), 0);
    assert_string_equal(local_resume_busy(directory(), &run), "worker-1");
    fixture_append("run/outer", "lock", "", 0);
    int outer = open(fixture_path("run/outer/lock", path), O_RDWR);
    assert_int_equal(flock(outer, LOCK_EX), 0);
    assert_string_equal(local_resume_busy(directory(), &run), "outer");
    close(outer);
    close(file);
    assert_null(local_resume_busy(directory(), &run));
}

/* Listening on a port of the system's choice. */
static int listen_somewhere(uint16_t *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin_port);
    return listener;
}

/* Either port of the token keeps an outer from coming back there. */
static void whose_ports(void **state) {
    (void)state;
    char path[FIXTURE_PATH_BYTES], text[TOKEN_TEXT_BYTES];
    struct token token = {.uses = 1, .run_name = "novels", .address_count = 1};
    struct token_address *address = &token.addresses[0];
    snprintf(address->host, sizeof address->host, "127.0.0.1");
    int control = listen_somewhere(&address->control_port), bulk = listen_somewhere(&address->bulk_port);
    assert_false(local_resume_ports_taken(fixture_path("run/outer/join.token", path)));
    token_format(&token, text);
    fixture_append("run/outer", "join.token", text, strlen(text));
    assert_true(local_resume_ports_taken(path));
    close(control);
    assert_true(local_resume_ports_taken(path));
    close(bulk);
    assert_false(local_resume_ports_taken(path));
    fixture_append("run/outer", "join.token", "garbage", 7);
    assert_false(local_resume_ports_taken(path));
}

int main(void) {
#define RUN_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        RUN_TEST(what_may_change), RUN_TEST(what_may_not),  RUN_TEST(edited),      RUN_TEST(switched_off),
        RUN_TEST(no_run),          RUN_TEST(when_complete), RUN_TEST(who_is_busy), RUN_TEST(whose_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
